// What is known of a place: its prior density, the audit's gap score, the nearest codes in sigma of the reference law.
import { norm } from "./planes";

export interface Law {
  mean: number[];
  whiten: number[][];
}

/** w = whiten (z - mean); without a law, the codes themselves. */
export function whitened(law: Law | null, z: ArrayLike<number>): Float32Array {
  if (!law) return Float32Array.from(z);
  return Float32Array.from(law.whiten, (row) => {
    let sum = 0;
    for (let k = 0; k < row.length; k++) sum += row[k] * (z[k] - law.mean[k]);
    return sum;
  });
}

export function whitenAll(law: Law | null, loc: Float32Array, d: number): { codes: Float32Array; rank: number } {
  if (!law) return { codes: loc, rank: d };
  const n = loc.length / d,
    rank = law.whiten.length,
    codes = new Float32Array(n * rank);
  const mean = Float64Array.from(law.mean),
    rows = law.whiten.map((row) => Float64Array.from(row));
  for (let i = 0; i < n; i++)
    for (let r = 0; r < rank; r++) {
      let sum = 0;
      for (let k = 0; k < d; k++) sum += rows[r][k] * (loc[i * d + k] - mean[k]);
      codes[i * rank + r] = sum;
    }
  return { codes, rank };
}

export interface Near {
  items: number[];
  distances: number[];
}

/** The k nearest codes, the nearest first; distances in sigma. `codes` are whitened, `w` too. */
export function nearest(codes: Float32Array, rank: number, w: ArrayLike<number>, k: number, skip = -1): Near {
  const n = rank ? codes.length / rank : 0,
    items: number[] = [],
    squares: number[] = [];
  let worst = Infinity;
  for (let i = 0; i < n; i++) {
    let square = 0;
    for (let r = 0, at = i * rank; r < rank && square < worst; r++, at++) {
      const off = codes[at] - w[r];
      square += off * off;
    }
    if (square >= worst || i === skip) continue;
    let place = Math.min(items.length, k - 1);
    while (place > 0 && squares[place - 1] > square) {
      items[place] = items[place - 1];
      squares[place] = squares[place - 1];
      place--;
    }
    items[place] = i;
    squares[place] = square;
    if (items.length === k) worst = squares[k - 1];
  }
  return { items, distances: squares.map(Math.sqrt) };
}

/** log N(z; 0, I) in nats. */
export const logStandardNormal = (z: ArrayLike<number>): number =>
  -0.5 * norm(z) ** 2 - 0.5 * z.length * Math.log(2 * Math.PI);

/** log of a Gaussian kernel estimate from draws (Scott's width), for priors that are known by their samples. */
export function logKernel(draws: Float32Array, d: number, z: ArrayLike<number>, most = 2000): number {
  const m = Math.min(draws.length / d, most),
    width = Math.pow(m, -1 / (d + 4));
  const spread = spreads(draws, d, m).map((one) => Math.max(1e-6, one * width));
  const parts = new Float64Array(m);
  let top = -Infinity;
  for (let i = 0; i < m; i++) {
    let square = 0;
    for (let k = 0; k < d; k++) square += ((z[k] - draws[i * d + k]) / spread[k]) ** 2;
    parts[i] = -0.5 * square;
    if (parts[i] > top) top = parts[i];
  }
  let sum = 0;
  for (const part of parts) sum += Math.exp(part - top);
  return (
    top + Math.log(sum / m) - 0.5 * d * Math.log(2 * Math.PI) - spread.reduce((all, one) => all + Math.log(one), 0)
  );
}

const spreadOf = new WeakMap<Float32Array, Float64Array>();

function spreads(draws: Float32Array, d: number, m: number): Float64Array {
  const known = spreadOf.get(draws);
  if (known) return known;
  const found = new Float64Array(d);
  for (let k = 0; k < d; k++) {
    let mean = 0,
      square = 0;
    for (let i = 0; i < m; i++) mean += draws[i * d + k] / m;
    for (let i = 0; i < m; i++) square += (draws[i * d + k] - mean) ** 2 / m;
    found[k] = Math.sqrt(square);
  }
  spreadOf.set(draws, found);
  return found;
}

/** The gap score at (a, b) between the places of a grid from -half to half; null outside it. */
export function gapScore(grid: Float32Array, side: number, half: number, a: number, b: number): number | null {
  const x = ((a / half + 1) / 2) * (side - 1),
    y = ((b / half + 1) / 2) * (side - 1);
  if (!(x >= 0 && y >= 0 && x <= side - 1 && y <= side - 1)) return null;
  const i = Math.min(side - 2, Math.floor(x)),
    j = Math.min(side - 2, Math.floor(y)),
    p = x - i,
    q = y - j;
  const at = (row: number, column: number) => grid[row * side + column];
  return (1 - q) * ((1 - p) * at(j, i) + p * at(j, i + 1)) + q * ((1 - p) * at(j + 1, i) + p * at(j + 1, i + 1));
}

/** How far most codes are from their nearest other; three times this is far from data. Fewer codes speak for large sets. */
export function usualDistance(codes: Float32Array, rank: number): number {
  const n = rank ? codes.length / rank : 0,
    sample = Math.max(16, Math.min(200, 2e7 / Math.max(1, n))),
    step = Math.max(1, Math.floor(n / sample));
  const found: number[] = [];
  for (let i = 0; i < n; i += step)
    found.push(nearest(codes, rank, codes.subarray(i * rank, (i + 1) * rank), 1, i).distances[0] ?? 0);
  found.sort((a, b) => a - b);
  return found[Math.floor(0.98 * (found.length - 1))] ?? 0;
}

/** The labels around a place: one where four in five neighbours agree, else the two most frequent. */
export function around(labels: ArrayLike<number> | null, items: number[]): number[] {
  if (!labels) return [];
  const counts = new Map<number, number>();
  for (const item of items) if (labels[item] >= 0) counts.set(labels[item], (counts.get(labels[item]) ?? 0) + 1);
  const ranked = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  if (!ranked.length) return [];
  return ranked[0][1] >= 0.8 * items.length || ranked.length === 1 ? [ranked[0][0]] : [ranked[0][0], ranked[1][0]];
}

/** What a place is called: inside the data, at its edge, or in a gap. */
export type Standing = "inside" | "edge" | "gap";

/** From this share of the threshold on a decode is barely like the data. */
export const EDGE = 0.8;

/** By the audit's own score where it is known; else by the distance to the nearest code. */
export function standing(gap: number | null, sigma: number, usual: number): Standing {
  if (gap !== null) return gap > 1 ? "gap" : gap > EDGE ? "edge" : "inside";
  return sigma > 3 * usual && sigma > 0.25 ? "gap" : sigma > 1.5 * usual && sigma > 0.12 ? "edge" : "inside";
}
