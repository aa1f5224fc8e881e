// A series: a line over its steps, within what the items span; several channels one above the other.
import { t } from "../i18n";
import type { Scene } from "../scene";
import type { Painter } from "./index";
import { raw, short } from "./index";

export function series(scene: Scene): Painter {
  const shape = scene.event_shape,
    steps = shape[shape.length - 1] ?? 1,
    channels = shape.length > 1 ? shape[0] : 1;
  const { low, high } = scene.display;
  return {
    aspect: 1.6,
    paint(pen, values, box, ink, look = "plain") {
      const tall = box.height / channels,
        middle = look === "difference" ? 0 : (low + high) / 2,
        half = Math.max(1e-9, (high - low) / 2);
      pen.lineWidth = box.width > 80 ? 1.5 : 1;
      for (let c = 0; c < channels; c++) {
        const y = (value: number) =>
          box.y + c * tall + tall * (0.5 - 0.46 * Math.max(-1.05, Math.min(1.05, (value - middle) / half)));
        pen.strokeStyle = ink.line;
        pen.strokeRect(box.x + 0.5, box.y + c * tall + 0.5, box.width - 1, tall - 1);
        pen.strokeStyle = look === "difference" ? ink.negative : ink.accent;
        pen.beginPath();
        for (let k = 0; k < steps; k++) pen.lineTo(box.x + ((k + 0.5) / steps) * box.width, y(values[c * steps + k]));
        pen.stroke();
      }
    },
    describe(values) {
      const all = Array.from(values),
        [bottom, top] = [Math.min(...all), Math.max(...all)];
      return t("describe.series", { low: short(raw(scene, bottom, 0)), high: short(raw(scene, top, 0)) });
    },
  };
}
