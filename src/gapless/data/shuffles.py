"""Orders that depend on integers alone, the same on every machine and with every version of numpy."""

from collections.abc import Iterator

import numpy as np

from gapless.errors import UsageError

__all__ = ["Shuffle", "permutation", "split"]

LARGEST = 1 << 24  # items beyond this are permuted in two levels, in bounded memory
BLOCK = 256  # items that move together at the first level
WINDOW = 1 << 20  # items that are permuted among each other at the second
_SPLIT = 0x5B117  # sets the split apart from the order of an epoch
_BLOCKS, _WITHIN = 0xB10C5, 0x3171


def permutation(length: int, *key: int) -> np.ndarray:
    """A permutation of 0..length-1 drawn from the integers in `key` alone.

    It sorts raw 64-bit draws: numpy promises the raw stream for ever, its `permutation` method it does not.

    Args:
        length: how many positions.
        key: non-negative integers, for instance (seed, epoch).

    Returns:
        (length,) int64.

    Raises:
        UsageError: if a part of the key is negative.
    """
    if any(part < 0 for part in key):
        raise UsageError(f"seeds and epochs are whole numbers from 0; got {key}", fix="use 0 or more")
    draws = np.random.PCG64(np.random.SeedSequence(key)).random_raw(length)
    return np.argsort(draws, kind="stable").astype(np.int64)


class Shuffle:
    """An order in two levels: blocks are permuted, then the items of some consecutive blocks among each other.

    Every item may come at any place; items of one block stay within about one window of each other. Memory is that of
    one window, and any window is drawn from the key alone, so reading can start anywhere.

    Args:
        edges: (blocks + 1,) int64, the first position of every block, and n.
        key: non-negative integers, for instance (seed, epoch).
        window: items a window holds; it ends with the block that fills it.

    >>> sorted(np.concatenate(list(Shuffle(np.array([0, 2, 5, 6]), (1, 0), window=3).pieces())).tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, edges: np.ndarray, key: tuple[int, ...], *, window: int):
        self._key = key
        blocks = permutation(len(edges) - 1, *key, _BLOCKS)
        self._lows, sizes = edges[:-1][blocks], np.diff(edges)[blocks]
        self._ends = np.cumsum(sizes)
        number = (self._ends - sizes) // window  # of the window a block falls in, by where it starts
        self._cuts = [*np.flatnonzero(np.diff(number, prepend=-1)).tolist(), len(blocks)]

    def pieces(self, start: int = 0) -> Iterator[np.ndarray]:
        """The order from place `start` on, a window at a time, (k,) int64 each."""
        for window in range(len(self._cuts) - 1):
            before = self._first(self._cuts[window])
            if self._first(self._cuts[window + 1]) > start:
                yield self._window(window)[max(0, start - before) :]

    def _first(self, block: int) -> int:
        return int(self._ends[block - 1]) if block else 0

    def _window(self, window: int) -> np.ndarray:
        low, high = self._cuts[window], self._cuts[window + 1]
        ends = self._ends[low:high] - self._first(low)
        sizes = np.diff(ends, prepend=0)
        items = np.arange(ends[-1]) + np.repeat(self._lows[low:high] - (ends - sizes), sizes)
        return items[permutation(len(items), *self._key, _WITHIN, window)]


def split(items: int, *, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions held out, at least one each, both in ascending order.

    Beyond 2**24 items each stretch of that length is split by itself, so that memory stays bounded.

    Args:
        items: how many there are, at least 2.
        held_out: the fraction to hold out, inside (0, 1).
        seed: which split.
    """
    if items <= LARGEST:
        count = min(max(round(items * held_out), 1), items - 1)
        order = permutation(items, seed, _SPLIT)
        return np.sort(order[count:]), np.sort(order[:count])
    train, held = [], []
    for number, start in enumerate(range(0, items, LARGEST)):
        length = min(LARGEST, items - start)
        count = round((start + length) * held_out) - round(start * held_out)
        count = min(max(count, 1), length - 1) if start == 0 else count
        order = permutation(length, seed, _SPLIT, number) + start
        train.append(np.sort(order[count:]))
        held.append(np.sort(order[:count]))
    return np.concatenate(train), np.concatenate(held)
