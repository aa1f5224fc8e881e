"""Data that comes in pieces: what all sources that are decoded have in common, for memory and for shards."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gapless.data.arrays import from_oriented
from gapless.data.bounded import refuse_beyond_cap
from gapless.data.raw import Raw
from gapless.errors import DataError

__all__ = ["Piece", "Pieces", "collect", "from_raw", "refuse_partly_labelled"]

Piece = tuple[np.ndarray, np.ndarray | None]
SHARDS = "write shards, which are mapped: gapless shards SOURCE -o FOLDER"
_STEP_BYTES = 1 << 24


@dataclass
class Pieces:
    """Items in pieces, in their order.

    Args:
        items: how many there are at most; files that cannot be read may be left out.
        event_shape: (channels, height, width) or (columns,).
        dtype: of the values.
        chunks: gives the pieces from the first on: values (k, *event), label codes (k,) or None.
        names: the final code of every label code, and the class names; to be asked after the last piece.
        columns: names of a table's columns.
        categories: for each column the names of its codes, () where it holds numbers; () if all do.
        full_scale: the largest value the format can hold.
        train_items: the first so many are to train on, None where the source does not say.
        notes: decisions taken; complete after the last piece.
    """

    items: int
    event_shape: tuple[int, ...]
    dtype: np.dtype
    chunks: Callable[[], Iterator[Piece]]
    names: Callable[[], tuple[np.ndarray, tuple[str, ...]]]
    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    full_scale: float | None = None
    train_items: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return int(np.prod(self.event_shape, dtype=object)) * self.dtype.itemsize


def from_raw(raw: Raw) -> Pieces:
    """Data that was read already, in pieces."""
    event = tuple(int(v) for v in raw.values.shape[1:])
    values, labels = raw.values, raw.labels
    dtype = values.dtype.newbyteorder("=")
    step = max(1, _STEP_BYTES // max(1, int(np.prod(event, dtype=object)) * dtype.itemsize))

    def chunks() -> Iterator[Piece]:
        for start in range(0, len(values), step):
            codes = None if labels is None else labels[start : start + step]
            yield np.ascontiguousarray(values[start : start + step], dtype=dtype), codes

    return Pieces(
        len(values),
        event,
        dtype,
        chunks,
        lambda: (np.arange(len(raw.label_names)), raw.label_names),
        columns=raw.columns,
        categories=raw.categories,
        full_scale=raw.full_scale,
        train_items=raw.train_items,
        notes=list(raw.notes),
    )


def collect(pieces: Pieces, *, where: str) -> Raw:
    """All pieces in memory.

    Raises:
        DataError: if they take more than the cap, or there are none.
    """
    refuse_beyond_cap(pieces.items * pieces.item_bytes, where=where, fix=SHARDS)
    if not pieces.items:
        raise DataError("at least 1 items are needed; there is none", where=where, fix="add items")
    values, codes, count = np.empty((pieces.items, *pieces.event_shape), dtype=pieces.dtype), [], 0
    for part, labels in pieces.chunks():
        values[count : count + len(part)] = part
        count += len(part)
        codes += [] if labels is None else [labels]
    raw = from_oriented(values[:count], where=where, columns=pieces.columns, full_scale=pieces.full_scale)
    rank, names = pieces.names() if codes else (np.empty(0, dtype=np.int64), ())
    refuse_partly_labelled(sum(map(len, codes)), count, where=where)
    labels = rank[np.concatenate(codes)] if codes else None
    return Raw(
        **{
            **vars(raw),
            "labels": labels,
            "label_names": names,
            "train_items": pieces.train_items,
            "notes": tuple(pieces.notes),
            "categories": pieces.categories,
        }
    )


def refuse_partly_labelled(labelled: int, items: int, *, where: str) -> None:
    """Stop at items of which some have labels and others have none.

    Raises:
        DataError: with how many have one.
    """
    if labelled not in (0, items):
        what = f"{labelled} of {items} items have labels"
        raise DataError(what, where=where, fix="give every item one, or none")
