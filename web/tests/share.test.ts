import { expect, test } from "vitest";
import { gif, lzw } from "../src/gif";
import type { Scene } from "../src/scene";
import { asPython, csv, fromHash, toHash } from "../src/share";

const shared = {
  lang: "ko",
  theme: "dark",
  calm: true,
  tab: "path",
  color: "column:2",
  link: "place",
  layers: ["points", "gap"],
  item: 12,
  active: 1,
  panels: [
    {
      plane: "s0",
      origin: null,
      view: [0.5, -1, 3.4] as [number, number, number],
      z: [0.25, -1.5],
      corners: [
        [0, 1],
        [2, -3],
      ],
    },
    { plane: "x1.4", origin: [0, 0, 0.125], view: [0, 0, 2] as [number, number, number], z: null, corners: null },
  ],
};

test("a view survives the address", () => {
  expect(fromHash(`#${toHash(shared)}`)).toEqual(shared);
});

test("addresses of others are read without harm", () => {
  expect(fromHash("")).toEqual({});
  expect(fromHash("#v=2&lang=ko")).toEqual({});
  const odd = fromHash("#v=1&item=-3&at=x&p0=s0~NaN,1~0,0,-2~1,a~&layers=points..gap");
  expect(odd.item).toBeNull();
  expect(odd.active).toBeUndefined();
  expect(odd.layers).toEqual(["points", "gap"]);
  expect(odd.panels).toEqual([{ plane: "s0", origin: null, view: [0, 0, 0], z: null, corners: null }]);
});

test("Python that decodes what is decoded", () => {
  const scene = { title: "digits", gapless: "0.1.0", event_shape: [1, 8, 8] } as Scene,
    text = asPython(scene, "vae", "runs/demo/vae", [Float32Array.from([0.1, -2])]);
  expect(text).toContain('model = gapless.load("runs/demo/vae")');
  expect(text).toContain("    [0.1, -2],");
  expect(text).toContain("x = model.decode(z).mean  # shape (1, 1, 8, 8), model units");
});

test("a CSV of codes", () => {
  expect(
    csv([
      [1, 2],
      [3, 4.5],
    ]),
  ).toBe("step,z0,z1\n0,1,2\n1,3,4.5\n");
});

/** LZW read back, as the format says. */
function unpack(bytes: number[], count: number): number[] {
  const out: number[] = [];
  let table: number[][] = [],
    width = 9,
    held = 0,
    bits = 0,
    before: number[] | null = null;
  const reset = () => {
    table = Array.from({ length: 258 }, (_, k) => [k]);
    width = 9;
    before = null;
  };
  reset();
  for (const byte of bytes) {
    held |= byte << bits;
    bits += 8;
    while (bits >= width) {
      const code = held & ((1 << width) - 1);
      held >>>= width;
      bits -= width;
      if (code === 256) {
        reset();
        continue;
      }
      if (code === 257) return out;
      const word: number[] = table[code] ?? [...(before as unknown as number[]), (before as unknown as number[])[0]];
      out.push(...word);
      if (before && table.length < 4096) table.push([...before, word[0]]);
      if (table.length === 1 << width && width < 12) width++;
      before = word;
    }
  }
  expect(out.length).toBe(count);
  return out;
}

test("GIF: packed pixels are read back, past the point where the table is full", () => {
  let state = 1;
  const noise = Uint8Array.from(
    { length: 30_000 },
    () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24,
  );
  expect(unpack(lzw(noise), 30_000)).toEqual([...noise]);
  expect(unpack(lzw(new Uint8Array(5000)), 5000)).toEqual(new Array(5000).fill(0));
});

test("GIF: header, loop, one image a frame, trailer", () => {
  const frame = new Uint8ClampedArray(4 * 6).fill(255),
    bytes = gif([frame, frame], 3, 2, 12);
  expect(new TextDecoder().decode(bytes.subarray(0, 6))).toBe("GIF89a");
  expect([...bytes.subarray(6, 10)]).toEqual([3, 0, 2, 0]);
  expect(bytes[bytes.length - 1]).toBe(0x3b);
  expect(bytes.filter((one, k) => one === 0x21 && bytes[k + 1] === 0xf9).length).toBe(2);
});
