"""Flow priors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from gapless import distributions
from gapless.distributions.bijections import stacked
from gapless.errors import UsageError
from gapless.priors.prior import Prior

__all__ = ["Flow"]

KINDS = {
    "maf": "autoregressive", "nsf": "autoregressive-spline", "coupling": "coupling", "spline": "coupling-spline",
}  # fmt: skip
"""Masked autoregressive, Papamakarios et al. (2017); neural spline, Durkan et al. (2019), autoregressive and coupling;
affine couplings, Dinh et al. (2017)."""


class Flow(Prior):
    """A flow whose density takes one pass: `p(z) = N(g(y)) |det g'(y)| / prod scale`, y = (z - loc) / scale.

    Chen et al. (2017). Draws take a pass for couplings, a pass a latent feature for autoregressive bijections. loc
    and scale are constants, 0 and 1 unless `standardize` sets them: splines bend [-5, 5] alone.

    Args:
        latent: number of latent features, at least 1.
        bijection: maf, nsf, coupling or spline.
        transforms: how many bijections, one after another, at least 1.
        hidden: units of each bijection's hidden layers.

    >>> Flow(2, "coupling")().sample((3,)).shape
    torch.Size([3, 2])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: int, bijection: str = "nsf", *, transforms: int = 3, hidden: Sequence[int] = (64, 64)):
        super().__init__()
        if bijection not in KINDS:
            raise UsageError(f"there is no flow prior {bijection!r}", fix=f"use one of {', '.join(KINDS)}")
        self.latent, self.bijection, self.transforms, self.hidden = latent, bijection, transforms, tuple(hidden)
        self.flow = stacked(KINDS[bijection], latent, context=0, transforms=transforms, hidden=hidden)
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    def standardize(self, codes: Tensor) -> None:
        """Let the flow work in units of these codes, shape (n, latent)."""
        self.loc.copy_(codes.mean(0))
        self.scale.copy_(codes.std(0).clamp_min(1e-6))

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.Flowed:
        return distributions.Flowed(self.loc, self.scale, self.flow(None).inv)
