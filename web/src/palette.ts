// Colours: at most eight (Okabe & Ito, told apart by all), shapes besides; one even ramp for numbers.
import type { Ink } from "./renderers";

const LIGHT = ["#0072b2", "#e08e00", "#009e73", "#cc6a9f", "#4aa8e0", "#d55e00", "#b5a400", "#4a525c"];
const DARK = ["#3d9be0", "#f0ab2e", "#23c197", "#e08fbb", "#7cc8f5", "#f07c33", "#ece04f", "#c3cad3"];
const RAMP = ["#00224e", "#2c4170", "#565c6c", "#7d7c78", "#a59c74", "#d2c060", "#fee838"];
export const UNKNOWN = 255;

export const labelColor = (label: number, dark: boolean): string =>
  label < 0 ? (dark ? "#6b7480" : "#a3a9b1") : (dark ? DARK : LIGHT)[label % 8];

/** Every label has a shape too; after eight labels colours come again with other shapes. */
export const shapeOf = (label: number): number => (label < 0 ? 0 : (label + Math.floor(label / 8) * 3) % 8);

export const rgb = (hex: string): [number, number, number] =>
  [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)) as [number, number, number];

/** Colour at t in 0..1, cut where it would sink into the page. */
export function ramp(t: number, dark: boolean): [number, number, number] {
  const x = (dark ? 0.22 + 0.78 * t : 0.9 * t) * (RAMP.length - 1),
    i = Math.min(RAMP.length - 2, Math.floor(x)),
    part = x - i;
  const from = rgb(RAMP[i]),
    to = rgb(RAMP[i + 1]);
  return from.map((one, k) => Math.round(one + part * (to[k] - one))) as [number, number, number];
}

export const css = (color: number[]): string => `rgb(${color.join(" ")})`;

export interface Colors {
  color: Uint8Array;
  palette: Uint8Array;
  shapes: Uint8Array;
  low?: number;
  high?: number;
}

export function byLabel(labels: Int16Array, names: number, dark: boolean): Colors {
  const palette = new Uint8Array(768),
    shapes = new Uint8Array(256);
  for (let k = 0; k < Math.min(255, Math.max(names, 1)); k++) {
    palette.set(rgb(labelColor(k, dark)), 3 * k);
    shapes[k] = shapeOf(k);
  }
  palette.set(rgb(labelColor(-1, dark)), 3 * UNKNOWN);
  return { color: Uint8Array.from(labels, (label) => (label < 0 ? UNKNOWN : label % 255)), palette, shapes };
}

/** A number per item, even between its 2nd and 98th hundredth. */
export function byValue(values: ArrayLike<number>, dark: boolean): Colors {
  const step = Math.max(1, Math.floor(values.length / 20_000)),
    sorted: number[] = [];
  for (let i = 0; i < values.length; i += step) if (Number.isFinite(values[i])) sorted.push(values[i]);
  sorted.sort((a, b) => a - b);
  const low = sorted[Math.floor(0.02 * (sorted.length - 1))] ?? 0,
    high = sorted[Math.ceil(0.98 * (sorted.length - 1))] ?? 1;
  const palette = new Uint8Array(768);
  for (let k = 0; k < 256; k++) palette.set(ramp(k / 255, dark), 3 * k);
  const place = (value: number) => Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low || 1))));
  return {
    color: Uint8Array.from(values as ArrayLike<number> & Iterable<number>, place),
    palette,
    shapes: new Uint8Array(256),
    low,
    high,
  };
}

export function inkOf(dark: boolean): Ink {
  return dark
    ? { text: "#dfe4ea", faint: "#9aa5b1", line: "#2b323b", accent: "#57a9d6", negative: "#f0884a", dark }
    : { text: "#22282f", faint: "#667079", line: "#e6e7e3", accent: "#2b7fb0", negative: "#c8500a", dark };
}
