// Two catalogues with the same keys; words for places in {braces}, and Korean particles chosen by the sound before them.
import { signal } from "@preact/signals";
import en from "./en.json";
import ko from "./ko.json";

export type Key = keyof typeof en;
export type Language = "en" | "ko";
export const CATALOGUES: Record<Language, Record<string, string>> = { en, ko };
export const language = signal<Language>("en");

export function t(key: Key, places: Record<string, string | number> = {}): string {
  return fill(CATALOGUES[language.value][key], places);
}

/** {name} is replaced; {name:과/와} is replaced and followed by the particle for a closed or an open last syllable. */
export function fill(text: string, places: Record<string, string | number>): string {
  return text.replace(/\{(\w+)(?::([^/}]*)\/([^}]*))?\}/g, (_, name: string, closed?: string, open?: string) => {
    const word = String(places[name] ?? "");
    return closed === undefined ? word : word + (endsClosed(word, closed) ? closed : open);
  });
}

const CLOSED_DIGITS = "0136780";
const CLOSED_LETTERS = "lmnrLMNR";

/** Whether the last syllable has a final consonant; 으로/로 treats the final ㄹ as open. */
export function endsClosed(word: string, particle = ""): boolean {
  const last = word.trim().slice(-1),
    code = last.charCodeAt(0) - 0xac00;
  if (code >= 0 && code < 11172) return code % 28 !== 0 && !(particle.startsWith("으") && code % 28 === 8);
  if (/\d/.test(last)) return CLOSED_DIGITS.includes(last) && !(particle.startsWith("으") && "178".includes(last));
  return CLOSED_LETTERS.includes(last);
}
