"""Feeding: batches of model units straight from memory, in an order that is a function of (seed, epoch)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gapless.data.dataset import Items
from gapless.data.scaling import Scaling, more_than_float32
from gapless.data.shuffles import permutation
from gapless.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Feed", "batch"]

_CHUNK_VALUES = 1 << 22
_RESIDENT = {"b1": np.uint8, "u1": np.uint8, "i1": np.int8, "i2": np.int16, "u2": np.int32, "f2": np.float16}


class Feed:
    """Batches in memory, without worker processes.

    An array in memory becomes one resident tensor: in its raw dtype where that is small (uint8 stays uint8),
    scaled beforehand where it is wider than float32 can hold. A memory-mapped array stays on disk.

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
        self.mapped = isinstance(items.values, np.memmap)
        self._scaled = more_than_float32(items.values.dtype)
        self._rows = None if self.mapped else torch.from_numpy(_resident(items, scaling)).to(self.device)
        self._shift, self._scale = (
            torch.tensor(v, dtype=torch.float32, device=self.device) for v in (scaling.shift, scaling.scale)
        )
        self._identity = not any(scaling.shift) and set(scaling.scale) == {1.0}

    def __len__(self) -> int:
        return len(self.items)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return self.items.event_shape

    def batch(self, positions: "torch.Tensor") -> "torch.Tensor":
        """The items at some positions, in model units.

        Args:
            positions: (k,) int64 in 0..n-1.

        Returns:
            (k, *event) float32 on the device; the caller's own, free to change.
        """
        import torch

        if self._rows is None:
            rows = self.scaling(self.items.take(positions.cpu().numpy()))
            return torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)
        rows = self._rows.index_select(0, positions.to(self.device)).to(torch.float32)
        if self._scaled or self._identity:
            return rows
        return rows.sub_(self._shift).div_(self._scale)

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

        Returns:
            (n,) int64, a permutation, on the CPU.
        """
        import torch

        return torch.from_numpy(permutation(len(self), seed, epoch))


def batch(items: Items, scaling: Scaling) -> "torch.Tensor":
    """All items in model units as one tensor, shape (n, *event), float32; for parts that fit in memory."""
    import torch

    return Feed(items, scaling).batch(torch.arange(len(items)))


def _resident(items: Items, scaling: Scaling) -> np.ndarray:
    dtype = items.values.dtype
    if more_than_float32(dtype):
        return _scaled(items, scaling)
    target = _RESIDENT.get(f"{dtype.kind}{dtype.itemsize}", np.float32)
    return np.ascontiguousarray(items.values[items.index], dtype=target)


def _scaled(items: Items, scaling: Scaling) -> np.ndarray:
    # a difference of two large float64 numbers is taken before it is rounded to float32, chunk by chunk
    rows = np.empty((len(items), *items.event_shape), dtype=np.float32)
    step = max(1, _CHUNK_VALUES // max(1, int(np.prod(items.event_shape))))
    for start in range(0, len(items), step):
        rows[start : start + step] = scaling(items.values[items.index[start : start + step]])
    return rows
