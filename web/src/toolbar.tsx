// The top line and the rail: language, colours, sharing; layers, colour, pointer, link, and the legend.
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { language, t } from "./i18n";
import type { Key } from "./i18n";
import { css, labelColor, ramp, shapeOf } from "./palette";
import { SHAPES } from "./raster";
import type { Shape } from "./raster";
import { asPython, copy } from "./share";
import type { Scene } from "./scene";
import * as state from "./state";

const shownText = signal("");
let noteTimer = 0;

async function give(text: string): Promise<void> {
  const done = await copy(text).catch(() => false);
  state.note.value = t(done ? "share.copied" : "share.failed");
  shownText.value = done ? "" : text;
  clearTimeout(noteTimer);
  noteTimer = window.setTimeout(() => (state.note.value = ""), 2500);
}

/** The code under the cursor of the active panel, or its whole path while paths are shown. */
function python(): string {
  const scene = state.scene.value as Scene,
    latent = state.latents.value[state.active.value] ?? state.latents.value[0],
    walk = latent.walk.value;
  const codes = state.tab.value === "path" && walk ? walk.codes : [latent.z.value ?? new Float32Array(latent.d)];
  return asPython(scene, latent.panel.name, latent.panel.path, codes);
}

export function Top() {
  const scene = state.scene.value as Scene;
  return (
    <header class="top">
      <h1>
        <span class="logo" aria-hidden="true" /> {scene.title}{" "}
        <small>
          {t("app.subtitle")} · {t("app.items", { count: scene.items.count.toLocaleString() })}
        </small>
      </h1>
      <div class="actions">
        <span class="note" role="status">
          {state.note.value}
        </span>
        <button type="button" onClick={() => give(location.href)}>
          {t("share.link")}
        </button>
        <button type="button" onClick={() => give(python())}>
          {t("share.python")}
        </button>
        <label class="inline">
          <span class="sr">{t("theme.label")}</span>
          <select
            value={state.theme.value}
            aria-label={t("theme.label")}
            onChange={(event) => (state.theme.value = event.currentTarget.value as state.Theme)}
          >
            {(["auto", "light", "dark"] as const).map((one) => (
              <option value={one}>
                {one === "auto" ? "◐" : one === "light" ? "☀" : "☾"} {t(`theme.${one}`)}
              </option>
            ))}
          </select>
        </label>
        <button
          type="button"
          lang={language.value === "en" ? "ko" : "en"}
          onClick={() => (language.value = language.value === "en" ? "ko" : "en")}
        >
          {t("lang.switch")}
        </button>
      </div>
      {shownText.value && (
        <textarea
          class="shown"
          readOnly
          aria-label={t("share.python")}
          rows={8}
          value={shownText.value}
          onBlur={() => (shownText.value = "")}
        />
      )}
    </header>
  );
}

function Choices<T extends string>({
  title,
  name,
  value,
  options,
  help,
}: {
  title: string;
  name: string;
  value: { value: T };
  options: [T, string][];
  help?: (one: T) => string;
}) {
  return (
    <fieldset class="choices">
      <legend>{title}</legend>
      <div class="segments">
        {options.map(([one, text]) => (
          <label title={help?.(one)} class={value.value === one ? "on" : ""}>
            <input
              type="radio"
              name={name}
              value={one}
              checked={value.value === one}
              onChange={() => (value.value = one)}
            />
            {text}
          </label>
        ))}
      </div>
    </fieldset>
  );
}

export function Rail() {
  const scene = state.scene.value as Scene,
    several = state.latents.value.length > 1;
  return (
    <nav class="rail tools" aria-label={t("layers.title")}>
      <Layers />
      <Coloring scene={scene} />
      <Choices
        title={t("mode.title")}
        name="mode"
        value={state.mode}
        options={(["look", "path", "brush"] as const).map((one) => [one, t(`mode.${one}`)])}
        help={(one) => t(`mode.${one}.help` as Key)}
      />
      {several && (
        <label class="stack">
          {t("link.title")}
          <select
            value={state.link.value}
            onChange={(event) => (state.link.value = event.currentTarget.value as state.Link)}
          >
            {(["item", "place", "off"] as const).map((one) => (
              <option value={one}>{t(`link.${one}`)}</option>
            ))}
          </select>
        </label>
      )}
      {state.brushed.value && (
        <button type="button" onClick={() => (state.brushed.value = null)}>
          {t("brush.clear", { count: state.brushed.value.reduce((all, one) => all + one, 0).toLocaleString() })}
        </button>
      )}
    </nav>
  );
}

