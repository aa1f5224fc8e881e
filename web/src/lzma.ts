// LZMA, unpacking only: the runtime is a third smaller so than by gzip, and browsers unpack gzip alone.
// Igor Pavlov's LZMA specification (2015): a range coder over adaptive bits, literals and matches in a sliding window.

const BITS = 11,
  ONE = 1 << BITS,
  MOVE = 5,
  TOP = 2 ** 24;
/** Where each kind of adaptive bit lies in one table. */
const MATCH = 0,
  REP = 192,
  REP_FIRST = 204,
  REP_SECOND = 216,
  REP_THIRD = 228,
  REP_LONG = 240,
  SLOT = 432,
  SPECIAL = 688,
  ALIGN = 816,
  LENGTH = 832,
  REP_LENGTH = 1348,
  LITERAL = 1864;
/** Of a length: two choices, 16 trees of 3 bits, 16 trees of 3 bits, one of 8. */
const LOW = 2,
  MIDDLE = 130,
  HIGH = 258;

/** Adaptive bits: how likely each is 0, learned from what came before. */
class Coder {
  /** The range and the code: whole numbers below 2^32, which a field of their own would keep as floating-point ones. */
  private readonly now = Uint32Array.of(0xffffffff, 0);
  private at = 14;
  readonly chances: Uint16Array;

  constructor(
    private readonly packed: Uint8Array,
    bits: number,
  ) {
    this.chances = new Uint16Array(bits).fill(ONE / 2);
    for (let k = 0; k < 4; k++) this.now[1] = (this.now[1] << 8) | packed[this.at++];
  }

  bit(which: number): number {
    const { chances, now } = this,
      chance = chances[which],
      bound = Math.imul(now[0] >>> BITS, chance) >>> 0;
    if (now[1] < bound) {
      chances[which] = chance + ((ONE - chance) >> MOVE);
      now[0] = bound;
      if (bound < TOP) this.next();
      return 0;
    }
    chances[which] = chance - (chance >> MOVE);
    now[0] -= bound;
    now[1] -= bound;
    if (now[0] < TOP) this.next();
    return 1;
  }

  private next(): void {
    if (this.at > this.packed.length + 4) throw new Error("the packed data end too early");
    const { now } = this;
    now[0] <<= 8;
    now[1] = (now[1] << 8) | this.packed[this.at++];
  }

  /** Bits that are even: none is learned. */
  even(count: number): number {
    const { now } = this;
    let value = 0;
    for (; count > 0; count--) {
      now[0] >>>= 1;
      const one = now[1] >= now[0] ? 1 : 0;
      if (one) now[1] -= now[0];
      value = 2 * value + one;
      if (now[0] < TOP) this.next();
    }
    return value;
  }

  /** A number of so many bits, the highest first. */
  tree(base: number, count: number): number {
    let node = 1;
    for (let k = 0; k < count; k++) node = (node << 1) | this.bit(base + node);
    return node - (1 << count);
  }

  /** The lowest bit first. */
  reverse(base: number, count: number): number {
    let node = 1,
      value = 0;
    for (let k = 0; k < count; k++) {
      const one = this.bit(base + node);
      node = (node << 1) | one;
      value |= one << k;
    }
    return value;
  }

  length(base: number, place: number): number {
    if (!this.bit(base)) return 2 + this.tree(base + LOW + 8 * place, 3);
    if (!this.bit(base + 1)) return 10 + this.tree(base + MIDDLE + 8 * place, 3);
    return 18 + this.tree(base + HIGH, 8);
  }

  distance(length: number): number {
    const slot = this.tree(SLOT + 64 * Math.min(3, length - 2), 6);
    if (slot < 4) return slot;
    const low = (slot >> 1) - 1,
      base = (2 | (slot & 1)) * 2 ** low;
    if (slot < 14) return base + this.reverse(SPECIAL + base - slot, low);
    return base + 16 * this.even(low - 4) + this.reverse(ALIGN, 4);
  }
}

/** A literal: after a match, bits are told apart by those of the byte that would have gone on. */
function literal(coder: Coder, base: number, expected: number): number {
  let node = 1;
  if (expected >= 0)
    while (node < 256) {
      const hint = (expected >> 7) & 1,
        one = coder.bit(base + ((1 + hint) << 8) + node);
      expected = (expected << 1) & 255;
      node = (node << 1) | one;
      if (hint !== one) break;
    }
  while (node < 256) node = (node << 1) | coder.bit(base + node);
  return node & 255;
}

/** How literals and places are told apart, and the size: the 13 bytes before the code. */
function header(packed: Uint8Array): { lc: number; lp: number; pb: number; size: number } {
  const size = packed.length > 18 ? new DataView(packed.buffer, packed.byteOffset).getUint32(5, true) : 0,
    told = packed[0];
  if (!size || told >= 225 || packed[9] | packed[10] | packed[11] | packed[12] | packed[13])
    throw new Error("this is not what the build packed");
  return { lc: told % 9, lp: Math.floor(told / 9) % 5, pb: Math.floor(told / 45), size };
}

/** The last four distances, the newest first. */
class Distances {
  first = 1;
  private second = 1;
  private third = 1;
  private fourth = 1;

  add(distance: number): void {
    [this.second, this.third, this.fourth] = [this.first, this.second, this.third];
    this.first = distance;
  }

  /** An older one comes first again. */
  again(coder: Coder, state: number): void {
    let chosen = this.second;
    if (coder.bit(REP_SECOND + state)) {
      chosen = this.third;
      if (coder.bit(REP_THIRD + state)) {
        chosen = this.fourth;
        this.fourth = this.third;
      }
      this.third = this.second;
    }
    this.second = this.first;
    this.first = chosen;
  }
}

function copied(out: Uint8Array, at: number, distance: number, length: number): number {
  if (distance > at) throw new Error("the packed data are damaged");
  const end = Math.min(out.length, at + length);
  for (; at < end; at++) out[at] = out[at - distance];
  return end;
}

/** The bytes of an .lzma file whose header tells the size. */
export function lzma(packed: Uint8Array): Uint8Array<ArrayBuffer> {
  const { lc, lp, pb, size } = header(packed),
    out = new Uint8Array(size),
    coder = new Coder(packed, LITERAL + (0x300 << (lc + lp))),
    far = new Distances();
  const places = (1 << pb) - 1,
    lines = (1 << lp) - 1;
  let at = 0,
    state = 0;
  while (at < size) {
    const place = at & places;
    if (!coder.bit(MATCH + 16 * state + place)) {
      const row = ((at & lines) << lc) + ((at ? out[at - 1] : 0) >> (8 - lc));
      out[at] = literal(coder, LITERAL + 0x300 * row, state < 7 ? -1 : out[at - far.first]);
      at++;
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
    } else if (!coder.bit(REP + state)) {
      const length = coder.length(LENGTH, place);
      far.add(coder.distance(length) + 1);
      at = copied(out, at, far.first, length);
      state = state < 7 ? 7 : 10;
    } else {
      const older = coder.bit(REP_FIRST + state);
      if (older) far.again(coder, state);
      const long = older || coder.bit(REP_LONG + 16 * state + place);
      at = copied(out, at, far.first, long ? coder.length(REP_LENGTH, place) : 1);
      state = state < 7 ? (long ? 8 : 9) : 11;
    }
  }
  return out;
}
