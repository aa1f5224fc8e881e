// How a decode is drawn: one small painter per kind of data, all with the same three functions.
import type { Scene } from "../scene";
import { valueOf } from "../scene";
import { counts } from "./counts";
import { image } from "./image";
import { series } from "./series";
import { table } from "./table";

export type Look = "plain" | "difference";
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}
export interface Ink {
  text: string;
  faint: string;
  line: string;
  accent: string;
  negative: string;
  dark: boolean;
}

export interface Painter {
  /** Width over height that suits the data. */
  aspect: number;
  paint(pen: CanvasRenderingContext2D, values: ArrayLike<number>, box: Box, ink: Ink, look?: Look): void;
  /** The values in a few words, for those who do not see them. */
  describe(values: ArrayLike<number>): string;
}

const KINDS: Record<Scene["kind"], (scene: Scene) => Painter> = { image, table, counts, series };

const made = new WeakMap<Scene, Painter>();

export function painterOf(scene: Scene): Painter {
  const painter = made.get(scene) ?? (KINDS[scene.kind] ?? table)(scene);
  made.set(scene, painter);
  return painter;
}

/** The values of an item in model units. */
export function itemValues(scene: Scene, stored: Uint8Array | Float32Array, index: number, size: number): Float32Array {
  return Float32Array.from(stored.subarray(index * size, (index + 1) * size), valueOf(scene));
}

/** Raw units of column k: raw = model * scale + shift. */
export function raw(scene: Scene, value: number, k: number): number {
  const { shift, scale } = scene.scaling ?? { shift: [0], scale: [1] };
  return value * (scale[k % scale.length] ?? 1) + (shift[k % shift.length] ?? 0);
}

/** Few digits for little room: of small numbers one, of tiny and large ones a power of ten. */
export function short(value: number): string {
  const size = Math.abs(value),
    text = size >= 1000 ? value.toPrecision(2) : size >= 0.01 || !size ? value.toFixed(2) : value.toPrecision(1);
  return (size > 0 && size < 0.001 ? value.toExponential(0) : text).replace(/-/g, "\u2212");
}
