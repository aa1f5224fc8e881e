import { expect, test } from "vitest";
import {
  around,
  gapScore,
  logKernel,
  logStandardNormal,
  nearest,
  standing,
  usualDistance,
  whitenAll,
  whitened,
} from "../src/gap";

const law = {
  mean: [1, 2],
  whiten: [
    [2, 0],
    [0.5, 0.5],
  ],
};

test("whitening: w = W (z - mean), one code or all", () => {
  expect([...whitened(law, [2, 4])]).toEqual([2, 1.5]);
  const all = whitenAll(law, Float32Array.from([2, 4, 1, 2]), 2);
  expect([...all.codes]).toEqual([2, 1.5, 0, 0]);
  expect(all.rank).toBe(2);
  expect([...whitened(null, [3, 4])]).toEqual([3, 4]);
});

test("nearest agrees with sorting all distances", () => {
  const codes = Float32Array.from({ length: 900 }, (_, i) => Math.sin(i * 12.9898) * 3),
    at = [0.2, -0.4, 0.1];
  const far = Array.from(
    { length: 300 },
    (_, i) => [i, Math.hypot(...at.map((one, k) => codes[3 * i + k] - one))] as const,
  ).sort((a, b) => a[1] - b[1]);
  const found = nearest(codes, 3, at, 7);
  expect(found.items).toEqual(far.slice(0, 7).map(([i]) => i));
  expect(found.distances[6]).toBeCloseTo(far[6][1], 5);
  expect(nearest(codes, 3, at, 3, far[0][0]).items[0]).toBe(far[1][0]);
});

test("fewer codes than asked for are all given", () => {
  expect(nearest(Float32Array.from([0, 1]), 1, [0.4], 5).items).toEqual([0, 1]);
});

test("log N(z; 0, I) in closed form", () => {
  expect(logStandardNormal([0, 0])).toBeCloseTo(-Math.log(2 * Math.PI), 12);
  expect(logStandardNormal([1, 2, 2])).toBeCloseTo(-4.5 - 1.5 * Math.log(2 * Math.PI), 12);
});

test("a kernel estimate of a normal is near its density", () => {
  let state = 3;
  const next = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) + 0.5) / 4294967296;
  const normal = () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());
  const draws = Float32Array.from({ length: 4000 }, normal);
  // the kernel widens the variance by width^2, and its own error is some hundredths at 2,000 draws
  expect(logKernel(draws, 2, [0, 0])).toBeCloseTo(-Math.log(2 * Math.PI) - Math.log(1 + 2000 ** (-1 / 3)), 0.5);
  expect(logKernel(draws, 2, [0, 0])).toBeGreaterThan(logKernel(draws, 2, [1.5, 0]));
});

test("the gap score is exact on the grid, bilinear between, unknown outside; rows go upwards", () => {
  const grid = Float32Array.from([0, 1, 2, 3]); // (row b = -1: 0, 1), (row b = 1: 2, 3)
  expect(gapScore(grid, 2, 1, -1, -1)).toBe(0);
  expect(gapScore(grid, 2, 1, 1, -1)).toBe(1);
  expect(gapScore(grid, 2, 1, -1, 1)).toBe(2);
  expect(gapScore(grid, 2, 1, 0, 0)).toBe(1.5);
  expect(gapScore(grid, 2, 1, 1.01, 0)).toBeNull();
});

test("around: one label where four in five agree, else two, unknown ones unheard", () => {
  const labels = [3, 3, 3, 3, 8, 8, 8, 1, -1, -1];
  expect(around(labels, [0, 1, 2, 3, 4])).toEqual([3]);
  expect(around(labels, [0, 1, 4, 5, 6])).toEqual([8, 3]);
  expect(around(labels, [8, 9])).toEqual([]);
  expect(around(null, [0])).toEqual([]);
});

test("standing: the audit's score decides where known; else the distance against the usual one", () => {
  expect([standing(1.01, 0, 1), standing(0.9, 9, 1), standing(0.5, 9, 1)]).toEqual(["gap", "edge", "inside"]);
  expect([standing(null, 3.1, 1), standing(null, 2, 1), standing(null, 1, 1)]).toEqual(["gap", "edge", "inside"]);
  expect(standing(null, 0.2, 0.001)).not.toBe("gap"); // codes on one point: a hair's breadth is no gap
});

test("the usual distance of an even lattice is its step", () => {
  const codes = Float32Array.from({ length: 50 }, (_, i) => i * 0.5);
  expect(usualDistance(codes, 1)).toBeCloseTo(0.5, 6);
});
