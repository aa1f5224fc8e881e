// The drawing of one panel's points, off the page's thread. Messages: `FromPage`; after every frame one `Painted`.
import { FULL, SHAPES, accumulate, density, frame, opacity, shuffled, stamp, sums, tone } from "./raster";
import type { Points, Stamp, Sums } from "./raster";

export type FromPage =
  | { type: "start"; canvas: OffscreenCanvas; loc: Float32Array; count: number; latent: number }
  | { type: "plane"; origin: number[]; u: number[]; v: number[]; fade: number }
  | { type: "colors"; color: Uint8Array; palette: Uint8Array; shapes: Uint8Array }
  | { type: "mask"; mask: Uint8Array | null }
  | {
      type: "draw";
      id: number;
      view: { cx: number; cy: number; half: number };
      width: number;
      height: number;
      ratio: number;
      moving: boolean;
      points: boolean;
      density: boolean;
      ink: [number, number, number];
    };
export interface Painted {
  id: number;
  ms: number;
  shown: number;
  count: number;
}

const BUDGET_MS = 13;
let canvas: OffscreenCanvas, pen: OffscreenCanvasRenderingContext2D;
let loc: Float32Array,
  order: Uint32Array,
  count = 0,
  latent = 2;
let nearness: Uint8Array,
  mask: Uint8Array | null = null;
let points: Points = {
  xy: new Float32Array(0),
  color: new Uint8Array(0),
  weight: new Uint8Array(0),
  palette: new Uint8Array(768),
  stamps: null,
};
let shapes = new Uint8Array(1);
let buffer: Sums | null = null,
  picture: ImageData | null = null;
let perPoint = 4e-5,
  inView = 0;
const stampCache = new Map<string, Stamp[]>();

function project(origin: number[], u: number[], v: number[], fade: number): void {
  const { xy } = points;
  for (let i = 0; i < count; i++) {
    const from = order[i] * latent;
    let a = 0,
      b = 0,
      square = 0;
    for (let k = 0; k < latent; k++) {
      const z = loc[from + k] - origin[k];
      a += z * u[k];
      b += z * v[k];
      square += z * z;
    }
    xy[2 * i] = a;
    xy[2 * i + 1] = b;
    const off = latent > 2 ? Math.max(0, square - a * a - b * b) : 0;
    nearness[i] = fade > 0 ? Math.max(2, Math.round(FULL * Math.exp((-0.5 * off) / (fade * fade)))) : FULL;
  }
  weigh();
}

function weigh(): void {
  for (let i = 0; i < count; i++)
    points.weight[i] = mask && !mask[order[i]] ? Math.max(1, nearness[i] >> 3) : nearness[i];
}

function stampsFor(ratio: number): Stamp[] | null {
  const radius = (inView <= 4e3 ? 3.4 : inView <= 2e4 ? 2.6 : inView <= 8e4 ? 1.2 : 0) * ratio;
  if (radius < 1.1) return null;
  const key = `${radius}|${shapes.join()}`;
  if (!stampCache.has(key)) {
    if (stampCache.size > 40) stampCache.clear();
    stampCache.set(
      key,
      Array.from(shapes, (shape) => stamp(SHAPES[shape % SHAPES.length], radius)),
    );
  }
  return stampCache.get(key) as Stamp[];
}

function draw(message: Extract<FromPage, { type: "draw" }>): void {
  const began = performance.now();
  const width = Math.max(1, message.width),
    height = Math.max(1, message.height);
  if (canvas.width !== width || canvas.height !== height || !buffer || !picture) {
    canvas.width = width;
    canvas.height = height;
    buffer = sums(width, height);
    picture = new ImageData(width, height);
  }
  const f = frame(message.view, width, height);
  const end = message.moving ? Math.min(count, Math.max(20_000, Math.floor(BUDGET_MS / perPoint))) : count;
  pen.clearRect(0, 0, width, height);
  if (message.density)
    pen.putImageData(bands(f, Math.min(end, 200_000), message.ratio, message.ink, width, height), 0, 0);
  if (message.points) {
    buffer.cells.fill(0);
    points.stamps = stampsFor(message.ratio);
    const start = performance.now();
    const seen = accumulate(buffer, points, 0, end, f);
    if (end > 5000) perPoint = 0.5 * perPoint + 0.5 * Math.max(5e-6, (performance.now() - start) / end);
    inView = end ? Math.round((seen * count) / end) : 0;
    tone(buffer, opacity(points.stamps ? 0.82 : 0.62), picture.data);
    if (message.density) over(picture);
    else pen.putImageData(picture, 0, 0);
  }
  const painted: Painted = { id: message.id, ms: performance.now() - began, shown: end, count };
  postMessage(painted);
}

/** Lay the points over what is there already: putImageData replaces, drawImage covers. */
function over(top: ImageData): void {
  const layer = new OffscreenCanvas(top.width, top.height);
  layer.getContext("2d")?.putImageData(top, 0, 0);
  pen.drawImage(layer, 0, 0);
}

/** Density as six even bands of one ink. */
function bands(
  f: ReturnType<typeof frame>,
  end: number,
  ratio: number,
  ink: number[],
  width: number,
  height: number,
): ImageData {
  const step = Math.max(2, Math.round(2 * ratio)),
    found = density(points.xy, end, f, step, 4);
  const out = new ImageData(width, height);
  let top = 0;
  for (const value of found.cells) if (value > top) top = value;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const value = found.cells[((y / step) | 0) * found.columns + ((x / step) | 0)];
      const level = top > 0 ? Math.floor(7 * Math.sqrt(value / top)) : 0,
        at = 4 * (y * width + x);
      out.data[at] = ink[0];
      out.data[at + 1] = ink[1];
      out.data[at + 2] = ink[2];
      out.data[at + 3] = Math.min(6, level) * 20;
    }
  return out;
}

onmessage = (event: MessageEvent<FromPage>) => {
  const message = event.data;
  if (message.type === "start") {
    ({ canvas, loc, count, latent } = message);
    pen = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
    order = shuffled(count);
    nearness = new Uint8Array(count).fill(FULL);
    points = {
      ...points,
      xy: new Float32Array(2 * count),
      color: new Uint8Array(count),
      weight: new Uint8Array(count).fill(FULL),
    };
    inView = count;
  } else if (message.type === "plane") project(message.origin, message.u, message.v, message.fade);
  else if (message.type === "colors") {
    for (let i = 0; i < count; i++) points.color[i] = message.color[order[i]];
    points.palette = message.palette;
    shapes = message.shapes as Uint8Array<ArrayBuffer>;
  } else if (message.type === "mask") {
    mask = message.mask;
    weigh();
  } else draw(message);
};
