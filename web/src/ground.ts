// The ground of a map: gaps by the audit's score, and the prior at true scale.
import { contour, levelOf } from "./contours";
import type { Latent } from "./latent";
import { toPlane } from "./planes";
import type { Plane } from "./planes";
import { density, frame } from "./raster";
import type { Frame } from "./raster";
import type { Ink } from "./renderers";

export type Pen = CanvasRenderingContext2D;

export interface Sheet {
  pen: Pen;
  frame: Frame;
  ink: Ink;
  dark: boolean;
}

export const px = (f: Frame, a: number, b: number): [number, number] => [f.ox + a * f.sx, f.oy + b * f.sy];
export const font = (size: number, weight = 400) =>
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

export function halo(pen: Pen, text: string, x: number, y: number, ratio: number): void {
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
export const getHalo = () => haloColor;
