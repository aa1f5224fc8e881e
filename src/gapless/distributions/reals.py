"""Real numbers with heavier tails than the normal's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gapless.distributions.factorized import Factorized, reparameterize
from gapless.distributions.seeded import Located

__all__ = ["Laplace"]


class Laplace(Located, Factorized):
    """Independent features with `p(x) = exp(-|x - loc| / scale) / (2 scale)`.

    Args:
        loc: mean and median, shape (*batch, *event).
        scale: mean distance from loc, broadcastable to it, above 0; the standard deviation is sqrt(2) times it.
        event_dims: how many trailing axes make one example.

    >>> Laplace(torch.zeros(1, 2), torch.ones(())).log_prob(torch.ones(1, 2))
    tensor([-3.3863])
    """

    def __init__(self, loc: Tensor, scale: Tensor, *, event_dims: int = 1):
        self.loc, self.scale = loc, scale
        super().__init__(loc, event_dims)

    @property
    def stddev(self) -> Tensor:
        return 2**0.5 * self.scale.expand_as(self.loc)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, *event)."""
        # The difference of two exponentials is a Laplace: nothing infinite, for rand is below 1.
        one, other = (torch.log1p(-self._noise(sample_shape, self.loc, generator, torch.rand)) for _ in range(2))
        return reparameterize(self.loc, self.scale, one - other)

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-density of each feature in nats, shape (*samples, *batch, *event)."""
        return -(value - self.loc).abs() / self.scale - (2 * self.scale).log()

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (*batch,)."""
        return self._sum(1 + (2 * self.scale).log().expand_as(self.loc))
