// The count raster: every point adds its weight and colour to sums per pixel, and one table makes them visible.
// Whole numbers only, so the same points give the same bytes on every machine.

/** Pixel of a place (a, b): (ox + a sx, oy + b sy); sy is negative, b grows upwards. */
export interface Frame {
  width: number;
  height: number;
  sx: number;
  sy: number;
  ox: number;
  oy: number;
}

/** Four whole numbers a pixel: weight, and weight times red, green, blue. */
export interface Sums {
  width: number;
  height: number;
  cells: Uint32Array;
}

/** A small mask: offsets from the middle, and the coverage 1..15 of each. */
export interface Stamp {
  dx: Int32Array;
  dy: Int32Array;
  cover: Uint8Array;
  radius: number;
}

export const FULL = 15;

export const SHAPES = ["circle", "square", "triangle", "diamond", "plus", "cross", "wedge", "ring"] as const;
export type Shape = (typeof SHAPES)[number];

export function frame(view: { cx: number; cy: number; half: number }, width: number, height: number): Frame {
  const scale = Math.min(width, height) / (2 * view.half);
  return { width, height, sx: scale, sy: -scale, ox: width / 2 - view.cx * scale, oy: height / 2 + view.cy * scale };
}

export function sums(width: number, height: number): Sums {
  return { width, height, cells: new Uint32Array(4 * width * height) };
}

const INSIDE: Record<Shape, (x: number, y: number) => boolean> = {
  circle: (x, y) => x * x + y * y <= 0.8,
  square: (x, y) => Math.abs(x) <= 0.76 && Math.abs(y) <= 0.76,
  triangle: (x, y) => y <= 0.75 && y >= -0.9 + 2 * Math.abs(x),
  diamond: (x, y) => Math.abs(x) + Math.abs(y) <= 1,
  plus: (x, y) => (Math.abs(x) <= 0.32 || Math.abs(y) <= 0.32) && Math.max(Math.abs(x), Math.abs(y)) <= 0.95,
  cross: (x, y) => Math.abs(Math.abs(x) - Math.abs(y)) <= 0.42 && Math.max(Math.abs(x), Math.abs(y)) <= 0.85,
  wedge: (x, y) => y >= -0.75 && y <= 0.9 - 2 * Math.abs(x),
  ring: (x, y) => x * x + y * y <= 1 && x * x + y * y >= 0.36,
};

/** A shape of this radius in pixels, its coverage counted on a lattice of 8 x 8 places a pixel. */
export function stamp(shape: Shape, radius: number): Stamp {
  const reach = Math.ceil(radius);
  const dx: number[] = [],
    dy: number[] = [],
    cover: number[] = [];
  for (let y = -reach; y <= reach; y++)
    for (let x = -reach; x <= reach; x++) {
      let hits = 0;
      for (let k = 0; k < 64; k++)
        if (INSIDE[shape]((x + ((k & 7) - 3.5) / 8) / radius, (y + ((k >> 3) - 3.5) / 8) / radius)) hits++;
      const part = Math.round((hits * FULL) / 64);
      if (part > 0) {
        dx.push(x);
        dy.push(y);
        cover.push(part);
      }
    }
  return { dx: Int32Array.from(dx), dy: Int32Array.from(dy), cover: Uint8Array.from(cover), radius: reach };
}

/** Points: xy interleaved; a colour number and a weight 0..15 each; 256 colours, and a stamp per colour. */
export interface Points {
  xy: Float32Array;
  color: Uint8Array;
  weight: Uint8Array;
  palette: Uint8Array;
  stamps: Stamp[] | null;
}

/** Add points start..end to the sums; one pixel each without stamps. Returns how many were in view. */
export function accumulate(into: Sums, points: Points, start: number, end: number, f: Frame): number {
  return points.stamps ? stamped(into, points, start, end, f) : single(into, points, start, end, f);
}

function single({ width, height, cells }: Sums, p: Points, start: number, end: number, f: Frame): number {
  const { xy, color, weight, palette } = p;
  let seen = 0;
  for (let i = start; i < end; i++) {
    const x = f.ox + xy[2 * i] * f.sx,
      y = f.oy + xy[2 * i + 1] * f.sy;
    if (!(x >= 0 && x < width && y >= 0 && y < height)) continue;
    const at = 4 * ((y | 0) * width + (x | 0)),
      w = weight[i],
      c = 3 * color[i];
    cells[at] += w;
    cells[at + 1] += w * palette[c];
    cells[at + 2] += w * palette[c + 1];
    cells[at + 3] += w * palette[c + 2];
    seen++;
  }
  return seen;
}

