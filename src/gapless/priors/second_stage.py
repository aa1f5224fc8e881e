"""The prior that a second VAE makes of codes."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless.distributions import DiagonalNormal
from gapless.distributions.flowing import Pushed
from gapless.parts import Part
from gapless.priors.normals import bounded_scale, raw_scale
from gapless.priors.prior import Prior

__all__ = ["SecondStage"]

DRAWS = 32


class SecondStage(Prior):
    """`p(z) = E_{u ~ N(0, I)} N(z; g(u), diag(scale^2))`, g the decoder of a VAE trained on codes: Dai & Wipf (2019).

    Draws are exact. The density is an integral over u: `log_prob` gives an importance-weighted bound on it, Burda et
    al. (2016), eq. 8, by the second VAE's own encoder and 32 draws of its noise that never change: at most log p(z)
    on average over such sets of draws. `densities.fit` makes one; loc and spread are the units the second VAE works in.

    Args:
        latent: number of latent features, those of u too, at least 1.
        encoder: network from (latent,) to (2 latent,): loc and raw log scale of q(u|z).
        decoder: network from (latent,) to (latent,).
        bound: the largest absolute log scale in nats, above 0.
    """

    loc: Tensor
    spread: Tensor

    def __init__(self, latent: int, encoder: Part, decoder: Part, bound: float = 10.0):
        super().__init__()
        self.latent, self.encoder, self.decoder, self.bound = latent, encoder, decoder, bound
        self.raw = nn.Parameter(torch.zeros(latent))
        self.register_buffer("loc", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))

    def become(self, loc: Tensor, spread: Tensor, scale: Tensor) -> None:
        """Take the units of the second VAE and the scale of its likelihood, shape (latent,) each."""
        with torch.no_grad():
            self.loc.copy_(loc)
            self.spread.copy_(spread)
            self.raw.copy_(raw_scale(scale, self.bound))

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> Distribution:
        return _Decoded(self)


class _Decoded(Pushed):
    """Noise (u, eps) -> loc + spread * (g(u) + scale * eps)."""

    def __init__(self, stage: SecondStage):
        self.stage = stage
        self.noise = 2 * stage.latent
        super().__init__((stage.latent,))

    @property
    def _like(self) -> Tensor:
        return self.stage.loc

    @property
    def _scale(self) -> Tensor:
        return bounded_scale(self.stage.raw, self.stage.bound)

    def push(self, u: Tensor) -> Tensor:
        code, eps = u.chunk(2, dim=-1)
        return self.stage.loc + self.stage.spread * (self._decode(code) + self._scale * eps)

    def log_prob(self, value: Tensor) -> Tensor:
        """The importance-weighted bound on the log-density in nats, (*samples, d) -> (*samples,)."""
        y = (value - self.stage.loc) / self.stage.spread
        loc, raw = self.stage.encoder(y.reshape(-1, y.shape[-1])).reshape(*y.shape[:-1], -1).chunk(2, dim=-1)
        q = DiagonalNormal(loc, bounded_scale(raw, self.stage.bound))
        points = _draws(self.stage.latent).to(y)
        u = q.loc + q.scale * points.reshape(len(points), *[1] * (loc.dim() - 1), -1)
        prior = DiagonalNormal(torch.zeros_like(u), torch.ones_like(u))
        likelihood = DiagonalNormal(self._decode(u), self._scale)
        log_weights = likelihood.log_prob(y) + prior.log_prob(u) - q.log_prob(u)
        return log_weights.logsumexp(0) - math.log(len(points)) - self.stage.spread.log().sum()

    def _decode(self, u: Tensor) -> Tensor:
        return self.stage.decoder(u.reshape(-1, u.shape[-1])).reshape(*u.shape[:-1], -1)


@cache
def _draws(features: int) -> Tensor:
    """Noise of shape (draws, features), always the same."""
    return torch.randn(DRAWS, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