function Layers() {
  const has = (one: state.Layer) =>
    state.latents.value.some((latent) =>
      one === "ellipses"
        ? latent.scale
        : one === "gap"
          ? latent.gaps.some(Boolean)
          : one === "findings"
            ? latent.panel.holes.length + latent.panel.cliffs.length
            : one === "names"
              ? state.labels.value
              : true,
    );
  return (
    <fieldset class="layers">
      <legend>{t("layers.title")}</legend>
      {state.LAYERS.filter(has).map((one) => (
        <label title={t(`layers.${one}.help` as Key)}>
          <input
            type="checkbox"
            checked={state.layers.value[one]}
            onChange={(event) => (state.layers.value = { ...state.layers.value, [one]: event.currentTarget.checked })}
          />
          {t(`layers.${one}` as Key)}
          {one === "gap" && <span class="swatch gap" aria-hidden="true" />}
        </label>
      ))}
    </fieldset>
  );
}

function Coloring({ scene }: { scene: Scene }) {
  const some = (key: "error" | "kl") => state.latents.value.some((one) => one[key]);
  const options: state.ColorBy[] = [
    ...(state.labels.value ? ["label" as const] : []),
    ...(["error", "kl"] as const).filter(some),
    ...(state.heldOut.value ? ["held_out" as const] : []),
    "plain",
  ];
  const columns = scene.kind === "table" ? scene.columns : [];
  return (
    <div class="coloring">
      <label class="stack">
        {t("color.title")}
        <select
          value={state.colorBy.value}
          onChange={(event) => (state.colorBy.value = event.currentTarget.value as state.ColorBy)}
        >
          {options.map((one) => (
            <option value={one}>{t(`color.${one}` as Key)}</option>
          ))}
          {columns.map((name, k) => (
            <option value={`column:${k}`}>{name}</option>
          ))}
        </select>
      </label>
      <Legend scene={scene} />
    </div>
  );
}

function Legend({ scene }: { scene: Scene }) {
  const by = state.colorBy.value,
    night = state.dark.value,
    entry = (label: number, name: string) => (
      <li>
        <Mark shape={SHAPES[shapeOf(label)]} color={labelColor(label, night)} /> {name}
      </li>
    );
  if (by === "plain") return null;
  const longest = Math.max(...scene.label_names.map((name) => name.length));
  if (by === "label")
    return (
      <ul class="legend" style={{ "--entry": `${Math.min(150, 22 + 7.5 * longest)}px` }}>
        {scene.label_names.slice(0, 24).map((name, k) => entry(k, name))}
      </ul>
    );
  if (by === "held_out")
    return (
      <ul class="legend" style={{ "--entry": "110px" }}>
        {entry(0, t("color.seen"))}
        {entry(1, t("color.held"))}
      </ul>
    );
  const stops = Array.from({ length: 9 }, (_, k) => css(ramp(k / 8, night))).join(", ");
  return (
    <div class="ramp">
      <span>{t("color.low")}</span>
      <i style={{ background: `linear-gradient(90deg, ${stops})` }} />
      <span>{t("color.high")}</span>
    </div>
  );
}

const DRAWN: Record<Shape, JSX.Element> = {
  circle: <circle cx="6" cy="6" r="4.4" />,
  square: <rect x="2" y="2" width="8" height="8" />,
  triangle: <path d="M6 1 L11 10 L1 10Z" />,
  diamond: <path d="M6 .6 L11.4 6 L6 11.4 L.6 6Z" />,
  plus: <path d="M4.2 1H7.8V4.2H11V7.8H7.8V11H4.2V7.8H1V4.2H4.2Z" />,
  cross: <path d="M1 3.2 3.2 1 6 3.8 8.8 1 11 3.2 8.2 6 11 8.8 8.8 11 6 8.2 3.2 11 1 8.8 3.8 6Z" />,
  wedge: <path d="M6 11 L11 2 L1 2Z" />,
  ring: (
    <path fill-rule="evenodd" d="M6 1a5 5 0 1 1 0 10A5 5 0 1 1 6 1M6 3.4a2.6 2.6 0 1 0 0 5.2A2.6 2.6 0 1 0 6 3.4" />
  ),
};

function Mark({ shape, color }: { shape: Shape; color: string }) {
  return (
    <svg class="mark" viewBox="0 0 12 12" fill={color} aria-hidden="true">
      {DRAWN[shape]}
    </svg>
  );
}
