"""Inspection: what the data looks like, measured in chunks so that a large or mapped array is never copied whole."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gapless.data.disk import Values
from gapless.errors import DataError

__all__ = ["Inspection", "Survey", "chunks", "count_where", "moments", "refuse_unusable", "survey"]

_CHUNK_VALUES = 1 << 22
_LARGEST = 1e140  # beyond this the sum of squares of a large table leaves float64
_LARGEST_32 = 1e37  # and beyond this the difference of two float32 values leaves float32


@dataclass(frozen=True)
class Inspection:
    """What the data looks like, in raw units, and every decision taken while reading it.

    Args:
        items: how many, both parts together.
        event_shape: shape of one item.
        dtype: of the source.
        minimum: smallest value.
        maximum: largest value.
        mean: of all values.
        binary: every value is one of the two ends of the range (0 and 1 for a table).
        integer: every value is a whole number.
        at_extremes: share of the values within 5 % of either end of the range; images only, 0 for a table.
        constant_features: columns or pixels with one value throughout.
        classes: how many, None without labels.
        class_counts: items in each class.
        notes: every decision, in plain sentences.
    """

    items: int
    event_shape: tuple[int, ...]
    dtype: str
    minimum: float
    maximum: float
    mean: float
    binary: bool
    integer: bool
    at_extremes: float
    constant_features: int
    classes: int | None
    class_counts: dict[str, int]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


@dataclass(frozen=True)
class Survey:
    """Ranges of some items: `low` and `high` (*event) per feature, mean of all values, whether all are whole."""

    items: int
    low: np.ndarray
    high: np.ndarray
    mean: float
    integer: bool

    def merge(self, other: "Survey") -> "Survey":
        """The survey of both."""
        items = self.items + other.items
        return Survey(
            items,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.mean + (other.mean - self.mean) * other.items / items,
            self.integer and other.integer,
        )

    @property
    def minimum(self) -> float:
        """Smallest value."""
        return float(self.low.min())

    @property
    def maximum(self) -> float:
        """Largest value."""
        return float(self.high.max())

    @property
    def constant(self) -> np.ndarray:
        """(*event) whether a feature has one value throughout."""
        return self.low == self.high


def chunks(values: Values, index: np.ndarray) -> Iterator[np.ndarray]:
    """The rows at `index`, a bounded number at a time, in the order of the source."""
    index = index if bool((index[1:] >= index[:-1]).all()) else np.sort(index)
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, len(index), step):
        yield np.asarray(values[index[start : start + step]])


def survey(values: Values, index: np.ndarray) -> Survey:
    """Ranges of the rows at `index`, in one pass."""
    parts = (_survey_chunk(chunk) for chunk in chunks(values, index))
    whole = next(parts)
    for part in parts:
        whole = whole.merge(part)
    return whole


def _survey_chunk(chunk: np.ndarray) -> Survey:
    integer = chunk.dtype.kind != "f" or bool((chunk == np.floor(chunk)).all())
    return Survey(len(chunk), chunk.min(axis=0), chunk.max(axis=0), float(chunk.mean(dtype=np.float64)), integer)


def count_where(values: Values, index: np.ndarray, test: Callable[[np.ndarray], np.ndarray]) -> int:
    """How many values of the rows at `index` pass a test."""
    return sum(int(np.count_nonzero(test(chunk))) for chunk in chunks(values, index))


def moments(values: Values, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance per feature of the rows at `index`, merged over chunks: Chan et al. (1983), eq. 2.1.

    Returns:
        Two arrays (*event), float64; the variance divides by n.
    """
    count, mean, squares = 0, np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    for raw in chunks(values, index):
        chunk = raw.astype(np.float64)
        centre = chunk.mean(axis=0)
        squares += np.square(chunk - centre).sum(axis=0)
        total = count + len(chunk)
        squares += np.square(centre - mean) * (count * len(chunk) / total)
        mean += (centre - mean) * (len(chunk) / total)
        count = total
    return mean, squares / count


def refuse_unusable(values: Values, *, columns: tuple[str, ...], where: str) -> None:
    """Stop at values that are not finite, or too large to square.

    Args:
        values: (n, *event) raw.
        columns: names of a table's columns, () for images.
        where: the source, for the message.

    Raises:
        DataError: with how many there are, and the row and column (or pixel) of the first.
    """
    if values.dtype.kind != "f":
        return
    for test, what, fix in _UNUSABLE:
        count, first, start = 0, None, 0
        for chunk in chunks(values, np.arange(len(values))):
            bad = test(chunk)
            if bad.any():
                row, *rest = np.unravel_index(int(bad.argmax()), bad.shape)
                first = first or (start + int(row), [int(i) for i in rest])
                count += int(np.count_nonzero(bad))
            start += len(chunk)
        if first:
            raise DataError(f"{count} of {values.size} values {what}", where=_place(where, *first, columns), fix=fix)


def _too_large(chunk: np.ndarray) -> np.ndarray:
    return np.abs(chunk, dtype=np.float64) > (_LARGEST if chunk.dtype.itemsize > 4 else _LARGEST_32)


_UNUSABLE: tuple[tuple[Callable[[np.ndarray], np.ndarray], str, str], ...] = (
    (lambda chunk: ~np.isfinite(chunk), "are not finite (NaN or infinite)", "fill or remove those rows before reading"),
    (_too_large, "are too large to compute with", "rescale the data, or remove those rows"),
)


def _place(where: str, row: int, rest: list[int], columns: tuple[str, ...]) -> str:
    if columns:
        return f"{where}: first in row {row}, column {columns[rest[0]]!r} (number {rest[0]}), counted from 0"
    channel, y, x = rest
    return f"{where}: first in item {row}, channel {channel}, pixel row {y}, pixel column {x}, counted from 0"
