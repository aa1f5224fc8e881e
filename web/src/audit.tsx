// The audit under the maps: seven numbers with their intervals, the verdict, and the places it found.
import { language, t } from "./i18n";
import type { Key } from "./i18n";
import type { Latent } from "./latent";
import { axesPlane, distance, itemsPlane } from "./planes";
import type { Card, Measure } from "./scene";
import * as state from "./state";

export const MEASURES = [
  "smoothness",
  "evenness",
  "cliff_free",
  "data_like",
  "coverage",
  "identification",
  "explained_variance",
] as const;
const LEGS: Record<(typeof MEASURES)[number], string> = {
  smoothness: "continuity",
  evenness: "continuity",
  cliff_free: "continuity",
  data_like: "completeness",
  coverage: "completeness",
  identification: "informativeness",
  explained_variance: "informativeness",
};
/** The bands of the verdict: good from, partial from. */
const BANDS: Record<string, [number, number]> = {
  evenness: [0.9, 0.75],
  cliff_free: [0.999, 0.99],
  data_like: [0.95, 0.8],
  coverage: [0.95, 0.8],
  identification: [0.9, 0.5],
};
const GLYPH: Record<string, string> = { good: "●", partial: "◐", weak: "○" };

export function levelOf(name: string, { value, high }: Measure): "good" | "partial" | "weak" | null {
  const band = BANDS[name];
  if (!band || value === null || high === null) return null;
  const [good, partial] = band;
  if (value >= good || (value >= partial && high >= good)) return "good";
  return value >= partial || high >= partial ? "partial" : "weak";
}

/** The verdict in the language of the page; the card's own words are English. */
export function verdictWords(card: Card): string {
  if (language.value === "en") return card.verdict;
  const { completeness, continuity, informativeness } = card.levels,
    faults: string[] = [];
  if (completeness === "partial" || completeness === "weak") faults.push(t(`verdict.gappy.${completeness}`));
  if (card.verdict.includes("cliffs")) faults.push(t("verdict.cliffs"));
  else if (continuity === "partial" || continuity === "weak") faults.push(t(`verdict.steep.${continuity}`));
  const said = faults.join(t("verdict.and")),
    empty = card.verdict.includes("collapse");
  if (informativeness === "weak")
    return faults.length
      ? t(empty ? "verdict.faults_empty" : "verdict.faults_hardly", { faults: said })
      : t(empty ? "verdict.empty" : "verdict.hardly");
  if (faults.length) return t(informativeness === "good" ? "verdict.informative" : "verdict.partly", { faults: said });
  return t(informativeness === "good" ? "verdict.regular_informative" : "verdict.regular_partly");
}

/** The camera to a place: the plane that holds it, its window around it. */
export function visit(latent: Latent, place: number[], across?: [number[], number[]]): void {
  const z = Float32Array.from(place);
  if (distance(latent.plane.value, z) > 1e-3) latent.show(planeThrough(latent, place, across));
  const plane = latent.plane.value,
    view = latent.view.value,
    [a, b] = [0, 1].map((k) =>
      (k ? plane.v : plane.u).reduce((all, one, i) => all + one * (z[i] - plane.origin[i]), 0),
    );
  latent.view.value = { cx: a, cy: b, half: Math.min(view.half, Math.max(0.8, latent.home(plane).half / 3)) };
  state.moveCursor(latent, z);
}

function planeThrough(latent: Latent, place: number[], across?: [number[], number[]]) {
  const home = latent.planes.find((plane) => distance(plane, place) < 1e-3);
  if (home) return home;
  const [i, j] = latent.plane.value.axes ?? [latent.panel.order[0] ?? 0, latent.panel.order[1] ?? 1];
  if (across) {
    const made = itemsPlane(across[0], across[1], new Float64Array(latent.d));
    if (made) return made;
  }
  return axesPlane(place, i, j, latent.plane.value.half);
}

