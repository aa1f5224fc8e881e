// The view to the address and back.
import { effect } from "@preact/signals";
import { language } from "./i18n";
import type { Language } from "./i18n";
import type { Latent } from "./latent";
import { choiceOf, planeOf } from "./planeview";
import { fromHash, toHash } from "./share";
import type { PanelView, Shared } from "./share";
import * as state from "./state";

export function current(): Shared {
  return {
    lang: language.value,
    theme: state.theme.value,
    calm: state.calm.value,
    tab: state.tab.value,
    color: state.colorBy.value,
    link: state.link.value,
    layers: state.LAYERS.filter((one) => state.layers.value[one]),
    item: state.item.value,
    active: state.active.value,
    panels: state.latents.value.map(panelView),
  };
}

function panelView(latent: Latent): PanelView {
  const plane = latent.plane.value,
    { cx, cy, half } = latent.view.value,
    corners = latent.walk.value?.corners;
  return {
    plane: choiceOf(plane),
    origin: plane.scene === null && plane.kind !== "items" ? [...plane.origin] : null,
    view: [cx, cy, half],
    z: latent.z.value && [...latent.z.value],
    corners: corners && corners.length <= 12 ? corners.map(({ z }) => [...z]) : null,
  };
}

/** Take over what an address says, so far as it fits this scene. */
export function restore(hash: string): boolean {
  const told = fromHash(hash),
    one = <T extends string>(list: readonly T[], value: string | undefined): T | undefined =>
      list.find((known) => known === value);
  language.value = one<Language>(["en", "ko"], told.lang) ?? language.value;
  state.theme.value = one<state.Theme>(["auto", "light", "dark"], told.theme) ?? state.theme.value;
  state.tab.value = one<state.Tab>(["audit", "item", "path", "plane"], told.tab) ?? state.tab.value;
  state.link.value = one<state.Link>(["item", "place", "off"], told.link) ?? state.link.value;
  if (told.calm) state.calm.value = true;
  if (told.color && /^(label|error|kl|held_out|plain|column:\d+)$/.test(told.color))
    state.colorBy.value = told.color as state.ColorBy;
  if (told.layers)
    state.layers.value = Object.fromEntries(
      state.LAYERS.map((name) => [name, told.layers?.includes(name)]),
    ) as typeof state.layers.value;
  if (told.item != null && told.item < (state.scene.value?.items.count ?? 0)) state.item.value = told.item;
  if (told.active !== undefined && told.active < state.latents.value.length) state.active.value = told.active;
  let placed = false;
  told.panels?.forEach((panel, k) => {
    const latent = state.latents.value[k];
    if (latent) placed = place(latent, panel) || placed;
  });
  return placed;
}

function place(latent: Latent, panel: PanelView): boolean {
  const plane = /^(s\d+|pca|x\d+\.\d+)$/.test(panel.plane) ? planeOf(latent, panel.plane) : null,
    fits = (z: number[]) => z.length === latent.d;
  if (plane)
    latent.show(
      panel.origin && fits(panel.origin) ? { ...plane, origin: Float64Array.from(panel.origin), scene: null } : plane,
    );
  const [cx, cy, half] = panel.view;
  if (half > 0) latent.view.value = { cx, cy, half };
  if (panel.corners?.every(fits) && panel.corners.length) state.restoreWalk(latent, panel.corners);
  if (!panel.z || !fits(panel.z)) return false;
  latent.go(Float32Array.from(panel.z));
  return true;
}

/** Read all that the address tells, without making words of it: this runs at every movement. */
function touched(): void {
  const page = [
    language,
    state.theme,
    state.calm,
    state.tab,
    state.colorBy,
    state.link,
    state.layers,
    state.item,
    state.active,
  ];
  const panels = state.latents.value.flatMap((one) => [one.plane, one.view, one.z, one.walk]);
  for (const one of [...page, ...panels]) void one.value;
}

/** Keep the address in step, at most a few times a second; where a page may not (a frame without address), leave it. */
export function keepAddress(): void {
  let timer = 0;
  effect(() => {
    touched();
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      try {
        history.replaceState(null, "", `#${toHash(current())}`);
      } catch {
        /* an inner frame has no address of its own */
      }
    }, 300);
  });
}
