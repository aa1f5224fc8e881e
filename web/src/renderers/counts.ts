// Counts: the features with most of them, largest first; a difference shows those that differ most.
import { t } from "../i18n";
import type { Scene } from "../scene";
import type { Painter } from "./index";
import { raw, short } from "./index";
import { clipped } from "./table";

export function counts(scene: Scene): Painter {
  const name = (k: number) => scene.columns[k] ?? `x${k}`;
  const amount = (values: ArrayLike<number>, k: number) => raw(scene, values[k], k);

  function top(values: ArrayLike<number>, most: number): number[] {
    const order = Array.from({ length: values.length }, (_, k) => k);
    return order.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]) || a - b).slice(0, most);
  }

  return {
    aspect: 1.25,
    paint(pen, values, box, ink, look = "plain") {
      const chosen = top(values, Math.max(3, Math.min(12, Math.floor(box.height / 11)))),
        pitch = box.height / chosen.length;
      const largest = Math.max(1e-12, ...chosen.map((k) => Math.abs(values[k]))),
        names = box.width >= 110 && pitch >= 7.5;
      const text = names ? Math.min(84, box.width * 0.36) : 0,
        numbers = names ? 44 : 0;
      pen.font = `${Math.min(11, pitch - 0.5)}px system-ui, sans-serif`;
      pen.textBaseline = "middle";
      chosen.forEach((k, row) => {
        const y = box.y + row * pitch,
          width = ((box.width - text - numbers) * Math.abs(values[k])) / largest;
        pen.fillStyle = look === "difference" && values[k] < 0 ? ink.negative : ink.accent;
        pen.fillRect(box.x + text, y + pitch * 0.12, Math.max(1, width), pitch * 0.76);
        if (!names) return;
        pen.fillStyle = ink.text;
        pen.textAlign = "left";
        pen.fillText(clipped(pen, name(k), text - 4), box.x, y + pitch / 2);
        pen.fillStyle = ink.faint;
        pen.textAlign = "right";
        pen.fillText(short(amount(values, k)), box.x + box.width, y + pitch / 2);
      });
    },
    describe(values) {
      return top(values, 3)
        .map((k) => t("describe.table", { name: name(k), value: short(amount(values, k)) }))
        .join(", ");
    },
  };
}
