// A row of a table: one bar per column within its range; a value past the range has another colour and a tick.
import { t } from "../i18n";
import type { Scene } from "../scene";
import type { Box, Ink, Look, Painter } from "./index";
import { raw, short } from "./index";

export function table(scene: Scene): Painter {
  const count = scene.event_shape.reduce((all, one) => all * one, 1);
  const name = (k: number) => scene.columns[k] ?? `x${k}`;
  const range = (k: number) => scene.columns_range[k] ?? [0, 1];

  function bar(pen: CanvasRenderingContext2D, k: number, value: number, box: Box, ink: Ink, look: Look): void {
    const [low, high] = range(k),
      span = high - low || 1,
      zero = look === "difference" ? 0.5 : 0;
    const scaled =
      look === "difference"
        ? 0.5 + (raw(scene, value, k) - raw(scene, 0, k)) / span
        : (raw(scene, value, k) - low) / span;
    const part = Math.min(1, Math.max(0, scaled)),
      outside = scaled < -0.001 || scaled > 1.001;
    pen.fillStyle = ink.line;
    pen.fillRect(box.x, box.y, box.width, box.height);
    pen.fillStyle = outside || (look === "difference" && part < zero) ? ink.negative : ink.accent;
    const from = Math.min(zero, part),
      width = Math.max(Math.abs(part - zero) * box.width, 1.5);
    pen.fillRect(box.x + from * box.width, box.y, width, box.height);
    if (outside) pen.fillRect(scaled > 1 ? box.x + box.width - 2 : box.x, box.y - 1, 2, box.height + 2);
  }

  return {
    aspect: 1.25,
    paint(pen, values, box, ink, look = "plain") {
      const room = box.height / 11,
        named = box.width >= 120,
        columns = named && count > room ? Math.min(3, Math.ceil(count / room), Math.floor(box.width / 96)) : 1;
      const rows = Math.ceil(count / Math.max(1, columns)),
        pitch = box.height / rows,
        wide = box.width / Math.max(1, columns);
      const names = named && pitch >= 7.5,
        text = names ? Math.min(64, wide * 0.36) : 0,
        numbers = names && wide > 150 ? 42 : 0;
      pen.font = `${Math.min(11, pitch - 0.5)}px system-ui, sans-serif`;
      pen.textBaseline = "middle";
      for (let k = 0; k < count; k++) {
        const x = box.x + Math.floor(k / rows) * wide,
          y = box.y + (k % rows) * pitch,
          gap = pitch > 4 ? Math.max(1, pitch * 0.22) : 0;
        if (names) {
          pen.fillStyle = ink.text;
          pen.textAlign = "left";
          pen.fillText(clipped(pen, name(k), text - 4), x, y + pitch / 2);
        }
        bar(
          pen,
          k,
          values[k],
          {
            x: x + text,
            y: y + gap / 2,
            width: wide - text - numbers - (columns > 1 ? 8 : 0),
            height: Math.max(1, pitch - gap),
          },
          ink,
          look,
        );
        if (numbers) {
          pen.fillStyle = ink.faint;
          pen.textAlign = "right";
          pen.fillText(
            short(look === "difference" ? raw(scene, values[k], k) - raw(scene, 0, k) : raw(scene, values[k], k)),
            x + wide - (columns > 1 ? 8 : 0),
            y + pitch / 2,
          );
        }
      }
    },
    describe(values) {
      const far = (k: number) => {
        const [low, high] = range(k);
        return Math.abs((raw(scene, values[k], k) - low) / (high - low || 1) - 0.5);
      };
      const most = Array.from({ length: count }, (_, k) => k)
        .sort((a, b) => far(b) - far(a))
        .slice(0, 3);
      return most.map((k) => t("describe.table", { name: name(k), value: short(raw(scene, values[k], k)) })).join(", ");
    },
  };
}

export function clipped(pen: CanvasRenderingContext2D, text: string, width: number): string {
  if (pen.measureText(text).width <= width) return text;
  let kept = text;
  while (kept.length > 1 && pen.measureText(`${kept}…`).width > width) kept = kept.slice(0, -1);
  return `${kept}…`;
}
