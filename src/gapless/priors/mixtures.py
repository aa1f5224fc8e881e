"""Mixtures of normals."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import distributions
from gapless.errors import UsageError
from gapless.priors.normals import bounded_scale, raw_scale
from gapless.priors.prior import Prior

__all__ = ["Mixture"]

COVARIANCES = ("diagonal", "full")


class Mixture(Prior):
    """`p(z) = sum_k w_k N(z; loc_k, L_k L_k^T)` with weights, locs and factors that are trained.

    It starts with equal weights and unit covariances about points drawn from N(0, I).

    Args:
        latent: number of latent features, at least 1.
        components: K, at least 1.
        covariance: "diagonal", L_k = diag(scale_k), or "full", L_k = diag(scale_k) (I + T_k), T_k lower triangular.
        bound: the largest absolute log scale in nats, above 0.

    >>> Mixture(2, 5)().sample((3,)).shape
    torch.Size([3, 2])
    """

    def __init__(self, latent: int, components: int = 10, *, covariance: str = "diagonal", bound: float = 10.0):
        super().__init__()
        if components < 1:
            raise UsageError(f"a mixture needs at least 1 component; got {components}")
        if covariance not in COVARIANCES:
            raise UsageError(f"a mixture's covariance is one of {', '.join(COVARIANCES)}; got {covariance!r}")
        self.latent, self.components, self.covariance, self.bound = latent, components, covariance, bound
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent))
        self.raw = nn.Parameter(torch.zeros(components, latent))
        if covariance == "full":
            self.below = nn.Parameter(torch.zeros(components, latent * (latent - 1) // 2))

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.Mixture:
        return distributions.Mixture(self.logits, self._normals())

    def _normals(self) -> Distribution:
        scale = bounded_scale(self.raw, self.bound)
        if self.covariance == "diagonal":
            return distributions.DiagonalNormal(self.loc, scale)
        rows, columns = torch.tril_indices(self.latent, self.latent, -1, device=scale.device)
        unit = torch.eye(self.latent, dtype=scale.dtype, device=scale.device).repeat(self.components, 1, 1)
        unit[:, rows, columns] = self.below
        return distributions.FullNormal(self.loc, scale[..., None] * unit)

    @torch.no_grad()
    def become(self, weights: Any, loc: Any, factor: Any) -> None:
        """Take the values of a fitted mixture.

        Args:
            weights: shape (components,), they sum to 1.
            loc: shape (components, latent).
            factor: L_k, lower triangular, shape (components, latent, latent); diagonal for a diagonal covariance.
        """
        weights, loc, factor = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, loc, factor))
        scale = factor.diagonal(dim1=-2, dim2=-1)
        self.logits.copy_(weights.clamp_min(torch.finfo(self.logits.dtype).tiny).log())
        self.loc.copy_(loc)
        self.raw.copy_(raw_scale(scale, self.bound))
        if self.covariance == "full":
            rows, columns = torch.tril_indices(self.latent, self.latent, -1)
            self.below.copy_((factor / scale[..., None])[:, rows, columns])
