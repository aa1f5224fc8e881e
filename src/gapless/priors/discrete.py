"""Distributions over the codes of the posterior's codebook."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import distributions
from gapless.distributions import Codebook
from gapless.errors import UsageError
from gapless.priors.prior import Prior

__all__ = ["LearnedCodes", "UniformCodes"]


class UniformCodes(Prior):
    """Every code of the posterior's codebook alike: `p(z) = prod_s 1 / K_s`, van den Oord et al. (2017), section 3.1.

    The codes are the posterior's: the model joins the two.

    Args:
        latent: number of latent features.

    >>> from gapless import posteriors
    >>> UniformCodes(6).join(posteriors.RelaxedCategorical(3))().sample((4,)).sum(-1)
    tensor([2., 2., 2., 2.])
    """

    zero: Tensor

    def __init__(self, latent: int):
        super().__init__()
        self.latent, self._joined = latent, _Joined()
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def join(self, posterior: nn.Module) -> "UniformCodes":
        self._joined.take(posterior, self)
        return self

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.Codes:
        sizes = torch.tensor(self._joined.codebook(self).symbols(self.latent), device=self.zero.device)[:, None]
        there = torch.arange(int(sizes.max()), device=self.zero.device) < sizes
        shares = torch.where(there, -sizes.to(self.zero).log(), -torch.inf)
        return distributions.Codes(shares, self._joined.codebook(self), self.latent)


class LearnedCodes(Prior):
    """Codes whose symbols are independent, with learned shares: `p(z) = prod_s softmax(logits_s)[k_s]`.

    Trained with the model its KL is the cross-entropy of the codes in use, so that it becomes their frequencies; no
    gradient of it reaches the encoder.

    Args:
        latent: number of latent features.
        sizes: number of values of each symbol, as the posterior's `symbols(latent)` gives them.

    >>> from gapless import posteriors
    >>> LearnedCodes(6, (3, 3)).join(posteriors.RelaxedCategorical(3))().sample((4,)).sum(-1)
    tensor([2., 2., 2., 2.])
    """

    there: Tensor

    def __init__(self, latent: int, sizes: tuple[int, ...]):
        super().__init__()
        self.latent, self.sizes, self._joined = latent, tuple(sizes), _Joined()
        self.logits = nn.Parameter(torch.zeros(len(self.sizes), max(self.sizes)))
        there = torch.arange(max(self.sizes)) < torch.tensor(self.sizes)[:, None]
        self.register_buffer("there", there, persistent=False)

    def join(self, posterior: nn.Module) -> "LearnedCodes":
        self._joined.take(posterior, self)
        expected = self._joined.codebook(self).symbols(self.latent)
        if expected != self.sizes:
            raise UsageError(
                f"a code of this posterior has {_said(expected)}; the prior was given {_said(self.sizes)}",
                fix="use sizes=posterior.symbols(latent)",
            )
        return self

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.Codes:
        shares = self.logits.masked_fill(~self.there, -torch.inf).log_softmax(-1)
        return distributions.Codes(shares, self._joined.codebook(self), self.latent)


class _Joined:
    """The posterior whose codes a prior is over: seen, and no part of the prior, so that nothing is saved twice."""

    def __init__(self):
        self._seen: list[Codebook] = []

    def take(self, posterior: nn.Module, prior: Prior) -> None:
        if not isinstance(posterior, Codebook):
            raise UsageError(
                f"{type(prior).__name__} is over codes; the posterior {type(posterior).__name__} has none",
                fix="use RelaxedCategorical, VectorQuantized, ResidualQuantized or FSQ",
            )
        self._seen = [posterior]
        self._seen[0].symbols(prior.latent)  # refuses a number of latent features that cannot be

    def codebook(self, prior: Prior) -> Codebook:
        if not self._seen:
            raise UsageError(
                f"{type(prior).__name__} knows no codes yet", fix="join it to a posterior, or make a Model"
            )
        return self._seen[0]


def _said(sizes: tuple[int, ...]) -> str:
    return f"{len(sizes)} symbols of {math.prod(sizes):.3g} values together"
