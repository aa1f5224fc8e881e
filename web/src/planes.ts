// Planes through the latent space: z = origin + a u + b v, with u and v orthonormal.

export interface Plane {
  kind: "scene" | "axes" | "pca" | "items";
  name: string;
  origin: Float64Array;
  u: Float64Array;
  v: Float64Array;
  half: number;
  axes: [number, number] | null;
  /** Which plane of the scene this is, whose gap map holds while the origin is untouched; null for planes made here. */
  scene: number | null;
}

export interface View {
  cx: number;
  cy: number;
  half: number;
}

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};

export const norm = (a: ArrayLike<number>): number => Math.sqrt(dot(a, a));

export function unit(d: number, axis: number): Float64Array {
  const e = new Float64Array(d);
  e[axis] = 1;
  return e;
}

/** A latent of one feature is shown on a line: the second axis is one that no code has. */
export function fromPlane(plane: Plane, a: number, b: number): Float32Array {
  return Float32Array.from(plane.origin, (o, k) => o + a * plane.u[k] + b * plane.v[k]);
}

export function toPlane(plane: Plane, z: ArrayLike<number>): [number, number] {
  let a = 0,
    b = 0;
  for (let k = 0; k < plane.origin.length; k++) {
    a += (z[k] - plane.origin[k]) * plane.u[k];
    b += (z[k] - plane.origin[k]) * plane.v[k];
  }
  return [a, b];
}

/** Distance of a code from the plane. */
export function distance(plane: Plane, z: ArrayLike<number>): number {
  const [a, b] = toPlane(plane, z);
  let square = 0;
  for (let k = 0; k < plane.origin.length; k++) square += (z[k] - plane.origin[k]) ** 2;
  return Math.sqrt(Math.max(0, square - a * a - b * b));
}

export function axesPlane(origin: ArrayLike<number>, i: number, j: number, half: number): Plane {
  const d = origin.length,
    base = Float64Array.from(origin);
  base[i] = 0;
  if (j < d) base[j] = 0;
  const v = i === j || j >= d ? new Float64Array(d) : unit(d, j);
  return { kind: "axes", name: "", origin: base, u: unit(d, i), v, half, axes: [i, j], scene: null };
}

/** The plane through three codes; its middle is their mean. Null when they lie on a line. */
export function itemsPlane(
  first: ArrayLike<number>,
  second: ArrayLike<number>,
  third: ArrayLike<number>,
): Plane | null {
  const origin = Float64Array.from(first, (one, k) => (one + second[k] + third[k]) / 3);
  const across = Float64Array.from(second, (one, k) => one - first[k]);
  const along = Float64Array.from(third, (one, k) => one - first[k]);
  const length = norm(across);
  if (!(length > 1e-9)) return null;
  const u = across.map((one) => one / length),
    part = dot(along, u);
  const rest = along.map((one, k) => one - part * u[k]),
    height = norm(rest);
  if (!(height > 1e-6 * length)) return null;
  const far = Math.max(...[first, second, third].map((z) => norm(Float64Array.from(z, (one, k) => one - origin[k]))));
  return {
    kind: "items",
    name: "",
    origin,
    u,
    v: rest.map((one) => one / height),
    half: 1.6 * far,
    axes: null,
    scene: null,
  };
}

/** Mean and covariance of the aggregate posterior: that of the locs, and the mean of the variances on the diagonal. */
export function aggregate(loc: Float32Array, scale: Float32Array | null, d: number, most = 5000) {
  const n = loc.length / d,
    step = Math.max(1, Math.floor(n / most));
  const mean = new Float64Array(d),
    covariance = new Float64Array(d * d);
  let used = 0;
  for (let i = 0; i < n; i += step, used++) for (let k = 0; k < d; k++) mean[k] += loc[i * d + k];
  for (let k = 0; k < d; k++) mean[k] /= Math.max(1, used);
  for (let i = 0; i < n; i += step)
    for (let j = 0; j < d; j++) {
      const x = loc[i * d + j] - mean[j];
      for (let k = 0; k <= j; k++) covariance[j * d + k] += (x * (loc[i * d + k] - mean[k])) / used;
      if (scale) covariance[j * d + j] += scale[i * d + j] ** 2 / used;
    }
  for (let j = 0; j < d; j++) for (let k = 0; k < j; k++) covariance[k * d + j] = covariance[j * d + k];
  return { mean, covariance };
}

/** The two directions of largest variance, by orthogonal iteration; the largest part of each is positive. */
export function principal(covariance: Float64Array, d: number, rounds = 300): [Float64Array, Float64Array] {
  let u = Float64Array.from({ length: d }, (_, k) => 1 + 0.37 * Math.sin(3 * k + 1));
  let v = Float64Array.from({ length: d }, (_, k) => Math.cos(5 * k + 2));
  const times = (x: Float64Array) =>
    Float64Array.from(x, (_, j) => dot(covariance.subarray(j * d, (j + 1) * d), x) + 1e-12 * x[j]);
  const scaled = (x: Float64Array) => {
    const length = norm(x) || 1;
    return x.map((one) => one / length);
  };
  for (let round = 0; round < rounds; round++) {
    u = scaled(times(u));
    const turned = times(v),
      part = dot(turned, u);
    v = scaled(turned.map((one, k) => one - part * u[k]));
  }
  return [facing(u), facing(v)];
}

function facing(x: Float64Array): Float64Array {
  let best = 0;
  for (let k = 1; k < x.length; k++) if (Math.abs(x[k]) > Math.abs(x[best]) + 1e-12) best = k;
  return x[best] < 0 ? x.map((one) => -one) : x;
}

export function pcaPlane(loc: Float32Array, scale: Float32Array | null, d: number, half: number): Plane {
  const { mean, covariance } = aggregate(loc, scale, d),
    [u, v] = principal(covariance, d);
  const spread = Math.sqrt(
    Math.max(
      1e-12,
      dot(
        u,
        u.map((_, j) => dot(covariance.subarray(j * d, (j + 1) * d), u)),
      ),
    ),
  );
  return {
    kind: "pca",
    name: "",
    origin: mean,
    u,
    v,
    half: Math.max(3.6 * spread, 0.25 * half),
    axes: null,
    scene: null,
  };
}

/** How many times as far as nearly all codes one may lie and still be in the first window. */
const STRAY = 3;

/** Half the width that shows all codes and the third ring; strays far beyond the others are left outside. */
export function reach(loc: Float32Array, d: number, plane: Plane): number {
  const far = Float32Array.from({ length: loc.length / d }, (_, i) => {
    const [a, b] = toPlane(plane, loc.subarray(i * d, (i + 1) * d));
    return Math.max(Math.abs(a), Math.abs(b));
  }).sort();
  const all = far[far.length - 1] ?? 0,
    most = far[Math.floor(0.99 * (far.length - 1))] ?? 0;
  return Math.max(3.4, 1.06 * (all <= STRAY * most ? all : most));
}