export function Audit() {
  const latents = state.latents.value;
  if (!latents.some((one) => one.panel.card)) return <p class="empty">{t("audit.none")}</p>;
  return (
    <div class="rows audit" role="table" aria-label={t("tab.audit")}>
      <div class="row head" role="row">
        <div class="rail" role="columnheader">
          {t("audit.verdict")}
        </div>
        {latents.map((one) => (
          <div role="columnheader" class="verdict">
            <span class="phone-title">{one.panel.title}</span>
            {one.panel.card ? <span>{verdictWords(one.panel.card)}</span> : "–"}
          </div>
        ))}
      </div>
      {MEASURES.map((name, k) => (
        <div class={`row ${k > 0 && LEGS[name] !== LEGS[MEASURES[k - 1]] ? "leg" : ""}`} role="row">
          <div class="rail" role="rowheader" title={t(`measure.${name}.help` as Key)}>
            {t(`measure.${name}` as Key)}
            {(k === 0 || LEGS[name] !== LEGS[MEASURES[k - 1]]) && <small>{t(`leg.${LEGS[name]}` as Key)}</small>}
          </div>
          {latents.map((one) => (
            <div role="cell">
              <span class="phone-title">{one.panel.title}</span>
              {one.panel.card ? (
                <Cell
                  name={name}
                  measure={one.panel.card[name] as Measure}
                  power={one.panel.card.sensitivity.value ?? 0}
                />
              ) : (
                "–"
              )}
            </div>
          ))}
        </div>
      ))}
      <div class="row leg" role="row">
        <div class="rail" role="rowheader">
          {t("audit.findings")}
        </div>
        {latents.map((one) => (
          <div role="cell">
            <span class="phone-title">{one.panel.title}</span>
            <Findings latent={one} />
          </div>
        ))}
      </div>
    </div>
  );
}

/** Under this sensitivity data-like draws have no say, as in the verdict. */
const POWER = 0.5;

function Cell({ name, measure, power }: { name: string; measure: Measure; power: number }) {
  const reading = language.value === "en" ? measure.reading : t(`measure.${name}.help` as Key); // the card's own words are English
  if (measure.value === null || measure.low === null || measure.high === null)
    return (
      <span class="faint" title={reading}>
        {t("audit.na")}
      </span>
    );
  const { value, low, high, n } = measure,
    mute = name === "data_like" && power < POWER,
    level = mute ? null : levelOf(name, measure),
    percent = (x: number) => `${100 * Math.max(0, Math.min(1, x))}%`;
  const says = t("audit.interval", {
    value: value.toFixed(3),
    low: low.toFixed(3),
    high: high.toFixed(3),
    n: n.toLocaleString(),
  });
  return (
    <div class={`measure ${level ?? "none"}`} title={`${says}\n${reading}`}>
      <span class="value">{value.toFixed(2)}</span>
      <span class="interval" role="img" aria-label={says}>
        <i class="whisker" style={{ left: percent(low), width: `calc(${percent(high)} - ${percent(low)} + 1px)` }} />
        <i class="dot" style={{ left: percent(value) }} />
      </span>
      <span class="range faint">
        {low.toFixed(2)}–{high.toFixed(2)}
      </span>
      <span class="level">
        {level && (
          <>
            <span aria-hidden="true">{GLYPH[level]}</span> {t(`level.${level}`)}
          </>
        )}
        {mute && <span class="faint">{t("level.powerless")}</span>}
      </span>
      <span class="n faint">{t("audit.n", { n: n.toLocaleString() })}</span>
    </div>
  );
}

/** The audit's names of reference laws; others are formulas. */
const LAWS: Record<string, Key> = { moments: "law.moments", declared: "law.declared", mixup: "law.mixup", "uniform on the sphere": "law.sphere" };
const lawName = (law: string): string => (LAWS[law] ? t(LAWS[law]) : law);

function Findings({ latent }: { latent: Latent }) {
  const { holes, cliffs, card } = latent.panel,
    none = !holes.length && !cliffs.length;
  return (
    <div class="findings">
      {none && <span class="faint">{t("audit.nothing")}</span>}
      {holes.map((hole) => (
        <button
          type="button"
          class="chip hole"
          title={t("audit.hole", { number: hole.number, mass: `${(100 * hole.mass).toFixed(1)} %` })}
          onClick={() => visit(latent, hole.place)}
        >
          <span aria-hidden="true">○</span> {t("audit.hole.short", { number: hole.number })}{" "}
          <small>{(100 * hole.mass).toFixed(1)} %</small>
        </button>
      ))}
      {cliffs.map((cliff) => (
        <button
          type="button"
          class="chip cliff"
          title={t("audit.cliff", { number: cliff.number, size: cliff.size.toFixed(2) })}
          onClick={() => visit(latent, cliff.place, [cliff.from, cliff.to])}
        >
          <span aria-hidden="true">◇</span> {t("audit.cliff.short", { number: cliff.number })}{" "}
          <small>×{cliff.size.toFixed(2)}</small>
        </button>
      ))}
      {card && (
        <span class="faint note">
          {t("audit.against", { law: lawName(card.reference) })} · {t("audit.sensitivity")}{" "}
          {card.sensitivity.value === null ? "–" : `${Math.round(100 * card.sensitivity.value)} %`}
        </span>
      )}
    </div>
  );
}
