// What is drawn over the points: ellipses, findings, names, paths, the cursor.
import { font, getHalo, halo, px } from "./ground";
import type { Pen, Sheet } from "./ground";
import type { Blob } from "./coloring";
import type { Latent } from "./latent";
import { labelColor } from "./palette";
import { distance, toPlane } from "./planes";
import type { Plane } from "./planes";
import type { Frame } from "./raster";

/** The ellipse that a diagonal Gaussian of these scales casts on the plane: half axes and the turn of the first. */
export function ellipse(scale: ArrayLike<number>, plane: Plane): { first: number; second: number; turn: number } {
  let uu = 0,
    vv = 0,
    uv = 0;
  for (let k = 0; k < plane.origin.length; k++) {
    const variance = scale[k] ** 2;
    uu += variance * plane.u[k] ** 2;
    vv += variance * plane.v[k] ** 2;
    uv += variance * plane.u[k] * plane.v[k];
  }
  const middle = (uu + vv) / 2,
    off = Math.hypot((uu - vv) / 2, uv);
  return {
    first: Math.sqrt(Math.max(0, middle + off)),
    second: Math.sqrt(Math.max(0, middle - off)),
    turn: 0.5 * Math.atan2(2 * uv, uu - vv),
  };
}

/** Posteriors at one sigma: only those at least a pixel wide and in view, at most `most` of them. */
export function drawEllipses(
  { pen, frame: f, dark }: Sheet,
  latent: Latent,
  labels: Int16Array | null,
  projected: Float32Array,
  most: number,
): number {
  if (!latent.scale) return 0;
  const n = latent.count,
    step = Math.max(1, Math.floor(n / most)),
    plane = latent.plane.value;
  let drawn = 0;
  pen.lineWidth = 1;
  pen.globalAlpha = 0.45;
  for (let i = 0; i < n; i += step) {
    const [x, y] = px(f, projected[2 * i], projected[2 * i + 1]);
    if (x < 0 || y < 0 || x > f.width || y > f.height) continue;
    const shape = ellipse(latent.scale.subarray(i * latent.d, (i + 1) * latent.d), plane);
    if (2 * shape.first * f.sx < 1) continue;
    pen.strokeStyle = labelColor(labels ? labels[i] : -1, dark);
    pen.beginPath();
    pen.ellipse(x, y, shape.first * f.sx, shape.second * f.sx, -shape.turn, 0, 2 * Math.PI);
    pen.stroke();
    drawn++;
  }
  pen.globalAlpha = 1;
  return drawn;
}

/** Numbered holes (rings) and cliffs (diamonds with the step across); paler the farther they lie from the plane. */
export function drawFindings({ pen, frame: f, dark }: Sheet, latent: Latent, ratio: number): void {
  const { holes, cliffs } = latent.panel,
    plane = latent.plane.value;
  const pale = (z: number[]) => Math.max(0.25, Math.exp(-0.5 * distance(plane, z) ** 2));
  for (const cliff of cliffs.slice(0, 12)) {
    pen.globalAlpha = pale(cliff.place);
    badge(pen, ...px(f, ...toPlane(plane, cliff.place)), `${cliff.number}`, "diamond", dark, ratio);
  }
  for (const hole of holes.slice(0, 12)) {
    pen.globalAlpha = pale(hole.place);
    badge(pen, ...px(f, ...toPlane(plane, hole.place)), `${hole.number}`, "circle", dark, ratio);
  }
  pen.globalAlpha = 1;
}

/** Where numbers and names stand, in pixels: other words keep away. */
export function taken(latent: Latent, f: Frame, middles: { a: number; b: number }[]): [number, number][] {
  const { holes, cliffs } = latent.panel,
    plane = latent.plane.value;
  return [
    ...[...cliffs.slice(0, 12), ...holes.slice(0, 12)].map(({ place }) => px(f, ...toPlane(plane, place))),
    ...middles.map(({ a, b }) => px(f, a, b)),
  ];
}

function badge(
  pen: Pen,
  x: number,
  y: number,
  text: string,
  shape: "circle" | "diamond",
  dark: boolean,
  ratio: number,
): void {
  const r = (shape === "circle" ? 8.5 : 9.5) * ratio;
  pen.beginPath();
  if (shape === "circle") pen.arc(x, y, r, 0, 2 * Math.PI);
  else {
    pen.moveTo(x, y - r * 1.15);
    pen.lineTo(x + r * 1.15, y);
    pen.lineTo(x, y + r * 1.15);
    pen.lineTo(x - r * 1.15, y);
    pen.closePath();
  }
  pen.fillStyle = dark ? "#1b1f25" : "#ffffff";
  pen.strokeStyle = dark ? "#ff9a5c" : "#b8400a";
  pen.lineWidth = 1.6 * ratio;
  pen.fill();
  pen.stroke();
  pen.fillStyle = dark ? "#ffc49e" : "#8f3006";
  pen.font = font(10.5 * ratio, 650);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(text, x, y + 0.5 * ratio);
}

