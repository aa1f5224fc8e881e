"""Packs the runtime's wasm by LZMA, a third smaller than by gzip; `src/lzma.ts` unpacks it: pack.py SOURCE TARGET."""

import lzma
import sys
from pathlib import Path

# literals of wasm follow no rhythm of four bytes, and the byte before tells much
FILTER = {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0, "dict_size": 1 << 24}


def packed(content: bytes) -> bytes:
    """An .lzma file whose header tells the size, so that the page can take the room it needs at once."""
    made = lzma.compress(content, format=lzma.FORMAT_ALONE, filters=[FILTER])
    return made[:5] + len(content).to_bytes(8, "little") + made[13:]


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_bytes(packed(source.read_bytes()))
