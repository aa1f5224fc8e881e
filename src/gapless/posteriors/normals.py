"""Normal posteriors: diagonal, with covariances, and their limit of scale 0."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gapless import distributions
from gapless.errors import UsageError
from gapless.posteriors.posterior import Posterior

__all__ = ["DiagonalNormal", "FullNormal", "LowRankNormal", "PointMass"]


def bounded(raw: Tensor, bound: float) -> Tensor:
    """`bound * tanh(raw / bound)`: the value itself near 0, and inside [-bound, bound] whatever comes."""
    return bound * torch.tanh(raw / bound)


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
        return distributions.DiagonalNormal(loc, bounded(raw, self.bound).exp())


class FullNormal(Posterior):
    """`q(z|x) = N(loc, L L^T)` with a full covariance: Kingma & Welling (2019), section 2.5.1.

    Row j of L is `scale_j (t_j1, ..., t_j,j-1, 1, 0, ..., 0)`: scale_j is the spread that feature j has of its own,
    t_jk how many times as much it has from the noise of feature k. Logarithms of scales and t are bounded as in
    `DiagonalNormal`. The encoder puts out loc, the scales, and the t of each row in turn.

    Args:
        bound: the largest absolute log scale in nats and the largest |t|, above 0.

    >>> FullNormal().parameter_shape(3)
    (9,)
    """

    def __init__(self, bound: float = 10.0):
        super().__init__()
        self.bound = bound

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        return (latent * (latent + 3) // 2,)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.FullNormal:
        latent = _latent_of(parameters.shape[-1])
        loc, raw, below = parameters.split([latent, latent, latent * (latent - 1) // 2], dim=-1)
        rows, columns = torch.tril_indices(latent, latent, -1, device=parameters.device)
        unit = torch.eye(latent, dtype=loc.dtype, device=loc.device).repeat(*loc.shape[:-1], 1, 1)
        unit[..., rows, columns] = bounded(below, self.bound)
        return distributions.FullNormal(loc, bounded(raw, self.bound).exp()[..., None] * unit)


def _latent_of(parameters: int) -> int:
    """d of `d (d + 3) / 2` parameters."""
    return (math.isqrt(9 + 8 * parameters) - 3) // 2


class LowRankNormal(Posterior):
    """`q(z|x) = N(loc, diag(scale^2) + F F^T)`, F of a few columns: the factor covariance of Ong et al. (2018).

    `F = scale * t`: t_jk is how many times as much spread feature j has from the k-th shared noise as it has of its
    own. Logarithms of scales and t are bounded as in `DiagonalNormal`. The encoder puts out loc, the scales, and t.

    Args:
        rank: columns of F, at least 1.
        bound: the largest absolute log scale in nats and the largest |t|, above 0.

    >>> LowRankNormal(2).parameter_shape(3)
    (12,)
    """

    def __init__(self, rank: int = 1, bound: float = 10.0):
        super().__init__()
        if rank < 1:
            raise UsageError(f"a low-rank normal needs a rank of at least 1; got {rank}")
        self.rank, self.bound = rank, bound

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        return (latent * (2 + self.rank),)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.LowRankNormal:
        latent = parameters.shape[-1] // (2 + self.rank)
        loc, raw, shared = parameters.split([latent, latent, latent * self.rank], dim=-1)
        scale = bounded(raw, self.bound).exp()
        factor = scale[..., None] * bounded(shared, self.bound).unflatten(-1, (latent, self.rank))
        return distributions.LowRankNormal(loc, scale, factor)
