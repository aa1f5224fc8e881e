// node dev/scene.mjs FOLDER [--count 2000] [--kind image|table|series|counts] [--latent 2] [--panels 1] [--prior samples]
// A scene made of nothing, decoded by a lattice: for looking at kinds of data and for measuring frames with many points.
import { mkdirSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values: asked, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: "string", default: "2000" },
    kind: { type: "string", default: "image" },
    latent: { type: "string", default: "2" },
    panels: { type: "string", default: "1" },
    prior: { type: "string", default: "standard_normal" },
  },
});
const folder = positionals[0],
  n = Number(asked.count),
  d = Number(asked.latent),
  { kind } = asked;
const event = { image: n > 50_000 ? [1, 2, 2] : [1, 16, 16], table: [12], series: [48], counts: [40] }[kind],
  size = event.reduce((a, b) => a * b, 1);
let state = 20261;
const uniform = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) + 0.5) / 4294967296;
const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
const write = (name, array) => writeFileSync(`${folder}/${name}.bin`, Buffer.from(array.buffer));

/** What a place decodes to, 0..1. */
function decode(a, b, k) {
  if (kind === "image") {
    const side = event[1],
      x = (k % side) / (side - 1) - 0.5,
      y = Math.floor(k / side) / (side - 1) - 0.5;
    return Math.exp(-8 * ((x - a / 8) ** 2 + (y + b / 8) ** 2) * (1 + 0.3 * a));
  }
  if (kind === "series") return 0.5 + 0.4 * Math.sin((k / 48) * (4 + 2 * a) + b);
  return kind === "counts"
    ? Math.exp(0.6 * a * Math.sin(k) + 0.6 * b * Math.cos(2 * k))
    : 0.5 + 0.3 * Math.tanh(a * Math.sin(k) + b * Math.cos(k));
}

mkdirSync(folder, { recursive: true });
const labels = new Int16Array(n),
  stored = kind === "image" ? new Uint8Array(n * size) : new Float32Array(n * size),
  panels = [];
for (let p = 0; p < Number(asked.panels); p++) {
  const loc = new Float32Array(n * d),
    scale = new Float32Array(n * d).fill(0.2),
    error = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const label = p ? labels[i] : (labels[i] = Math.floor(uniform() * 12));
    for (let k = 0; k < d; k++)
      loc[i * d + k] =
        0.35 * normal() + (k < 2 ? 1.6 * [Math.cos(label + p), Math.sin(label + p)][k] * (1 + (label % 3) / 4) : 0);
    error[i] = Math.abs(normal());
    if (!p)
      for (let k = 0; k < size; k++)
        stored[i * size + k] =
          kind === "image"
            ? 255 * decode(loc[i * d], loc[i * d + 1] ?? 0, k)
            : decode(loc[i * d], loc[i * d + 1] ?? 0, k);
  }
  const side = 24,
    lattice = kind === "image" ? new Uint8Array(side * side * size) : new Float32Array(side * side * size),
    gap = new Float32Array(48 * 48);
  for (let j = 0; j < side; j++)
    for (let i = 0; i < side; i++)
      for (let k = 0; k < size; k++)
        lattice[(j * side + i) * size + k] =
          (kind === "image" ? 255 : 1) * decode((i / (side - 1)) * 6.8 - 3.4, (j / (side - 1)) * 6.8 - 3.4, k);
  for (let j = 0; j < 48; j++)
    for (let i = 0; i < 48; i++)
      gap[j * 48 + i] = 0.3 + Math.abs(Math.hypot((i / 47) * 6.8 - 3.4, (j / 47) * 6.8 - 3.4) - 2);
  const name = `m${p}`,
    axis = (k) => Array.from({ length: d }, (_, at) => +(at === k)),
    draws = Float32Array.from({ length: 3000 * d }, (_, k) => loc[k % loc.length] + 0.3 * normal());
  for (const [part, array] of Object.entries({ loc, scale, error, lattice, "gap.0": gap, prior: draws }))
    write(`${name}.${part}`, array);
  panels.push({
    name,
    title: `Model ${p}`,
    latent: d,
    loc: `${name}.loc`,
    scale: `${name}.scale`,
    kl_per_feature: axis(0).map((_, k) => 2 / (k + 1)),
    error: `${name}.error`,
    kl: null,
    live: axis(0).map((_, k) => k < 5),
    order: axis(0).map((_, k) => k),
    prior: asked.prior === "samples" ? { kind: "samples", draws: `${name}.prior` } : { kind: "standard_normal" },
    law: { mean: axis(-1), whiten: axis(0).map((_, k) => axis(k)) },
    card: null,
    effective_beta: 1,
    planes: [
      { name: "features 0 and 1", origin: axis(-1), u: axis(0), v: axis(1), half: 3.4, gap: `${name}.gap.0`, grid: 48 },
    ],
    decoder: { rung: "lattice", plane: 0, side, values: `${name}.lattice` },
    holes: [{ number: 1, place: axis(-1), mass: 0.05, low: 0.04, high: 0.06, nearest: [0, 1] }],
    cliffs: [{ number: 1, place: axis(0), from: axis(0), to: axis(1), size: 1.2, width: 1e-5, nearest: [0, 1] }],
  });
}
write("items.labels", labels);
write("items.values", stored);
const columns =
  kind === "table" || kind === "counts"
    ? Array.from({ length: size }, (_, k) => (kind === "counts" ? `GENE${k}` : `column ${k}`))
    : [];
writeFileSync(
  `${folder}/scene.json`,
  JSON.stringify({
    version: 1,
    gapless: "0.1.0",
    title: `made ${kind}`,
    created: "2026-01-01",
    kind,
    event_shape: event,
    columns,
    columns_range: columns.map(() => [0, 1]),
    scaling: { shift: [0], scale: [1] },
    display: { low: 0, high: 1 },
    label_names: Array.from({ length: 12 }, (_, k) => `class ${k}`),
    items: { count: n, labels: "items.labels", values: "items.values", held_out: null },
    panels,
  }),
);
