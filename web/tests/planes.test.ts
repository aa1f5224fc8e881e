import { expect, test } from "vitest";
import { beyond, blobOf } from "../src/coloring";
import { contour, levelOf } from "../src/contours";
import { pseudoInverse } from "../src/latent";
import {
  aggregate,
  axesPlane,
  distance,
  dot,
  fromPlane,
  itemsPlane,
  norm,
  pcaPlane,
  principal,
  reach,
  toPlane,
} from "../src/planes";

test("a plane of two axes: there and back, distance along the others", () => {
  const plane = axesPlane([9, 1, 9, 2], 0, 2, 3),
    z = fromPlane(plane, 0.5, -1);
  expect([...z]).toEqual([0.5, 1, -1, 2]);
  expect(toPlane(plane, z)).toEqual([0.5, -1]);
  expect(distance(plane, [0, 4, 0, 6])).toBeCloseTo(5, 12);
});

test("one latent feature: the second axis moves nothing", () => {
  const plane = axesPlane([0], 0, 1, 3);
  expect([...fromPlane(plane, 0.7, 2)]).toEqual([Math.fround(0.7)]);
});

test("the plane through three items holds them, with orthonormal axes", () => {
  const items = [
      [1, 0, 0, 2],
      [0, 1, 0, -1],
      [0, 0, 1, 0.5],
    ],
    plane = itemsPlane(items[0], items[1], items[2]);
  if (!plane) throw new Error("no plane");
  expect([dot(plane.u, plane.v), norm(plane.u), norm(plane.v)].map((one) => one.toFixed(9))).toEqual(
    ["0.000000000", "1.000000000", "1.000000000"].map((one, k) => (k ? one : expect.stringMatching(/^-?0\.0{9}$/))),
  );
  for (const z of items) expect(distance(plane, z)).toBeLessThan(1e-6);
  for (const z of items) expect(Math.max(...toPlane(plane, z).map(Math.abs))).toBeLessThan(plane.half);
});

test("three items on a line make no plane", () => {
  expect(itemsPlane([0, 0], [1, 1], [2, 2])).toBeNull();
});

test("principal axes of a known covariance", () => {
  const s = Math.SQRT1_2,
    axes = [
      [s, s, 0],
      [s, -s, 0],
      [0, 0, 1],
    ],
    values = [5, 2, 1],
    covariance = new Float64Array(9);
  for (let j = 0; j < 3; j++)
    for (let k = 0; k < 3; k++)
      for (let a = 0; a < 3; a++) covariance[3 * j + k] += values[a] * axes[a][j] * axes[a][k];
  const [u, v] = principal(covariance, 3);
  expect(Math.abs(dot(u, axes[0]))).toBeCloseTo(1, 9);
  expect(Math.abs(dot(v, axes[1]))).toBeCloseTo(1, 9);
  expect(Math.max(...u)).toBe(Math.max(...u.map(Math.abs)));
});

test("the aggregate posterior's variance is that of the locs and the mean of the scales squared", () => {
  const { mean, covariance } = aggregate(Float32Array.from([1, 0, -1, 0]), Float32Array.from([1, 2, 1, 2]), 2);
  expect([...mean]).toEqual([0, 0]);
  expect([...covariance]).toEqual([2, 0, 0, 4]);
});

test("a PCA plane follows the longest spread and ends beyond it", () => {
  const loc = Float32Array.from({ length: 300 }, (_, i) => [3, 1, 0.1][i % 3] * Math.sin(i * 7.13));
  const plane = pcaPlane(loc, null, 3, 1);
  expect(Math.abs(plane.u[0])).toBeGreaterThan(0.9);
  expect(plane.half).toBeGreaterThan(6);
});

test("the first window holds every code, but no stray far beyond the others", () => {
  const plane = axesPlane([0, 0], 0, 1, 3),
    circle = Array.from({ length: 200 }, (_, i) => [5 * Math.cos(i), 5 * Math.sin(i)]);
  const half = (far: number) => reach(Float32Array.from([...circle, [0, -far]].flat()), 2, plane);
  expect(half(0)).toBeCloseTo(1.06 * 5, 2);
  expect(half(14.9)).toBeCloseTo(1.06 * 14.9, 4);
  expect(half(15.2)).toBeCloseTo(1.06 * 5, 2);
  expect(reach(Float32Array.from([0.01, 0, 0, 0.02]), 2, plane)).toBe(3.4);
});

test("a blob is the middle and the farthest; codes beyond a square window are counted", () => {
  const places = Float32Array.from([1, 1, 3, 1, 2, 4]);
  expect(blobOf(places)).toEqual({ a: 2, b: 2, radius: 2 });
  expect([0.5, 1, 3, 4].map((half) => beyond(places, half))).toEqual([3, 2, 1, 0]);
});

test("W W+ = I for independent rows", () => {
  const rows = [
      [2, 1, 0],
      [0, 1, 3],
    ],
    back = pseudoInverse(rows);
  const product = rows.map((row) => [0, 1].map((r) => row.reduce((all, one, k) => all + one * back[k][r], 0)));
  product.flat().forEach((one, k) => expect(one).toBeCloseTo([1, 0, 0, 1][k], 12));
});

test("a contour of a plane is a straight line where it should be", () => {
  const grid = Array.from({ length: 25 }, (_, k) => k % 5),
    lines = contour(grid, 5, 5, 1.5);
  expect(lines.length).toBe(4 * 4);
  for (let k = 0; k < lines.length; k += 2) expect(lines[k]).toBe(1.5);
});

test("the level that holds a share of the mass", () => {
  expect(levelOf([1, 5, 2, 2], 0.5)).toBe(5);
  expect(levelOf([1, 5, 2, 2], 0.8)).toBe(2);
});
