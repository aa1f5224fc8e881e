// The ground of a map: gaps by the audit's score, and the prior at true scale.
import { contour, levelOf } from "./contours";
import { t } from "./i18n";
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
  unscored(pen, f, [left, top, right, bottom], dark, ratio);
  pen.strokeStyle = `rgb(${r} ${g} ${b} / 0.75)`;
  pen.lineWidth = 1.1 * ratio;
  lines(pen, f, contour(grid, side, side, 1), (i, j) => [-half + i * cell, -half + j * cell]);
}

/** Beyond the lattice nothing was scored: a veil, its edge, and where there is room words. */
function unscored(pen: Pen, f: Frame, [left, top, right, bottom]: number[], dark: boolean, ratio: number): void {
  if (Math.max(left, top, f.width - right, f.height - bottom) < 12 * ratio) return;
  pen.fillStyle = dark ? "rgb(160 175 190 / 0.1)" : "rgb(90 105 120 / 0.09)";
  pen.beginPath();
  pen.rect(0, 0, f.width, f.height);
  pen.rect(left, top, right - left, bottom - top);
  pen.fill("evenodd");
  pen.strokeStyle = pen.fillStyle = dark ? "#96a1ad" : "#626b74";
  pen.lineWidth = ratio;
  pen.strokeRect(left, top, right - left, bottom - top);
  pen.font = font(11 * ratio);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  const text = t("map.unscored"),
    wide = pen.measureText(text).width / 2 + 8 * ratio;
  const middle = Math.max(wide, Math.min(f.width - wide, (left + right) / 2));
  if (f.width - right > 2 * wide) pen.fillText(text, (right + f.width) / 2, 16 * ratio);
  else if (top > 22 * ratio) pen.fillText(text, middle, top / 2);
  else if (f.height - bottom > 22 * ratio) pen.fillText(text, middle, (bottom + f.height) / 2);
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
  }
}

const TURNS = 24,
  LOOKED_AT = 1500;

/** The names of the rings, each where its ring is emptiest; rings too close to each other have one name, the outermost's. */
export function drawRingNames(
  { pen, frame: f, ink }: Sheet,
  latent: Latent,
  projected: Float32Array,
  taken: [number, number][],
  ratio: number,
): void {
  const plane = latent.plane.value,
    [x, y] = px(f, ...toPlane(plane, new Float64Array(plane.origin.length))),
    clear = ([p, q]: [number, number]) =>
      p > 14 * ratio && q > 10 * ratio && p < f.width - 14 * ratio && q < f.height - 40 * ratio;
  pen.font = font(11 * ratio, 600);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  for (const sigma of f.sx < 18 * ratio ? [3] : [1, 2, 3]) {
    const free = around(x, y, sigma * f.sx).filter(clear),
      crowd = free.map((at) => crowding(at, projected, f, 15 * ratio) + 99 * close(at, taken, 24 * ratio)),
      best = free[crowd.indexOf(Math.min(...crowd))];
    if (!best) continue;
    pill(pen, `${sigma}σ`, best, ink, ratio);
    taken = [...taken, best];
  }
}

/** Places of a circle, the upper right ones first. */
const around = (x: number, y: number, radius: number): [number, number][] =>
  Array.from({ length: TURNS }, (_, turn) => {
    const angle = ((turn + 3) / TURNS) * 2 * Math.PI;
    return [x + radius * Math.cos(angle), y - radius * Math.sin(angle)];
  });

const close = ([x, y]: [number, number], places: [number, number][], reach: number): number =>
  places.filter(([p, q]) => Math.hypot(p - x, q - y) < reach).length;

/** How many of some points lie near a pixel. */
function crowding([x, y]: [number, number], projected: Float32Array, f: Frame, reach: number): number {
  const step = 2 * Math.max(1, Math.floor(projected.length / 2 / LOOKED_AT));
  let count = 0;
  for (let i = 0; i < projected.length; i += step)
    if ((f.ox + projected[i] * f.sx - x) ** 2 + (f.oy + projected[i + 1] * f.sy - y) ** 2 < reach ** 2) count++;
  return count;
}

/** Words on a patch of paper. */
function pill(pen: Pen, text: string, [x, y]: [number, number], ink: Ink, ratio: number): void {
  const wide = pen.measureText(text).width / 2 + 3 * ratio,
    tall = 7.5 * ratio;
  pen.fillStyle = getHalo();
  pen.globalAlpha = 0.88;
  pen.beginPath();
  pen.roundRect(x - wide, y - tall, 2 * wide, 2 * tall, 5 * ratio);
  pen.fill();
  pen.globalAlpha = 1;
  pen.fillStyle = ink.faint;
  pen.fillText(text, x, y + 0.5 * ratio);
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
