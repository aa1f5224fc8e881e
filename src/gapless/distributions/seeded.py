"""What distributions that draw by a generator share: shapes, draws without gradient, moments about a location."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

__all__ = []


class Seeded(Distribution, ABC):
    """A distribution whose draws take a generator.

    To add one: call the constructor with the shape of one draw, and write `sample`, `log_prob`, `mean` and `stddev`.

    Args:
        shape: of one draw, (*batch, *event); whole numbers, or the symbols that stand for them in an export.
        event_dims: how many trailing axes make one example.
    """

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, shape: Sequence[Any], event_dims: int = 1):
        split = len(shape) - event_dims
        super().__init__(torch.Size(shape[:split]), torch.Size(shape[split:]), validate_args=False)

    @abstractmethod
    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws without gradient, shape (*sample_shape, *batch, *event)."""


class Reparameterized(Seeded):
    """One whose draws can be differentiated in what they were drawn from: write `rsample`."""

    has_rsample = True

    @abstractmethod
    def rsample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, *event)."""

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape, generator)


class Located(Reparameterized):
    """One whose mean and mode are its location `loc`, about which it has the standard deviation `stddev`.

    Attributes:
        loc: shape (*batch, *event).
    """

    loc: Tensor

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()
