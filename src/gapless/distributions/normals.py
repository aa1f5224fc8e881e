"""Normal distributions: independent features, any covariance, and a covariance of low rank beside a diagonal."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from gapless.distributions.factorized import Factorized, reparameterize
from gapless.distributions.seeded import Located
from gapless.randomness import noise

__all__ = ["DiagonalNormal", "FullNormal", "LowRankNormal"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class DiagonalNormal(Located, Factorized):
    """Normal with independent features: `N(loc, diag(scale^2))`, log-density summed over the event.

    Args:
        loc: mean, shape (*batch, *event).
        scale: standard deviation, broadcastable to `loc`, above 0.
        event_dims: how many trailing axes make one example.

    >>> DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2)).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    def __init__(self, loc: Tensor, scale: Tensor, *, event_dims: int = 1):
        self.loc, self.scale = loc, scale
        super().__init__(loc, event_dims)

    @property
    def stddev(self) -> Tensor:
        return self.scale.expand_as(self.loc)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, *event)."""
        return reparameterize(self.loc, self.scale, self._noise(sample_shape, self.loc, generator, torch.randn))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, summed over the event: shape (*batch,)."""
        if self.scale.dim() == 0:  # one scale for all: it is applied to sums
            squares = self._sum((value - self.loc).square())
            return -0.5 * squares / self.scale.square() - self.event_shape.numel() * (self.scale.log() + _HALF_LOG_2PI)
        return self._sum(self.log_prob_per_feature(value))

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-density of each feature in nats, shape (*samples, *batch, *event)."""
        standardised = (value - self.loc) / self.scale
        return -(0.5 * standardised.square() + self.scale.log() + _HALF_LOG_2PI)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (*batch,)."""
        return self._sum(self.stddev.log() + 0.5 + _HALF_LOG_2PI)


class Correlated(Located):
    """A normal distribution over vectors whose features depend on each other.

    To add one: keep `loc`, call the constructor with it, and write `rsample`, `stddev`, `_squares` and `log_volume`.

    Args:
        loc: mean, shape (*batch, d).
    """

    def __init__(self, loc: Tensor):
        self.loc = loc
        super().__init__(loc.shape)

    @property
    @abstractmethod
    def log_volume(self) -> Tensor:
        """Half the logarithm of the covariance's determinant, shape (*batch,)."""

    @abstractmethod
    def _squares(self, deviations: Tensor) -> Tensor:
        """Squared Mahalanobis lengths of deviations from the mean: (m, *batch, d) -> (m, *batch)."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape (*samples, *batch)."""
        deviations = value - self.loc
        squares = self._squares(deviations.reshape(-1, *self.loc.shape)).reshape(deviations.shape[:-1])
        return -0.5 * squares - self.log_volume - self.event_shape[0] * _HALF_LOG_2PI

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (*batch,)."""
        return self.log_volume + self.event_shape[0] * (0.5 + _HALF_LOG_2PI)


class FullNormal(Correlated):
    """Normal with any covariance `L L^T`: a draw is `z = loc + L eps`, eps ~ N(0, I).

    Args:
        loc: mean, shape (*batch, d).
        factor: L, lower triangular with a diagonal above 0, shape (*batch, d, d).

    >>> FullNormal(torch.zeros(3, 2), torch.eye(2).expand(3, 2, 2)).entropy()
    tensor([2.8379, 2.8379, 2.8379])
    """

    def __init__(self, loc: Tensor, factor: Tensor):
        self.factor = factor
        super().__init__(loc)

    @property
    def stddev(self) -> Tensor:
        return torch.linalg.vector_norm(self.factor, dim=-1)

    @property
    def log_volume(self) -> Tensor:
        return self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, d)."""
        eps = noise(torch.randn, (*sample_shape, *self.loc.shape), like=self.loc, generator=generator)
        return self.loc + (self.factor @ eps[..., None])[..., 0]

    def _squares(self, deviations: Tensor) -> Tensor:
        columns = deviations.movedim(0, -1)  # one solution for all draws of an item
        return torch.linalg.solve_triangular(self.factor, columns, upper=False).square().sum(-2).movedim(-1, 0)


class LowRankNormal(Correlated):
    """Normal with the covariance `diag(scale^2) + F F^T`: `z = loc + scale * eps + F eta`, both noises N(0, I).

    Args:
        loc: mean, shape (*batch, d).
        scale: standard deviation of what is independent, above 0, shape (*batch, d).
        factor: F, shape (*batch, d, rank).

    >>> LowRankNormal(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2, 1)).stddev
    tensor([[1.4142, 1.4142]])
    """

    def __init__(self, loc: Tensor, scale: Tensor, factor: Tensor):
        self.scale, self.factor = scale, factor
        super().__init__(loc)

    @property
    def stddev(self) -> Tensor:
        return torch.linalg.vector_norm(torch.cat([self.scale[..., None], self.factor], -1), dim=-1)

    @property
    def log_volume(self) -> Tensor:
        """`sum log scale + 1/2 log det(I + W^T W)`, W = F / scale: the matrix determinant lemma."""
        return self.scale.log().sum(-1) + self._root.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, d)."""
        own = noise(torch.randn, (*sample_shape, *self.loc.shape), like=self.loc, generator=generator)
        shape = (*sample_shape, *self.loc.shape[:-1], self.factor.shape[-1])
        shared = noise(torch.randn, shape, like=self.loc, generator=generator)
        return reparameterize(self.loc, self.scale, own) + (self.factor @ shared[..., None])[..., 0]

    @property
    def _white(self) -> Tensor:
        return self.factor / self.scale[..., None]

    @property
    def _root(self) -> Tensor:
        """Cholesky factor of `I + W^T W`, shape (*batch, rank, rank)."""
        eye = torch.eye(self.factor.shape[-1], dtype=self.factor.dtype, device=self.factor.device)
        return torch.linalg.cholesky(eye + self._white.mT @ self._white)

    def _squares(self, deviations: Tensor) -> Tensor:
        # min over t of |y - W t|^2 + |t|^2: Woodbury's identity without its difference of large squares.
        white, columns = self._white, (deviations / self.scale).movedim(0, -1)
        shared = torch.cholesky_solve(white.mT @ columns, self._root)
        return ((columns - white @ shared).square().sum(-2) + shared.square().sum(-2)).movedim(-1, 0)
