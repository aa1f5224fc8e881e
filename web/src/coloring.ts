// The colours of a map's points, and what is counted once for a plane.
import type { Latent } from "./latent";
import { byLabel, byValue } from "./palette";
import type { Colors } from "./palette";
import { toPlane } from "./planes";
import { itemValues } from "./renderers";
import { sizeOf } from "./scene";
import { heldOut, stored } from "./state";
import type { ColorBy } from "./state";

export interface Blob {
  a: number;
  b: number;
  radius: number;
}

export interface Middle {
  label: number;
  a: number;
  b: number;
  count: number;
}

/** The colour of every item, by what was chosen. */
export function colorsFor(latent: Latent, by: ColorBy, labels: Int16Array | null, dark: boolean): Colors {
  const plain = () => byLabel(new Int16Array(latent.count), 1, dark);
  if (by === "label" && labels) return byLabel(labels, latent.scene.label_names.length, dark);
  if (by === "error" && latent.error) return byValue(latent.error, dark);
  if (by === "kl" && latent.kl) return byValue(latent.kl, dark);
  if (by === "held_out" && heldOut.value) return byLabel(Int16Array.from(heldOut.value), 2, dark);
  if (by.startsWith("column:") && stored.value) return byValue(column(latent, Number(by.slice(7))), dark);
  return plain();
}

function column(latent: Latent, k: number): Float32Array {
  const size = sizeOf(latent.scene.event_shape),
    values = stored.value as Float32Array;
  return Float32Array.from({ length: latent.count }, (_, i) => itemValues(latent.scene, values, i, size)[k]);
}

/** Half of how far items usually lie from the plane: there a point is still well seen. */
export function usualOff(latent: Latent): number {
  const plane = latent.plane.value,
    found: number[] = [],
    step = Math.max(1, Math.floor(latent.count / 500));
  for (let i = 0; i < latent.count; i += step) {
    const z = latent.at(i),
      [a, b] = toPlane(plane, z);
    let square = 0;
    for (let k = 0; k < latent.d; k++) square += (z[k] - plane.origin[k]) ** 2;
    found.push(Math.sqrt(Math.max(0, square - a * a - b * b)));
  }
  found.sort((a, b) => a - b);
  return Math.max(1e-6, 0.75 * (found[Math.floor(found.length / 2)] ?? 1));
}

/** The middle of all points and how far the farthest lies from it. */
export function blobOf(projected: Float32Array): Blob {
  const n = projected.length / 2;
  let a = 0,
    b = 0,
    square = 0;
  for (let i = 0; i < n; i++) {
    a += projected[2 * i] / n;
    b += projected[2 * i + 1] / n;
  }
  for (let i = 0; i < n; i++) square = Math.max(square, (projected[2 * i] - a) ** 2 + (projected[2 * i + 1] - b) ** 2);
  return { a, b, radius: Math.sqrt(square) };
}

/** Points farther out than a window around the origin shows, if it is square. */
export function beyond(projected: Float32Array, half: number): number {
  let count = 0;
  for (let i = 0; i < projected.length; i += 2)
    if (Math.max(Math.abs(projected[i]), Math.abs(projected[i + 1])) > half) count++;
  return count;
}

/** Where the codes of each label lie: the medians on the plane, the largest label first. */
export function middlesOf(projected: Float32Array, labels: Int16Array): Middle[] {
  const step = Math.max(1, Math.floor(labels.length / 8000)),
    groups = new Map<number, [number[], number[]]>();
  for (let i = 0; i < labels.length; i += step) {
    if (labels[i] < 0) continue;
    const group = groups.get(labels[i]) ?? (groups.set(labels[i], [[], []]).get(labels[i]) as [number[], number[]]);
    group[0].push(projected[2 * i]);
    group[1].push(projected[2 * i + 1]);
  }
  const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1];
  return [...groups]
    .map(([label, [a, b]]) => ({ label, count: a.length, a: median(a), b: median(b) }))
    .sort((x, y) => y.count - x.count);
}
