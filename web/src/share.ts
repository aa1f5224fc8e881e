// The view in the address, as Python, and paths as files.
import { gif } from "./gif";
import type { Latent } from "./latent";
import { inkOf } from "./palette";
import { painterOf } from "./renderers";
import type { Scene } from "./scene";
import { sizeOf } from "./scene";

export interface PanelView {
  plane: string;
  origin: number[] | null;
  view: [number, number, number];
  z: number[] | null;
  corners: number[][] | null;
}
export interface Shared {
  lang: string;
  theme: string;
  calm: boolean;
  tab: string;
  color: string;
  link: string;
  layers: string[];
  item: number | null;
  active: number;
  panels: PanelView[];
}

const plain = (value: number): string => String(Number(value.toPrecision(5)));
const list = (values: ArrayLike<number>): string => Array.from(values, plain).join(",");
const numbers = (text: string): number[] => text.split(",").map(Number);

/** The view as the part of an address after "#". */
export function toHash(shared: Shared): string {
  const parts = new URLSearchParams({
    v: "1",
    lang: shared.lang,
    theme: shared.theme,
    tab: shared.tab,
    color: shared.color,
    link: shared.link,
    layers: shared.layers.join("."),
    at: String(shared.active),
  });
  if (shared.calm) parts.set("calm", "1");
  if (shared.item !== null) parts.set("item", String(shared.item));
  shared.panels.forEach((panel, k) => {
    parts.set(
      `p${k}`,
      [
        panel.plane,
        panel.origin ? list(panel.origin) : "",
        list(panel.view),
        panel.z ? list(panel.z) : "",
        panel.corners?.map(list).join("/") ?? "",
      ].join("~"),
    );
  });
  return parts.toString().replaceAll("%2C", ",").replaceAll("%7E", "~").replaceAll("%2F", "/").replaceAll("%3A", ":");
}

/** What an address says of the view; anything malformed is left out. */
export function fromHash(hash: string): Partial<Shared> {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  if (parts.get("v") !== "1") return {};
  const text = (name: string) => parts.get(name) ?? undefined,
    whole = (name: string) => (/^\d+$/.test(parts.get(name) ?? "") ? Number(parts.get(name)) : undefined);
  const panels: PanelView[] = [];
  for (let k = 0; k < 8; k++) if (parts.has(`p${k}`)) panels[k] = panelOf(parts.get(`p${k}`) ?? "");
  return {
    lang: text("lang"),
    theme: text("theme"),
    tab: text("tab"),
    color: text("color"),
    link: text("link"),
    layers: parts.get("layers")?.split(".").filter(Boolean),
    item: whole("item") ?? null,
    active: whole("at"),
    calm: parts.has("calm"),
    panels,
  };
}

function panelOf(text: string): PanelView {
  const [plane = "", origin = "", view = "", z = "", corners = ""] = text.split("~");
  const good = (values: number[]) => (values.every(Number.isFinite) ? values : null);
  const window = good(numbers(view));
  return {
    plane,
    origin: origin ? good(numbers(origin)) : null,
    z: z ? good(numbers(z)) : null,
    view: window?.length === 3 && window[2] > 0 ? (window as [number, number, number]) : [0, 0, 0],
    corners: corners
      ? corners
          .split("/")
          .map(numbers)
          .filter((one) => one.every(Number.isFinite))
      : null,
  };
}

/** Lines of Python that decode what is decoded here. */
export function asPython(scene: Scene, name: string, path: string | undefined, codes: ArrayLike<number>[]): string {
  const rows = codes.map((z) => `    [${Array.from(z, (one) => Number(one.toPrecision(7))).join(", ")}],`);
  return [
    `# ${scene.title}, model ${name}; written by the explorer of gapless ${scene.gapless}`,
    "import torch",
    "import gapless",
    "",
    `model = gapless.load(${JSON.stringify(path ?? `RUN/${name}`)})`,
    "z = torch.tensor([",
    ...rows,
    "])",
    "with torch.no_grad():",
    `    x = model.decode(z).mean  # shape (${codes.length}, ${scene.event_shape.join(", ")}), model units`,
    "",
  ].join("\n");
}

/** One line a step: its number, then z. */
export function csv(codes: ArrayLike<number>[]): string {
  const head = ["step", ...Array.from({ length: codes[0]?.length ?? 0 }, (_, k) => `z${k}`)].join(",");
  return [head, ...codes.map((z, i) => [i, ...Array.from(z)].join(",")), ""].join("\n");
}

function frames(latent: Latent, outputs: Float32Array, count: number, dark: boolean) {
  const { scene } = latent,
    painter = painterOf(scene),
    size = sizeOf(scene.event_shape),
    pixels = scene.kind === "image";
  const tall = pixels
    ? scene.event_shape[scene.event_shape.length - 2] *
      Math.max(1, Math.round(96 / scene.event_shape[scene.event_shape.length - 2]))
    : 160;
  const wide = Math.round(tall * painter.aspect);
  const paint = (pen: CanvasRenderingContext2D, i: number, x: number) =>
    painter.paint(pen, outputs.subarray(i * size, (i + 1) * size), { x, y: 0, width: wide, height: tall }, inkOf(dark));
  return { tall, wide, count, paint };
}

function sheet(width: number, height: number, dark: boolean): [HTMLCanvasElement, CanvasRenderingContext2D] {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d", { willReadFrequently: true }) as CanvasRenderingContext2D;
  pen.fillStyle = dark ? "#14181d" : "#ffffff";
  pen.fillRect(0, 0, width, height);
  return [canvas, pen];
}

export async function strip(latent: Latent, outputs: Float32Array, count: number, dark: boolean): Promise<Blob> {
  const { tall, wide, paint } = frames(latent, outputs, count, dark),
    [canvas, pen] = sheet(count * (wide + 2) - 2, tall, dark);
  for (let i = 0; i < count; i++) paint(pen, i, i * (wide + 2));
  return new Promise((give, fail) =>
    canvas.toBlob((blob) => (blob ? give(blob) : fail(new Error("no picture"))), "image/png"),
  );
}

export function film(latent: Latent, outputs: Float32Array, count: number, dark: boolean): Blob {
  const { tall, wide, paint } = frames(latent, outputs, count, dark);
  const made = Array.from({ length: count }, (_, i) => {
    const [, pen] = sheet(wide, tall, dark);
    paint(pen, i, 0);
    return pen.getImageData(0, 0, wide, tall).data;
  });
  return new Blob([gif([...made, ...made.slice(1, -1).reverse()], wide, tall, 12)], { type: "image/gif" });
}

export function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** To the clipboard; where that is refused (a page from disk may be), by a hidden field. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.style.position = "fixed";
    field.style.opacity = "0";
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
