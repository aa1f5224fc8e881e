// One map on the page: four sheets (under, points, over, cursor) kept in step, and what the pointer and the keys do on it.
import { effect } from "@preact/signals";
import { startWorker } from "./decode";
import { language } from "./i18n";
import { labelName } from "./state";
import * as state from "./state";
import type { Latent } from "./latent";
import * as draw from "./overlays";
import { byLabel, byValue, inkOf } from "./palette";
import type { Colors } from "./palette";
import { thinned } from "./path";
import { fromPlane, toPlane } from "./planes";
import type { View } from "./planes";
import { frame } from "./raster";
import type { Frame } from "./raster";
import type { FromPage, Painted } from "./raster.worker";
import workerCode from "./raster.worker.ts?classic";
import { itemValues, painterOf } from "./renderers";
import { sizeOf } from "./scene";
import { leaves } from "./walking";

const SETTLE_MS = 100, HIT = 11;
/** Numbers of codes up to which a cursor may move more often than frames are drawn. */
const RAW_MOST = 200_000;
type Point = { x: number; y: number };

export class MapView {
  private readonly sheets: Record<"under" | "points" | "over" | "cursor", HTMLCanvasElement>;
  private readonly scratch = document.createElement("canvas");
  private readonly worker = startWorker(workerCode);
  private readonly stop: (() => void)[] = [];
  private projected = new Float32Array(0);
  private middles: { label: number; a: number; b: number; count: number }[] = [];
  private ratio = 1;
  private busy = false;
  private wanted = false;
  private moving = false;
  private settle = 0;
  private frameAt = 0;
  private sent: View | null = null;
  private pointers = new Map<number, Point>();
  private pressed: (Point & { view: View; moved: boolean; brush: boolean }) | null = null;
  private trail: [number, number][] = [];
  private drag: Point | null = null;
  private grid: { key: string; values: Float32Array; places: [number, number][]; size: number } | null = null;
  private gridTimer = 0;
  private rawStamp = -1;

  constructor(private readonly host: HTMLElement, readonly latent: Latent) {
    const sheet = (name: string) => {
      const canvas = document.createElement("canvas");
      canvas.className = `sheet ${name}`;
      canvas.setAttribute("aria-hidden", "true");
      host.append(canvas);
      return canvas;
    };
    this.sheets = { under: sheet("under"), points: sheet("points"), over: sheet("over"), cursor: sheet("cursor") };
    this.start();
    this.listen();
    this.watch();
  }

  close(): void {
    this.stop.forEach((end) => end());
    this.worker.terminate();
  }

  private tell(message: FromPage, moved: Transferable[] = []): void {
    this.worker.postMessage(message, moved);
  }

  private start(): void {
    const canvas = this.sheets.points.transferControlToOffscreen(), loc = Float32Array.from(this.latent.loc);
    this.tell({ type: "start", canvas, loc, count: this.latent.count, latent: this.latent.d }, [canvas, loc.buffer]);
    this.worker.onmessage = (event: MessageEvent<Painted>) => this.painted(event.data);
    const watch = new ResizeObserver(() => this.resize());
    watch.observe(this.host);
    this.stop.push(() => watch.disconnect());
  }

