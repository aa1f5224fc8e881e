// node dev/embed.mjs SCENE_FOLDER OUT.html: a scene folder (scene.json, NAME.bin) as one file, the way the exporter does it.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const [folder, target] = process.argv.slice(2);
const built = resolve(dirname(fileURLToPath(import.meta.url)), "../../src/gapless/explorer/static");
const escape = (text) =>
  text.replaceAll("<", "\\u003c").replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
const blob = (name, bytes, encoding) =>
  `<script type="application/octet-stream" data-name="${name}" data-encoding="${encoding}">${bytes.toString("base64")}</script>`;

const parts = [
  `<script type="application/json" id="scene">${escape(readFileSync(`${folder}/scene.json`, "utf8"))}</script>`,
];
for (const file of readdirSync(folder)
  .filter((name) => name.endsWith(".bin"))
  .sort())
  parts.push(blob(file.slice(0, -4), gzipSync(readFileSync(`${folder}/${file}`), { level: 9 }), "gzip"));
parts.push(blob("runtime.wasm.lzma", readFileSync(`${built}/runtime.wasm.lzma`), "lzma"));
const page = readFileSync(`${built}/explorer.html`, "utf8");
const at = page.lastIndexOf("</body>");
const whole = `${page.slice(0, at)}${parts.join("\n")}\n${page.slice(at)}`;
writeFileSync(target, whole);
console.log(`${target} ${(whole.length / 2 ** 20).toFixed(2)} MiB`);
