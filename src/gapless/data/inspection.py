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
        missing: share of the values that were not observed.
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
    missing: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


@dataclass(frozen=True)
class Survey:
    """Ranges of some items, over the values that are numbers.

    Args:
        items: how many.
        low: (*event) smallest value of each feature, infinite where there is none.
        high: (*event) largest value of each feature, minus infinity where there is none.
        mean: of all values.
        whole: (*event) whether every value of a feature is a whole number.
        missing: how many values are not a number.
    """

    items: int
    low: np.ndarray
    high: np.ndarray
    mean: float
    whole: np.ndarray
    missing: int = 0

    def merge(self, other: "Survey") -> "Survey":
        """The survey of both."""
        observed = self.observed + other.observed
        return Survey(
            self.items + other.items,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.mean + (other.mean - self.mean) * other.observed / max(1, observed),
            self.whole & other.whole,
            self.missing + other.missing,
        )

    @property
    def observed(self) -> int:
        """How many values are numbers."""
        return self.items * self.low.size - self.missing

    @property
    def integer(self) -> bool:
        """Whether every value is a whole number."""
        return bool(self.whole.all())

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
        some = index[start : start + step]
        together = type(values) is np.ndarray and bool((np.diff(some) == 1).all())  # in memory: no row is copied
        yield np.asarray(values[some[0] : some[-1] + 1] if together else values[some])


def survey(values: Values, index: np.ndarray) -> Survey:
    """Ranges of the rows at `index`, in one pass."""
    parts = (_survey_chunk(chunk) for chunk in chunks(values, index))
    whole = next(parts)
    for part in parts:
        whole = whole.merge(part)
    return whole


def _survey_chunk(chunk: np.ndarray) -> Survey:
    low, high = chunk.min(axis=0), chunk.max(axis=0)
    if chunk.dtype.kind != "f":
        return Survey(len(chunk), low, high, float(chunk.mean(dtype=np.float64)), np.ones(low.shape, dtype=bool))
    if np.isnan(low).any():
        return _survey_observed(chunk, np.isnan(chunk))
    return Survey(len(chunk), low, high, float(chunk.mean(dtype=np.float64)), (chunk == np.floor(chunk)).all(axis=0))


def _survey_observed(chunk: np.ndarray, missing: np.ndarray) -> Survey:
    low, high = (np.where(missing, end, chunk) for end in (np.inf, -np.inf))
    mean = float(np.nanmean(chunk, dtype=np.float64)) if not missing.all() else 0.0
    whole = ((chunk == np.floor(chunk)) | missing).all(axis=0)
    return Survey(len(chunk), low.min(axis=0), high.max(axis=0), mean, whole, int(missing.sum()))


def count_where(values: Values, index: np.ndarray, test: Callable[[np.ndarray], np.ndarray]) -> int:
    """How many values of the rows at `index` pass a test."""
    return sum(int(np.count_nonzero(test(chunk))) for chunk in chunks(values, index))


def moments(values: Values, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance per feature of the rows at `index`, merged over chunks: Chan et al. (1983), eq. 2.1.

    What is not a number does not count.

    Returns:
        Two arrays (*event), float64; the variance divides by the number of values, 0 where there is none.
    """
    count, mean, squares = np.zeros(values.shape[1:]), np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    for raw in chunks(values, index):
        added, centre, deviations = _deviations(raw.astype(np.float64))
        squares += deviations
        total = np.maximum(count + added, 1)
        squares += np.square(centre - mean) * (count * added / total)
        mean += (centre - mean) * (added / total)
        count = count + added
    return mean, squares / np.maximum(count, 1)


def _deviations(chunk: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """How many numbers, their mean and the sum of their squared deviations from it, per feature."""
    centre = chunk.mean(axis=0)
    if not np.isnan(centre).any():
        return len(chunk), centre, np.square(chunk - centre).sum(axis=0)
    observed = ~np.isnan(chunk)
    count = observed.sum(axis=0)
    centre = np.where(observed, chunk, 0).sum(axis=0) / np.maximum(count, 1)
    return count, centre, np.square(np.where(observed, chunk - centre, 0)).sum(axis=0)


def refuse_unusable(values: Values, *, columns: tuple[str, ...], where: str, missing: bool = False) -> None:
    """Stop at values that are not finite, or too large to square.

    Args:
        values: (n, *event) raw.
        columns: names of a table's columns, () for images.
        where: the source, for the message.
        missing: whether values that are not a number were not observed, and may stay.

    Raises:
        DataError: with how many there are, and the row and column (or pixel) of the first.
    """
    if values.dtype.kind != "f":
        return
    for test, what, fix in (_INFINITE if missing else _NOT_FINITE, _TOO_LARGE):
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


_Test = tuple[Callable[[np.ndarray], np.ndarray], str, str]
_NOT_FINITE: _Test = (
    lambda chunk: ~np.isfinite(chunk),
    "are not finite (NaN or infinite)",
    "fill or remove those rows before reading; or, if NaN means not observed: --missing keep",
)
_INFINITE: _Test = (np.isinf, "are infinite", "fill or remove those rows before reading; NaN is what was not observed")
_TOO_LARGE: _Test = (_too_large, "are too large to compute with", "rescale the data, or remove those rows")


def _place(where: str, row: int, rest: list[int], columns: tuple[str, ...]) -> str:
    if columns:
        return f"{where}: first in row {row}, column {columns[rest[0]]!r} (number {rest[0]}), counted from 0"
    channel, y, x = rest
    return f"{where}: first in item {row}, channel {channel}, pixel row {y}, pixel column {x}, counted from 0"
