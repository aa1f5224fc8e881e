"""Distributions made of others: features of several kinds side by side, and features that were not all observed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gapless.distributions.factorized import Factorized

__all__ = ["Masked", "Mixed"]


class Mixed(Factorized):
    """Features of several kinds: `log p(x) = sum_k log p_k(x_k)`, each group k of features with its own distribution.

    Args:
        parts: p_k, each with event_shape (features of the group,).
        places: for every feature of the event, where it stands in the groups one after another; shape (features,).

    >>> from gapless.distributions import Bernoulli, DiagonalNormal
    >>> parts = Bernoulli(torch.zeros(3, 1)), DiagonalNormal(torch.ones(3, 2), torch.ones(()))
    >>> Mixed(parts, torch.tensor([1, 0, 2])).mean[0]
    tensor([1.0000, 0.5000, 1.0000])
    """

    def __init__(self, parts: Sequence[Factorized], places: Tensor):
        self.parts, self.places = tuple(parts), places
        self._order = places.argsort()
        super().__init__(_of_shape((*parts[0].batch_shape, len(places))), 1)

    def split(self, value: Tensor) -> list[Tensor]:
        """The features of each part, shapes (*samples, *batch, features of the group)."""
        sizes = [part.event_shape[0] for part in self.parts]
        return list(value.index_select(-1, self._order).split(sizes, -1))

    @property
    def mean(self) -> Tensor:
        return self._joined(lambda part: part.mean)

    @property
    def mode(self) -> Tensor:
        return self._joined(lambda part: part.mode)

    @property
    def stddev(self) -> Tensor:
        return self._joined(lambda part: part.stddev)

    @property
    def variance(self) -> Tensor:
        return self._joined(lambda part: part.variance)

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws without gradient, shape (*sample_shape, *batch, features)."""
        return self._joined(lambda part: part.sample(sample_shape, generator))  # pyright: ignore[reportCallIssue]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, summed over the features: shape (*samples, *batch)."""
        scored = [part.log_prob(some) for part, some in zip(self.parts, self.split(value), strict=True)]
        return torch.stack(scored).sum(0)

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-density of each feature in nats, shape (*samples, *batch, features)."""
        some = iter(self.split(value))
        return self._joined(lambda part: part.log_prob_per_feature(next(some)))

    def _joined(self, of: Callable[[Factorized], Tensor]) -> Tensor:
        return torch.cat([of(part) for part in self.parts], -1).index_select(-1, self.places)


class Masked(Factorized):
    """Values that are not a number were not observed: `log p(x_obs) = sum of log p(x_j) over the observed j`.

    Exact for independent features: what was not observed is integrated out. Mattei & Frellsen (2019).

    Args:
        likelihood: of all features.

    >>> from gapless.distributions import DiagonalNormal
    >>> Masked(DiagonalNormal(torch.zeros(1, 2), torch.ones(()))).log_prob(torch.tensor([[0.0, torch.nan]]))
    tensor([-0.9189])
    """

    def __init__(self, likelihood: Factorized):
        self.likelihood = likelihood
        super().__init__(_of_shape((*likelihood.batch_shape, *likelihood.event_shape)), len(likelihood.event_shape))

    @property
    def mean(self) -> Tensor:
        return self.likelihood.mean

    @property
    def mode(self) -> Tensor:
        return self.likelihood.mode

    @property
    def stddev(self) -> Tensor:
        return self.likelihood.stddev

    @property
    def variance(self) -> Tensor:
        return self.likelihood.variance

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws of all features, without gradient, shape (*sample_shape, *batch, *event)."""
        return self.likelihood.sample(sample_shape, generator)  # pyright: ignore[reportCallIssue]

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-density of each feature in nats, 0 where it was not observed: shape (*samples, *batch, *event)."""
        # Filled before and masked after: a gradient through the log-density of NaN would be NaN, masked or not.
        missing = value.isnan()
        filled = torch.where(missing, self.likelihood.mode.detach(), value)
        return self.likelihood.log_prob_per_feature(filled).masked_fill(missing, 0.0)


def _of_shape(shape: Sequence[Any]) -> Tensor:  # of symbols, too, while a decoder is exported
    return torch.empty(shape, device="meta")
