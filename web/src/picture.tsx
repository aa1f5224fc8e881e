// A decode as a picture in the page.
import { useEffect, useRef } from "preact/hooks";
import { inkOf } from "./palette";
import { painterOf } from "./renderers";
import type { Look } from "./renderers";
import { dark, scene } from "./state";
import type { Scene } from "./scene";

interface Shown {
  values: ArrayLike<number> | null;
  width: number;
  label: string;
  look?: Look;
  class?: string;
  height?: number;
}

const boxes = new WeakMap<HTMLCanvasElement, { width: number; height: number }>();
const watch =
  typeof ResizeObserver === "undefined"
    ? null
    : new ResizeObserver((entries) => {
        for (const { target, contentRect } of entries)
          boxes.set(target as HTMLCanvasElement, { width: contentRect.width, height: contentRect.height });
      });

/** The CSS size of a canvas, kept: to ask for it between two frames makes the page lay itself out. */
function boxOf(canvas: HTMLCanvasElement): { width: number; height: number } {
  const known = boxes.get(canvas);
  if (known) return known;
  const box = { width: canvas.clientWidth, height: canvas.clientHeight };
  if (box.width) {
    boxes.set(canvas, box);
    watch?.observe(canvas);
  }
  return box;
}

/** Draw values over a whole canvas. */
export function paintInto(canvas: HTMLCanvasElement, values: ArrayLike<number>, look: Look, night: boolean): void {
  const ratio = Math.min(2, window.devicePixelRatio || 1),
    { width, height } = boxOf(canvas);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const pen = canvas.getContext("2d") as CanvasRenderingContext2D;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  painterOf(scene.value as Scene).paint(pen, values, { x: 0, y: 0, width, height }, inkOf(night), look);
}

export function Picture({ values, width, label, look = "plain", class: name = "", height }: Shown) {
  const canvas = useRef<HTMLCanvasElement>(null),
    night = dark.value,
    painter = painterOf(scene.value as Scene);
  useEffect(() => {
    if (canvas.current && values) paintInto(canvas.current, values, look, night);
  });
  const tall = height ?? Math.round(width / painter.aspect);
  return (
    <canvas
      ref={canvas}
      class={`picture ${name}`}
      style={{ width: `${width}px`, height: `${tall}px` }}
      role="img"
      aria-label={label}
    />
  );
}
