import { expect, test } from "vitest";
import { lzma } from "../src/lzma";
import packed from "./lzma.json";

/** What the samples hold: odd bytes, runs, copies from near and far, the same distances again after other bytes. */
function sample(size: number): Uint8Array {
  const out: number[] = [];
  let state = 7,
    recent = [1, 2, 3, 4];
  const next = (k: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 16) % k;
  };
  const again = (far: number, length: number) => {
    for (let k = 0; k < length; k++) out.push(out[out.length - far]);
  };
  while (out.length < size) {
    const kind = next(5),
      far = 1 + next(out.length || 1),
      length = 1 + next(40);
    if (kind === 0 || !out.length) for (let k = 0; k < 1 + (length >> 3); k++) out.push(next(256));
    else if (kind === 1) again(far, length);
    else if (kind === 2) {
      again(far, length);
      out.push(next(256));
      again(far, length);
    } else if (kind === 4) {
      recent = [far, ...recent.slice(0, 3)];
      for (let k = 0; k < 12; k++) {
        const one = Math.min(recent[next(4)], out.length);
        again(one, 5 + next(9));
        out.push(next(256));
      }
    } else again(1, length === 40 ? 300 : 2);
  }
  return Uint8Array.from(out.slice(0, size));
}

const bytes = (text: string) => new Uint8Array(Buffer.from(text, "base64"));

// the samples were packed by liblzma (Python's lzma, FORMAT_ALONE, the size written into the header)
test.each(Object.entries(packed))("what liblzma packed comes back, %s", (_, text) => {
  expect([...lzma(bytes(text))]).toEqual([...sample(5000)]);
});

test("what was cut off, damaged or is something else is refused", () => {
  const whole = bytes(packed["lc 4, lp 0, pb 0"]);
  expect(() => lzma(whole.slice(0, 400))).toThrow("end too early");
  expect(() => lzma(new Uint8Array(0))).toThrow("not what the build packed");
  expect(() => lzma(Uint8Array.of(225, ...whole.slice(1)))).toThrow("not what the build packed");
  const endless = whole.slice();
  endless.fill(255, 5, 13); // an unknown size
  expect(() => lzma(endless)).toThrow("not what the build packed");
  const damaged = whole.slice();
  damaged.fill(255, 14, 40);
  expect(() => lzma(damaged)).toThrow();
});
