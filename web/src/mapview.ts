// One map on the page: four sheets (under, points, over, cursor) kept in step.
import { effect } from "@preact/signals";
import { startWorker } from "./decode";
import { language, t } from "./i18n";
import { labelName } from "./state";
import * as state from "./state";
import type { Latent } from "./latent";
import { drawGaps, drawPrior, drawRingNames, setHalo } from "./ground";
import * as draw from "./overlays";
import { beyond, blobOf, colorsFor, middlesOf, usualOff } from "./coloring";
import type { Blob, Middle } from "./coloring";
import { Gestures } from "./gestures";
import type { Point } from "./gestures";
import { inkOf } from "./palette";
import type { Colors } from "./palette";
import { fromPlane, toPlane } from "./planes";
import type { View } from "./planes";
import { frame } from "./raster";
import type { Frame } from "./raster";
import type { FromPage, Painted } from "./raster.worker";
import workerCode from "./raster.worker.ts?classic";
import { painterOf } from "./renderers";
import { sizeOf } from "./scene";
import { leaves } from "./walking";

const SETTLE_MS = 100,
  HIT = 11;
/** Codes within this share of the first window lie on one point to the eye. */
const GATHERED = 0.03;

export class MapView {
  private readonly sheets: Record<"under" | "points" | "over" | "cursor", HTMLCanvasElement>;
  private readonly scratch = document.createElement("canvas");
  private readonly worker = startWorker(workerCode);
  private readonly stop: (() => void)[] = [];
  projected = new Float32Array(0);
  private middles: Middle[] = [];
  private blob: Blob = { a: 0, b: 0, radius: Infinity };
  ratio = 1;
  private busy = false;
  private wanted = false;
  private moving = false;
  private settle = 0;
  private frameAt = 0;
  private sent: View | null = null;
  private grid: { key: string; values: Float32Array; places: [number, number][]; size: number } | null = null;
  private gridTimer = 0;
  private readonly gestures: Gestures;

  constructor(
    private readonly host: HTMLElement,
    readonly latent: Latent,
  ) {
    const sheet = (name: string) => {
      const canvas = document.createElement("canvas");
      canvas.className = `sheet ${name}`;
      canvas.setAttribute("aria-hidden", "true");
      host.append(canvas);
      return canvas;
    };
    this.sheets = { under: sheet("under"), points: sheet("points"), over: sheet("over"), cursor: sheet("cursor") };
    this.start();
    this.gestures = new Gestures(host, this);
    this.watch();
  }

  close(): void {
    this.stop.forEach((end) => end());
    this.gestures.close();
    this.worker.terminate();
  }

  private tell(message: FromPage, moved: Transferable[] = []): void {
    this.worker.postMessage(message, moved);
  }

  private start(): void {
    const canvas = this.sheets.points.transferControlToOffscreen(),
      loc = Float32Array.from(this.latent.loc);
    this.tell({ type: "start", canvas, loc, count: this.latent.count, latent: this.latent.d }, [canvas, loc.buffer]);
    this.worker.onmessage = (event: MessageEvent<Painted>) => this.painted(event.data);
    const watch = new ResizeObserver(() => this.resize());
    watch.observe(this.host);
    this.stop.push(() => watch.disconnect());
  }

  private watch(): void {
    const { latent } = this;
    const react = (work: () => void) => this.stop.push(effect(work));
    react(() => {
      latent.plane.value;
      this.project();
    });
    react(() => this.tell({ type: "colors", ...this.colors() }));
    react(() => this.tell({ type: "mask", mask: state.brushed.value }));
    react(() => {
      latent.view.value;
      this.changed(true);
    });
    react(() => {
      latent.plane.value;
      state.layers.value;
      state.colorBy.value;
      state.dark.value;
      state.brushed.value;
      latent.walk.value;
      language.value;
      latent.decoder.value;
      this.changed(false);
    });
    react(() => {
      latent.z.value;
      state.hovered.value;
      state.item.value;
      state.picked.value;
      latent.view.value;
      latent.plane.value;
      state.dark.value;
      this.cursorSoon();
    });
  }

