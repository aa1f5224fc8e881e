"""Normal distributions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gapless.distributions.factorized import Factorized, reparameterize

__all__ = ["DiagonalNormal"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class DiagonalNormal(Factorized):
    """Normal with independent features: `N(loc, diag(scale^2))`, log-density summed over the event.

    Args:
        loc: mean, shape (*batch, *event).
        scale: standard deviation, broadcastable to `loc`, above 0.
        event_dims: how many trailing axes make one example.

    >>> DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2)).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, *, event_dims: int = 1):
        self.loc, self.scale = loc, scale
        super().__init__(loc, event_dims)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return self.scale.expand_as(self.loc)

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()

    def rsample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, *event)."""
        return reparameterize(self.loc, self.scale, self._noise(sample_shape, self.loc, generator, torch.randn))

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws without gradient, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, summed over the event: shape (*batch,)."""
        if self.scale.dim() == 0:  # one scale for all: it is applied to sums
            squares = self._sum((value - self.loc).square())
            return -0.5 * squares / self.scale.square() - self.event_shape.numel() * (self.scale.log() + _HALF_LOG_2PI)
        return self._sum(self.log_prob_per_feature(value))

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-density of each feature in nats, shape (*samples, *batch, *event)."""
        standardised = (value - self.loc) / self.scale
        return -(0.5 * standardised.square() + self.scale.log() + _HALF_LOG_2PI)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (*batch,)."""
        return self._sum(self.stddev.log() + 0.5 + _HALF_LOG_2PI)
