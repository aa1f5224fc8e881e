"""Diagonal normal posteriors, and their limit of scale 0."""

import torch
from jaxtyping import Float
from torch import Tensor

from gapless import distributions
from gapless.posteriors.posterior import Posterior

__all__ = ["DiagonalNormal", "PointMass"]


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
