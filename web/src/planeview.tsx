// For more than two latent features: which plane is shown, and where it lies along the others.
import { t } from "./i18n";
import type { Latent } from "./latent";
import { axesPlane, itemsPlane, pcaPlane } from "./planes";
import type { Plane } from "./planes";
import { itemName } from "./panel";
import * as state from "./state";

export function planeName(plane: Plane): string {
  if (plane.axes) return t("plane.axes", { first: plane.axes[0], second: plane.axes[1] });
  if (plane.kind === "pca" || /pca|principal/i.test(plane.name)) return t("plane.pca");
  return plane.kind === "items" ? t("plane.items") : plane.name;
}

/** The plane that a choice names: "s0" of the scene, "pca", "items", or "x1.4" for two features. */
export function planeOf(latent: Latent, choice: string): Plane | null {
  const half = latent.planes[0].half;
  if (choice[0] === "s") return latent.planes[Number(choice.slice(1))] ?? null;
  if (choice === "pca") return pcaPlane(latent.loc, latent.scale, latent.d, half);
  if (choice === "items") {
    const [a, b, c] = state.picked.value;
    return c === undefined ? null : itemsPlane(latent.at(a), latent.at(b), latent.at(c));
  }
  const [i, j] = choice.slice(1).split(".").map(Number);
  return i < latent.d && j <= latent.d
    ? axesPlane(latent.plane.value.axes ? latent.plane.value.origin : new Float64Array(latent.d), i, j, half)
    : null;
}

export function choiceOf(plane: Plane): string {
  if (plane.scene !== null) return `s${plane.scene}`;
  return plane.axes ? `x${plane.axes.join(".")}` : plane.kind === "scene" ? "pca" : plane.kind;
}

/** Move the plane along one feature; the audit's gap map holds only where it was scored. */
export function shift(latent: Latent, feature: number, value: number): void {
  const plane = latent.plane.value,
    origin = Float64Array.from(plane.origin);
  origin[feature] = value;
  latent.show({ ...plane, origin, scene: null }, true);
  const z = latent.z.value;
  if (z) {
    const moved = Float32Array.from(z);
    moved[feature] += value - plane.origin[feature];
    state.moveCursor(latent, moved);
  }
}

export function PlaneView() {
  return (
    <div class="rows planes">
      <div class="row">
        <div class="rail">
          <p class="faint">{t("plane.note")}</p>
          <p>
            {state.picked.value.map((one) => (
              <button type="button" class="chip" onClick={() => state.pick(one)}>
                {itemName(one)} ×
              </button>
            ))}
          </p>
          <p class="faint">
            {state.picked.value.length < 3 && t("plane.items.need", { count: state.picked.value.length })}
          </p>
        </div>
        {state.latents.value.map((one) =>
          one.d > 2 ? <Chooser latent={one} key={`${one.index}`} /> : <p class="empty">{t("plane.flat")}</p>,
        )}
      </div>
    </div>
  );
}

function Chooser({ latent }: { latent: Latent }) {
  const plane = latent.plane.value,
    choice = choiceOf(plane),
    axes = plane.axes,
    pick = (i: number, j: number) => i !== j && latent.show(planeOf(latent, `x${i}.${j}`) as Plane);
  const kinds = latent.planes.map((one, k) => [`s${k}`, planeName(one)] as const);
  const hasPca = latent.planes.some((one) => planeName(one) === t("plane.pca"));
  return (
    <div class="chooser">
      <span class="phone-title">{latent.panel.title}</span>
      <label>
        {t("plane.choose")}
        <select
          value={choice}
          onChange={(event) => {
            const made = planeOf(latent, event.currentTarget.value);
            if (made) latent.show(made);
          }}
        >
          {kinds.map(([value, name]) => (
            <option value={value}>{name}</option>
          ))}
          {!hasPca && <option value="pca">{t("plane.pca")}</option>}
          <option value="items" disabled={state.picked.value.length < 3}>
            {t("plane.items")}
          </option>
          {choice[0] === "x" && <option value={choice}>{planeName(plane)}</option>}
          {choice[0] !== "x" && (
            <option value={`x${(axes ?? latent.panel.order).slice(0, 2).join(".")}`}>{t("plane.any")}</option>
          )}
        </select>
      </label>
      {axes && (
        <div class="two">
          <label>
            {t("plane.first")} <Feature latent={latent} value={axes[0]} on={(i) => pick(i, axes[1])} />
          </label>
          <label>
            {t("plane.second")} <Feature latent={latent} value={axes[1]} on={(j) => pick(axes[0], j)} />
          </label>
        </div>
      )}
      <Sliders latent={latent} />
    </div>
  );
}

function Feature({ latent, value, on }: { latent: Latent; value: number; on: (feature: number) => void }) {
  return (
    <select value={value} onChange={(event) => on(Number(event.currentTarget.value))}>
      {latent.panel.order.map((k) => (
        <option value={k}>
          {t("plane.feature", { number: k })}
          {latent.panel.live[k] ? "" : ` (${t("plane.dead")})`}
        </option>
      ))}
    </select>
  );
}

function Sliders({ latent }: { latent: Latent }) {
  const { panel } = latent,
    plane = latent.plane.value,
    rest = panel.order.filter((k) => !plane.axes?.includes(k)),
    limit = Math.ceil(Math.max(4, latent.planes[0].half));
  return (
    <fieldset class="sliders">
      <legend>
        {t(plane.axes ? "plane.others" : "plane.all")}{" "}
        <button
          type="button"
          class="small"
          onClick={() =>
            latent.show(
              latent.planes.find(
                (one) =>
                  choiceOf({ ...plane, scene: one.scene }) === `s${one.scene}` &&
                  String(one.axes) === String(plane.axes),
              ) ?? latent.planes[0],
            )
          }
        >
          {t("plane.zero")}
        </button>
      </legend>
      {rest.map((k) => (
        <div class={`slider ${panel.live[k] ? "" : "dead"}`}>
          <span class="name">{t("plane.feature", { number: k })}</span>
          <input
            type="range"
            min={-limit}
            max={limit}
            step={0.05}
            value={plane.origin[k]}
            aria-label={t("plane.feature", { number: k })}
            onInput={(event) => shift(latent, k, Number(event.currentTarget.value))}
          />
          <input
            type="number"
            step={0.1}
            value={Number(plane.origin[k].toFixed(3))}
            aria-label={t("plane.feature", { number: k })}
            onChange={(event) =>
              Number.isFinite(event.currentTarget.valueAsNumber) && shift(latent, k, event.currentTarget.valueAsNumber)
            }
          />
          <span class="faint">
            {panel.live[k]
              ? panel.kl_per_feature
                ? t("plane.kl", { value: state.number(panel.kl_per_feature[k]) })
                : ""
              : t("plane.dead")}
          </span>
        </div>
      ))}
    </fieldset>
  );
}
