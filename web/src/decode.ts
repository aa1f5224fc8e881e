// The decode ladder: in the browser, by the local server, or pictures made beforehand.
import workerCode from "./decode.worker.ts?classic";
import type { FromDecoder, ToDecoder } from "./decode.worker";
import { LatestWins } from "./latest";
import type { Plane } from "./planes";
import { toPlane } from "./planes";
import type { Packed, ScenePanel, Source } from "./scene";
import { handed, sizeOf, valueOf } from "./scene";

export { LatestWins };

export interface Decode {
  rung: "onnx" | "server" | "lattice";
  /** z (count, d) -> values (count, event) in model units. `urgent` goes before what waits. */
  run(z: Float32Array, count: number, urgent?: boolean): Promise<Float32Array>;
}

type Waiting = { give: (values: Float32Array) => void; fail: (error: Error) => void };

export function startWorker(code: string): Worker {
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const worker = new Worker(url);
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  return worker;
}

/** One worker with the runtime for all panels; the cursor goes before film strips. */
export class Runtime {
  private worker = startWorker(workerCode);
  private waiting = new Map<number, Waiting>();
  private next = 1;

  constructor(wasm: Promise<Packed>) {
    this.worker.onmessage = (event: MessageEvent<FromDecoder>) => this.arrived(event.data);
    this.worker.onerror = (event) => this.waiting.forEach((one) => one.fail(new Error(event.message)));
    wasm.then((packed) =>
      this.worker.postMessage({ type: "runtime", wasm: packed } satisfies ToDecoder, handed(packed)),
    );
  }

  load(panel: number, model: Packed, names: { input: string; output: string }): Promise<unknown> {
    return this.ask((id) => ({ type: "model", id, panel, model, ...names }), handed(model));
  }

  run(panel: number, z: Float32Array, count: number, urgent: boolean): Promise<Float32Array> {
    return this.ask((id) => ({ type: "decode", id, panel, z, count, urgent }));
  }

  private ask(make: (id: number) => ToDecoder, moved: Transferable[] = []): Promise<Float32Array> {
    const id = this.next++;
    return new Promise((give, fail) => {
      this.waiting.set(id, { give, fail });
      this.worker.postMessage(make(id), moved);
    });
  }

  private arrived(answer: FromDecoder): void {
    const one = this.waiting.get(answer.id);
    this.waiting.delete(answer.id);
    if (answer.error) one?.fail(new Error(answer.error));
    else one?.give(answer.values ?? new Float32Array(0));
  }
}

/** Binary frames to the local server: id, panel, count, then the codes; the answer is id, count, then the values. */
export class Wire {
  private socket: Promise<WebSocket> | null = null;
  private waiting = new Map<number, Waiting>();
  private next = 1;

  constructor(private readonly token: string) {}

  async run(panel: number, z: Float32Array, count: number): Promise<Float32Array> {
    const socket = await (this.socket ??= this.open()),
      id = this.next++;
    const frame = new ArrayBuffer(12 + 4 * z.length);
    new Uint32Array(frame, 0, 3).set([id, panel, count]);
    new Float32Array(frame, 12).set(z);
    return new Promise((give, fail) => {
      this.waiting.set(id, { give, fail });
      socket.send(frame);
    });
  }

  private open(): Promise<WebSocket> {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/decode?token=${encodeURIComponent(this.token)}`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => this.arrived(event.data);
    return new Promise((give, fail) => {
      socket.onopen = () => give(socket);
      socket.onclose = socket.onerror = () => {
        this.socket = null; // the next request opens a new one
        fail(new Error("the server is not there"));
        this.waiting.forEach((one) => one.fail(new Error("the server is not there")));
        this.waiting.clear();
      };
    });
  }

  private arrived(data: ArrayBuffer | string): void {
    if (typeof data === "string") {
      const { id, error } = JSON.parse(data) as { id: number; error: string };
      this.take(id)?.fail(new Error(error));
    } else this.take(new Uint32Array(data, 0, 1)[0])?.give(new Float32Array(data.slice(8)));
  }

  private take(id: number): Waiting | undefined {
    const one = this.waiting.get(id);
    this.waiting.delete(id);
    return one;
  }
}

/** The nearest picture of a lattice on a plane, -half to half, rows upwards. */
export function latticeValues(
  lattice: ArrayLike<number>,
  side: number,
  size: number,
  half: number,
  a: number,
  b: number,
): ArrayLike<number> {
  const place = (t: number) => Math.min(side - 1, Math.max(0, Math.round(((t / half + 1) / 2) * (side - 1))));
  const at = (place(b) * side + place(a)) * size;
  return Array.prototype.slice.call(lattice, at, at + size) as number[];
}

export interface Makers {
  source: Source;
  runtime: () => Runtime;
  wire: () => Wire;
  scenePlane: (panel: ScenePanel, index: number) => Plane;
}

/** The decoder of one panel, on the rung chosen at export. */
export async function openDecoder(makers: Makers, panel: ScenePanel, index: number): Promise<Decode> {
  const { decoder } = panel;
  if (decoder.rung === "onnx" && decoder.onnx) return browser(makers, panel, index, decoder.onnx);
  if (decoder.rung === "server") {
    const wire = makers.wire();
    return {
      rung: "server",
      run: (z, count) =>
        inPieces(z, count, Math.min(256, decoder.most ?? 256), (part, many) => wire.run(index, part, many)),
    };
  }
  return lattice(makers, panel);
}

/** Longest that the cursor waits for a piece of a film strip. */
const PIECE_MS = 25;

async function browser(makers: Makers, panel: ScenePanel, index: number, name: string): Promise<Decode> {
  const { input = "z", output = "x" } = panel.decoder,
    runtime = makers.runtime();
  const together = Math.max(1, Math.min(64, Math.floor(PIECE_MS / Math.max(0.01, panel.decoder.milliseconds ?? 1))));
  await runtime.load(index, await makers.source.packed(name), { input, output });
  return {
    rung: "onnx",
    run: (z, count, urgent = false) =>
      inPieces(z, count, urgent ? count : together, (part, many) => runtime.run(index, part, many, urgent)),
  };
}

async function lattice({ source, scenePlane }: Makers, panel: ScenePanel): Promise<Decode> {
  const { side = 2, values = "", plane = 0 } = panel.decoder,
    size = sizeOf(source.scene.event_shape);
  const bytes = await source.bytes(values),
    frame = scenePlane(panel, plane);
  const pictures = source.scene.kind === "image" ? new Uint8Array(bytes) : new Float32Array(bytes);
  const unit = valueOf(source.scene);
  return {
    rung: "lattice",
    async run(z, count) {
      const out = new Float32Array(count * size),
        d = panel.latent;
      for (let i = 0; i < count; i++) {
        const [a, b] = toPlane(frame, z.subarray(i * d, (i + 1) * d));
        out.set(Float32Array.from(latticeValues(pictures, side, size, frame.half, a, b), unit), i * size);
      }
      return out;
    },
  };
}

async function inPieces(
  z: Float32Array,
  count: number,
  most: number,
  run: (z: Float32Array, count: number) => Promise<Float32Array>,
): Promise<Float32Array> {
  if (count <= most) return run(z, count);
  const d = z.length / count,
    parts: Float32Array[] = [];
  for (let at = 0; at < count; at += most) {
    const many = Math.min(most, count - at);
    parts.push(await run(z.slice(at * d, (at + many) * d), many));
  }
  const out = new Float32Array(parts.reduce((all, part) => all + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
