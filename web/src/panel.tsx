// One panel: its name, its map, and under it the decode at the cursor with the read-out in words.
import { useEffect, useRef } from "preact/hooks";
import { EDGE } from "./gap";
import { language, t } from "./i18n";
import type { Key } from "./i18n";
import type { Latent } from "./latent";
import { MapView } from "./mapview";
import { paintInto } from "./picture";
import { planeName } from "./planeview";
import { painterOf } from "./renderers";
import * as state from "./state";

export function Panel({ latent }: { latent: Latent }) {
  const { panel } = latent,
    live = panel.live.filter(Boolean).length;
  return (
    <section class="panel" aria-labelledby={`panel-${latent.index}`} data-panel={panel.name}>
      <header class="panel-head">
        <h2 id={`panel-${latent.index}`}>{panel.title}</h2>
        <span class="faint">
          {live === latent.d
            ? t("panel.latent", { count: latent.d })
            : t("panel.latent.live", { count: latent.d, live })}
          {" · "}
          {panel.effective_beta === null
            ? t("panel.beta.none")
            : panel.effective_beta === 0
              ? t("panel.beta.zero")
              : t("panel.beta", { value: Number(panel.effective_beta.toPrecision(3)) })}
        </span>
        {latent.decoder.value?.rung === "lattice" && <span class="tag">{t("decode.lattice")}</span>}
      </header>
      <Map latent={latent} />
      <Decoded latent={latent} />
    </section>
  );
}

function Map({ latent }: { latent: Latent }) {
  const host = useRef<HTMLDivElement>(null),
    view = useRef<MapView | null>(null);
  useEffect(() => {
    view.current = new MapView(host.current as HTMLDivElement, latent);
    return () => view.current?.close();
  }, [latent]);
  const partial = latent.shown.value > 0 && latent.shown.value < latent.count,
    plane = latent.plane.value;
  const noGap = state.layers.value.gap && !latent.gapGrid() && latent.gaps.some(Boolean);
  const beyond = latent.atHome() ? latent.beyond.value : 0;
  return (
    <div class="map-box">
      <div
        ref={host}
        class={`map mode-${state.mode.value}`}
        tabIndex={0}
        role="application"
        aria-label={t("map.label", { title: latent.panel.title })}
        aria-describedby={`all-${latent.index} read-${latent.index}`}
      />
      <span class="sr" id={`all-${latent.index}`}>
        {latent.gathered.value && t("map.gathered", { count: latent.count.toLocaleString() })}
      </span>
      {latent.d > 2 && (
        <button type="button" class="badge slice" onClick={() => (state.tab.value = "plane")}>
          {t(plane.kind === "scene" && plane.scene === null ? "map.slice.moved" : "map.slice", {
            name: planeName(plane),
          })}
        </button>
      )}
      <div class="map-tools">
        <button type="button" title={t("map.in")} aria-label={t("map.in")} onClick={() => view.current?.zoom(1.4)}>
          +
        </button>
        <button
          type="button"
          title={t("map.out")}
          aria-label={t("map.out")}
          onClick={() => view.current?.zoom(1 / 1.4)}
        >
          −
        </button>
        <button type="button" title={t("map.reset")} aria-label={t("map.reset")} onClick={() => view.current?.reset()}>
          ⤢
        </button>
      </div>
      {(partial || beyond > 0 || noGap || (latent.draws && state.layers.value.prior)) && (
        <span class="badge low">
          {partial
            ? t("map.progress", { shown: latent.shown.value.toLocaleString(), count: latent.count.toLocaleString() })
            : beyond > 0
              ? t("map.beyond", { count: beyond.toLocaleString() })
              : noGap
              ? t("map.nogap")
              : t("map.sampled")}
        </span>
      )}
    </div>
  );
}

function Decoded({ latent }: { latent: Latent }) {
  const canvas = useRef<HTMLCanvasElement>(null),
    night = state.dark.value,
    painter = painterOf(latent.scene);
  useEffect(() => {
    const paint = (values: Float32Array) =>
      canvas.current && paintInto(canvas.current, values, "plain", state.dark.peek());
    latent.painters.add(paint);
    return () => void latent.painters.delete(paint);
  }, [latent]);
  useEffect(() => {
    if (latent.values && canvas.current) paintInto(canvas.current, latent.values, "plain", night);
  }, [night, language.value]);
  const reading = latent.reading.value,
    place = reading ? state.placeWords(reading) : "",
    rung = latent.decoder.value?.rung;
  const wide = latent.scene.kind !== "image";
  return (
    <div class={`decoded ${wide ? "wide" : ""}`}>
      <div
        class="decode-picture"
        style={wide ? {} : { aspectRatio: String(painter.aspect) }}
        title={rung && t(`decode.${rung}`)}
      >
        <canvas ref={canvas} role="img" aria-label={t("decode.alt", { title: latent.panel.title, place })} />
        {latent.stale.value && <span class="badge stale">{t("decode.stale")}</span>}
      </div>
      <Read latent={latent} place={place} />
    </div>
  );
}

const gapWords = (gap: number): Key => (gap > 1 ? "read.gap.out" : gap > EDGE ? "read.gap.edge" : "read.gap.in");

function Read({ latent, place }: { latent: Latent; place: string }) {
  const reading = latent.reading.value;
  if (latent.failure.value)
    return (
      <p class="read warn" id={`read-${latent.index}`}>
        {t("decode.failed", { error: latent.failure.value })}
      </p>
    );
  if (!reading)
    return (
      <p class="read faint" id={`read-${latent.index}`}>
        {t("decode.none")}
      </p>
    );
  const inGap = reading.standing === "gap";
  return (
    <div class="read" id={`read-${latent.index}`}>
      <p class={`place ${inGap ? "warn" : ""}`}>
        {inGap && (
          <span class="glyph" aria-hidden="true">
            ▲{" "}
          </span>
        )}
        {place}
      </p>
      <dl>
        <dt>z</dt>
        <dd title={Array.from(reading.z, (one) => one.toFixed(4)).join(", ")}>{state.codeWords(reading.z, 4)}</dd>
        <dt>{t("read.prior")}</dt>
        <dd>
          {reading.logPrior === null
            ? "–"
            : t(reading.approximate ? "read.prior.about" : "read.prior.nats", {
                value: state.number(reading.logPrior, 1),
              })}
        </dd>
        <dt>{t("read.gap.label")}</dt>
        <dd>
          {reading.gap === null ? (
            t("read.gap.none")
          ) : (
            <>
              <b class={inGap ? "warn" : ""}>{state.number(reading.gap)}</b>{" "}
              <span class="faint">{t(gapWords(reading.gap))}</span>
            </>
          )}
        </dd>
        <dt>{t("read.near")}</dt>
        <dd>
          {reading.item >= 0 && (
            <button type="button" class="plain" onClick={() => state.chooseItem(reading.item, latent)}>
              {itemName(reading.item)}
            </button>
          )}
        </dd>
      </dl>
    </div>
  );
}

export function itemName(item: number): string {
  const label = state.labels.value?.[item] ?? -1;
  return label >= 0 ? `#${item} · ${state.labelName(label)}` : `#${item}`;
}
