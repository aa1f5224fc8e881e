"""Distributions over examples whose features are independent given the parameters, and the reparameterization trick."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from gapless.distributions.seeded import Seeded
from gapless.randomness import noise

__all__ = ["Factorized", "reparameterize"]


def reparameterize(loc: Tensor, scale: Tensor, eps: Tensor) -> Tensor:
    """The reparameterization trick: `z = loc + scale * eps`, a draw that is differentiable in what it was drawn from.

    `eps ~ N(0, I)` is a constant to the derivative, so `dz/dloc = 1` and `dz/dscale = eps`, exactly.
    Kingma & Welling (2014), section 2.4. This is the only place in gapless where it stands.

    Args:
        loc: mean, shape (*batch, *event).
        scale: standard deviation, broadcastable to `loc`, at least 0.
        eps: standard normal noise, shape (*samples, *batch, *event); it gets no gradient.

    Returns:
        z, of the shape of `eps`.

    >>> reparameterize(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([0.5]))
    tensor([2.])
    """
    return loc + scale * eps.detach()


class Factorized(Seeded):
    """A distribution over examples of `event_dims` axes whose features are independent given its parameters.

    To add one: keep the parameters, call the constructor with one that has the full shape (*batch, *event), and write
    `log_prob_per_feature`, `mean`, `stddev`, `mode` and `sample(sample_shape, generator)`. A posterior is besides
    `Reparameterized`, with `rsample` for `sample`, or `Located`, with `loc` for `mean` and `mode` as well.

    Args:
        parameter: any tensor of shape (*batch, *event).
        event_dims: how many trailing axes make one example.
    """

    def __init__(self, parameter: Tensor, event_dims: int):
        self.event_dims = event_dims
        super().__init__(parameter.shape, event_dims)

    @abstractmethod
    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-density of each feature in nats, shape (*samples, *batch, *event)."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, summed over the event: shape (*samples, *batch)."""
        return self._sum(self.log_prob_per_feature(value))

    def _sum(self, values: Tensor) -> Tensor:
        return values.flatten(values.dim() - self.event_dims).sum(-1) if self.event_dims else values

    def _noise(self, sample_shape: Sequence[int], like: Tensor, generator: torch.Generator | None, draw) -> Tensor:
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        return noise(draw, shape, like=like, generator=generator)
