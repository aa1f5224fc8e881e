// The page: top line, the maps in a row with the rail beside them, and below whatever the chosen tab tells.
import { useEffect } from "preact/hooks";
import { effect } from "@preact/signals";
import { Audit } from "./audit";
import { language, t } from "./i18n";
import { Item } from "./item";
import { Panel } from "./panel";
import { Path } from "./pathview";
import { PlaneView } from "./planeview";
import { painterOf } from "./renderers";
import * as state from "./state";
import { Rail, Top } from "./toolbar";

const TABS: Record<state.Tab, () => preact.JSX.Element> = { audit: Audit, item: Item, path: Path, plane: PlaneView };

export function App() {
  const latents = state.latents.value,
    tabs = (Object.keys(TABS) as state.Tab[]).filter(
      (one) => one !== "plane" || latents.some((latent) => latent.d > 2),
    );
  const Shown = TABS[state.tab.value];
  useEffect(() => page(), []);
  return (
    <div class="page" data-panels={latents.length} style={{ "--panels": latents.length }}>
      <a
        class="skip"
        href="#maps"
        onClick={(event) => {
          event.preventDefault();
          document.querySelector<HTMLElement>(".map")?.focus();
        }}
      >
        {t("app.skip")}
      </a>
      <Top />
      <main id="maps" class="stage">
        <Rail />
        {latents.map((latent) => (
          <Panel latent={latent} key={latent.panel.name} />
        ))}
      </main>
      <section class="dock" aria-label={t("tabs.label")}>
        <div class="bar-tabs">
          <div class="tabs" role="tablist" aria-label={t("tabs.label")} onKeyDown={(event) => turn(event, tabs)}>
            {tabs.map((one) => (
              <button
                type="button"
                role="tab"
                id={`tab-${one}`}
                aria-selected={state.tab.value === one}
                aria-controls="dock-body"
                tabIndex={state.tab.value === one ? 0 : -1}
                onClick={() => (state.tab.value = one)}
              >
                {t(`tab.${one}`)}
              </button>
            ))}
          </div>
          <details class="help">
            <summary>{t("app.help")}</summary>
            <p>{t("app.help.text")}</p>
            <label>
              <input
                type="checkbox"
                checked={state.calm.value}
                onChange={(event) => (state.calm.value = event.currentTarget.checked)}
              />{" "}
              {t("calm.label")}
            </label>
          </details>
        </div>
        <div id="dock-body" role="tabpanel" aria-labelledby={`tab-${state.tab.value}`}>
          <Shown />
        </div>
      </section>
      <div id="live" class="sr" aria-live="polite" />
    </div>
  );
}

function turn(event: KeyboardEvent, tabs: state.Tab[]): void {
  const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (!by) return;
  event.preventDefault();
  state.tab.value = tabs[(tabs.indexOf(state.tab.value) + by + tabs.length) % tabs.length];
  document.getElementById(`tab-${state.tab.value}`)?.focus();
}

/** Language, colours and the live region of the document follow the signals. */
function page(): () => void {
  let timer = 0;
  const stops = [
    effect(() => {
      document.documentElement.lang = language.value;
      document.title = `${state.scene.value?.title ?? ""} · gapless`;
    }),
    effect(() => {
      document.documentElement.dataset.theme = state.dark.value ? "dark" : "light";
    }),
    effect(() => {
      document.documentElement.dataset.calm = String(state.calm.value);
    }),
    effect(() => {
      const said = state.allReadings.value[state.active.value] ?? "",
        latent = state.latents.value[state.active.value];
      clearTimeout(timer);
      timer = window.setTimeout(() => {
        const live = document.getElementById("live");
        if (live)
          live.textContent = latent?.values ? `${said}; ${painterOf(latent.scene).describe(latent.values)}` : said;
      }, 500);
    }),
  ];
  return () => stops.forEach((stop) => stop());
}
