"""Priors on the Poincare ball."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from gapless import distributions
from gapless.errors import UsageError
from gapless.priors.prior import Prior

__all__ = ["PoincareNormal"]


class PoincareNormal(Prior):
    """`p(z)`: a wrapped normal at the centre of the Poincare ball of curvature -c; Mathieu et al. (2019), section 3.

    Args:
        latent: number of latent features, at least 1.
        curvature: c, above 0; that of the posterior.
        scale: standard deviation of each feature in geodesic lengths, above 0.

    >>> PoincareNormal(2)().sample((5,)).norm(dim=-1).max() < 1
    tensor(True)
    """

    zero: Tensor

    def __init__(self, latent: int, *, curvature: float = 1.0, scale: float = 1.0):
        super().__init__()
        if not (0 < curvature < math.inf and 0 < scale < math.inf):
            raise UsageError(f"a Poincare ball needs a curvature and a scale above 0; got {curvature} and {scale}")
        self.latent, self.curvature, self.scale = latent, curvature, scale
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.PoincareNormal:
        scale = torch.full_like(self.zero, self.scale)
        return distributions.PoincareNormal(self.zero, scale, self.curvature)