  private watch(): void {
    const { latent } = this;
    const react = (work: () => void) => this.stop.push(effect(work));
    react(() => { latent.plane.value; this.project(); });
    react(() => this.tell({ type: "colors", ...this.colors() }));
    react(() => this.tell({ type: "mask", mask: state.brushed.value }));
    react(() => { latent.view.value; this.changed(true); });
    react(() => {
      latent.plane.value; state.layers.value; state.colorBy.value; state.dark.value; state.brushed.value; latent.walk.value; language.value;
      latent.decoder.value;
      this.changed(false);
    });
    react(() => { latent.z.value; state.hovered.value; state.item.value; state.picked.value; latent.view.value; latent.plane.value; state.dark.value; this.cursorSoon(); });
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

  private get size(): { width: number; height: number } {
    return { width: this.sheets.over.width, height: this.sheets.over.height };
  }

  private frameOf(view: View): Frame {
    return frame(view, this.size.width, this.size.height);
  }

  private colors(): Colors {
    const { latent } = this, dark = state.dark.value, by = state.colorBy.value, labels = state.labels.value;
    const colors = colorsFor(latent, by, labels, dark);
    latent.colorRange.value = colors.low === undefined ? null : [colors.low, colors.high ?? 1];
    return colors;
  }

  private project(): void {
    const { latent } = this, plane = latent.plane.value, n = latent.count, labels = state.labels.value;
    const pull = latent.d > 2 ? usualOff(latent) : 0;
    this.tell({ type: "plane", origin: [...plane.origin], u: [...plane.u], v: [...plane.v], fade: pull });
    this.projected = new Float32Array(2 * n);
    for (let i = 0; i < n; i++) this.projected.set(toPlane(plane, latent.at(i)), 2 * i);
    this.middles = labels ? middlesOf(this.projected, labels) : [];
  }

  /** Something to draw; while the view moves, a first part of the points, all of them when it rests. */
  private changed(moving: boolean): void {
    if (moving && this.sent) {
      this.moving = true;
      clearTimeout(this.settle);
      this.settle = window.setTimeout(() => { this.moving = false; this.wanted = true; this.send(); }, SETTLE_MS);
    }
    this.wanted = true;
    if (!this.frameAt) this.frameAt = requestAnimationFrame(() => { this.frameAt = 0; this.send(); });
  }

  private send(): void {
    if (this.busy || !this.wanted || this.size.width < 2) return;
    this.busy = true;
    this.wanted = false;
    this.sent = this.latent.view.value;
    const { width, height } = this.size, { points, density } = state.layers.value;
    this.latent.moving.value = this.moving;
    this.tell({
      type: "draw", id: 0, view: this.sent, width, height, ratio: this.ratio, moving: this.moving, points, density,
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
    const { latent, ratio } = this, f = this.frameOf(view), dark = state.dark.value, show = state.layers.value, ink = inkOf(dark);
    draw.setHalo(dark ? "#14181d" : "#fdfdfb");
    const under = this.clear("under"), over = this.clear("over"), low = { pen: under, frame: f, ink, dark }, high = { pen: over, frame: f, ink, dark };
    if (show.grid) this.decodedGrid(under, f, view);
    if (show.gap) draw.drawGaps(low, latent, this.scratch, ratio);
    if (show.prior) draw.drawPrior(high, latent, ratio);
    if (show.ellipses) draw.drawEllipses(high, latent, state.labels.value, this.projected, this.moving ? 600 : 4000);
    if (show.names && state.colorBy.value === "label" && (show.points || show.density)) draw.drawNames(high, this.middles, labelName, ratio);
    if (show.findings) draw.drawFindings(high, latent, ratio);
    draw.drawWalk(high, latent, leaves(latent), ratio);
  }

  private clear(name: "under" | "over" | "cursor"): CanvasRenderingContext2D {
    const pen = this.sheets[name].getContext("2d") as CanvasRenderingContext2D;
    pen.clearRect(0, 0, this.size.width, this.size.height);
    return pen;
  }

  private cursorFrame = 0;
  private cursorSoon(): void {
    if (!this.cursorFrame) this.cursorFrame = requestAnimationFrame(() => { this.cursorFrame = 0; this.drawCursor(); });
  }

  private drawCursor(): void {
    const dark = state.dark.value, pen = this.clear("cursor"), sheet = { pen, frame: this.frameOf(this.latent.view.value), ink: inkOf(dark), dark };
    draw.setHalo(dark ? "#14181d" : "#fdfdfb");
    draw.drawCursor(sheet, this.latent, { item: state.hovered.value, chosen: state.item.value, picked: state.picked.value }, this.ratio);
    if (this.trail.length > 1 || this.drag) this.drawDraft(pen, sheet.ink.text);
  }

  private drawDraft(pen: CanvasRenderingContext2D, color: string): void {
    const { ratio, pressed, drag } = this;
    pen.strokeStyle = color;
    pen.lineWidth = 1.5 * ratio;
    pen.setLineDash([4 * ratio, 3 * ratio]);
    pen.beginPath();
    if (pressed?.brush && drag) pen.rect(pressed.x * ratio, pressed.y * ratio, (drag.x - pressed.x) * ratio, (drag.y - pressed.y) * ratio);
    else this.trail.forEach(([x, y]) => pen.lineTo(x * ratio, y * ratio));
    pen.stroke();
    pen.setLineDash([]);
  }

  /** Decodes across the window, remade when it rests. */
  private decodedGrid(pen: CanvasRenderingContext2D, f: Frame, view: View): void {
    const { latent } = this, scene = latent.scene, across = 12, cell = (2 * view.half) / across;
    const key = [view.cx, view.cy, view.half, latent.planeVersion(), f.width, f.height].join();
    if (this.grid?.key !== key && !this.moving) {
      clearTimeout(this.gridTimer);
      this.gridTimer = window.setTimeout(() => this.makeGrid(key, view, f, cell), 60);
    }
    if (!this.grid) return;
    const painter = painterOf(scene), size = sizeOf(scene.event_shape), tall = this.grid.size * f.sx * 0.84;
    pen.globalAlpha = 0.5;
    this.grid.places.forEach(([a, b], i) => {
      const x = f.ox + a * f.sx, y = f.oy + b * f.sy;
      painter.paint(pen, this.grid?.values.subarray(i * size, (i + 1) * size) ?? [], { x: x - tall / 2, y: y - tall / 2, width: tall, height: tall }, inkOf(state.dark.value));
    });
    pen.globalAlpha = 1;
  }

  private makeGrid(key: string, view: View, f: Frame, cell: number): void {
    const { latent } = this, plane = latent.plane.value, places: [number, number][] = [];
    const wide = Math.ceil((f.width / f.sx) / cell / 2), tall = Math.ceil((f.height / f.sx) / cell / 2);
    for (let j = -tall; j <= tall; j++) for (let i = -wide; i <= wide; i++) places.push([view.cx + i * cell, view.cy + j * cell]);
    const z = new Float32Array(places.length * latent.d);
    places.forEach(([a, b], i) => z.set(fromPlane(plane, a, b), i * latent.d));
    latent.decoder.value?.run(z, places.length).then((values) => {
      this.grid = { key, values, places, size: cell };
      this.changed(false);
    }, () => undefined);
  }

  // --- pointer -------------------------------------------------------------------------------------------------------

  private listen(): void {
    const on = <K extends keyof HTMLElementEventMap>(name: K, work: (event: HTMLElementEventMap[K]) => void) => {
      this.host.addEventListener(name, work, { passive: false });
      this.stop.push(() => this.host.removeEventListener(name, work));
    };
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    if (this.latent.loc.length <= RAW_MOST) this.listenRaw();
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.cancel(event));
    on("wheel", (event) => this.wheel(event));
    on("dblclick", () => state.mode.value !== "path" && this.reset());
    on("keydown", (event) => this.key(event));
    on("focus", () => (state.active.value = this.latent.index));
  }

  /** Movements as they happen, where the browser tells them: `pointermove` waits for the next frame. */
  private listenRaw(): void {
    const work = (event: Event) => {
      const { pointerType, timeStamp } = event as PointerEvent;
      if (this.pressed || pointerType !== "mouse") return;
      this.rawStamp = timeStamp;
      this.decodeAt(this.at(event as PointerEvent), timeStamp);
    };
    this.host.addEventListener("pointerrawupdate", work);
    this.stop.push(() => this.host.removeEventListener("pointerrawupdate", work));
  }

  private at(event: MouseEvent): Point {
    const box = this.host.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  place({ x, y }: Point, view = this.latent.view.value): [number, number] {
    const f = this.frameOf(view);
    return [(x * this.ratio - f.ox) / f.sx, (y * this.ratio - f.oy) / f.sy];
  }

  private down(event: PointerEvent): void {
    if (event.button > 0) return;
    const point = this.at(event);
    this.host.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, point);
    this.pressed = { ...point, view: this.latent.view.value, moved: false, brush: state.mode.value === "brush" || event.shiftKey };
    this.trail = state.mode.value === "path" ? [[point.x, point.y]] : [];
    state.active.value = this.latent.index;
  }

  private move(event: PointerEvent): void {
    const point = this.at(event), before = this.pointers.get(event.pointerId);
    if (this.pointers.size === 2 && before) return this.pinch(event.pointerId, point);
    if (before) this.pointers.set(event.pointerId, point);
    const { pressed } = this;
    if (pressed && Math.hypot(point.x - pressed.x, point.y - pressed.y) > 4) pressed.moved = true;
    if (pressed?.moved && pressed.brush) { this.drag = point; this.cursorSoon(); return; }
    if (pressed && state.mode.value === "path") { this.trail.push([point.x, point.y]); this.cursorSoon(); }
    else if (pressed?.moved && event.pointerType === "mouse") return this.pan(point);
    if (event.timeStamp > this.rawStamp) this.decodeAt(point, event.timeStamp);
  }

  private decodeAt(point: Point, stamp: number): void {
    state.moveCursor(this.latent, fromPlane(this.latent.plane.value, ...this.place(point)), stamp);
  }

  private pan(point: Point): void {
    const { pressed } = this;
    if (!pressed) return;
    const scale = this.frameOf(pressed.view).sx / this.ratio, { cx, cy, half } = pressed.view;
    this.latent.view.value = { cx: cx - (point.x - pressed.x) / scale, cy: cy + (point.y - pressed.y) / scale, half };
  }

  private pinch(id: number, point: Point): void {
    const other = [...this.pointers].find(([key]) => key !== id)?.[1], before = this.pointers.get(id);
    if (!other || !before) return;
    const was = Math.hypot(before.x - other.x, before.y - other.y), is = Math.hypot(point.x - other.x, point.y - other.y);
    this.pointers.set(id, point);
    if (this.pressed) this.pressed.moved = true;
    const middle = { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 }, old = { x: (before.x + other.x) / 2, y: (before.y + other.y) / 2 };
    const { cx, cy, half } = this.latent.view.value, scale = this.frameOf(this.latent.view.value).sx / this.ratio;
    this.latent.view.value = { cx: cx - (middle.x - old.x) / scale, cy: cy + (middle.y - old.y) / scale, half };
    if (was > 5 && is > 5) this.zoom(is / was, middle);
  }

  private up(event: PointerEvent): void {
    const { pressed } = this, point = this.at(event);
    this.pointers.delete(event.pointerId);
    if (!pressed || this.pointers.size) return;
    if (pressed.brush && pressed.moved) this.brush(pressed, point);
    else if (state.mode.value === "path") this.extend(point, pressed.moved);
    else if (!pressed.moved) this.click(point);
    this.cancel(event);
  }

  private cancel(event: PointerEvent): void {
    this.pointers.delete(event.pointerId);
    this.pressed = this.drag = null;
    this.trail = [];
    this.cursorSoon();
  }

  private click(point: Point): void {
    const hit = this.hit(point);
    if (hit >= 0) state.chooseItem(hit, this.latent);
  }

  /** The item whose mark is under a point; -1 where none is. */
  hit({ x, y }: Point): number {
    const f = this.frameOf(this.latent.view.value), { projected, ratio } = this;
    let best = -1, least = (HIT * ratio) ** 2;
    for (let i = 0; i < projected.length / 2; i++) {
      const square = (f.ox + projected[2 * i] * f.sx - x * ratio) ** 2 + (f.oy + projected[2 * i + 1] * f.sy - y * ratio) ** 2;
      if (square < least) { least = square; best = i; }
    }
    return best;
  }

  private extend(point: Point, drawn: boolean): void {
    const plane = this.latent.plane.value, corners = this.latent.walk.value?.corners ?? [];
    state.tab.value = "path";
    if (drawn && this.trail.length > 3) {
      const free = thinned(this.trail, 7).map(([x, y]) => ({ z: fromPlane(plane, ...this.place({ x, y })), item: -1 }));
      return state.setCorners(this.latent, free);
    }
    const item = this.hit(point), z = item >= 0 ? Float32Array.from(this.latent.at(item)) : fromPlane(plane, ...this.place(point));
    state.setCorners(this.latent, [...corners, { z, item }]);
  }

  private brush(from: Point, to: Point): void {
    const [a, b] = this.place(from), [c, d] = this.place(to), { projected } = this, n = projected.length / 2, mask = new Uint8Array(n);
    let found = 0;
    for (let i = 0; i < n; i++) {
      const x = projected[2 * i], y = projected[2 * i + 1];
      if (x >= Math.min(a, c) && x <= Math.max(a, c) && y >= Math.min(b, d) && y <= Math.max(b, d)) { mask[i] = 1; found++; }
    }
    state.brushed.value = found ? mask : null;
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), this.at(event));
  }

