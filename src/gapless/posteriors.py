"""Heads that turn an encoder's output into q(z|x)."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from gapless import distributions
from gapless.parts import Part

__all__ = ["DiagonalNormal", "PointMass", "Posterior"]


class Posterior(Part, ABC):
    """A head: encoder output (batch, parameters_per_code * latent) -> q(z|x), event_shape (latent,).

    To add one: say how many numbers a latent feature needs in `parameters_per_code` and return a distribution with
    `rsample(sample_shape, generator)` from `forward`.
    """

    parameters_per_code: ClassVar[int]

    @abstractmethod
    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> Distribution:
        """q(z|x) with batch_shape (batch,) and event_shape (latent,)."""


class PointMass(Posterior):
    """`q(z|x)` is the encoder's output itself: an autoencoder.

    >>> PointMass()(torch.zeros(5, 2)).mean.shape
    torch.Size([5, 2])
    """

    parameters_per_code = 1

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.PointMass:
        return distributions.PointMass(parameters)


class DiagonalNormal(Posterior):
    """`q(z|x) = N(loc, diag(scale^2))`, Kingma & Welling (2014), eq. 9, with a scale that cannot overflow.

    `log scale = bound * tanh(raw / bound)`: the usual exponential near 0, and inside [-bound, bound] whatever the
    encoder puts out.

    Args:
        bound: the largest absolute log scale in nats, above 0; 10 allows scales from 4.5e-5 to 2.2e4.

    >>> DiagonalNormal()(torch.full((1, 2), 1e30)).scale
    tensor([[22026.4648]])
    """

    parameters_per_code = 2

    def __init__(self, bound: float = 10.0):
        super().__init__()
        self.bound = bound

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.DiagonalNormal:
        loc, raw = parameters.chunk(2, dim=-1)
        return distributions.DiagonalNormal(loc, torch.exp(self.bound * torch.tanh(raw / self.bound)))
