// The scene: what Python wrote, from the elements of the page or from the local server.
import { lzma } from "./lzma";

export interface Measure {
  value: number | null;
  low: number | null;
  high: number | null;
  n: number;
  reading: string;
  raw?: number | null;
}

export interface ScenePlane {
  name: string;
  origin: number[];
  u: number[];
  v: number[];
  half: number;
  gap?: string | null;
  grid?: number;
}

export interface Hole {
  number: number;
  place: number[];
  mass: number;
  low: number;
  high: number;
  nearest: number[];
}

export interface Cliff {
  number: number;
  place: number[];
  from: number[];
  to: number[];
  size: number;
  width: number;
  nearest: number[];
  jump?: boolean;
}

export interface Decoder {
  rung: "onnx" | "server" | "lattice";
  onnx?: string;
  milliseconds?: number;
  input?: string;
  output?: string;
  plane?: number;
  side?: number;
  values?: string;
  /** Codes that the server takes at once. */
  most?: number;
}

export interface Card {
  verdict: string;
  levels: Record<string, string | null>;
  reference: string;
  sensitivity: Measure;
  about: Record<string, unknown>;
  [measure: string]: unknown;
}

export interface ScenePanel {
  name: string;
  title: string;
  latent: number;
  loc: string;
  scale: string | null;
  kl_per_feature: number[] | null;
  error: string | null;
  kl: string | null;
  live: boolean[];
  order: number[];
  prior: { kind: "standard_normal" } | { kind: "samples"; draws: string };
  law: { mean: number[]; whiten: number[][] } | null;
  planes: ScenePlane[];
  decoder: Decoder;
  card: Card | null;
  holes: Hole[];
  cliffs: Cliff[];
  effective_beta: number | null;
  path?: string;
}

export interface Scene {
  version: number;
  gapless: string;
  title: string;
  created: string;
  kind: "image" | "table" | "counts" | "series";
  event_shape: number[];
  columns: string[];
  columns_range: [number, number][];
  scaling: { shift: number[]; scale: number[] } | null;
  display: { low: number; high: number };
  label_names: string[];
  /** The language asked for when the scene was written; else the reader's. */
  language?: string;
  items: { count: number; labels: string | null; values: string; held_out: string | null };
  panels: ScenePanel[];
}

/** How the bytes were packed: "lzma"; "gzip"; "gzip4", the four bytes of every number apart; or "". */
export type Packed = { text: string; encoding: string } | { bytes: ArrayBuffer; encoding: string };

/** What a message hands over instead of copying. */
export const handed = (packed: Packed): Transferable[] => ("bytes" in packed ? [packed.bytes] : []);

export interface Source {
  scene: Scene;
  token: string | null;
  /** The bytes of a blob, unpacked. */
  bytes(name: string): Promise<ArrayBuffer>;
  /** A blob as it lies in the page, for a worker to unpack; from a server, its bytes. */
  packed(name: string): Promise<Packed>;
}

/** The runtime's wasm, as the build packed it. */
export const RUNTIME = "runtime.wasm.lzma";

type FromBase64 = { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const quick = (Uint8Array as unknown as FromBase64).fromBase64;
  if (quick) return quick(text);
  const raw = atob(text),
    bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** Bytes that lay sorted by their place in words of four, back in words; what is left over stays at the end. */
function inWords(sorted: Uint8Array): Uint8Array<ArrayBuffer> {
  const count = sorted.length >> 2,
    out = new Uint8Array(sorted.length);
  for (let k = 0; k < 4; k++) for (let i = 0, from = k * count; i < count; i++) out[4 * i + k] = sorted[from + i];
  out.set(sorted.subarray(4 * count), 4 * count);
  return out;
}

export async function unpack(packed: Packed): Promise<ArrayBuffer> {
  const bytes = "bytes" in packed ? new Uint8Array(packed.bytes) : fromBase64(packed.text.trim());
  if (packed.encoding === "lzma") return lzma(bytes).buffer;
  if (!packed.encoding) return bytes.buffer;
  const whole = await new Response(
    new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")),
  ).arrayBuffer();
  return packed.encoding === "gzip4" ? inWords(new Uint8Array(whole)).buffer : whole;
}

function embedded(scene: HTMLElement): Source {
  const elements = new Map<string, HTMLElement>();
  document
    .querySelectorAll<HTMLElement>("script[data-name]")
    .forEach((one) => elements.set(one.dataset.name ?? "", one));
  const packed = async (name: string): Promise<Packed> => {
    const element = elements.get(name);
    if (!element) throw new Error(`the page holds no data named ${name}`);
    const text = element.textContent ?? "";
    element.remove(); // the text of a large blob is not kept twice
    elements.delete(name);
    return { text, encoding: element.dataset.encoding ?? "" };
  };
  return {
    scene: JSON.parse(scene.textContent ?? "{}") as Scene,
    token: null,
    packed,
    bytes: async (name) => unpack(await packed(name)),
  };
}

async function served(token: string): Promise<Source> {
  const ask = async (path: string) => {
    const answer = await fetch(`${path}?token=${encodeURIComponent(token)}`);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer;
  };
  const scene = (await (await ask("/scene.json")).json()) as Scene;
  const path = (name: string) => (name === RUNTIME ? `/${RUNTIME}` : `/blob/${encodeURIComponent(name)}`);
  const bytes = async (name: string) => (await ask(path(name))).arrayBuffer();
  const packed = async (name: string) => ({ bytes: await bytes(name), encoding: name === RUNTIME ? "lzma" : "" });
  return { scene, token, bytes, packed };
}

/** The scene of this page: its own elements, else the server that gave the page. */
export async function openSource(): Promise<Source> {
  const own = document.getElementById("scene");
  if (own) return embedded(own);
  const server = document.getElementById("server");
  if (server) return served((JSON.parse(server.textContent ?? "{}") as { token: string }).token);
  throw new Error("this page holds no scene");
}

export const sizeOf = (shape: number[]): number => shape.reduce((product, side) => product * side, 1);

/** What a stored value is in model units: pictures are kept in 256 steps of what is shown. */
export function valueOf(scene: Scene): (stored: number) => number {
  if (scene.kind !== "image") return (stored) => stored;
  const { low, high } = scene.display;
  return (stored) => low + (stored / 255) * (high - low);
}