  zoom(by: number, about?: Point): void {
    const view = this.latent.view.value, middle = about ?? { x: this.size.width / 2 / this.ratio, y: this.size.height / 2 / this.ratio };
    const [a, b] = this.place(middle, view), half = Math.min(1e4, Math.max(1e-4, view.half / by)), part = half / view.half;
    this.latent.view.value = { cx: a + (view.cx - a) * part, cy: b + (view.cy - b) * part, half };
  }

  reset(): void {
    this.latent.view.value = this.latent.home(this.latent.plane.value);
  }

  // --- keys ----------------------------------------------------------------------------------------------------------

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const arrow = arrows[event.key];
    if (arrow) this.arrow(...arrow, event.shiftKey);
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-" || event.key === "_") this.zoom(0.8);
    else if (event.key === "0" || event.key === "Home") this.reset();
    else if (event.key === "Enter") this.openNearest();
    else if (event.key === " ") this.addCorner();
    else if (event.key === "p" || event.key === "P") state.mode.value = state.mode.value === "path" ? "look" : "path";
    else if (event.key === "b" || event.key === "B") state.mode.value = state.mode.value === "brush" ? "look" : "brush";
    else if (event.key === "Escape") this.escape();
    else return;
    event.preventDefault();
  }

  private arrow(dx: number, dy: number, shift: boolean): void {
    const { latent } = this, view = latent.view.value, step = view.half / 20;
    if (shift) { latent.view.value = { ...view, cx: view.cx + 2 * step * dx, cy: view.cy + 2 * step * dy }; return; }
    if (state.item.value !== null && state.mode.value === "look") return this.walkItems(dx, dy);
    const [a, b] = latent.z.value ? toPlane(latent.plane.value, latent.z.value) : [view.cx, view.cy];
    state.moveCursor(latent, fromPlane(latent.plane.value, a + step * dx, b + step * dy));
  }

  /** To the nearest item within 45 degrees of the arrow. */
  private walkItems(dx: number, dy: number): void {
    const from = state.item.value as number, { projected } = this, x = projected[2 * from], y = projected[2 * from + 1];
    let best = -1, least = Infinity;
    for (let i = 0; i < projected.length / 2; i++) {
      const p = projected[2 * i] - x, q = projected[2 * i + 1] - y, along = p * dx + q * dy, off = Math.abs(p * dy - q * dx);
      if (along <= 1e-9 || off > along) continue;
      const far = along + 2 * off;
      if (far < least) { least = far; best = i; }
    }
    if (best >= 0) state.chooseItem(best, this.latent);
  }

  private openNearest(): void {
    const z = this.latent.z.value ?? fromPlane(this.latent.plane.value, this.latent.view.value.cx, this.latent.view.value.cy);
    const near = this.latent.near(z, 1).items[0];
    if (near !== undefined) state.chooseItem(near, this.latent);
  }

  private addCorner(): void {
    const z = this.latent.z.value, corners = this.latent.walk.value?.corners ?? [];
    if (!z) return;
    state.tab.value = "path";
    state.setCorners(this.latent, [...corners, { z, item: this.latent.gapAt(z) === null ? -1 : this.onItem(z) }]);
  }

  /** The item a code is the loc of; -1 for any other place. */
  private onItem(z: Float32Array): number {
    const near = this.latent.near(z, 1);
    return near.distances[0] < 1e-5 ? near.items[0] : -1;
  }

  private escape(): void {
    if (state.item.value !== null) state.chooseItem(null);
    else if (state.mode.value !== "look") state.mode.value = "look";
    else if (state.brushed.value) state.brushed.value = null;
  }
}

