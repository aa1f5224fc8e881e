// Paths: how to walk, the film strip, and the continuity chart of every panel that has one.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { t } from "./i18n";
import type { Key } from "./i18n";
import type { Latent } from "./latent";
import type { Way } from "./path";
import { Picture } from "./picture";
import { painterOf } from "./renderers";
import { sizeOf } from "./scene";
import { csv, film, save, strip } from "./share";
import * as state from "./state";
import { along } from "./walking";

const playing = signal(false);
const step = signal(-1);
const WAYS: Way[] = ["linear", "spherical", "density"];

export function stand(at: number): void {
  step.value = at;
  const move = { heard: performance.now(), stamp: performance.now(), left: 0 };
  for (const one of state.latents.value) {
    const code = one.walk.value?.codes[at];
    if (code) {
      move.left++;
      one.go(Float32Array.from(code), move);
    }
  }
  state.readNow();
}

export function Path() {
  const walked = state.latents.value.filter((one) => one.walk.value),
    count = walked[0]?.walk.value?.codes.length ?? 0;
  useEffect(() => {
    if (!playing.value || count < 2) return undefined;
    const timer = setInterval(
      () => {
        const turn = 2 * (count - 1),
          next = (tick.value + 1) % turn;
        tick.value = next;
        stand(next < count ? next : turn - next);
      },
      state.calm.value ? 600 : 160,
    );
    return () => clearInterval(timer);
  }, [playing.value, count, state.calm.value]);
  return (
    <div class="rows paths">
      <div class="row">
        <div class="rail controls">
          <label>
            {t("path.way")}
            <select
              value={state.way.value}
              onChange={(event) => {
                state.way.value = event.currentTarget.value as Way;
                state.redoWalks();
              }}
            >
              {WAYS.map((way) => (
                <option value={way}>{t(`path.${way}` as Key)}</option>
              ))}
            </select>
          </label>
          <label>
            {t("path.steps")}
            <input
              type="number"
              min={2}
              max={64}
              value={state.steps.value}
              onChange={(event) => {
                state.steps.value = Math.max(2, Math.min(64, Math.round(Number(event.currentTarget.value)) || 15));
                state.redoWalks();
              }}
            />
          </label>
          <div class="buttons">
            {state.mode.value !== "path" && (
              <button type="button" onClick={() => (state.mode.value = "path")}>
                {t("path.start")}
              </button>
            )}
            {count > 1 && (
              <button type="button" aria-pressed={playing.value} onClick={() => (playing.value = !playing.value)}>
                {playing.value ? `■ ${t("path.stop")}` : `▶ ${t("path.play")}`}
              </button>
            )}
            {walked.length > 0 && (
              <button type="button" onClick={undo}>
                {t("path.undo")}
              </button>
            )}
            {walked.length > 0 && (
              <button
                type="button"
                onClick={() => {
                  playing.value = false;
                  state.latents.value.forEach((one) => (one.walk.value = null));
                }}
              >
                {t("path.clear")}
              </button>
            )}
          </div>
        </div>
        {walked.length ? (
          state.latents.value.map((one) => <Walked latent={one} key={`${one.index}`} />)
        ) : (
          <p class="empty span">{t("path.none")}</p>
        )}
      </div>
    </div>
  );
}

const tick = signal(0);

function undo(): void {
  const latent = state.latents.value[state.active.value],
    from = latent?.walk.value ? latent : state.latents.value.find((one) => one.walk.value);
  if (from?.walk.value) state.setCorners(from, from.walk.value.corners.slice(0, -1));
}

function Walked({ latent }: { latent: Latent }) {
  const walk = latent.walk.value,
    size = sizeOf(latent.scene.event_shape);
  if (!walk)
    return (
      <div class="walked">
        <span class="phone-title">{latent.panel.title}</span>
        <p class="empty">{t("path.empty")}</p>
      </div>
    );
  if (walk.corners.length < 2)
    return (
      <div class="walked">
        <span class="phone-title">{latent.panel.title}</span>
        <p class="empty">{t("path.one")}</p>
      </div>
    );
  const found = along(latent),
    count = walk.codes.length,
    outside = found?.outside ?? [],
    first = outside.indexOf(true);
  const wide = painterOf(latent.scene).aspect;
  const name = (kind: string) => `${latent.scene.title}-${latent.panel.name}-path.${kind}`,
    outputs = walk.outputs;
  return (
    <div class="walked">
      <span class="phone-title">{latent.panel.title}</span>
      <div
        class="film"
        role="group"
        aria-label={t("path.film", { title: latent.panel.title })}
        onKeyDown={(event) => turn(event, count)}
        style={{ gridTemplateColumns: `repeat(${Math.min(count, wide > 1.1 ? 5 : 8)}, minmax(0, 1fr))` }}
      >
        {walk.codes.map((_, i) => (
          <button
            type="button"
            tabIndex={i === Math.max(0, step.value) ? 0 : -1}
            class={`plain ${step.value === i ? "here" : ""} ${outside[i] ? "outside" : ""}`}
            aria-label={t("path.frame", { step: i + 1, count })}
            onClick={() => stand(i)}
          >
            {outputs && (
              <Frame
                values={outputs.subarray(i * size, (i + 1) * size)}
                label={t("path.frame", { step: i + 1, count })}
                aspect={wide}
              />
            )}
          </button>
        ))}
      </div>
      <p class={first >= 0 ? "warn" : "calm"} role={first >= 0 ? "alert" : undefined}>
        {first >= 0
          ? `▲ ${t("path.warning", { count: outside.filter(Boolean).length, all: count, first: first + 1 })}`
          : `● ${t("path.inside")}`}
      </p>
      {found && <Chart latent={latent} />}
      <div class="buttons">
        <button
          type="button"
          disabled={!outputs}
          onClick={() =>
            outputs && strip(latent, outputs, count, state.dark.value).then((blob) => save(blob, name("png")))
          }
        >
          {t("path.png")}
        </button>
        <button
          type="button"
          disabled={!outputs}
          onClick={() => outputs && save(film(latent, outputs, count, state.dark.value), name("gif"))}
        >
          {t("path.gif")}
        </button>
        <button type="button" onClick={() => save(new Blob([csv(walk.codes)], { type: "text/csv" }), name("csv"))}>
          {t("path.csv")}
        </button>
      </div>
    </div>
  );
}

