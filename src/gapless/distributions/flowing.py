"""Distributions that are standard normal noise pushed through a function; flows, whose function can be inverted."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform

from gapless.distributions.normals import DiagonalNormal
from gapless.distributions.seeded import Reparameterized, Seeded
from gapless.randomness import noise

__all__ = ["Flowed"]

LEAST_POINTS = 64


class Pushed(Seeded):
    """`z = push(u)`, u ~ N(0, I).

    To add one: set `noise`, the number of features of u, and write `push` and `log_prob`.
    """

    noise: int

    @abstractmethod
    def push(self, u: Tensor) -> Tensor:
        """Noise (*samples, *batch, noise) -> draws (*samples, *batch, d)."""

    @property
    def mean(self) -> Tensor:
        return self._moments[0]

    @property
    def stddev(self) -> Tensor:
        return self._moments[1]

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws without gradient, shape (*sample_shape, *batch, d)."""
        with torch.no_grad():
            return self.push(self._drawn_noise(sample_shape, generator))

    def _drawn_noise(self, sample_shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        shape = (*sample_shape, *self.batch_shape, self.noise)
        return noise(torch.randn, shape, like=self._like, generator=generator)

    @property
    @abstractmethod
    def _like(self) -> Tensor:
        """A tensor of the type and on the device of the noise."""

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation by fixed points of the noise: exact where `push` is affine, the same always."""
        points = fixed_points(self.noise).to(self._like)
        shape = (len(points), *self.batch_shape, self.noise)
        pushed = self.push(points.reshape(-1, *[1] * len(self.batch_shape), self.noise).expand(shape))
        return pushed.mean(0), pushed.var(0, unbiased=False).sqrt()


class Flowed(Reparameterized, Pushed):
    """A normalizing flow, `z = loc + scale f(u)`, u ~ N(0, I): `log q(z) = log N(u) - log |det f'(u)| - sum log scale`.

    Rezende & Mohamed (2015), section 3. `loc` and `scale` come last, so that f works in standard units. The density of
    the last draws, given as the very tensor that `rsample` returned, uses the noise they were made of: it is exact
    and costs nothing, its gradient is the one along the path. Any other value is inverted: exact too, one pass for
    couplings, a pass a feature for an autoregressive f, a search for the root of a scalar equation for a planar f.

    Args:
        loc: shape (*batch, d).
        scale: above 0, shape (*batch, d).
        transform: f, a bijection of vectors of d features with `inv` and `call_and_ladj`, as zuko's.

    >>> from torch.distributions import ExpTransform, IndependentTransform
    >>> import zuko  # gives every transform its call_and_ladj
    >>> q = Flowed(torch.zeros(3, 2), torch.ones(3, 2), IndependentTransform(ExpTransform(), 1))
    >>> q.log_prob(torch.ones(3, 2))
    tensor([-1.8379, -1.8379, -1.8379])
    """

    def __init__(self, loc: Tensor, scale: Tensor, transform: Transform):
        self.loc, self.scale, self.transform = loc, scale, transform
        self.noise = loc.shape[-1]
        self._last: tuple[Tensor, Tensor] | None = None
        super().__init__(loc.shape)

    @property
    def _like(self) -> Tensor:
        return self.loc

    def push(self, u: Tensor) -> Tensor:
        transform: Any = self.transform
        return self.loc + self.scale * transform(u)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, d)."""
        u = self._drawn_noise(sample_shape, generator)
        transform: Any = self.transform
        y, stretch = transform.call_and_ladj(u)
        z = self.loc + self.scale * y
        self._last = (z, self._density(u, stretch))
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape (*samples, *batch)."""
        if self._last is not None and value is self._last[0] and (value.requires_grad or not torch.is_grad_enabled()):
            return self._last[1]
        y = (value - self.loc) / self.scale
        back: Any = self.transform.inv
        u, shrinkage = back.call_and_ladj(y)
        return self._density(u, -shrinkage)

    def _density(self, u: Tensor, stretch: Tensor) -> Tensor:
        base = DiagonalNormal(torch.zeros_like(self.loc), torch.ones_like(self.loc))
        return base.log_prob(u) - stretch - self.scale.log().sum(-1)


@cache
def fixed_points(features: int) -> Tensor:
    """Points of noise that stand for N(0, I), shape (points, features), float64, always the same.

    Scrambled Sobol points of a fixed seed through the normal quantile, with their mirror images, whitened: mean 0 and
    covariance I exactly, so means and standard deviations of affine functions are exact.
    """
    count = max(LEAST_POINTS, 2 * features)
    sobol = torch.quasirandom.SobolEngine(features, scramble=True, seed=0).draw(count, dtype=torch.float64)
    half = torch.special.ndtri(sobol.clamp(1e-9, 1 - 1e-9))
    root = torch.linalg.cholesky(half.mT @ half / count)
    white = torch.linalg.solve_triangular(root, half.mT, upper=False).mT
    return torch.cat([white, -white])