function colorsFor(latent: Latent, by: state.ColorBy, labels: Int16Array | null, dark: boolean): Colors {
  const plain = () => byLabel(new Int16Array(latent.count), 1, dark);
  if (by === "label" && labels) return byLabel(labels, latent.scene.label_names.length, dark);
  if (by === "error" && latent.error) return byValue(latent.error, dark);
  if (by === "kl" && latent.kl) return byValue(latent.kl, dark);
  if (by === "held_out" && state.heldOut.value) return byLabel(Int16Array.from(state.heldOut.value), 2, dark);
  if (by.startsWith("column:") && state.stored.value) return byValue(column(latent, Number(by.slice(7))), dark);
  return plain();
}

function column(latent: Latent, k: number): Float32Array {
  const size = sizeOf(latent.scene.event_shape), stored = state.stored.value as Float32Array;
  return Float32Array.from({ length: latent.count }, (_, i) => itemValues(latent.scene, stored, i, size)[k]);
}

/** Half of how far items usually lie from the plane: there a point is still well seen. */
function usualOff(latent: Latent): number {
  const plane = latent.plane.value, found: number[] = [], step = Math.max(1, Math.floor(latent.count / 500));
  for (let i = 0; i < latent.count; i += step) {
    const z = latent.at(i), [a, b] = toPlane(plane, z);
    let square = 0;
    for (let k = 0; k < latent.d; k++) square += (z[k] - plane.origin[k]) ** 2;
    found.push(Math.sqrt(Math.max(0, square - a * a - b * b)));
  }
  found.sort((a, b) => a - b);
  return Math.max(1e-6, 0.75 * (found[Math.floor(found.length / 2)] ?? 1));
}

function middlesOf(projected: Float32Array, labels: Int16Array): { label: number; a: number; b: number; count: number }[] {
  const step = Math.max(1, Math.floor(labels.length / 8000)), groups = new Map<number, [number[], number[]]>();
  for (let i = 0; i < labels.length; i += step) {
    if (labels[i] < 0) continue;
    const group = groups.get(labels[i]) ?? groups.set(labels[i], [[], []]).get(labels[i]) as [number[], number[]];
    group[0].push(projected[2 * i]);
    group[1].push(projected[2 * i + 1]);
  }
  const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1];
  return [...groups].map(([label, [a, b]]) => ({ label, count: a.length, a: median(a), b: median(b) })).sort((x, y) => y.count - x.count);
}
