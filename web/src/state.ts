// What the page shows, as signals; every change of the view goes through here.
import { batch, computed, signal } from "@preact/signals";
import type { Latent, Move, Walk } from "./latent";
import { language, t } from "./i18n";
import type { Reading } from "./latent";
import { walk as walkCodes } from "./path";
import type { Way } from "./path";
import type { Scene } from "./scene";

export type Layer = "points" | "density" | "ellipses" | "prior" | "gap" | "grid" | "findings" | "names";
export type ColorBy = "label" | "error" | "kl" | "held_out" | `column:${number}` | "plain";
export type Mode = "look" | "path" | "brush";
export type Link = "item" | "place" | "off";
export type Tab = "audit" | "item" | "path" | "plane";
export type Theme = "auto" | "light" | "dark";

export const LAYERS: Layer[] = ["points", "density", "ellipses", "prior", "gap", "grid", "findings", "names"];

export const scene = signal<Scene | null>(null);
export const latents = signal<Latent[]>([]);
export const labels = signal<Int16Array | null>(null);
export const heldOut = signal<Uint8Array | null>(null);
export const stored = signal<Uint8Array | Float32Array | null>(null);
export const layers = signal<Record<Layer, boolean>>({
  points: true,
  density: false,
  ellipses: false,
  prior: true,
  gap: true,
  grid: false,
  findings: true,
  names: true,
});
export const colorBy = signal<ColorBy>("label");
export const mode = signal<Mode>("look");
export const link = signal<Link>("item");
export const tab = signal<Tab>("audit");
export const theme = signal<Theme>("auto");
export const calm = signal(false);
export const active = signal(0);
export const item = signal<number | null>(null);
export const picked = signal<number[]>([]);
export const brushed = signal<Uint8Array | null>(null);
export const hovered = signal<number>(-1);
export const way = signal<Way>("linear");
export const steps = signal(15);
export const note = signal("");
export const systemDark = signal(false);
export const dark = computed(() => theme.value === "dark" || (theme.value === "auto" && systemDark.value));

/** Measured on this machine: milliseconds of frames drawn, and from a movement to its decodes painted. */
export const frames: { ms: number; shown: number; count: number }[] = [];
export const paintedAfter: number[] = [];
/** The same from the input's own time stamp: the browser hands movements over once a frame. */
export const paintedAfterInput: number[] = [];

const keep = <T>(list: T[], one: T) => {
  list.push(one);
  if (list.length > 2000) list.shift();
};
export const framePainted = (one: { ms: number; shown: number; count: number }) => keep(frames, one);
export function movePainted(move: Move): void {
  keep(paintedAfter, performance.now() - move.heard);
  keep(paintedAfterInput, performance.now() - move.stamp);
}

let readings = 0;

/** Move the cursor of one panel, and of those linked with it: to the same item, or to the same place. */
export function moveCursor(latent: Latent, z: Float32Array, stamp = performance.now()): void {
  const heard = performance.now();
  const near = latent.near(z, 1).items[0] ?? -1;
  const targets = latents.value.map((other) => (other === latent ? z : linked(latent, other, z, near)));
  const move: Move = { heard, stamp, left: targets.filter(Boolean).length };
  batch(() => {
    active.value = latent.index;
    hovered.value = near;
    targets.forEach((place, k) => place && latents.value[k].go(place, move));
  });
  readSoon();
}

function linked(from: Latent, to: Latent, z: Float32Array, near: number): Float32Array | null {
  if (link.value === "item") return near >= 0 && near < to.count ? Float32Array.from(to.at(near)) : null;
  return link.value === "place" && to.d === from.d ? z : null;
}

function readSoon(): void {
  if (!readings)
    readings = requestAnimationFrame(() => {
      readings = 0;
      readNow();
    });
}

export function readNow(): void {
  for (const one of latents.value) {
    const z = one.z.value;
    if (z && one.reading.value?.z !== z) one.reading.value = one.read(z);
  }
}

/** Put every cursor on the same item. */
export function chooseItem(index: number | null, from?: Latent): void {
  item.value = index;
  if (index === null) return;
  tab.value = "item";
  const move: Move = { heard: performance.now(), stamp: performance.now(), left: latents.value.length };
  for (const one of latents.value) one.go(Float32Array.from(one.at(index)), move);
  hovered.value = index;
  if (from) active.value = from.index;
  readSoon();
}

export function pick(index: number): void {
  picked.value = picked.value.includes(index)
    ? picked.value.filter((one) => one !== index)
    : [...picked.value.slice(-2), index];
}

