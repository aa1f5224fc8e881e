"""Orders that depend on integers alone, the same on every machine and with every version of numpy."""

import numpy as np

from gapless.errors import UsageError

__all__ = ["permutation", "split"]

_SPLIT = 0x5B117  # sets the split apart from the order of an epoch


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


def split(items: int, *, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions held out, at least one each, both in ascending order.

    Args:
        items: how many there are, at least 2.
        held_out: the fraction to hold out, inside (0, 1).
        seed: which split.
    """
    count = min(max(round(items * held_out), 1), items - 1)
    order = permutation(items, seed, _SPLIT)
    return np.sort(order[count:]), np.sort(order[:count])
