"""All mass on one point."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gapless.distributions.factorized import Factorized
from gapless.distributions.seeded import Located

__all__ = ["PointMass"]


class PointMass(Located, Factorized):
    """All mass on one point: the code of an autoencoder. It has no density; its KL to any density is infinite.

    Args:
        loc: the point, shape (*batch, *event).
        event_dims: how many trailing axes make one example.

    >>> PointMass(torch.ones(3, 2)).rsample((4,)).shape
    torch.Size([4, 3, 2])
    """

    def __init__(self, loc: Tensor, *, event_dims: int = 1):
        self.loc = loc
        super().__init__(loc, event_dims)

    @property
    def stddev(self) -> Tensor:
        return torch.zeros_like(self.loc)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """The point itself, repeated: shape (*sample_shape, *batch, *event)."""
        return self.loc.expand((*sample_shape, *self.loc.shape))

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Infinite at the point and minus infinite elsewhere: it has no density."""
        return torch.where(value == self.loc, torch.inf, -torch.inf)
