// Builds ONE page without any request: classic scripts and styles inlined, workers as strings; `pack.py` lays the runtime beside it.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(here, "../src/gapless/explorer/static");

/**
 * The runtime gets its wasm as bytes, and its loader is bundled: without `import.meta.url` it neither looks for a script of its
 * own beside the page nor does a bundler copy a second wasm. The one address it still makes is never asked for.
 */
const runtimeWithoutUrls = {
  name: "runtime-without-urls",
  transform(code, id) {
    if (!id.includes("onnxruntime-web")) return null;
    const address = /new URL\("ort-wasm-simd-threaded\.wasm",import\.meta\.url\)/g;
    return {
      code: code.replace(address, 'new URL("about:blank#runtime")').replaceAll("import.meta.url", "(void 0)"),
      map: null,
    };
  },
};

/** `import code from "./x.worker.ts?classic"` gives the source of a classic script: module workers never start from file://. */
const classicWorkers = {
  name: "classic-workers",
  enforce: "pre",
  async resolveId(id, importer) {
    return id.endsWith("?classic") ? `\0classic:${resolve(dirname(importer), id.slice(0, -8))}` : null;
  },
  async load(id) {
    if (!id.startsWith("\0classic:")) return null;
    return `export default ${JSON.stringify(await script(id.slice(9)))};`;
  },
};

async function bundle(entry) {
  const made = await build({
    configFile: false,
    root: here,
    logLevel: "warn",
    plugins: [runtimeWithoutUrls, classicWorkers],
    esbuild: { jsx: "automatic", jsxImportSource: "preact" },
    publicDir: false,
    build: {
      write: false,
      target: "es2022",
      modulePreload: false,
      assetsInlineLimit: 0,
      cssCodeSplit: false,
      reportCompressedSize: false,
      rollupOptions: { input: entry, output: { format: "iife", inlineDynamicImports: true } },
    },
  });
  return (Array.isArray(made) ? made[0] : made).output;
}

async function script(entry) {
  return (await bundle(entry)).find((part) => part.type === "chunk").code;
}

const parts = await bundle(resolve(here, "src/main.tsx"));
const code = parts
  .find((part) => part.type === "chunk")
  .code.replaceAll("</script", "<\\/script")
  .replaceAll("<!--", "<\\!--");
const style = parts
  .filter((part) => part.fileName.endsWith(".css"))
  .map((part) => part.source)
  .join("");
const page = readFileSync(resolve(here, "index.html"), "utf8")
  .replace("/*STYLE*/", () => style)
  .replace("/*SCRIPT*/", () => code);
mkdirSync(out, { recursive: true });
writeFileSync(resolve(out, "explorer.html"), page);
console.log(`explorer.html ${(page.length / 1024).toFixed(0)} KiB in ${out}`);
