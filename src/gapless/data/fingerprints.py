"""Fingerprints: whether data is the data it was, without reading all of it where it is large."""

import hashlib
from collections.abc import Iterator

import numpy as np

from gapless.data.disk import Values

__all__ = ["fingerprint"]

WHOLE_BYTES = 256 << 20  # values up to this are read whole
_SAMPLE_BYTES = 64 << 20  # of larger values, at least this much
_BLOCKS = 64
_STEP = 1 << 22


def fingerprint(values: Values, *parts: np.ndarray) -> str:
    """A BLAKE2b digest of shape, dtype, split and values, the same wherever the values lie.

    Up to 256 MiB every value counts. Of larger data 64 blocks of rows are read, evenly spaced from the first row to
    the last, at least 64 MiB in all: a change between them is not seen, a change of shape, dtype, split or order is.
    Neither byte order nor memory order counts, nor whether the values are in memory or on disk.

    Args:
        values: (n, *event) raw.
        parts: the positions of each part of the split, (k,) int64.

    Returns:
        32 hexadecimal digits.

    >>> fingerprint(np.zeros((3, 2))) == fingerprint(np.zeros((3, 2), dtype=">f8", order="F"))
    True
    """
    dtype = values.dtype.newbyteorder("<")
    digest = hashlib.blake2b(f"{tuple(values.shape)} {dtype.str} {[len(p) for p in parts]}".encode(), digest_size=16)
    for part in parts:
        for start in range(0, len(part), _STEP):
            digest.update(np.ascontiguousarray(part[start : start + _STEP], dtype="<i8").data)
    for rows in _rows(values):
        digest.update(np.ascontiguousarray(rows, dtype=dtype).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _rows(values: Values) -> Iterator[np.ndarray]:
    width = max(1, values.nbytes // len(values))
    step = max(1, _STEP // width)
    for first, last in _blocks(len(values), width):
        for start in range(first, last, step):
            yield np.asarray(values[start : min(start + step, last)])


def _blocks(items: int, width: int) -> Iterator[tuple[int, int]]:
    """First and last row of every block; one block where all is read."""
    rows = -(-_SAMPLE_BYTES // (_BLOCKS * width))
    if items * width <= WHOLE_BYTES or rows * _BLOCKS >= items:
        yield 0, items
        return
    for i in range(_BLOCKS):
        first = (items - rows) * i // (_BLOCKS - 1)
        yield first, first + rows
