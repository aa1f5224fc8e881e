import { readFileSync, readdirSync, statSync } from "node:fs";
import { expect, test } from "vitest";
import { CATALOGUES, endsClosed, fill } from "../src/i18n";

const places = (text: string) => [...text.matchAll(/\{(\w+)/g)].map(([, name]) => name).sort();

test("both catalogues have the same keys, and the same places in them", () => {
  expect(Object.keys(CATALOGUES.ko).sort()).toEqual(Object.keys(CATALOGUES.en).sort());
  for (const [key, text] of Object.entries(CATALOGUES.en))
    expect([key, places(CATALOGUES.ko[key])]).toEqual([key, places(text)]);
});

test("no text is empty, and none was left untranslated", () => {
  for (const text of [...Object.values(CATALOGUES.en), ...Object.values(CATALOGUES.ko)])
    expect(text.trim()).not.toBe("");
  const same = Object.keys(CATALOGUES.en).filter((key) => CATALOGUES.en[key] === CATALOGUES.ko[key]);
  expect(same.sort()).toEqual(
    ["audit.n", "describe.table", "item.loc", "item.total", "path.gif", "plane.kl", "read.prior.nats"].sort(),
  );
});

test("Korean particles follow the sound before them", () => {
  const between = CATALOGUES.ko["place.between"];
  expect(fill(between, { first: "3", second: "8" })).toBe("3과 8 사이");
  expect(fill(between, { first: "0", second: "8" })).toBe("0과 8 사이");
  expect(fill(between, { first: "2", second: "8" })).toBe("2와 8 사이");
  expect(fill(between, { first: "바지", second: "셔츠" })).toBe("바지와 셔츠 사이");
  expect(fill(between, { first: "가방", second: "셔츠" })).toBe("가방과 셔츠 사이");
  expect([endsClosed("서울", "으로"), endsClosed("부산", "으로"), endsClosed("7", "으로")]).toEqual([
    false,
    true,
    false,
  ]);
});

test("every key asked for is in the catalogue, every key of the catalogue is asked for", () => {
  const files = (folder: string): string[] =>
    readdirSync(folder).flatMap((name) =>
      statSync(`${folder}/${name}`).isDirectory()
        ? files(`${folder}/${name}`)
        : /\.tsx?$/.test(name)
          ? [`${folder}/${name}`]
          : [],
    );
  const code = files(new URL("../src", import.meta.url).pathname)
    .map((file) => readFileSync(file, "utf8"))
    .join("\n");
  const asked = [...code.matchAll(/[`"]([a-z]+\.[\w.]*(?:\$\{[^}]*\}[\w.]*)?)[`"]/g)].map(([, key]) => key);
  const covers = (key: string) =>
    asked.some(
      (one) =>
        one === key ||
        (one.includes("${") && new RegExp(`^${one.replace(/\./g, "\\.").replace(/\$\{[^}]*\}/g, "\\w+")}$`).test(key)),
    );
  expect(Object.keys(CATALOGUES.en).filter((key) => !covers(key))).toEqual([]);
});
