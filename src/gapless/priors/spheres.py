"""Directions, every one alike."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from gapless import distributions
from gapless.errors import UsageError
from gapless.priors.prior import Prior

__all__ = ["UniformOnSphere"]


class UniformOnSphere(Prior):
    """`p(z)` uniform on the unit sphere of d = latent dimensions: Davidson et al. (2018).

    Args:
        latent: number of latent features, at least 2.

    >>> UniformOnSphere(3)().sample((4,)).norm(dim=-1).round(decimals=3)
    tensor([1., 1., 1., 1.])
    """

    zero: Tensor

    def __init__(self, latent: int):
        super().__init__()
        if latent < 2:
            raise UsageError(f"directions need at least 2 latent features; got {latent}", fix="use --latent 2 or more")
        self.latent = latent
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.UniformOnSphere:
        return distributions.UniformOnSphere(self.zero)
