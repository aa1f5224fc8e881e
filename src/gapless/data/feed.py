"""Feeding: batches of model units straight from memory, in an order that is a function of (seed, epoch)."""

import warnings
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from gapless.data import shuffles
from gapless.data.dataset import Items
from gapless.data.disk import WINDOW_BYTES, is_mapped
from gapless.data.prefetch import ahead
from gapless.data.scaling import Scaling, more_than_float32
from gapless.data.shuffles import Shuffle, permutation
from gapless.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Feed", "batch"]

_CHUNK_VALUES = 1 << 22
_READ_BYTES = 1 << 18  # read at once, or one batch where that is more: what fits the cache of a core
_GROUPED_BYTES = 1 << 22  # read at once from row groups, each of which costs a look
_AHEAD = 4  # readings that wait
_RESIDENT = {"b1": np.uint8, "u1": np.uint8, "i1": np.int8, "i2": np.int16, "u2": np.int32, "f2": np.float16}


class Feed:
    """Batches in memory, without worker processes.

    An array in memory becomes one resident tensor: in its raw dtype where that is small (uint8 stays uint8),
    scaled beforehand where it is wider than float32 can hold. What is on disk stays there.

    Args:
        items: the part to feed.
        scaling: raw units to model units.
        device: where the batches go.

    >>> items = Items(np.array([[0], [255]], dtype=np.uint8), None, np.arange(2))
    >>> [b.tolist() for b in Feed(items, Scaling((0.0,), (255.0,), "unit")).batches(2)]
    [[[0.0], [1.0]]]
    """

    def __init__(self, items: Items, scaling: Scaling, *, device: Any = "cpu"):
        import torch

        self.items, self.scaling, self.device = items, scaling, torch.device(device)
        self.mapped = is_mapped(items.values)
        self._scaled = more_than_float32(items.values.dtype)
        self._rows = self._index = None
        if not self.mapped and self.device.type == "cpu" and _is_shared(items.values):
            self._rows, self._index = _shared(np.asarray(items.values)), torch.from_numpy(items.index)
        elif not self.mapped:
            self._rows = torch.from_numpy(_resident(items, scaling)).to(self.device)
        self._shift, self._scale = (
            torch.tensor(v, dtype=torch.float32, device=self.device) for v in (scaling.shift, scaling.scale)
        )
        self._shifts, self._scales = any(scaling.shift), set(scaling.scale) != {1.0}

    def __len__(self) -> int:
        return len(self.items)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return self.items.event_shape

    def batch(self, positions: "torch.Tensor", *, by_feature: bool = False) -> "torch.Tensor":
        """The items at some positions, in model units.

        Args:
            positions: (k,) int64 in 0..n-1.
            by_feature: whether they lie in memory feature by feature, in the same shape.

        Returns:
            (k, *event) float32 on the device; the caller's own, free to change.
        """

        if self._rows is not None:
            chosen = positions.to(self.device) if self._index is None else self._index.index_select(0, positions)
            return self._in_model_units(self._rows.index_select(0, chosen), by_feature)
        return self._in_model_units(self._taken(positions).to(self.device), by_feature)

    def _taken(self, positions: "torch.Tensor") -> "torch.Tensor":
        """Rows from disk, in their raw dtype, or scaled where that is wider than float32 can hold."""
        import torch

        rows = self.items.take(positions.numpy(force=True))
        return torch.from_numpy(_narrow(self.scaling(rows) if self._scaled else rows))

    def _in_model_units(self, rows: "torch.Tensor", by_feature: bool) -> "torch.Tensor":
        import torch

        own = _blank(rows, by_feature)
        if not self._scales or self._shifts or self._scaled:
            own.copy_(rows)
        if self._scaled:
            return own
        if self._shifts:
            own.sub_(self._shift)
        if self._scales:
            torch.div(own if self._shifts else rows, self._scale, out=own)
        return own

    def batches(self, size: int) -> Iterator["torch.Tensor"]:
        """All items in order, `size` at a time; the last batch may be shorter.

        Raises:
            UsageError: if `size` is not positive.
        """
        import torch

        if size < 1:
            raise UsageError(f"a batch needs a size of at least 1; got {size}")
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self))))

    def order(self, seed: int, epoch: int) -> "torch.Tensor":
        """The order of one epoch, from (seed, epoch) alone, the same on every machine.

        It takes 8 bytes an item; `positions` gives the same order in bounded memory.

        Returns:
            (n,) int64, a permutation, on the CPU.
        """
        import torch

        return torch.from_numpy(np.concatenate(list(self._pieces(seed, epoch, 0))))

    def positions(self, seed: int, epoch: int, batch_size: int, *, start: int = 0) -> Iterator["torch.Tensor"]:
        """The order of one epoch in batches, from any batch on, without going through those before.

        Items in memory, and up to 2**24 items on disk, come in one full permutation. More of them, and the row groups
        of Parquet files (which are read whole), come in two levels: blocks are permuted, then the items of some
        consecutive blocks among each other.

        Args:
            seed: of the order, from 0.
            epoch: of the order, from 0.
            batch_size: items a batch; the last one may be shorter.
            start: the first batch to give, from 0.

        Yields:
            (k,) int64 on the CPU.

        Raises:
            UsageError: if an argument is out of its range.
        """
        import torch

        _refuse_batches(batch_size, start)
        left = np.empty(0, dtype=np.int64)
        for piece in self._pieces(seed, epoch, start * batch_size):
            left = np.concatenate([left, piece]) if len(left) else piece
            whole = len(left) - len(left) % batch_size
            yield from torch.from_numpy(left[:whole]).split(batch_size) if whole else ()
            left = left[whole:]
        if len(left):
            yield torch.from_numpy(left)

    def stream(
        self, seed: int, epoch: int, batch_size: int, *, start: int = 0, by_feature: bool = False
    ) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
        """The batches of one epoch; those of data on disk are read ahead in a thread, which ends with the iterator.

        Args:
            seed: of the order, from 0.
            epoch: of the order, from 0.
            batch_size: items a batch; the last one may be shorter.
            start: the first batch to give, from 0.
            by_feature: whether the items of a batch lie in memory feature by feature, in the same shape.

        Yields:
            Positions (k,) int64 on the CPU, and the items there (k, *event) in model units, float32, on the device.

        Raises:
            UsageError: if an argument is out of its range.
        """
        _refuse_batches(batch_size, start)
        positions = self.positions(seed, epoch, batch_size, start=start)
        if not self.mapped:
            for chosen in positions:
                yield chosen, self.batch(chosen, by_feature=by_feature)
            return
        read = _READ_BYTES if getattr(self.items.values, "edges", None) is None else _GROUPED_BYTES
        together = max(1, read // (batch_size * self._item_bytes))
        with closing(ahead(self._read(positions, together), size=_AHEAD)) as readings:
            for some, rows in readings:
                for chosen, part in zip(some, rows.split([len(p) for p in some]), strict=True):
                    yield chosen, self._in_model_units(part.to(self.device), by_feature)

    def _read(self, positions: Iterator[Any], together: int) -> Iterator[tuple[Any, Any]]:
        """Some batches at once: one reading of many rows costs less than many of few."""
        import torch

        while some := list(islice(positions, together)):
            yield some, self._taken(torch.cat(some))

    def _pieces(self, seed: int, epoch: int, start: int) -> Iterator[np.ndarray]:
        edges = getattr(self.items.values, "edges", None)
        if edges is None and not (self.mapped and len(self) > shuffles.LARGEST):
            if start < len(self) or not start:
                yield permutation(len(self), seed, epoch)[start:]
            return
        rank, edges = self._blocks(edges)
        shuffle = Shuffle(edges, (seed, epoch), window=self._window())
        yield from (piece if rank is None else rank[piece] for piece in shuffle.pieces(start))

    def _blocks(self, edges: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray]:
        """Blocks of this part's positions: by row group where there are any, else of one length."""
        index = self.items.index
        if edges is None:
            return None, np.append(np.arange(0, len(self), shuffles.BLOCK), len(self))
        rank = None if bool((index[1:] >= index[:-1]).all()) else np.argsort(index, kind="stable")
        return rank, np.unique(np.searchsorted(index, edges, sorter=rank)).astype(np.int64)

    def _window(self) -> int:
        if getattr(self.items.values, "edges", None) is None:
            return shuffles.WINDOW
        return max(1, min(shuffles.WINDOW, WINDOW_BYTES // self._item_bytes))

    @property
    def _item_bytes(self) -> int:
        return max(1, int(np.prod(self.event_shape)) * self.items.values.dtype.itemsize)


def _blank(rows: "torch.Tensor", by_feature: bool) -> "torch.Tensor":
    """Memory for the rows as float32, item by item, or with the items' axis as the innermost."""
    import torch

    shape = (*rows.shape[1:], len(rows)) if by_feature else rows.shape
    memory = torch.empty(shape, dtype=torch.float32, device=rows.device)
    return memory.movedim(-1, 0) if by_feature else memory


def batch(items: Items, scaling: Scaling) -> "torch.Tensor":
    """All items in model units as one tensor, shape (n, *event), float32; for parts that fit in memory."""
    import torch

    return Feed(items, scaling).batch(torch.arange(len(items)))


def _refuse_batches(size: int, start: int) -> None:
    if size < 1 or start < 0:
        raise UsageError(f"batches need a size of at least 1 and a start of at least 0; got {size} and {start}")


def _narrow(rows: np.ndarray) -> np.ndarray:
    """Rows as torch can take them, without changing a value."""
    return np.ascontiguousarray(rows, dtype=_RESIDENT.get(f"{rows.dtype.kind}{rows.dtype.itemsize}", np.float32))


def _is_shared(values: Any) -> bool:
    """Whether torch can use the array as it is, so that it is held once for all its parts."""
    dtype = values.dtype
    kept = dtype == np.dtype(_RESIDENT.get(f"{dtype.kind}{dtype.itemsize}", np.float32))
    return kept and isinstance(values, np.ndarray) and values.flags.c_contiguous and not more_than_float32(dtype)


def _shared(values: np.ndarray) -> "torch.Tensor":
    import torch

    with warnings.catch_warnings():  # that an array cannot be written to: nobody does
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)


def _resident(items: Items, scaling: Scaling) -> np.ndarray:
    dtype = items.values.dtype
    if more_than_float32(dtype):
        return _scaled(items, scaling)
    return _narrow(_rows_at(np.asarray(items.values), items.index))


def _rows_at(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The rows at some positions; a view where they are a stretch of the array, so that it is held once."""
    whole = len(index) and index[-1] - index[0] + 1 == len(index) and bool((np.diff(index) == 1).all())
    if whole and values.flags.writeable:  # torch takes no array that is not
        return values[index[0] : index[-1] + 1]
    return values[index]


def _scaled(items: Items, scaling: Scaling) -> np.ndarray:
    # a difference of two large float64 numbers is taken before it is rounded to float32, chunk by chunk
    rows = np.empty((len(items), *items.event_shape), dtype=np.float32)
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(items.event_shape))))
    for start in range(0, len(items), step):
        rows[start : start + step] = scaling(items.values[items.index[start : start + step]])
    return rows