  private resize(): void {
    const { width, height } = this.host.getBoundingClientRect();
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const name of ["under", "over", "cursor"] as const) {
      this.sheets[name].width = Math.max(1, Math.round(width * this.ratio));
      this.sheets[name].height = Math.max(1, Math.round(height * this.ratio));
    }
    this.changed(false);
    this.cursorSoon();
  }

  get size(): { width: number; height: number } {
    return { width: this.sheets.over.width, height: this.sheets.over.height };
  }

  frameOf(view: View): Frame {
    return frame(view, this.size.width, this.size.height);
  }

  private colors(): Colors {
    const { latent } = this,
      dark = state.dark.value,
      by = state.colorBy.value,
      labels = state.labels.value;
    const colors = colorsFor(latent, by, labels, dark);
    latent.colorRange.value = colors.low === undefined ? null : [colors.low, colors.high ?? 1];
    return colors;
  }

  private project(): void {
    const { latent } = this,
      plane = latent.plane.value,
      n = latent.count,
      labels = state.labels.value;
    const pull = latent.d > 2 ? usualOff(latent) : 0;
    this.tell({ type: "plane", origin: [...plane.origin], u: [...plane.u], v: [...plane.v], fade: pull });
    this.projected = new Float32Array(2 * n);
    for (let i = 0; i < n; i++) this.projected.set(toPlane(plane, latent.at(i)), 2 * i);
    this.middles = labels ? middlesOf(this.projected, labels) : [];
    this.blob = blobOf(this.projected);
    const { half } = latent.home(plane);
    latent.gathered.value = this.blob.radius < GATHERED * half;
    latent.beyond.value = beyond(this.projected, half);
  }

  /** Whether the window shows all codes as one point: then names and a cross would only hide them. */
  private gathered(f: Frame): Blob | null {
    return this.blob.radius * f.sx < 9 * this.ratio ? this.blob : null;
  }

  /** Something to draw; while the view moves, a first part of the points, all of them when it rests. */
  private changed(moving: boolean): void {
    if (moving && this.sent) {
      this.moving = true;
      clearTimeout(this.settle);
      this.settle = window.setTimeout(() => {
        this.moving = false;
        this.wanted = true;
        this.send();
      }, SETTLE_MS);
    }
    this.wanted = true;
    if (!this.frameAt)
      this.frameAt = requestAnimationFrame(() => {
        this.frameAt = 0;
        this.send();
      });
  }

  private send(): void {
    if (this.busy || !this.wanted || this.size.width < 2) return;
    this.busy = true;
    this.wanted = false;
    this.sent = this.latent.view.value;
    const { width, height } = this.size,
      { points, density } = state.layers.value;
    this.latent.moving.value = this.moving;
    this.tell({
      type: "draw",
      id: 0,
      view: this.sent,
      width,
      height,
      ratio: this.ratio,
      moving: this.moving,
      points,
      density,
      ink: state.dark.value ? [120, 160, 200] : [70, 100, 135],
    });
  }

  private painted(done: Painted): void {
    this.busy = false;
    state.framePainted(done);
    this.latent.shown.value = done.shown;
    if (this.sent) this.overlays(this.sent);
    this.latent.ready();
    this.send();
  }

  private overlays(view: View): void {
    const { latent, ratio } = this,
      f = this.frameOf(view),
      dark = state.dark.value,
      show = state.layers.value,
      ink = inkOf(dark);
    setHalo(dark ? "#14181d" : "#fdfdfb");
    const under = this.clear("under"),
      over = this.clear("over"),
      low = { pen: under, frame: f, ink, dark },
      high = { pen: over, frame: f, ink, dark };
    if (show.grid) this.decodedGrid(under, f, view);
    if (show.gap) drawGaps(low, latent, this.scratch, ratio);
    if (show.prior) drawPrior(high, latent, ratio);
    const gathered = show.points || show.density ? this.gathered(f) : null;
    if (show.ellipses) draw.drawEllipses(high, latent, state.labels.value, this.projected, this.moving ? 600 : 4000);
    if (gathered) draw.drawGathered(high, gathered, t("map.gathered", { count: latent.count.toLocaleString() }), ratio);
    else if (show.names && state.colorBy.value === "label" && (show.points || show.density))
      draw.drawNames(high, this.middles, labelName, ratio);
    if (show.prior && !latent.draws) drawRingNames(high, latent, this.projected, draw.taken(latent, f, this.middles), ratio);
    if (show.findings) draw.drawFindings(high, latent, ratio);
    draw.drawWalk(high, latent, leaves(latent), ratio);
  }

  private clear(name: "under" | "over" | "cursor"): CanvasRenderingContext2D {
    const pen = this.sheets[name].getContext("2d") as CanvasRenderingContext2D;
    pen.clearRect(0, 0, this.size.width, this.size.height);
    return pen;
  }

  private cursorFrame = 0;

  cursorSoon(): void {
    if (!this.cursorFrame)
      this.cursorFrame = requestAnimationFrame(() => {
        this.cursorFrame = 0;
        this.drawCursor();
      });
  }

  private drawCursor(): void {
    const dark = state.dark.value,
      pen = this.clear("cursor"),
      sheet = { pen, frame: this.frameOf(this.latent.view.value), ink: inkOf(dark), dark };
    setHalo(dark ? "#14181d" : "#fdfdfb");
    draw.drawCursor(
      sheet,
      this.latent,
      { item: state.hovered.value, chosen: state.item.value, picked: state.picked.value },
      this.ratio,
      this.gathered(sheet.frame),
    );
    this.drawDraft(pen, sheet.ink.text);
  }

  /** What is being drawn: a brush's rectangle, or a path by hand. */
  private drawDraft(pen: CanvasRenderingContext2D, color: string): void {
    const { ratio } = this,
      { from, to, trail } = this.gestures?.draft ?? { from: null, to: null, trail: [] };
    if (!to && trail.length < 2) return;
    pen.strokeStyle = color;
    pen.lineWidth = 1.5 * ratio;
    pen.setLineDash([4 * ratio, 3 * ratio]);
    pen.beginPath();
    if (from && to) pen.rect(from.x * ratio, from.y * ratio, (to.x - from.x) * ratio, (to.y - from.y) * ratio);
    else trail.forEach(([x, y]) => pen.lineTo(x * ratio, y * ratio));
    pen.stroke();
    pen.setLineDash([]);
  }

  /** Decodes across the window, remade when it rests. */
  private decodedGrid(pen: CanvasRenderingContext2D, f: Frame, view: View): void {
    const { latent } = this,
      scene = latent.scene,
      across = 12,
      cell = (2 * view.half) / across;
    const key = [view.cx, view.cy, view.half, latent.planeVersion(), f.width, f.height].join();
    if (this.grid?.key !== key && !this.moving) {
      clearTimeout(this.gridTimer);
      this.gridTimer = window.setTimeout(() => this.makeGrid(key, view, f, cell), 60);
    }
    if (!this.grid) return;
    const painter = painterOf(scene),
      size = sizeOf(scene.event_shape),
      tall = this.grid.size * f.sx * 0.84;
    pen.globalAlpha = 0.5;
    this.grid.places.forEach(([a, b], i) => {
      const x = f.ox + a * f.sx,
        y = f.oy + b * f.sy;
      painter.paint(
        pen,
        this.grid?.values.subarray(i * size, (i + 1) * size) ?? [],
        { x: x - tall / 2, y: y - tall / 2, width: tall, height: tall },
        inkOf(state.dark.value),
      );
    });
    pen.globalAlpha = 1;
  }

  private makeGrid(key: string, view: View, f: Frame, cell: number): void {
    const { latent } = this,
      plane = latent.plane.value,
      places: [number, number][] = [];
    const wide = Math.ceil(f.width / f.sx / cell / 2),
      tall = Math.ceil(f.height / f.sx / cell / 2);
    for (let j = -tall; j <= tall; j++)
      for (let i = -wide; i <= wide; i++) places.push([view.cx + i * cell, view.cy + j * cell]);
    const z = new Float32Array(places.length * latent.d);
    places.forEach(([a, b], i) => z.set(fromPlane(plane, a, b), i * latent.d));
    latent.decoder.value?.run(z, places.length).then(
      (values) => {
        this.grid = { key, values, places, size: cell };
        this.changed(false);
      },
      () => undefined,
    );
  }

  // --- what gestures ask for

  place({ x, y }: Point, view = this.latent.view.value): [number, number] {
    const f = this.frameOf(view);
    return [(x * this.ratio - f.ox) / f.sx, (y * this.ratio - f.oy) / f.sy];
  }

  /** The item whose mark is under a point; -1 where none is. */
  hit({ x, y }: Point): number {
    const f = this.frameOf(this.latent.view.value),
      { projected, ratio } = this;
    let best = -1,
      least = (HIT * ratio) ** 2;
    for (let i = 0; i < projected.length / 2; i++) {
      const square =
        (f.ox + projected[2 * i] * f.sx - x * ratio) ** 2 + (f.oy + projected[2 * i + 1] * f.sy - y * ratio) ** 2;
      if (square < least) {
        least = square;
        best = i;
      }
    }
    return best;
  }

  zoom(by: number, about?: Point): void {
    const view = this.latent.view.value,
      middle = about ?? { x: this.size.width / 2 / this.ratio, y: this.size.height / 2 / this.ratio };
    const [a, b] = this.place(middle, view),
      half = Math.min(1e4, Math.max(1e-4, view.half / by)),
      part = half / view.half;
    this.latent.view.value = { cx: a + (view.cx - a) * part, cy: b + (view.cy - b) * part, half };
  }

  reset(): void {
    this.latent.view.value = this.latent.home(this.latent.plane.value);
  }
}
