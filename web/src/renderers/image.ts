// Pictures: one channel as greys, three as colours; differences from blue (less) to orange (more).
import { t } from "../i18n";
import type { Scene } from "../scene";
import type { Box, Ink, Look, Painter } from "./index";

export function image(scene: Scene): Painter {
  const [channels, height, width] =
    scene.event_shape.length === 3 ? scene.event_shape : [1, ...scene.event_shape.slice(-2)];
  const { low, high } = scene.display,
    pixels = width * height;
  let scratch: HTMLCanvasElement | null = null,
    data: ImageData | null = null;

  const byte = (value: number) => ((value - low) / (high - low)) * 255;

  function plain(values: ArrayLike<number>, out: Uint8ClampedArray): void {
    for (let i = 0; i < pixels; i++) {
      out[4 * i] = byte(values[i]);
      out[4 * i + 1] = byte(values[channels >= 3 ? pixels + i : i]);
      out[4 * i + 2] = byte(values[channels >= 3 ? 2 * pixels + i : i]);
      out[4 * i + 3] = 255;
    }
  }

  function difference(values: ArrayLike<number>, out: Uint8ClampedArray, ink: Ink): void {
    const zero = ink.dark ? [38, 42, 48] : [244, 244, 241],
      less = [51, 117, 187],
      more = [217, 95, 14];
    for (let i = 0; i < pixels; i++) {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += values[c * pixels + i];
      const part = Math.max(-1, Math.min(1, sum / channels / (high - low))),
        end = part < 0 ? less : more,
        by = Math.sqrt(Math.abs(part));
      for (let c = 0; c < 3; c++) out[4 * i + c] = zero[c] + by * (end[c] - zero[c]);
      out[4 * i + 3] = 255;
    }
  }

  return {
    aspect: width / height,
    paint(pen: CanvasRenderingContext2D, values: ArrayLike<number>, box: Box, ink: Ink, look: Look = "plain") {
      if (!scratch) {
        scratch = document.createElement("canvas");
        scratch.width = width;
        scratch.height = height;
      }
      const draft = scratch.getContext("2d") as CanvasRenderingContext2D;
      data ??= draft.createImageData(width, height);
      if (look === "difference") difference(values, data.data, ink);
      else plain(values, data.data);
      draft.putImageData(data, 0, 0);
      pen.imageSmoothingEnabled = box.width < width;
      pen.drawImage(scratch, box.x, box.y, box.width, box.height);
    },
    describe(values) {
      let sum = 0;
      for (let i = 0; i < values.length; i++) sum += (values[i] - low) / (high - low);
      return t("describe.image", { mean: `${Math.round((100 * sum) / values.length)} %` });
    },
  };
}
