"""Distributions on the Poincare ball: hyperbolic space in coordinates z with `c |z|^2 < 1`, of curvature -c."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gapless.distributions.normals import DiagonalNormal
from gapless.distributions.seeded import Located

__all__ = ["PoincareNormal"]

_TINY = 1e-7


def mobius_sum(a: Tensor, b: Tensor, curvature: float) -> Tensor:
    """`a (+) b` on the ball: the Mobius sum, Ganea et al. (2018), section 2."""
    product = 2 * curvature * (a * b).sum(-1, keepdim=True)
    size_a, size_b = (curvature * v.square().sum(-1, keepdim=True) for v in (a, b))
    return ((1 + product + size_b) * a + (1 - size_a) * b) / (1 + product + size_a * size_b).clamp_min(_TINY**2)


def from_centre(v: Tensor, curvature: float) -> Tensor:
    """The point at geodesic distance |v| from 0 in the direction of v: `exp_0(v / 2)`, kept off the ball's rim."""
    radius = curvature**0.5 * _norm(v)
    return (0.5 * radius).tanh().clamp_max(_rim(v)) * v / radius


def vector_to(z: Tensor, loc: Tensor, curvature: float) -> Tensor:
    """`v = lambda(loc) log_loc(z)`: as long as the geodesic from loc to z, and in its direction there.

    Written in the difference z - loc, for near the rim the sum `(-loc) (+) z` cancels to nothing in single precision:
    with h(a) = 1 - c |a|^2 and D = h(loc) h(z) + c |z - loc|^2 the length is `2 / sqrt(c) asinh(sqrt(c / (h h)) |z -
    loc|)` and the direction `(h(loc) (z - loc) / |z - loc| - c |z - loc| loc) / sqrt(D)`.
    """
    size = _norm(z - loc)
    here, there = _depth(loc, curvature), _depth(z, curvature)
    length = 2 / curvature**0.5 * (curvature**0.5 * size / (here * there).sqrt()).asinh()
    direction = here * (z - loc) / size - curvature * size * loc
    return length * direction / (here * there + curvature * size.square()).sqrt()


class PoincareNormal(Located):
    """The wrapped normal: `z = exp_loc(v / lambda(loc))`, `v ~ N(0, diag(scale^2))`: Mathieu et al. (2019), section 3.

    `lambda(z) = 2 / (1 - c |z|^2)`; |v| is the geodesic distance r of z from loc. The density is that of the
    coordinates z (Lebesgue), the paper's times `lambda(z)^d`:
    `log p(z) = log N(v; 0, scale^2) + (d - 1) log(sqrt(c) r / sinh(sqrt(c) r)) + d log lambda(z)`.
    As c goes to 0 it becomes `N(loc, diag(scale^2) / 4)`, for lengths near 0 are twice those of the coordinates.

    Args:
        loc: the Frechet mean (that of the coordinates lies nearer to 0), and where the density on the ball itself is
            highest: a point of the ball, shape (*batch, latent).
        scale: standard deviations of v, in geodesic lengths, broadcastable to `loc`, above 0.
        curvature: c, above 0.

    >>> PoincareNormal(torch.zeros(3, 2), torch.ones(3, 2)).log_prob(torch.zeros(3, 2)).exp()
    tensor([0.6366, 0.6366, 0.6366])
    """

    def __init__(self, loc: Tensor, scale: Tensor, curvature: float = 1.0):
        self.loc, self.scale, self.curvature = loc, scale, curvature
        self.tangent = DiagonalNormal(torch.zeros_like(loc), scale)
        super().__init__(loc.shape)

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of the coordinates where it is small: scale / lambda(loc)."""
        return (self.scale / self._stretch(self.loc)[..., None]).expand_as(self.loc)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, latent)."""
        moved = from_centre(self.tangent.rsample(sample_shape, generator), self.curvature)
        return _inside(mobius_sum(self.loc, moved, self.curvature), self.curvature)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of the coordinates in nats, shape (*samples, *batch); minus infinity outside the ball."""
        v, latent = vector_to(value, self.loc, self.curvature), self.loc.shape[-1]
        radius = self.curvature**0.5 * _norm(v)[..., 0]
        # log(r / sinh r), without an overflow of sinh
        bent = (2 * radius).log() - radius - (-torch.expm1(-2 * radius)).log()
        density = self.tangent.log_prob(v) + (latent - 1) * bent + latent * self._stretch(value).log()
        return density.where(self.curvature * value.square().sum(-1) < 1, -torch.inf)

    def _stretch(self, z: Tensor) -> Tensor:
        """lambda(z), shape of z without its last axis."""
        return 2 / _depth(z, self.curvature)[..., 0]


def _norm(v: Tensor) -> Tensor:
    """|v|, shape (..., 1), above 0: the quotients it stands in have their limits at 0."""
    return torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min(_TINY)


def _depth(z: Tensor, curvature: float) -> Tensor:
    """`1 - c |z|^2`, shape (..., 1), above 0."""
    size = curvature**0.5 * torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    return ((1 - size) * (1 + size)).clamp_min(1 - _rim(z))


def _rim(like: Tensor) -> float:
    """How near to the rim of the unit ball a point may lie so that its place is still known to some digits."""
    return 1 - 100 * torch.finfo(like.dtype).eps


def _inside(z: Tensor, curvature: float) -> Tensor:
    return z * (_rim(z) / (curvature**0.5 * _norm(z))).clamp_max(1.0)
