"""Normal priors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import distributions
from gapless.priors.prior import Prior

__all__ = ["LearnedNormal", "StandardNormal"]


def bounded_scale(raw: Tensor, bound: float) -> Tensor:
    """`exp(bound * tanh(raw / bound))`, a scale that cannot overflow."""
    return torch.exp(bound * torch.tanh(raw / bound))


def raw_scale(scale: Tensor, bound: float) -> Tensor:
    """What `bounded_scale` makes this scale of; scales at the bound or beyond come just inside it."""
    return bound * torch.atanh((scale.log() / bound).clamp(-0.999, 0.999))


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


class LearnedNormal(Prior):
    """`p(z) = N(loc, diag(scale^2))` with a loc and a scale that are trained; it starts as the standard normal.

    Args:
        latent: number of latent features, at least 1.
        bound: the largest absolute log scale in nats, above 0.

    >>> LearnedNormal(2)().scale.tolist()
    [1.0, 1.0]
    """

    def __init__(self, latent: int, bound: float = 10.0):
        super().__init__()
        self.latent, self.bound = latent, bound
        self.loc, self.raw = (nn.Parameter(torch.zeros(latent)) for _ in range(2))

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.DiagonalNormal:
        return distributions.DiagonalNormal(self.loc, bounded_scale(self.raw, self.bound))
