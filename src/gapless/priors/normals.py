"""Normal priors."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from gapless import distributions
from gapless.priors.prior import Prior

__all__ = ["StandardNormal"]


class StandardNormal(Prior):
    """`p(z) = N(0, I)`.

    Args:
        latent: number of latent features, at least 1.

    >>> StandardNormal(3)().event_shape
    torch.Size([3])
    """

    zero: Tensor

    def __init__(self, latent: int):
        super().__init__()
        self.latent = latent
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.DiagonalNormal:
        return distributions.DiagonalNormal(self.zero, torch.ones_like(self.zero))