/** Left and right go from step to step; one stop of the Tab key for a whole strip. */
function turn(event: KeyboardEvent & { currentTarget: HTMLElement }, count: number): void {
  const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (!by) return;
  event.preventDefault();
  const next = Math.max(0, Math.min(count - 1, Math.max(0, step.value) + by));
  stand(next);
  (event.currentTarget.children[next] as HTMLElement).focus();
}

function Frame({ values, label, aspect }: { values: Float32Array; label: string; aspect: number }) {
  return (
    <span class="frame" style={{ aspectRatio: String(aspect) }}>
      <Picture values={values} width={0} label={label} class="fill" />
    </span>
  );
}

/** Every panel's chart has the same heights, so that they can be compared. */
function spans() {
  const all = state.latents.value.map(along).filter((one) => one !== null),
    gaps = all.flatMap((one) => one.gap.map((gap) => gap ?? 0));
  const prior = all.flatMap((one) => one.prior);
  return {
    change: [0, Math.max(1e-9, ...all.flatMap((one) => Array.from(one.change)))],
    gap: [0, Math.max(1.3, ...gaps)],
    sigma: [0, Math.max(0.1, ...all.flatMap((one) => one.sigma))],
    prior: [Math.min(...prior), Math.max(...prior)],
  };
}

function Chart({ latent }: { latent: Latent }) {
  const found = along(latent);
  if (!found) return null;
  const span = spans(),
    scored = found.gap.every((one) => one !== null),
    change = Array.from(found.change),
    mean = change.reduce((all, one) => all + one, 0) / Math.max(1, change.length);
  const even = change.length && mean > 0 ? t("path.even", { ratio: state.number(Math.max(...change) / mean, 1) }) : "";
  return (
    <figure class="chart" aria-label={t("path.chart", { title: latent.panel.title, summary: even })}>
      <Line name={t("path.change")} values={change} span={span.change} offset={0.5} said={even} />
      {scored ? (
        <Line name={t("path.gap")} values={found.gap as number[]} span={span.gap} mark={1} />
      ) : (
        <Line name={t("path.distance")} values={found.sigma} span={span.sigma} />
      )}
      <Line name={t("path.prior")} values={found.prior} span={span.prior} />
    </figure>
  );
}

/** One small chart; where it lies above `mark` the ground is tinted. */
function Line({
  name,
  values,
  span,
  mark,
  offset = 0,
  said = "",
}: {
  name: string;
  values: number[];
  span: number[];
  mark?: number;
  offset?: number;
  said?: string;
}) {
  if (!values.length) return null;
  const [low, high] = span,
    count = values.length + 2 * offset;
  const x = (i: number) => (100 * (i + offset)) / Math.max(1, count - 1),
    y = (value: number) => 27 - 25 * ((value - low) / (high - low || 1));
  const points = values.map((value, i) => `${x(i).toFixed(2)},${y(value).toFixed(2)}`).join(" ");
  return (
    <div class="line">
      <span class="name">{name}</span>
      <svg
        viewBox="0 0 100 28"
        preserveAspectRatio="none"
        role="img"
        aria-label={`${name}: ${state.compact(Math.min(...values))} – ${state.compact(Math.max(...values))} ${said}`}
      >
        {mark !== undefined && (
          <>
            <rect x="0" y="0" width="100" height={Math.max(0, y(mark))} class="over" />
            <line x1="0" x2="100" y1={y(mark)} y2={y(mark)} class="mark" />
          </>
        )}
        <polyline points={points} />
        {step.value >= 0 && <line x1={x(step.value - offset)} x2={x(step.value - offset)} y1="0" y2="28" class="now" />}
      </svg>
      <span class="ends faint">
        {state.compact(Math.max(...values))}
        <br />
        {state.compact(Math.min(...values))}
      </span>
    </div>
  );
}
