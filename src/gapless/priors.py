"""Distributions p(z) with parameters of their own."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from gapless import distributions
from gapless.parts import Part

__all__ = ["Prior", "StandardNormal"]


class Prior(Part, ABC):
    """A distribution over codes. `latent` is the number of latent features.

    To add one: return a distribution of event_shape (latent,) from `forward`. A prior that shares the encoder
    (VampPrior) uses the `encode` it is handed and keeps only what is its own, so that nothing is saved twice.
    """

    latent: int

    @abstractmethod
    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> Distribution:
        """p(z) with batch_shape () and event_shape (latent,).

        Args:
            encode: the model's own `encode`, for priors made of posteriors; the others ignore it.
        """


class StandardNormal(Prior):
    """`p(z) = N(0, I)`.

    Args:
        latent: number of latent features, at least 1.

    >>> StandardNormal(3)().event_shape
    torch.Size([3])
    """

    zero: Tensor

    def __init__(self, latent: int):
        super().__init__()
        self.latent = latent
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.DiagonalNormal:
        return distributions.DiagonalNormal(self.zero, torch.ones_like(self.zero))