/** The corners of a path; where all stand on items, linked panels walk between the same items. */
export function setCorners(latent: Latent, corners: Walk["corners"]): void {
  put(latent, corners);
  const shared = link.value === "item" ? corners.every((one) => one.item >= 0) : link.value === "place";
  if (!shared) return;
  for (const other of latents.value) {
    if (other === latent) continue;
    const place = (one: Walk["corners"][number]) =>
      link.value === "item" ? Float32Array.from(other.at(one.item)) : one.z;
    if (link.value === "item" || other.d === latent.d)
      put(
        other,
        corners.map((one) => ({ ...one, z: place(one) })),
      );
  }
}

function put(latent: Latent, corners: Walk["corners"]): void {
  if (!corners.length) {
    latent.walk.value = null;
    return;
  }
  const codes = walkCodes(
    corners.map((one) => one.z),
    corners.length > 1 ? steps.value : 1,
    way.value,
    way.value === "density" ? latent.pathCodes() : undefined,
  );
  const made: Walk = { corners, codes, outputs: null };
  latent.walk.value = made;
  const z = new Float32Array(codes.length * latent.d);
  codes.forEach((code, i) => z.set(code, i * latent.d));
  latent.decoder.value?.run(z, codes.length).then(
    (outputs) => {
      if (latent.walk.value === made) latent.walk.value = { ...made, outputs };
    },
    (error: unknown) => (latent.failure.value = String(error)),
  );
}

/** Corners from an address: places without items. */
export function restoreWalk(latent: Latent, corners: number[][]): void {
  put(
    latent,
    corners.map((z) => ({ z: Float32Array.from(z), item: -1 })),
  );
}

export function redoWalks(): void {
  for (const one of latents.value) if (one.walk.value) put(one, one.walk.value.corners);
}

export const labelName = (label: number): string => scene.value?.label_names[label] ?? String(label);

export const number = (value: number, digits = 2): string =>
  (Math.abs(value) >= 1e5 ? value.toPrecision(2) : value.toFixed(digits))
    .replace(/^-(0\.?0*)$/, "$1")
    .replace("-", "\u2212");

/** Numbers of any size in little room. */
export const compact = (value: number): string =>
  (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 1e4)
    ? value.toExponential(0)
    : Math.abs(value) < 99.5
      ? value.toPrecision(2)
      : value.toFixed(0)
  ).replace(/-/g, "\u2212");

export function codeWords(z: ArrayLike<number>, most = 4): string {
  const shown = Array.from({ length: Math.min(z.length, most) }, (_, k) => number(z[k]));
  return `(${shown.join(", ")}${z.length > most ? ", \u2026" : ""})`;
}

/** A gap or an edge of the outputs may lie this near to a code: then it is not told as a distance. */
const NEAR = 0.3;

/** "among 4, nearest a 0": the labels around a place, and the nearest item's where it is none of them. */
function whereWords({ labels: around, item: near }: Reading): string {
  const [first, second] = around.map(labelName),
    nearest = labels.value?.[near] ?? -1;
  if (first === undefined) return "";
  const where = second === undefined ? t("place.among", { first }) : t("place.between", { first, second });
  return nearest < 0 || around.includes(nearest) ? where : t("place.with", { where, label: labelName(nearest) });
}

/** "between 3 and 8; no data within 2.1 sigma": a place in words. */
export function placeWords(reading: Reading): string {
  const where = whereWords(reading);
  const { standing, sigma } = reading,
    fine = sigma < 0.1 ? 100 : 10;
  const far = standing === "gap" && sigma >= NEAR,
    bound = far ? Math.floor(sigma * fine) : Math.max(1, Math.ceil(sigma * fine));
  const how = far
    ? "place.far"
    : standing === "gap"
      ? "place.unlike"
      : standing === "edge"
        ? sigma < NEAR && reading.gap !== null
          ? "place.rare"
          : "place.edge"
        : "place.data";
  const data = t(how, { sigma: number(bound / fine, fine === 100 ? 2 : 1) });
  return where ? t("place.both", { where, data }) : data;
}

export function readingWords(latent: Latent): string {
  const reading = latent.reading.value;
  if (!reading) return "";
  const parts = [latent.panel.title, `z ${codeWords(reading.z)}`, placeWords(reading)];
  if (reading.gap !== null) parts.push(t("read.gap", { value: number(reading.gap) }));
  return parts.join("; ");
}

export const allReadings = computed(() => (language.value, latents.value.map(readingWords)));
