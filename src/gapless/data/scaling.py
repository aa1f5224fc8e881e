"""Scaling: from the units of the source to the units of the model, and back."""

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapless.errors import UsageError

__all__ = ["NAMES", "Scaling"]

NAMES = ("auto", "none", "unit", "standard")


@dataclass(frozen=True)
class Scaling:
    """An affine map, y = (x - shift) / scale, the same for every value or one per column of a table.

    Args:
        shift: what is subtracted, in raw units; length 1, or one per column.
        scale: what is divided by, in raw units, positive; as long as `shift`.
        name: "none", "unit" (onto 0..1) or "standard" (mean 0, standard deviation 1).

    Raises:
        UsageError: if the lengths differ, or a scale is not a positive finite number.

    >>> Scaling((0.0,), (255.0,), "unit")(np.array([0, 51, 255], dtype=np.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """

    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    name: str = "none"

    def __post_init__(self) -> None:
        if len(self.shift) != len(self.scale) or not self.shift:
            raise UsageError(f"shift and scale need one length; they have {len(self.shift)} and {len(self.scale)}")
        if not all(map(math.isfinite, self.shift)) or not all(0 < s < math.inf for s in self.scale):
            raise UsageError("shift must be finite, and scale finite and positive")

    def __call__(self, x: Any) -> Any:
        """Raw values in model units.

        Args:
            x: array or tensor, raw units, any shape; (..., columns) where the scaling is one per column.

        Returns:
            float32 of the kind and shape of `x`; computed in 64 bits where `x` has more than float32 can hold.
        """
        x, shift, scale, narrow = self._prepare(x)
        return narrow((x - shift) / scale)

    def inverse(self, y: Any) -> Any:
        """Model units back in raw units.

        Args:
            y: array or tensor, model units, any shape; (..., columns) where the scaling is one per column.

        Returns:
            float32 of the kind and shape of `y`.
        """
        y, shift, scale, narrow = self._prepare(y)
        return narrow(y * scale + shift)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, ready for JSON."""
        return {"name": self.name, "shift": list(self.shift), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Scaling":
        """The scaling that `to_dict` described.

        Raises:
            UsageError: if it is not such a description.
        """
        try:
            shift, scale = (tuple(float(v) for v in stored[key]) for key in ("shift", "scale"))
            return cls(shift, scale, str(stored["name"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"not the description of a scaling: {error!r}") from error

    def _prepare(self, x: Any) -> tuple[Any, Any, Any, Any]:
        if _is_tensor(x):
            return self._prepare_tensor(x)
        x = np.asarray(x)
        self._check(x.shape)
        work = np.float64 if more_than_float32(x.dtype) else np.float32
        return x.astype(work), np.array(self.shift, work), np.array(self.scale, work), _to_float32

    def _prepare_tensor(self, x: Any) -> tuple[Any, Any, Any, Any]:
        import torch

        self._check(tuple(x.shape))
        wide = x.dtype in (torch.float64, torch.int64) and x.device.type != "mps"
        work = torch.float64 if wide else torch.float32
        # a tensor, not a number: CUDA turns division by a number into a product with its rounded inverse
        shift, scale = (torch.tensor(v, dtype=work, device=x.device) for v in (self.shift, self.scale))
        return x.to(work), shift, scale, lambda y: y.to(torch.float32)

    def _check(self, shape: tuple[int, ...]) -> None:
        columns = len(self.shift)
        if columns > 1 and (not shape or shape[-1] != columns):
            raise UsageError(f"this scaling is for {columns} columns; what arrived has shape {tuple(shape)}")


def more_than_float32(dtype: np.dtype) -> bool:
    """Whether a dtype holds values that float32 rounds, so that a difference must be taken before rounding."""
    return dtype.itemsize > (4 if dtype.kind == "f" else 2)


def _to_float32(y: np.ndarray) -> np.ndarray:
    return np.asarray(y, dtype=np.float32)


def _is_tensor(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)