/** The name of each label at the middle of its codes; where two would touch, the larger is kept. */
export function drawNames(
  { pen, frame: f, dark }: Sheet,
  middles: { label: number; a: number; b: number; count: number }[],
  name: (label: number) => string,
  ratio: number,
): void {
  const kept: [number, number, number][] = [];
  pen.font = font(14 * ratio, 700);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  for (const one of middles) {
    const [x, y] = px(f, one.a, one.b);
    const wide = pen.measureText(name(one.label)).width / 2 + 4 * ratio;
    if (kept.some(([p, q, w]) => Math.abs(p - x) < w + wide && Math.abs(q - y) < 15 * ratio)) continue;
    kept.push([x, y, wide]);
    pen.fillStyle = labelColor(one.label, dark);
    pen.lineWidth = 4 * ratio;
    pen.lineJoin = "round";
    pen.strokeStyle = getHalo();
    pen.strokeText(name(one.label), x, y);
    pen.fillStyle = dark ? "#f2f4f7" : "#1a1f25";
    pen.fillText(name(one.label), x, y);
  }
}

/** The walk: its line, its corners, steps that leave the data struck out. */
export function drawWalk({ pen, frame: f, ink, dark }: Sheet, latent: Latent, outside: boolean[], ratio: number): void {
  const walk = latent.walk.value,
    plane = latent.plane.value;
  if (!walk) return;
  const at = walk.codes.map((code) => px(f, ...toPlane(plane, code)));
  pen.lineJoin = "round";
  for (const [width, color] of [
    [4.5, getHalo()],
    [2, ink.text],
  ] as const) {
    pen.lineWidth = width * ratio;
    pen.strokeStyle = color;
    pen.beginPath();
    at.forEach(([x, y]) => pen.lineTo(x, y));
    pen.stroke();
  }
  at.forEach(([x, y], i) => {
    pen.beginPath();
    pen.arc(x, y, (outside[i] ? 3.6 : 2.6) * ratio, 0, 2 * Math.PI);
    pen.fillStyle = outside[i] ? (dark ? "#ff9a5c" : "#c8500a") : ink.text;
    pen.fill();
  });
  const few = walk.corners.length <= 12 ? walk.corners : [walk.corners[0], walk.corners[walk.corners.length - 1]];
  for (const { z } of few) {
    const [x, y] = px(f, ...toPlane(plane, z));
    pen.beginPath();
    pen.rect(x - 4 * ratio, y - 4 * ratio, 8 * ratio, 8 * ratio);
    pen.fillStyle = getHalo();
    pen.strokeStyle = ink.text;
    pen.lineWidth = 1.6 * ratio;
    pen.fill();
    pen.stroke();
  }
}

/** Around codes that are one point to the eye, CSS pixels. */
const ROUND = 13;

/** Codes that are one point: a ring around them, and what it is in words. */
export function drawGathered({ pen, frame: f, ink }: Sheet, blob: Blob, text: string, ratio: number): void {
  const [x, y] = px(f, blob.a, blob.b);
  ring(pen, x, y, ROUND * ratio, ink.text, ratio);
  pen.font = font(12.5 * ratio, 650);
  pen.fillStyle = ink.text;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  halo(pen, text, x, y + (ROUND + 15) * ratio, ratio);
}

/** The cursor: a cross at the decoded place, a ring around the nearest or chosen item. */
export function drawCursor(
  { pen, frame: f, ink }: Sheet,
  latent: Latent,
  marks: { item: number; chosen: number | null; picked: number[] },
  ratio: number,
  gathered: Blob | null,
): void {
  const plane = latent.plane.value,
    z = latent.z.value;
  const place = (item: number) => px(f, ...toPlane(plane, latent.at(item)));
  marks.picked
    .filter((one) => one < latent.count)
    .forEach((one, k) => ring(pen, ...place(one), 9 * ratio, ink.text, ratio, `${"ABC"[k]}`));
  // where all items are one point, a ring around one of them tells nothing
  if (!gathered && marks.item >= 0 && marks.item < latent.count)
    ring(pen, ...place(marks.item), 6.5 * ratio, ink.faint, ratio);
  if (!gathered && marks.chosen !== null && marks.chosen < latent.count)
    ring(pen, ...place(marks.chosen), 8 * ratio, ink.text, ratio);
  if (!z) return;
  const [x, y] = px(f, ...toPlane(plane, z)),
    [p, q] = gathered ? px(f, gathered.a, gathered.b) : [Infinity, Infinity];
  // over codes that are one point the cross is wider than they are
  const gap = (Math.hypot(x - p, y - q) < ROUND * ratio ? ROUND + 1 : 3) * ratio,
    arm = gap + 6 * ratio;
  for (const [width, color] of [
    [4, getHalo()],
    [1.7, ink.text],
  ] as const) {
    pen.strokeStyle = color;
    pen.lineWidth = width * ratio;
    pen.beginPath();
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      pen.moveTo(x + gap * dx, y + gap * dy);
      pen.lineTo(x + arm * dx, y + arm * dy);
    }
    pen.stroke();
  }
}

function ring(pen: Pen, x: number, y: number, r: number, color: string, ratio: number, text = ""): void {
  for (const [width, ink] of [
    [3.5, getHalo()],
    [1.5, color],
  ] as const) {
    pen.beginPath();
    pen.arc(x, y, r, 0, 2 * Math.PI);
    pen.lineWidth = width * ratio;
    pen.strokeStyle = ink;
    pen.stroke();
  }
  if (!text) return;
  pen.font = font(10 * ratio, 700);
  pen.fillStyle = color;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  halo(pen, text, x + r + 5 * ratio, y - r, ratio);
}
