// The runtime, off the page's thread: one session per panel, urgent requests first.
import * as ort from "onnxruntime-web/wasm";
import { unpack } from "./scene";
import type { Packed } from "./scene";

export type ToDecoder =
  | { type: "runtime"; wasm: Packed }
  | { type: "model"; id: number; panel: number; model: Packed; input: string; output: string }
  | { type: "decode"; id: number; panel: number; z: Float32Array; count: number; urgent: boolean };
export interface FromDecoder {
  id: number;
  values?: Float32Array;
  error?: string;
}

interface Loaded {
  session: ort.InferenceSession;
  input: string;
  output: string;
}
type Job = Exclude<ToDecoder, { type: "runtime" }>;

const models = new Map<number, Loaded>();
const urgent: Job[] = [],
  patient: Job[] = [];
let started = false,
  busy = false;

function answer(message: FromDecoder): void {
  postMessage(message, message.values ? { transfer: [message.values.buffer as ArrayBuffer] } : undefined);
}

async function work(job: Job): Promise<void> {
  if (job.type === "model") {
    const session = await ort.InferenceSession.create(new Uint8Array(await unpack(job.model)), {
      executionProviders: ["wasm"],
    });
    models.set(job.panel, { session, input: job.input, output: job.output });
    return answer({ id: job.id });
  }
  const model = models.get(job.panel);
  if (!model) return answer({ id: job.id, error: "the decoder is not loaded" });
  const z = new ort.Tensor("float32", job.z, [job.count, job.z.length / job.count]);
  const out = (await model.session.run({ [model.input]: z }))[model.output];
  const values = Float32Array.from(out.data as Float32Array);
  out.dispose();
  return answer({ id: job.id, values });
}

async function drain(): Promise<void> {
  if (busy || !started) return;
  busy = true;
  for (let job = urgent.shift() ?? patient.shift(); job; job = urgent.shift() ?? patient.shift()) {
    const { id } = job;
    await work(job).catch((error: unknown) => answer({ id, error: String(error) }));
    if (!urgent.length)
      await new Promise<void>((go) => {
        channel.port1.onmessage = () => go();
        channel.port2.postMessage(0);
      }); // let messages in
  }
  busy = false;
}

const channel = new MessageChannel();

async function begin(wasm: Packed): Promise<void> {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = await unpack(wasm);
  started = true;
  await drain();
}

onmessage = (event: MessageEvent<ToDecoder>) => {
  const message = event.data;
  if (message.type === "runtime") void begin(message.wasm);
  else (message.type === "decode" && message.urgent ? urgent : patient).push(message);
  void drain();
};
