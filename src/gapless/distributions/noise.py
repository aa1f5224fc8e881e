"""Noise by a generator that may live on another device."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = []


def noise(shape: Sequence[int], like: Tensor, generator: torch.Generator | None, draw: Any = torch.randn) -> Tensor:
    """Noise of `draw` in the type and on the device of `like`; a CPU generator gives the same on every device."""
    device = generator.device if generator is not None else like.device
    return draw(tuple(shape), generator=generator, device=device, dtype=like.dtype).to(like.device)


def exponential(shape: Sequence[int], *, generator: torch.Generator | None, **more: Any) -> Tensor:
    """Standard exponential noise, never 0, for `noise(..., draw=exponential)`."""
    made = torch.empty(shape, **more).exponential_(generator=generator)
    return made.clamp_min_(torch.finfo(made.dtype).tiny)
