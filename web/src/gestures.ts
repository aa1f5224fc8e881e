// What the pointer and the keys do on a map: decode, pan, zoom, open items, draw paths, brush.
import type { Latent } from "./latent";
import type { MapView } from "./mapview";
import { thinned } from "./path";
import { fromPlane, toPlane } from "./planes";
import type { View } from "./planes";
import * as state from "./state";

export interface Point {
  x: number;
  y: number;
}

/** Numbers of codes up to which a cursor may move more often than frames are drawn. */
const RAW_MOST = 200_000;

export class Gestures {
  private readonly stop: (() => void)[] = [];
  private pointers = new Map<number, Point>();
  private pressed: (Point & { view: View; moved: boolean; brush: boolean }) | null = null;
  private trail: [number, number][] = [];
  private drag: Point | null = null;
  private rawStamp = -1;

  constructor(
    private readonly host: HTMLElement,
    private readonly map: MapView,
  ) {
    this.listen();
  }

  close(): void {
    this.stop.forEach((end) => end());
  }

  /** What is being drawn, in CSS pixels: a rectangle, or a line by hand. */
  get draft(): { from: Point | null; to: Point | null; trail: [number, number][] } {
    return { from: this.pressed, to: this.pressed?.brush ? this.drag : null, trail: this.trail };
  }

  private get latent(): Latent {
    return this.map.latent;
  }

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
    on("dblclick", () => state.mode.value !== "path" && this.map.reset());
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

