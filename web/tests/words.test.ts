import { beforeEach, expect, test } from "vitest";
import { standing } from "../src/gap";
import { language } from "../src/i18n";
import type { Reading } from "../src/latent";
import { short } from "../src/renderers";
import { compact, labels, placeWords, scene } from "../src/state";
import type { Scene } from "../src/scene";

function words(gap: number | null, sigma: number, around: number[], item = 0): string {
  const reading: Reading = {
    z: Float32Array.of(0, 0),
    logPrior: 0,
    approximate: false,
    gap,
    sigma,
    standing: standing(gap, sigma, 0.1),
    labels: around,
    item,
  };
  return placeWords(reading).replaceAll("\u00a0", " ");
}

beforeEach(() => {
  language.value = "en";
  scene.value = { label_names: ["0", "1", "4", "9"] } as Scene;
  labels.value = Int16Array.of(2, 0, -1);
});

test("a nearest item of another label is named", () => {
  expect(words(0.5, 0.04, [2], 0)).toBe("among 4; data within 0.04 σ");
  expect(words(0.5, 0.04, [2], 1)).toBe("among 4, the nearest is 0; data within 0.04 σ");
  expect(words(0.5, 0.04, [2, 0], 1)).toBe("between 4 and 0; data within 0.04 σ");
  expect(words(0.5, 0.04, [2, 3], 1)).toBe("between 4 and 9, the nearest is 0; data within 0.04 σ");
  expect(words(0.5, 0.04, [2], 2)).toBe("among 4; data within 0.04 σ");
  labels.value = null;
  expect(words(0.5, 0.04, [], 1)).toBe("data within 0.04 σ");
});

test("an edge of the outputs beside a code is not told as an edge of the codes", () => {
  expect(words(0.9, 0.01, [])).toBe("barely like the data, nearest code 0.01 σ");
  expect(words(0.9, 0.5, [])).toBe("at the edge of the data, nearest 0.5 σ");
  expect(words(null, 0.2, [])).toBe("at the edge of the data, nearest 0.2 σ"); // by distance, where nothing was scored
  expect(words(1.1, 0.01, [])).toBe("unlike any data, nearest code 0.01 σ");
  expect(words(1.1, 2.17, [])).toBe("no data within 2.1 σ");
});

test("and in Korean", () => {
  language.value = "ko";
  expect(words(0.9, 0.01, [2], 1)).toBe(
    "4 무리 안, 가장 가까운 것은 0, 데이터와 겨우 닮음, 가장 가까운 코드까지 0.01 σ",
  );
});

test("numbers of any size take little room", () => {
  expect([0, 0.5, 12.3, -99.4, 99.6, -321.4, 9999, 12345, 0.00042, -2e-9].map(compact)).toEqual(
    ["0.0", "0.50", "12", "−99", "100", "−321", "9999", "1e+4", "4e−4", "−2e−9"],
  );
});

test("values beside bars have few digits", () => {
  expect([0, 0.456, -12.345, 1234, -0.0044, 0.00044, -3e-7].map(short)).toEqual(
    ["0.00", "0.46", "−12.35", "1.2e+3", "−0.004", "4e−4", "−3e−7"],
  );
});
