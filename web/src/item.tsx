// One item, as every model codes it: input, reconstruction, difference, loc and scale, KL by feature, neighbours.
import { useEffect, useState } from "preact/hooks";
import { t } from "./i18n";
import type { Latent } from "./latent";
import { itemName } from "./panel";
import { Picture } from "./picture";
import { itemValues } from "./renderers";
import { sizeOf } from "./scene";
import type { Scene } from "./scene";
import * as state from "./state";

export function valuesOf(item: number): Float32Array {
  const scene = state.scene.value as Scene;
  return itemValues(scene, state.stored.value as Uint8Array, item, sizeOf(scene.event_shape));
}

/** Rows of a table need room for their names. */
const tall = (scene: Scene): number | undefined =>
  scene.kind === "table"
    ? Math.max(96, Math.min(280, 11 * sizeOf(scene.event_shape)))
    : scene.kind === "counts"
      ? 140
      : undefined;

export function Item() {
  const index = state.item.value,
    scene = state.scene.value as Scene;
  if (index === null) return <p class="empty">{t("item.none")}</p>;
  const label = state.labels.value?.[index] ?? -1,
    held = state.heldOut.value?.[index],
    input = valuesOf(index),
    count = scene.items.count;
  const width = scene.kind === "image" ? 104 : 160,
    go = (by: number) => state.chooseItem((index + by + count) % count);
  const chosen = state.picked.value.includes(index);
  return (
    <div class="rows item">
      <div class="row">
        <div class="rail">
          <h3>{t("item.title", { number: index })}</h3>
          <Picture values={input} width={width} height={tall(scene)} label={t("item.input")} />
          <p class="faint">
            {[
              label >= 0 ? t("item.label", { name: state.labelName(label) }) : "",
              held === undefined ? "" : t(held ? "item.held" : "item.seen"),
            ]
              .filter(Boolean)
              .join(" · ")}
          </p>
          <div class="buttons">
            <button type="button" aria-label={t("item.previous")} title={t("item.previous")} onClick={() => go(-1)}>
              ←
            </button>
            <button type="button" aria-label={t("item.next")} title={t("item.next")} onClick={() => go(1)}>
              →
            </button>
            <button
              type="button"
              aria-label={t("item.close")}
              title={t("item.close")}
              onClick={() => state.chooseItem(null)}
            >
              ×
            </button>
            <button type="button" onClick={() => addToPath(index)}>
              {t("item.walk")}
            </button>
            {state.latents.value.some((one) => one.d > 2) && (
              <button type="button" aria-pressed={chosen} onClick={() => state.pick(index)}>
                {t(chosen ? "item.unpick" : "item.pick")}
              </button>
            )}
          </div>
        </div>
        {state.latents.value.map((one) => (
          <Coded latent={one} item={index} input={input} key={`${one.index}`} />
        ))}
      </div>
    </div>
  );
}

function addToPath(index: number): void {
  const latent = state.latents.value[state.active.value],
    corners = latent.walk.value?.corners ?? [];
  state.setCorners(latent, [...corners, { z: Float32Array.from(latent.at(index)), item: index }]);
  state.tab.value = corners.length ? "path" : "item";
}

function Coded({ latent, item, input }: { latent: Latent; item: number; input: Float32Array }) {
  const [decoded, setDecoded] = useState<{ item: number; values: Float32Array } | null>(null),
    decoder = latent.decoder.value;
  useEffect(() => {
    let current = true;
    decoder?.run(Float32Array.from(latent.at(item)), 1, true).then(
      (values) => current && setDecoded({ item, values }),
      () => undefined,
    );
    return () => {
      current = false;
    };
  }, [item, decoder]);
  const values = decoded?.values ?? null,
    width = latent.scene.kind === "image" ? 92 : state.latents.value.length > 1 ? 160 : 280,
    { error, kl } = latent;
  const facts = [
    error ? t("item.error", { value: state.number(error[item], 1) }) : "",
    kl ? t("item.total", { value: state.number(kl[item]) }) : "",
  ];
  return (
    <div class="coded">
      <span class="phone-title">{latent.panel.title}</span>
      <div class="pair">
        <figure>
          <Picture values={values} width={width} height={tall(latent.scene)} label={t("item.reconstruction")} />
          <figcaption>{t("item.reconstruction")}</figcaption>
        </figure>
        <figure>
          <Picture
            values={values && values.map((one, k) => one - input[k])}
            look="difference"
            width={width}
            height={tall(latent.scene)}
            label={t("item.difference")}
          />
          <figcaption>{t("item.difference")}</figcaption>
        </figure>
      </div>
      <p class="faint">{facts.filter(Boolean).join(" · ")}</p>
      <Features latent={latent} item={item} />
      <Neighbours latent={latent} item={item} />
    </div>
  );
}

/** KL(N(m, s^2) || N(0, 1)) of one feature, nats. */
const klOf = (m: number, s: number): number => 0.5 * (m * m + s * s - 1) - Math.log(s);

function Features({ latent, item }: { latent: Latent; item: number }) {
  const { d, scale, panel } = latent,
    loc = latent.at(item),
    scales = scale?.subarray(item * d, (item + 1) * d);
  const kl = scales && !latent.draws ? Array.from(loc, (m, k) => klOf(m, scales[k])) : null,
    most = kl ? Math.max(0.1, ...kl) : 1;
  return (
    <table class="features">
      <thead>
        <tr>
          <th scope="col">
            <span class="sr">{t("item.feature")}</span>
          </th>
          <th scope="col">{t(scales ? "item.loc" : "item.point")}</th>
          {kl && <th scope="col">{t("item.kl")}</th>}
        </tr>
      </thead>
      <tbody>
        {panel.order.slice(0, 10).map((k) => (
          <tr class={panel.live[k] ? "" : "dead"}>
            <th scope="row">{k}</th>
            <td>
              {state.number(loc[k])}
              {scales && <span class="faint"> ± {state.number(scales[k])}</span>}
            </td>
            {kl && (
              <td>
                <i class="bar" style={{ width: `${(70 * Math.max(0, kl[k])) / most}%` }} /> {state.number(kl[k])}
              </td>
            )}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Neighbours({ latent, item }: { latent: Latent; item: number }) {
  const near = latent.near(latent.at(item), Math.min(8, latent.count - 1), item),
    width = latent.scene.kind === "image" ? 34 : 54;
  return (
    <div class="neighbours">
      <span class="faint">{t("item.neighbours")}</span>
      <div>
        {near.items.map((one, k) => (
          <button
            type="button"
            class="plain"
            title={t("item.neighbour", { number: itemName(one), sigma: state.number(near.distances[k]) })}
            onClick={() => state.chooseItem(one, latent)}
          >
            <Picture
              values={valuesOf(one)}
              width={width}
              label={t("item.neighbour", { number: itemName(one), sigma: state.number(near.distances[k]) })}
            />
          </button>
        ))}
      </div>
    </div>
  );
}