  private down(event: PointerEvent): void {
    if (event.button > 0) return;
    const point = this.at(event);
    this.host.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, point);
    this.pressed = {
      ...point,
      view: this.latent.view.value,
      moved: false,
      brush: state.mode.value === "brush" || event.shiftKey,
    };
    this.trail = state.mode.value === "path" ? [[point.x, point.y]] : [];
    state.active.value = this.latent.index;
  }

  private move(event: PointerEvent): void {
    const point = this.at(event),
      before = this.pointers.get(event.pointerId);
    if (this.pointers.size === 2 && before) return this.pinch(event.pointerId, point);
    if (before) this.pointers.set(event.pointerId, point);
    const { pressed } = this;
    if (pressed && Math.hypot(point.x - pressed.x, point.y - pressed.y) > 4) pressed.moved = true;
    if (pressed?.moved && pressed.brush) {
      this.drag = point;
      this.map.cursorSoon();
      return;
    }
    if (pressed && state.mode.value === "path") {
      this.trail.push([point.x, point.y]);
      this.map.cursorSoon();
    } else if (pressed?.moved && event.pointerType === "mouse") return this.pan(point);
    if (event.timeStamp > this.rawStamp) this.decodeAt(point, event.timeStamp);
  }

  private decodeAt(point: Point, stamp: number): void {
    state.moveCursor(this.latent, fromPlane(this.latent.plane.value, ...this.map.place(point)), stamp);
  }

  private pan(point: Point): void {
    const { pressed } = this;
    if (!pressed) return;
    const scale = this.map.frameOf(pressed.view).sx / this.map.ratio,
      { cx, cy, half } = pressed.view;
    this.latent.view.value = { cx: cx - (point.x - pressed.x) / scale, cy: cy + (point.y - pressed.y) / scale, half };
  }

  private pinch(id: number, point: Point): void {
    const other = [...this.pointers].find(([key]) => key !== id)?.[1],
      before = this.pointers.get(id);
    if (!other || !before) return;
    const was = Math.hypot(before.x - other.x, before.y - other.y),
      is = Math.hypot(point.x - other.x, point.y - other.y);
    this.pointers.set(id, point);
    if (this.pressed) this.pressed.moved = true;
    const middle = { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 },
      old = { x: (before.x + other.x) / 2, y: (before.y + other.y) / 2 };
    const { cx, cy, half } = this.latent.view.value,
      scale = this.map.frameOf(this.latent.view.value).sx / this.map.ratio;
    this.latent.view.value = { cx: cx - (middle.x - old.x) / scale, cy: cy + (middle.y - old.y) / scale, half };
    if (was > 5 && is > 5) this.map.zoom(is / was, middle);
  }

  private up(event: PointerEvent): void {
    const { pressed } = this,
      point = this.at(event);
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
    this.map.cursorSoon();
  }

  private click(point: Point): void {
    const hit = this.map.hit(point);
    if (hit >= 0) state.chooseItem(hit, this.latent);
  }

  private extend(point: Point, drawn: boolean): void {
    const plane = this.latent.plane.value,
      corners = this.latent.walk.value?.corners ?? [];
    state.tab.value = "path";
    if (drawn && this.trail.length > 3) {
      const free = thinned(this.trail, 7).map(([x, y]) => ({
        z: fromPlane(plane, ...this.map.place({ x, y })),
        item: -1,
      }));
      return state.setCorners(this.latent, free);
    }
    const item = this.map.hit(point),
      z = item >= 0 ? Float32Array.from(this.latent.at(item)) : fromPlane(plane, ...this.map.place(point));
    state.setCorners(this.latent, [...corners, { z, item }]);
  }

  private brush(from: Point, to: Point): void {
    const [a, b] = this.map.place(from),
      [c, d] = this.map.place(to),
      { projected } = this.map,
      n = projected.length / 2,
      mask = new Uint8Array(n);
    let found = 0;
    for (let i = 0; i < n; i++) {
      const x = projected[2 * i],
        y = projected[2 * i + 1];
      if (x >= Math.min(a, c) && x <= Math.max(a, c) && y >= Math.min(b, d) && y <= Math.max(b, d)) {
        mask[i] = 1;
        found++;
      }
    }
    state.brushed.value = found ? mask : null;
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    this.map.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), this.at(event));
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const arrow = arrows[event.key];
    if (arrow) this.arrow(...arrow, event.shiftKey);
    else if (event.key === "+" || event.key === "=") this.map.zoom(1.25);
    else if (event.key === "-" || event.key === "_") this.map.zoom(0.8);
    else if (event.key === "0" || event.key === "Home") this.map.reset();
    else if (event.key === "Enter") this.openNearest();
    else if (event.key === " ") this.addCorner();
    else if (event.key === "p" || event.key === "P") state.mode.value = state.mode.value === "path" ? "look" : "path";
    else if (event.key === "b" || event.key === "B") state.mode.value = state.mode.value === "brush" ? "look" : "brush";
    else if (event.key === "Escape") this.escape();
    else return;
    event.preventDefault();
  }

  private arrow(dx: number, dy: number, shift: boolean): void {
    const { latent } = this,
      view = latent.view.value,
      step = view.half / 20;
    if (shift) {
      latent.view.value = { ...view, cx: view.cx + 2 * step * dx, cy: view.cy + 2 * step * dy };
      return;
    }
    if (state.item.value !== null && state.mode.value === "look") return this.walkItems(dx, dy);
    const [a, b] = latent.z.value ? toPlane(latent.plane.value, latent.z.value) : [view.cx, view.cy];
    state.moveCursor(latent, fromPlane(latent.plane.value, a + step * dx, b + step * dy));
  }

  /** To the nearest item within 45 degrees of the arrow. */
  private walkItems(dx: number, dy: number): void {
    const from = state.item.value as number,
      { projected } = this.map,
      x = projected[2 * from],
      y = projected[2 * from + 1];
    let best = -1,
      least = Infinity;
    for (let i = 0; i < projected.length / 2; i++) {
      const p = projected[2 * i] - x,
        q = projected[2 * i + 1] - y,
        along = p * dx + q * dy,
        off = Math.abs(p * dy - q * dx);
      if (along <= 1e-9 || off > along) continue;
      const far = along + 2 * off;
      if (far < least) {
        least = far;
        best = i;
      }
    }
    if (best >= 0) state.chooseItem(best, this.latent);
  }

  private openNearest(): void {
    const z =
      this.latent.z.value ?? fromPlane(this.latent.plane.value, this.latent.view.value.cx, this.latent.view.value.cy);
    const near = this.latent.near(z, 1).items[0];
    if (near !== undefined) state.chooseItem(near, this.latent);
  }

  private addCorner(): void {
    const z = this.latent.z.value,
      corners = this.latent.walk.value?.corners ?? [];
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
