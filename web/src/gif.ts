// A small GIF writer: one global table of 256 colours, LZW, looped.

/** Colours of a 6 x 7 x 6 cube, then four greys: even steps, enough for thumbnails. */
function table(grey: boolean): Uint8Array {
  const out = new Uint8Array(768);
  for (let k = 0; k < 256; k++) {
    const cube = [Math.floor(k / 42) * 51, (Math.floor(k / 6) % 7) * 42.5, (k % 6) * 51];
    for (let c = 0; c < 3; c++) out[3 * k + c] = grey ? k : k < 252 ? Math.round(cube[c]) : (k - 251) * 51;
  }
  return out;
}

function indexed(rgba: Uint8ClampedArray, grey: boolean): Uint8Array {
  const out = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < out.length; i++) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    out[i] = grey ? r : Math.round(r / 51) * 42 + Math.round(g / 42.5) * 6 + Math.round(b / 51);
  }
  return out;
}

/** LZW as GIF has it: codes of growing width, lowest bit first, in blocks of at most 255 bytes. */
export function lzw(pixels: Uint8Array): number[] {
  const bytes: number[] = [],
    clear = 256,
    end = 257;
  let held = 0,
    bits = 0,
    width = 9,
    next = 258,
    words = new Map<number, number>();
  const put = (code: number) => {
    held |= code << bits;
    bits += width;
    while (bits >= 8) {
      bytes.push(held & 255);
      held >>>= 8;
      bits -= 8;
    }
  };
  put(clear);
  let prefix = pixels[0];
  for (let i = 1; i < pixels.length; i++) {
    const word = prefix * 256 + pixels[i],
      known = words.get(word);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    put(prefix);
    if (next < 4096) {
      words.set(word, next);
      if (next++ === 1 << width) width++;
    } else {
      put(clear);
      width = 9;
      next = 258;
      words = new Map();
    }
    prefix = pixels[i];
  }
  put(prefix);
  put(end);
  if (bits > 0) bytes.push(held & 255);
  return bytes;
}

/** Frames of one size (RGBA) as a looped GIF; `delay` in hundredths of a second. */
export function gif(
  frames: Uint8ClampedArray[],
  width: number,
  height: number,
  delay: number,
): Uint8Array<ArrayBuffer> {
  const grey = frames.every((frame) =>
    frame.every((one, i) => i % 4 === 0 || i % 4 === 3 || one === frame[i - (i % 4)]),
  );
  const short = (value: number) => [value & 255, value >> 8],
    text = (word: string) => Array.from(word, (letter) => letter.charCodeAt(0));
  const out: number[][] = [
    text("GIF89a"),
    [...short(width), ...short(height), 0xf7, 0, 0],
    Array.from(table(grey)),
    [0x21, 0xff, 11, ...text("NETSCAPE2.0"), 3, 1, 0, 0, 0],
  ];
  for (const frame of frames) {
    out.push([0x21, 0xf9, 4, 4, ...short(delay), 0, 0, 0x2c, 0, 0, 0, 0, ...short(width), ...short(height), 0, 8]);
    const packed = lzw(indexed(frame, grey));
    for (let at = 0; at < packed.length; at += 255)
      out.push([Math.min(255, packed.length - at), ...packed.slice(at, at + 255)]);
    out.push([0]);
  }
  out.push([0x3b]);
  return Uint8Array.from(out.flat());
}
