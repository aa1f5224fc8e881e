import { expect, test } from "vitest";
import { changes, even, slerp, thinned, walk } from "../src/path";
import type { Codes } from "../src/path";
import { norm } from "../src/planes";

const f = (...values: number[]) => Float64Array.from(values);

test("even steps along corners, both ends included", () => {
  const path = even([f(0, 0), f(1, 0), f(1, 3)], 5);
  expect(path.map((z) => [...z])).toEqual([
    [0, 0],
    [1, 0],
    [1, 1],
    [1, 2],
    [1, 3],
  ]);
});

test("a spherical way stays on the sphere and turns evenly", () => {
  const path = walk(
    [
      [2, 0],
      [0, 2],
    ],
    9,
    "spherical",
  );
  for (const z of path) expect(norm(z)).toBeCloseTo(2, 3);
  expect(path[4][0]).toBeCloseTo(Math.SQRT2, 3);
  expect(norm(slerp([1, 0], [0, 3], 0.5))).toBeCloseTo(2, 12);
  expect([...slerp([0, 0], [2, 0], 0.5)]).toEqual([1, 0]);
});

test("walks of one place stand still", () => {
  expect(walk([[1, 2]], 3, "linear").map((z) => [...z])).toEqual([
    [1, 2],
    [1, 2],
    [1, 2],
  ]);
});

/** Codes on a half circle: the straight way between its ends crosses the empty middle. */
function arc(): Codes {
  const values = Float32Array.from({ length: 800 }, (_, i) => {
    const angle = (Math.PI * (i >> 1)) / 399;
    return 2 * (i % 2 ? Math.sin(angle) : Math.cos(angle));
  });
  return { values, rank: 2, whiten: (z) => Float32Array.from(z), shift: (z, step) => z.map((one, k) => one + step[k]) };
}

test("along the data: the way bends towards the codes, its ends stay", () => {
  const straight = walk(
      [
        [2, 0.01],
        [-2, 0.01],
      ],
      15,
      "linear",
    ),
    bent = walk(
      [
        [2, 0.01],
        [-2, 0.01],
      ],
      15,
      "density",
      arc(),
    );
  const off = (path: Float64Array[]) => Math.max(...path.map((z) => Math.abs(norm(z) - 2)));
  expect(off(straight)).toBeGreaterThan(1.9);
  expect(off(bent)).toBeLessThan(0.7);
  expect([...bent[0]]).toEqual([2, 0.01]);
  expect([...bent[14]]).toEqual([-2, 0.01]);
});

test("along the data: every corner is kept", () => {
  const corner = [0, 0.4],
    path = walk([[2, 0.01], corner, [-2, 0.01]], 41, "density", arc());
  expect(Math.min(...path.map((z) => Math.hypot(z[0] - corner[0], z[1] - corner[1])))).toBeLessThan(0.15);
});

test("change per step is the root mean square difference", () => {
  expect([...changes(Float32Array.from([0, 0, 3, 4, 3, 4]), 2)]).toEqual([Math.sqrt(12.5), 0]);
});

test("free-hand points are thinned, the last one kept", () => {
  const line = Array.from({ length: 21 }, (_, i) => [i, 0] as [number, number]);
  const kept = thinned(line, 6);
  expect(kept.map(([x]) => x)).toEqual([0, 6, 12, 20]);
});
