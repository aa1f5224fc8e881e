// What is drawn under and over the points: gaps, decoded grid, rings, ellipses, findings, names, paths, the cursor.
import { contour, levelOf } from "./contours";
import type { Latent } from "./latent";
import { labelColor } from "./palette";
import { distance, toPlane } from "./planes";
import type { Plane } from "./planes";
import { density, frame } from "./raster";
import type { Frame } from "./raster";
import type { Ink } from "./renderers";

type Pen = CanvasRenderingContext2D;

export interface Sheet {
  pen: Pen;
  frame: Frame;
  ink: Ink;
  dark: boolean;
}

const px = (f: Frame, a: number, b: number): [number, number] => [f.ox + a * f.sx, f.oy + b * f.sy];
const font = (size: number, weight = 400) =>
  `${weight} ${size}px system-ui, "Noto Sans KR", "Noto Sans CJK KR", "Malgun Gothic", sans-serif`;
const WARM = { light: [200, 72, 20], dark: [240, 120, 60] };

let hatch: { key: string; pattern: CanvasPattern } | null = null;

function hatching(pen: Pen, dark: boolean, ratio: number): CanvasPattern {
  const key = `${dark}${ratio}`;
  if (hatch?.key === key) return hatch.pattern;
  const tile = document.createElement("canvas"),
    size = Math.round(7 * ratio);
  tile.width = tile.height = size;
  const draw = tile.getContext("2d") as Pen,
    [r, g, b] = dark ? WARM.dark : WARM.light;
  draw.fillStyle = `rgb(${r} ${g} ${b} / ${dark ? 0.16 : 0.1})`;
  draw.fillRect(0, 0, size, size);
  draw.strokeStyle = `rgb(${r} ${g} ${b} / ${dark ? 0.5 : 0.36})`;
  draw.lineWidth = 0.9 * ratio;
  draw.beginPath();
  for (const shift of [-size, 0, size]) {
    draw.moveTo(shift, size);
    draw.lineTo(shift + size, 0);
  }
  draw.stroke();
  hatch = { key, pattern: pen.createPattern(tile, "repeat") as CanvasPattern };
  return hatch.pattern;
}

const masks = new WeakMap<Float32Array, HTMLCanvasElement>();

/** 1 where the score says gap, 0 where not, soft within a tenth of the threshold. */
function gapMask(grid: Float32Array, side: number): HTMLCanvasElement {
  const known = masks.get(grid);
  if (known) return known;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d") as Pen,
    data = pen.createImageData(side, side);
  for (let j = 0; j < side; j++)
    for (let i = 0; i < side; i++)
      data.data[4 * ((side - 1 - j) * side + i) + 3] =
        255 * Math.min(1, Math.max(0, (grid[j * side + i] - 0.95) / 0.1));
  pen.putImageData(data, 0, 0);
  masks.set(grid, canvas);
  return canvas;
}

/** Gaps: hatched, with a line where the audit's score crosses its threshold. */
export function drawGaps(
  { pen, frame: f, dark }: Sheet,
  latent: Latent,
  scratch: HTMLCanvasElement,
  ratio: number,
): void {
  const found = latent.gapGrid();
  if (!found) return;
  const { grid, side, half } = found,
    cell = (2 * half) / (side - 1);
  const [left, top] = px(f, -half - cell / 2, half + cell / 2),
    [right, bottom] = px(f, half + cell / 2, -half - cell / 2);
  if (scratch.width !== f.width || scratch.height !== f.height) {
    scratch.width = f.width;
    scratch.height = f.height;
  }
  const draft = scratch.getContext("2d") as Pen;
  draft.globalCompositeOperation = "source-over";
  draft.clearRect(0, 0, f.width, f.height);
  draft.fillStyle = hatching(pen, dark, ratio);
  draft.fillRect(left, top, right - left, bottom - top);
  draft.globalCompositeOperation = "destination-in";
  draft.imageSmoothingEnabled = true;
  draft.drawImage(gapMask(grid, side), left, top, right - left, bottom - top);
  pen.drawImage(scratch, 0, 0);
  const [r, g, b] = dark ? WARM.dark : WARM.light;
  pen.strokeStyle = `rgb(${r} ${g} ${b} / 0.35)`; // beyond this frame nothing was scored
  pen.lineWidth = ratio;
  pen.setLineDash([2 * ratio, 4 * ratio]);
  pen.strokeRect(left, top, right - left, bottom - top);
  pen.setLineDash([]);
  pen.strokeStyle = `rgb(${r} ${g} ${b} / 0.75)`;
  pen.lineWidth = 1.1 * ratio;
  lines(pen, f, contour(grid, side, side, 1), (i, j) => [-half + i * cell, -half + j * cell]);
}

function lines(pen: Pen, f: Frame, segments: number[], place: (i: number, j: number) => [number, number]): void {
  pen.beginPath();
  for (let k = 0; k < segments.length; k += 4) {
    pen.moveTo(...px(f, ...place(segments[k], segments[k + 1])));
    pen.lineTo(...px(f, ...place(segments[k + 2], segments[k + 3])));
  }
  pen.stroke();
}

