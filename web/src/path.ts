// Paths through the latent space, and how evenly the output changes along them.
import { norm } from "./planes";

export type Way = "linear" | "spherical" | "density";
export type Code = Float64Array;

const mix = (a: ArrayLike<number>, b: ArrayLike<number>, t: number): Code =>
  Float64Array.from(a, (one, k) => (1 - t) * one + t * b[k]);

/** Spherical interpolation around 0 (White 2016), the length going evenly from |a| to |b|; straight where they align. */
export function slerp(a: ArrayLike<number>, b: ArrayLike<number>, t: number): Code {
  const first = norm(a),
    last = norm(b);
  if (first < 1e-9 || last < 1e-9) return mix(a, b, t);
  let cosine = 0;
  for (let k = 0; k < a.length; k++) cosine += (a[k] / first) * (b[k] / last);
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine))),
    sine = Math.sin(angle);
  if (sine < 1e-4) return mix(a, b, t);
  const p = Math.sin((1 - t) * angle) / sine,
    q = Math.sin(t * angle) / sine,
    length = (1 - t) * first + t * last;
  return Float64Array.from(a, (one, k) => length * ((p * one) / first + (q * b[k]) / last));
}

/** `count` codes at equal steps of length along the corners given. */
export function even(corners: Code[], count: number): Code[] {
  const length = [0];
  for (let i = 1; i < corners.length; i++)
    length.push(length[i - 1] + norm(corners[i].map((one, k) => one - corners[i - 1][k])));
  const whole = length[length.length - 1];
  let at = 0;
  return Array.from({ length: count }, (_, step) => {
    if (step === count - 1) return Float64Array.from(corners[corners.length - 1]);
    const wanted = (whole * step) / Math.max(1, count - 1);
    while (at < corners.length - 2 && length[at + 1] < wanted) at++;
    const span = length[at + 1] - length[at];
    return corners.length < 2
      ? Float64Array.from(corners[0])
      : mix(corners[at], corners[at + 1], span > 0 ? Math.min(1, (wanted - length[at]) / span) : 0);
  });
}

/** The codes of a path through the places given, both ends included. */
export function walk(places: ArrayLike<number>[], count: number, way: Way, codes?: Codes): Code[] {
  if (places.length === 1) return Array.from({ length: count }, () => Float64Array.from(places[0]));
  if (way === "linear" || (way === "density" && !codes))
    return even(
      places.map((one) => Float64Array.from(one)),
      count,
    );
  const dense: Code[] = [Float64Array.from(places[0])];
  for (let i = 1; i < places.length; i++)
    dense.push(...leg(places[i - 1], places[i], way === "density" ? codes : undefined));
  return even(dense, count);
}

/** The way from one corner to the next, the first left out: along the codes given, else spherical. */
function leg(from: ArrayLike<number>, to: ArrayLike<number>, codes?: Codes): Code[] {
  if (codes) return follow(even([Float64Array.from(from), Float64Array.from(to)], LEG), codes).slice(1);
  return Array.from({ length: 48 }, (_, step) => slerp(from, to, (step + 1) / 48));
}

/** Codes a path may follow: whitened, and the way there and back. */
export interface Codes {
  values: Float32Array;
  rank: number;
  whiten(z: ArrayLike<number>): Float32Array;
  /** z moved by `step` given in whitened units, as far as z can follow. */
  shift(z: Code, step: Float64Array): Code;
}

const ROUNDS = 60,
  SAMPLE = 1500,
  LEG = 16;

/** Pull a path towards where codes are dense: mean shift across the path, smoothed, its ends held (an elastic band). */
export function follow(path: Code[], codes: Codes): Code[] {
  const { rank } = codes,
    n = codes.values.length / rank,
    step = Math.max(1, Math.floor(n / SAMPLE));
  const width = bandwidth(codes, step);
  let now = path;
  for (let round = 0; round < ROUNDS; round++) {
    const pulled = now.map((z, i) => {
      if (i === 0 || i === now.length - 1) return z;
      const pull = meanShift(codes, codes.whiten(z), step, width);
      return codes.shift(
        z,
        across(pull, codes.whiten(now[i - 1]), codes.whiten(now[i + 1])).map((one) => 0.35 * one),
      );
    });
    now = even(
      pulled.map((z, i) => (i === 0 || i === now.length - 1 ? z : smooth(pulled[i - 1], z, pulled[i + 1]))),
      now.length,
    );
  }
  return now;
}

const smooth = (before: Code, z: Code, after: Code): Code =>
  z.map((one, k) => 0.7 * one + 0.15 * (before[k] + after[k]));

/** Wide enough that a step across an empty place still feels the codes around it. */
function bandwidth(codes: Codes, step: number): number {
  const { values, rank } = codes,
    n = values.length / rank;
  return 1.06 * Math.pow(Math.max(2, n / step), -1 / (rank + 4)) * Math.sqrt(Math.max(1, rank) / 2) + 0.1;
}

function meanShift({ values, rank }: Codes, w: Float32Array, step: number, width: number): Float64Array {
  const sum = new Float64Array(rank),
    n = values.length / rank;
  let weight = 1e-9;
  for (let i = 0; i < n; i += step) {
    let square = 0;
    for (let r = 0; r < rank; r++) square += (values[i * rank + r] - w[r]) ** 2;
    const part = Math.exp((-0.5 * square) / width ** 2);
    weight += part;
    for (let r = 0; r < rank; r++) sum[r] += part * (values[i * rank + r] - w[r]);
  }
  return sum.map((one) => one / weight);
}

/** The part of a pull across the path: along it the even steps decide. */
function across(pull: Float64Array, before: Float32Array, after: Float32Array): Float64Array {
  const along = Float64Array.from(after, (one, r) => one - before[r]),
    square = along.reduce((all, one) => all + one * one, 0);
  if (square < 1e-12) return pull;
  const part = pull.reduce((all, one, r) => all + one * along[r], 0) / square;
  return pull.map((one, r) => one - part * along[r]);
}

/** Change per step: root of the mean squared difference of neighbouring outputs, length count - 1. */
export function changes(outputs: Float32Array, size: number): Float64Array {
  const count = outputs.length / size;
  return Float64Array.from({ length: Math.max(0, count - 1) }, (_, i) => {
    let square = 0;
    for (let k = 0; k < size; k++) square += (outputs[(i + 1) * size + k] - outputs[i * size + k]) ** 2;
    return Math.sqrt(square / size);
  });
}

/** Free-hand points thinned so that no corner is nearer than `least` to the one before; the last is kept. */
export function thinned<T extends [number, number]>(points: T[], least: number): T[] {
  const kept: T[] = [];
  for (const point of points) {
    const last = kept[kept.length - 1];
    if (!last || Math.hypot(point[0] - last[0], point[1] - last[1]) >= least) kept.push(point);
  }
  const end = points[points.length - 1];
  if (end && kept[kept.length - 1] !== end) kept.length > 1 ? (kept[kept.length - 1] = end) : kept.push(end);
  return kept;
}
