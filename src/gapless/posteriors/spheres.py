"""Directions."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gapless import distributions
from gapless.errors import UsageError
from gapless.posteriors.posterior import Posterior

__all__ = ["VonMisesFisher"]


class VonMisesFisher(Posterior):
    """`q(z|x) = vMF(mu, kappa)` on the unit sphere of d = latent dimensions: Davidson et al. (2018).

    The embedding is the direction mu, a point of the sphere, which the decoder knows; the mean in space lies inside
    the ball, where no draw ever is. The concentration is `kappa = d exp(bound * tanh(raw / bound))`: it starts near d,
    where the mean in space has a length of about 0.6 whatever d is (at kappa = 1 and many dimensions a code would say
    nothing, and nothing would be learned), it can come as near to uniform as it likes, and it cannot overflow.

    Args:
        bound: the largest absolute logarithm of kappa / d, above 0 and at most 12; 9 allows 1.2e-4 to 8.1e3.

    >>> VonMisesFisher()(torch.ones(5, 4)).mean.norm(dim=-1).round(decimals=3)
    tensor([1., 1., 1., 1., 1.])
    """

    def __init__(self, bound: float = 9.0):
        super().__init__()
        if not 0 < bound <= 12:  # beyond, float64 no longer holds the slope of A
            raise UsageError(f"the bound of the logarithm of a concentration lies above 0, at most at 12; got {bound}")
        self.bound = bound

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        if latent < 2:
            raise UsageError(f"directions need at least 2 latent features; got {latent}", fix="use --latent 2 or more")
        return (latent + 1,)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.VonMisesFisher:
        raw, way = parameters[:, 0], parameters[:, 1:]
        # Lengths do not matter: dividing by the largest entry keeps squares from overflowing.
        largest = way.detach().abs().amax(-1, keepdim=True)
        direction = functional.normalize(way / largest.clamp_min(torch.finfo(way.dtype).tiny), dim=-1)
        kappa = way.shape[-1] * torch.exp(self.bound * torch.tanh(raw / self.bound))
        return distributions.VonMisesFisher(direction, kappa)