/** N(0, I) at 1, 2 and 3 sigma, at true scale; learned priors by the lines that hold as much of their draws. */
export function drawPrior({ pen, frame: f, ink }: Sheet, latent: Latent, ratio: number): void {
  pen.strokeStyle = ink.faint;
  pen.fillStyle = ink.faint;
  pen.font = font(10 * ratio);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  if (latent.draws) drawnPrior(pen, f, latent, ratio);
  else ringsOf(pen, f, latent.plane.value, ratio);
  pen.setLineDash([]);
}

function ringsOf(pen: Pen, f: Frame, plane: Plane, ratio: number): void {
  const [a, b] = toPlane(plane, new Float64Array(plane.origin.length)),
    [x, y] = px(f, a, b);
  for (const sigma of [1, 2, 3]) {
    pen.beginPath();
    pen.arc(x, y, sigma * f.sx, 0, 2 * Math.PI);
    twice(pen, DASHES[sigma - 1], ratio);
    halo(pen, `${sigma}σ`, x + sigma * f.sx * Math.SQRT1_2, y - sigma * f.sx * Math.SQRT1_2, ratio);
  }
}

/** Solid, dashed, dotted: 1, 2 and 3 sigma. */
const DASHES = [[], [5, 3], [1.5, 3]];

/** A line that is seen over points and over paper alike. */
function twice(pen: Pen, dash: number[], ratio: number): void {
  const color = pen.strokeStyle;
  for (const [width, ink, alpha] of [
    [3, getHalo(), 0.65],
    [1.2, color, 1],
  ] as const) {
    pen.setLineDash(width > 2 ? [] : dash.map((one) => one * ratio));
    pen.lineWidth = width * ratio;
    pen.strokeStyle = ink;
    pen.globalAlpha = alpha;
    pen.stroke();
  }
  pen.strokeStyle = color;
  pen.globalAlpha = 1;
}

const priorLines = new WeakMap<Plane, { half: number; side: number; parts: number[][] }>();
const MASSES = [0.3935, 0.8647, 0.9889];

function drawnPrior(pen: Pen, f: Frame, latent: Latent, ratio: number): void {
  const plane = latent.plane.value;
  let known = priorLines.get(plane);
  if (!known) {
    const draws = latent.draws as Float32Array,
      m = draws.length / latent.d,
      xy = new Float32Array(2 * m),
      half = 1.4 * plane.half,
      side = 72;
    for (let i = 0; i < m; i++) xy.set(toPlane(plane, draws.subarray(i * latent.d, (i + 1) * latent.d)), 2 * i);
    const cells = density(xy, m, frame({ cx: 0, cy: 0, half }, side, side), 1, 2).cells;
    known = { half, side, parts: MASSES.map((mass) => contour(cells, side, side, levelOf(cells, mass))) };
    priorLines.set(plane, known);
  }
  const { half, side, parts } = known,
    cell = (2 * half) / side;
  parts.forEach((part, k) => {
    pen.setLineDash(DASHES[k].map((one) => one * ratio));
    pen.lineWidth = 1.2 * ratio;
    lines(pen, f, part, (i, j) => [-half + (i + 0.5) * cell, half - (j + 0.5) * cell]);
  });
}

function halo(pen: Pen, text: string, x: number, y: number, ratio: number): void {
  pen.save();
  pen.setLineDash([]);
  pen.lineWidth = 3 * ratio;
  pen.lineJoin = "round";
  pen.strokeStyle = getHalo();
  pen.strokeText(text, x, y);
  pen.restore();
  pen.fillText(text, x, y);
}

let haloColor = "#fff";
export const setHalo = (color: string): void => void (haloColor = color);
const getHalo = () => haloColor;

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

/** The cursor: a cross at the decoded place, a ring around the nearest or chosen item. */
export function drawCursor(
  { pen, frame: f, ink }: Sheet,
  latent: Latent,
  marks: { item: number; chosen: number | null; picked: number[] },
  ratio: number,
): void {
  const plane = latent.plane.value,
    z = latent.z.value;
  const place = (item: number) => px(f, ...toPlane(plane, latent.at(item)));
  marks.picked
    .filter((one) => one < latent.count)
    .forEach((one, k) => ring(pen, ...place(one), 9 * ratio, ink.text, ratio, `${"ABC"[k]}`));
  if (marks.item >= 0 && marks.item < latent.count) ring(pen, ...place(marks.item), 6.5 * ratio, ink.faint, ratio);
  if (marks.chosen !== null && marks.chosen < latent.count)
    ring(pen, ...place(marks.chosen), 8 * ratio, ink.text, ratio);
  if (!z) return;
  const [x, y] = px(f, ...toPlane(plane, z)),
    arm = 9 * ratio,
    gap = 3 * ratio;
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
