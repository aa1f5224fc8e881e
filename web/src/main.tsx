// Opens the scene, starts the decoders, shows the page, and tells `window.gapless` how it stands.
import { render } from "preact";
import { App } from "./app";
import { Runtime, Wire, openDecoder } from "./decode";
import type { Makers } from "./decode";
import { language, t } from "./i18n";
import { Latent } from "./latent";
import { RUNTIME, openSource } from "./scene";
import type { Scene, Source } from "./scene";
import * as state from "./state";
import { keepAddress, restore } from "./view";
import "./style.css";

declare global {
  interface Window {
    gapless: { ready: Promise<void>; state: () => unknown; api: unknown };
  }
}

const began = performance.now();
let readyAfter = 0;

async function open(): Promise<void> {
  systemWishes();
  const app = document.getElementById("app") as HTMLElement;
  app.innerHTML = "<p class='empty' role='status'></p>";
  (app.firstChild as HTMLElement).textContent = t("app.loading");
  if (tooOld()) throw new Error(t("app.old"));
  const source = await openSource(),
    { scene } = source;
  if (scene.language === "ko" || scene.language === "en") language.value = scene.language;
  const runtime = scene.panels.some((panel) => panel.decoder.rung === "onnx")
    ? new Runtime(source.packed(RUNTIME))
    : null; // the longest wait first
  await data(source);
  state.latents.value = await Promise.all(
    scene.panels.map((panel, k) => Latent.open(scene, panel, k, source, state.labels.value, state.movePainted)),
  );
  defaults(scene);
  const asked = restore(location.hash),
    drawn = Promise.all(state.latents.value.map((one) => new Promise<void>((done) => (one.ready = done))));
  app.replaceChildren();
  render(<App />, app);
  await Promise.all([drawn, decoders(source, runtime)]);
  await firstDecode(asked);
  keepAddress();
  readyAfter = performance.now() - began;
}

/** Both are needed from the first moment; all large browsers have had them since 2023. */
const tooOld = (): boolean => typeof DecompressionStream === "undefined" || typeof OffscreenCanvas === "undefined";

async function data(source: Source): Promise<void> {
  const { items } = source.scene,
    maybe = async (name: string | null) => (name ? source.bytes(name) : null);
  const [labels, held, values] = await Promise.all([
    maybe(items.labels),
    maybe(items.held_out),
    source.bytes(items.values),
  ]);
  state.scene.value = source.scene;
  state.labels.value = labels && new Int16Array(labels);
  state.heldOut.value = held && new Uint8Array(held);
  state.stored.value = source.scene.kind === "image" ? new Uint8Array(values) : new Float32Array(values);
}

/** Without labels the cost colours the map; the audit is told first where there is one. */
function defaults(scene: Scene): void {
  if (!state.labels.value) state.colorBy.value = state.latents.value.some((one) => one.error) ? "error" : "plain";
  if (!scene.panels.some((panel) => panel.card))
    state.tab.value = scene.panels.some((panel) => panel.latent > 2) ? "plane" : "item";
}

async function decoders(source: Source, runtime: Runtime | null): Promise<void> {
  let wire: Wire | null = null;
  const makers: Makers = {
    source,
    runtime: () => runtime as Runtime,
    wire: () => (wire ??= new Wire(source.token ?? "")),
    scenePlane: (panel, k) => (state.latents.value.find((one) => one.panel === panel) as Latent).scenePlane(k),
  };
  await Promise.all(
    state.latents.value.map(async (latent) => {
      try {
        latent.decoder.value = await openDecoder(makers, latent.panel, latent.index);
      } catch (error) {
        latent.failure.value = String(error);
      }
    }),
  );
}

/** Something to see at once: the place asked for, else an item near the middle of the last map. */
function firstDecode(asked: boolean): Promise<void> {
  const latents = state.latents.value,
    last = latents[latents.length - 1];
  state.redoWalks();
  if (!last) return Promise.resolve();
  return new Promise((done) => {
    const shown = () => {
      last.painters.delete(shown);
      done();
    };
    if (!last.decoder.value) {
      done();
      return;
    }
    last.painters.add(shown);
    if (state.item.value !== null && !asked) state.chooseItem(state.item.value);
    else if (asked) latents.forEach((one) => one.z.value && one.go(one.z.value));
    else
      state.moveCursor(
        last,
        last.plane.value.origin.length ? Float32Array.from(last.plane.value.origin) : new Float32Array(last.d),
      );
    if (asked && !last.z.value) done();
    requestAnimationFrame(() => state.readNow());
  });
}

function systemWishes(): void {
  const night = matchMedia("(prefers-color-scheme: dark)"),
    still = matchMedia("(prefers-reduced-motion: reduce)");
  state.systemDark.value = night.matches;
  night.addEventListener("change", () => (state.systemDark.value = night.matches));
  state.calm.value = still.matches;
  language.value = navigator.language.startsWith("ko") ? "ko" : "en";
}

function told(): unknown {
  return {
    language: language.value,
    theme: state.dark.value ? "dark" : "light",
    tab: state.tab.value,
    mode: state.mode.value,
    link: state.link.value,
    item: state.item.value,
    active: state.active.value,
    brushed: state.brushed.value?.reduce((all, one) => all + one, 0) ?? 0,
    panels: state.latents.value.map((one) => ({
      name: one.panel.name,
      z: one.z.value && Array.from(one.z.value),
      view: one.view.value,
      plane: {
        ...one.plane.value,
        origin: [...one.plane.value.origin],
        u: [...one.plane.value.u],
        v: [...one.plane.value.v],
      },
      reading: one.reading.value && {
        ...one.reading.value,
        z: Array.from(one.reading.value.z),
        words: state.placeWords(one.reading.value),
      },
      decoded: one.values && Array.from(one.values.subarray(0, 4096)),
      rung: one.decoder.value?.rung ?? null,
      stale: one.stale.value,
      failure: one.failure.value,
      walk: one.walk.value && {
        corners: one.walk.value.corners.length,
        items: one.walk.value.corners.map(({ item }) => item),
        codes: one.walk.value.codes.map((z) => Array.from(z)),
        decoded: one.walk.value.outputs !== null,
      },
    })),
    read_out: state.allReadings.value[state.active.value] ?? "",
    frame_ms: state.frames.map((one) => one.ms),
    frames: state.frames,
    moved_to_painted_ms: state.paintedAfter,
    input_to_painted_ms: state.paintedAfterInput,
    ready_ms: readyAfter,
  };
}

function failed(error: unknown): void {
  const app = document.getElementById("app") as HTMLElement,
    words = document.createElement("p");
  words.className = "failed";
  words.setAttribute("role", "alert");
  words.textContent = t("app.failed", { error: error instanceof Error ? error.message : String(error) });
  app.replaceChildren(words);
  throw error;
}

const loaded =
  document.readyState === "loading"
    ? new Promise<void>((go) => document.addEventListener("DOMContentLoaded", () => go()))
    : Promise.resolve();
window.gapless = { ready: loaded.then(open).catch(failed), state: told, api: state };