function stamped({ width, height, cells }: Sums, p: Points, start: number, end: number, f: Frame): number {
  const { xy, color, weight, palette } = p,
    stamps = p.stamps as Stamp[];
  let seen = 0;
  for (let i = start; i < end; i++) {
    const kind = stamps[color[i] % stamps.length],
      reach = kind.radius;
    const x = f.ox + xy[2 * i] * f.sx,
      y = f.oy + xy[2 * i + 1] * f.sy;
    if (!(x >= -reach && x < width + reach && y >= -reach && y < height + reach)) continue;
    const px = Math.floor(x),
      py = Math.floor(y),
      w = weight[i],
      c = 3 * color[i];
    const red = palette[c],
      green = palette[c + 1],
      blue = palette[c + 2];
    for (let k = 0; k < kind.cover.length; k++) {
      const cx = px + kind.dx[k],
        cy = py + kind.dy[k];
      if (cx < 0 || cx >= width || cy < 0 || cy >= height) continue;
      const part = Math.ceil((w * kind.cover[k]) / FULL),
        at = 4 * (cy * width + cx);
      cells[at] += part;
      cells[at + 1] += part * red;
      cells[at + 2] += part * green;
      cells[at + 3] += part * blue;
    }
    seen++;
  }
  return seen;
}

/** Weight -> opacity 0..255: one full point has the opacity `one`, many come close to opaque. */
export function opacity(one: number): Uint8Array {
  const table = new Uint8Array(FULL * 256);
  for (let w = 1; w < table.length; w++) table[w] = Math.max(8, Math.round(255 * (1 - Math.pow(1 - one, w / FULL))));
  return table;
}

/** Sums to RGBA bytes: mean colour, opacity by weight. */
export function tone({ cells }: Sums, table: Uint8Array, out: Uint8ClampedArray): void {
  const last = table.length - 1;
  for (let at = 0; at < cells.length; at += 4) {
    const w = cells[at];
    if (w === 0) {
      out[at + 3] = 0;
      continue;
    }
    out[at] = (cells[at + 1] / w) | 0;
    out[at + 1] = (cells[at + 2] / w) | 0;
    out[at + 2] = (cells[at + 3] / w) | 0;
    out[at + 3] = table[w < last ? w : last];
  }
}

/** How many points fall into cells of `step` pixels, smoothed by three passes of a box of 2 r + 1 cells. */
export function density(xy: Float32Array, end: number, f: Frame, step: number, r: number) {
  const columns = Math.ceil(f.width / step),
    rows = Math.ceil(f.height / step);
  let cells: Float64Array<ArrayBufferLike> = new Float64Array(columns * rows);
  for (let i = 0; i < end; i++) {
    const x = (f.ox + xy[2 * i] * f.sx) / step,
      y = (f.oy + xy[2 * i + 1] * f.sy) / step;
    if (x >= 0 && x < columns && y >= 0 && y < rows) cells[(y | 0) * columns + (x | 0)]++;
  }
  for (let pass = 0; pass < 3; pass++) cells = box(box(cells, columns, rows, r), rows, columns, r);
  return { columns, rows, cells };
}

/** Running sums along rows, written turned by a quarter, so that two calls smooth both ways and turn back. */
function box(cells: Float64Array, columns: number, rows: number, r: number): Float64Array {
  const out = new Float64Array(cells.length);
  for (let y = 0; y < rows; y++) {
    let sum = 0;
    for (let x = 0; x < Math.min(r, columns); x++) sum += cells[y * columns + x];
    for (let x = 0; x < columns; x++) {
      if (x + r < columns) sum += cells[y * columns + x + r];
      if (x - r - 1 >= 0) sum -= cells[y * columns + x - r - 1];
      out[x * rows + y] = sum;
    }
  }
  return out;
}

/** 0..n-1 in a fixed random order, so that any first part is a fair sample. */
export function shuffled(n: number, seed = 20261): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let state = seed >>> 0;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 4294967296) * (i + 1));
    const held = order[i];
    order[i] = order[j];
    order[j] = held;
  }
  return order;
}
