import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { FULL, SHAPES, accumulate, density, frame, opacity, shuffled, stamp, sums, tone } from "../src/raster";
import type { Points } from "../src/raster";

const hash = (bytes: ArrayBufferView) =>
  createHash("sha256")
    .update(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    .digest("hex")
    .slice(0, 16);

/** n points from a fixed generator, spread over -1..1 with some outside, in three colours. */
function points(n: number, stamps: Points["stamps"] = null): Points {
  let state = 7;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 4294967296;
  const xy = Float32Array.from({ length: 2 * n }, () => 2.4 * next() - 1.2);
  const palette = new Uint8Array(768);
  palette.set([200, 10, 30, 20, 180, 60, 5, 90, 250]);
  return {
    xy,
    color: Uint8Array.from({ length: n }, (_, i) => i % 3),
    weight: Uint8Array.from({ length: n }, (_, i) => 1 + (i % FULL)),
    palette,
    stamps,
  };
}

test("a place lands on its pixel, b upwards", () => {
  const f = frame({ cx: 1, cy: 2, half: 2 }, 40, 20);
  expect([f.ox + 1 * f.sx, f.oy + 2 * f.sy]).toEqual([20, 10]);
  expect(f.oy + 3 * f.sy).toBe(5);
});

test("sums are counts times colours", () => {
  const into = sums(2, 1),
    p = points(3);
  p.xy.set([-0.5, 0, -0.5, 0, 0.5, 0]);
  const seen = accumulate(into, p, 0, 3, frame({ cx: 0, cy: 0, half: 0.5 }, 2, 1));
  expect(seen).toBe(3);
  expect([...into.cells]).toEqual([3, 200 + 2 * 20, 10 + 2 * 180, 30 + 2 * 60, 3, 15, 270, 750]);
});

test("points outside the window leave no trace", () => {
  const into = sums(4, 4),
    p = points(4);
  p.xy.set([1, 0, -9, 0, 0, -1, Number.NaN, 0]); // the right and the lower edge are outside already
  expect(accumulate(into, p, 0, 4, frame({ cx: 0, cy: 0, half: 1 }, 4, 4))).toBe(0);
  expect(into.cells.every((one) => one === 0)).toBe(true);
});

test("parts drawn one after the other are the whole, to the byte", () => {
  const f = frame({ cx: 0.1, cy: -0.1, half: 0.9 }, 64, 48),
    whole = sums(64, 48),
    parts = sums(64, 48),
    p = points(
      5000,
      SHAPES.map((shape) => stamp(shape, 2.5)),
    );
  accumulate(whole, p, 0, 5000, f);
  for (let at = 0; at < 5000; at += 1250) accumulate(parts, p, at, at + 1250, f);
  expect(hash(parts.cells)).toBe(hash(whole.cells));
});

test("golden bytes: single pixels and stamps", () => {
  const f = frame({ cx: 0, cy: 0, half: 1 }, 96, 64),
    out = new Uint8ClampedArray(4 * 96 * 64),
    found: string[] = [];
  for (const stamps of [null, SHAPES.map((shape) => stamp(shape, 3.4))]) {
    const into = sums(96, 64);
    accumulate(into, points(20_000, stamps), 0, 20_000, f);
    tone(into, opacity(0.7), out);
    found.push(hash(into.cells), hash(out));
  }
  expect(found).toMatchInlineSnapshot(`
    [
      "25b2eba354e87444",
      "25c1b336ac245530",
      "655e0c93d3525c14",
      "8005b1ee9335abf7",
    ]
  `);
});

test("opacity grows with weight and stays below full", () => {
  const table = opacity(0.6);
  expect(table[0]).toBe(0);
  expect(table[FULL]).toBe(153);
  expect([...table].every((one, i) => i === 0 || one >= table[i - 1])).toBe(true);
});

test("stamps are different shapes that fit their radius", () => {
  const seen = new Set(SHAPES.map((shape) => hash(Int32Array.from([...stamp(shape, 4).dx, ...stamp(shape, 4).dy]))));
  expect(seen.size).toBe(SHAPES.length);
  for (const shape of SHAPES) expect(Math.max(...stamp(shape, 4).cover)).toBe(FULL);
});

test("density keeps every point: its sum is the count times the box's area", () => {
  const f = frame({ cx: 0, cy: 0, half: 1.3 }, 120, 120),
    found = density(points(1000).xy, 1000, f, 2, 2);
  const whole = found.cells.reduce((all, one) => all + one, 0);
  expect(whole).toBeGreaterThan(0.9 * 1000 * 5 ** 6);
  expect(whole).toBeLessThanOrEqual(1000 * 5 ** 6);
});

test("the shuffled order is a permutation, always the same, its first part fair", () => {
  const order = shuffled(10_000);
  expect(new Set(order).size).toBe(10_000);
  expect([...shuffled(10_000).subarray(0, 5)]).toEqual([...order.subarray(0, 5)]);
  const mean = order.subarray(0, 1000).reduce((all, one) => all + one, 0) / 1000;
  expect(Math.abs(mean - 4999.5)).toBeLessThan(4 * (10_000 / Math.sqrt(12 * 1000)));
});
