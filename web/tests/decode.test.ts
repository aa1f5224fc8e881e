import { expect, test } from "vitest";
import { LatestWins } from "../src/latest";
import { byLabel, byValue, shapeOf } from "../src/palette";
import { unpack, valueOf } from "../src/scene";
import type { Scene } from "../src/scene";
import { gzipSync } from "node:zlib";

/** Work that ends when told to. */
function slow() {
  const waiting: (() => void)[] = [],
    began: number[] = [];
  const run = (request: number) =>
    new Promise<number>((done) => {
      began.push(request);
      waiting.push(() => done(10 * request));
    });
  const finish = async () => {
    waiting.shift()?.();
    await new Promise((go) => setTimeout(go));
  };
  return { run, began, finish };
}

test("of hasty requests the first runs, the newest follows, the others never", async () => {
  const { run, began, finish } = slow(),
    answers: [number, number, boolean][] = [];
  const latest = new LatestWins(run, (answer: number, request: number, stale) =>
    answers.push([answer, request, stale]),
  );
  for (const request of [1, 2, 3, 4]) latest.ask(request);
  expect(latest.busy).toBe(true);
  await finish();
  await finish();
  expect(began).toEqual([1, 4]);
  expect(answers).toEqual([
    [10, 1, true],
    [40, 4, false],
  ]);
  expect(latest.busy).toBe(false);
});

test("a failure does not stop what comes after", async () => {
  const failures: unknown[] = [],
    answers: number[] = [];
  const latest = new LatestWins(
    (request: number) => (request < 0 ? Promise.reject(new Error("no")) : Promise.resolve(request)),
    (answer) => answers.push(answer),
    (error) => failures.push(error),
  );
  latest.ask(-1);
  await new Promise((go) => setTimeout(go));
  latest.ask(5);
  await new Promise((go) => setTimeout(go));
  expect(failures.length).toBe(1);
  expect(answers).toEqual([5]);
});

test("blobs are unpacked, gzip or not, words of four sorted or not", async () => {
  const bytes = Uint8Array.from({ length: 1003 }, (_, k) => k % 251),
    sorted = Uint8Array.from({ length: 1003 }, (_, k) => (k < 1000 ? bytes[4 * (k % 250) + Math.floor(k / 250)] : bytes[k]));
  for (const [text, encoding] of [
    [gzipSync(bytes).toString("base64"), "gzip"],
    [gzipSync(sorted).toString("base64"), "gzip4"],
    [Buffer.from(bytes).toString("base64"), ""],
  ])
    expect([...new Uint8Array(await unpack({ text: `\n${text}\n`, encoding }))]).toEqual([...bytes]);
  expect([...new Uint8Array(await unpack({ bytes: bytes.buffer, encoding: "" }))]).toEqual([...bytes]);
});

test("pictures are stored in 256 steps of what is shown, other data as it is", () => {
  const image = valueOf({ kind: "image", display: { low: -1, high: 1 } } as Scene),
    table = valueOf({ kind: "table" } as Scene);
  expect([image(0), image(255), table(3.5)]).toEqual([-1, 1, 3.5]);
});

test("no two of the first labels share both colour and shape", () => {
  const { palette } = byLabel(Int16Array.from([0]), 40, false),
    seen = new Set<string>();
  for (let k = 0; k < 40; k++) seen.add(`${[...palette.subarray(3 * k, 3 * k + 3)]} ${shapeOf(k)}`);
  expect(seen.size).toBe(40);
});

test("values are spread over the ramp, unlabelled items have a colour of their own", () => {
  const { color, low, high } = byValue(
    Float32Array.from({ length: 101 }, (_, k) => k),
    false,
  );
  expect([low, high, color[0], color[50], color[100]]).toEqual([2, 98, 0, 128, 255]);
  expect([...byLabel(Int16Array.from([-1, 2]), 3, true).color]).toEqual([255, 2]);
});
