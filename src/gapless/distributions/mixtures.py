"""Mixtures."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from gapless.distributions.seeded import Seeded
from gapless.randomness import noise

__all__ = ["Mixture"]

PIECE = 2**23
"""Most values (rows x components x features) that are looked at in one go."""


class Mixture(Seeded):
    """`p(z) = sum_k w_k p_k(z)`: draws choose a component by its weight, then a point of it.

    Args:
        logits: logarithms of the weights up to a constant, shape (components,).
        components: batch_shape (components,), event_shape (d,), `sample(shape, generator)`.

    >>> from gapless.distributions import DiagonalNormal
    >>> Mixture(torch.zeros(2), DiagonalNormal(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))).mean
    tensor([0.])
    """

    def __init__(self, logits: Tensor, components: Distribution):
        self.logits, self.components = logits, components
        super().__init__(components.event_shape)

    @property
    def weights(self) -> Tensor:
        """Shape (components,), they sum to 1."""
        return self.logits.softmax(0)

    @property
    def mean(self) -> Tensor:
        return self.weights @ self.components.mean

    @property
    def variance(self) -> Tensor:
        between = (self.components.mean - self.mean).square()
        return self.weights @ (self.components.variance + between)

    @property
    def stddev(self) -> Tensor:
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """The component's mean of highest density: the mode itself lies near it, in no closed form."""
        means = self.components.mean
        return means[self.log_prob(means).argmax()]

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws without gradient, shape (*sample_shape, d)."""
        with torch.no_grad():
            uniform = noise(torch.rand, sample_shape, like=self.logits, generator=generator).flatten()
            ends = self.weights.cumsum(0)
            chosen = torch.searchsorted(ends / ends[-1], uniform, right=True).clamp_max(len(ends) - 1)
            # The r-th draw of a component takes the r-th of the points that were drawn of every component.
            order = chosen.argsort(stable=True)
            counts = chosen.bincount(minlength=len(ends))
            firsts = (counts.cumsum(0) - counts)[chosen[order]]
            rank = torch.empty_like(chosen)
            rank[order] = torch.arange(len(chosen), device=chosen.device) - firsts
            components: Any = self.components
            points = components.sample((int(counts.max()),), generator=generator)
            return points[rank, chosen].reshape(*sample_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats: (*samples, d) -> (*samples,); in pieces, so that memory is bounded."""
        rows, each = value.reshape(-1, value.shape[-1]), max(1, PIECE // (len(self.logits) * value.shape[-1]))
        return torch.cat([self._of_rows(piece) for piece in rows.split(each)]).reshape(value.shape[:-1])

    def _of_rows(self, rows: Tensor) -> Tensor:
        return (self.components.log_prob(rows[:, None]) + self.logits.log_softmax(0)).logsumexp(-1)
