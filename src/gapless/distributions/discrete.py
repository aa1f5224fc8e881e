"""Finitely many codes: one-hot vectors, their relaxation, and distributions over the codes of a codebook.

Several variables stand side by side in a code as channels before positions, the order of an image: feature
`k * variables + v` is entry k of variable v.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import register_kl
from torch.nn import functional

from gapless.distributions.seeded import Reparameterized, Seeded
from gapless.errors import UsageError
from gapless.randomness import noise

__all__ = ["Codebook", "Codes", "OneHotCategorical", "RelaxedCategorical"]

SAME = 1e-4
"""A point this near to a code, in each feature, is that code: what rounding leaves."""


@runtime_checkable
class Codebook(Protocol):
    """What a code is made of: symbols, each with a number of values, and the vectors they stand for.

    Attributes:
        findable: whether `indices` finds the symbols of every code again.
    """

    findable: bool

    def symbols(self, latent: int) -> tuple[int, ...]:
        """Number of values of each symbol of a code of so many features."""
        ...

    def vectors(self, indices: Tensor) -> Tensor:
        """Code vectors of symbols: whole numbers of shape (*samples, symbols) -> (*samples, latent)."""
        ...

    def indices(self, z: Tensor) -> Tensor:
        """Symbols of the nearest codes: (*samples, latent) -> (*samples, symbols)."""
        ...


class Codes(Seeded):
    """Codes whose symbols are independent: `p(z) = prod_s share[s, k_s]`, a mass and no density.

    Args:
        log_shares: logarithms of the shares of each value of each symbol, shape (symbols, values); minus infinity where
            a symbol has fewer values.
        codebook: what the symbols stand for.
        latent: number of features of a code.
    """

    def __init__(self, log_shares: Float[Tensor, "symbols values"], codebook: Codebook, latent: int):
        self.log_shares, self.codebook = log_shares, codebook
        super().__init__((latent,))

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Codes, shape (*sample_shape, latent)."""
        with torch.no_grad():
            shares, count = self.log_shares.exp(), math.prod(sample_shape)
            shares = shares if generator is None else shares.to(generator.device)
            drawn = torch.multinomial(shares, count, replacement=True, generator=generator).mT
            return self._vectors(drawn.to(self.log_shares.device)).reshape(*sample_shape, *self.event_shape)

    def log_mass(self, indices: Int[Tensor, "*samples symbols"]) -> Float[Tensor, "*samples"]:
        """Log-probability in nats of codes given by their symbols."""
        shares = self.log_shares.expand(*indices.shape[:-1], *self.log_shares.shape)
        return shares.gather(-1, indices[..., None])[..., 0].sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, shape (*samples,); minus infinity for a point that is no code.

        Where the symbols of a code cannot be found again, points are taken for codes, of which all must be alike.

        Raises:
            UsageError: they are not alike.
        """
        if not self.codebook.findable:
            return value.new_zeros(value.shape[:-1]) + self._mass_of_any()
        indices = self.codebook.indices(value)
        away = (self._vectors(indices) - value).abs().amax(-1)
        return torch.where(away <= SAME, self.log_mass(indices), -torch.inf)

    def _mass_of_any(self) -> Tensor:
        """Log-probability of each code, of codes that are all alike; shape ()."""
        there = self.log_shares.isfinite()
        uniform = torch.where(there, -there.sum(-1, keepdim=True).log(), -torch.inf)
        if not torch.equal(torch.where(there, self.log_shares, uniform).round(decimals=5), uniform.round(decimals=5)):
            raise UsageError(
                f"which code of {type(self.codebook).__name__} a point is cannot be told, and they have unequal shares",
                fix="use a uniform prior, or the ELBO, whose KL needs no such search",
            )
        return uniform.amax(-1).sum()

    def _vectors(self, indices: Tensor) -> Tensor:
        return self.codebook.vectors(indices).to(self.log_shares)


class _Categorical(Reparameterized):
    """The part that one-hot vectors and their relaxation share: all but `rsample` and `log_prob`.

    Args:
        logits: shape (*batch, classes, variables), any real.
    """

    def __init__(self, logits: Float[Tensor, "*batch classes variables"]):
        self.log_shares = functional.log_softmax(logits, dim=-2)
        self.classes, self.variables = logits.shape[-2:]
        super().__init__((*logits.shape[:-2], logits.shape[-2:].numel()))

    @property
    def mean(self) -> Tensor:
        """Probabilities of the classes, shape (*batch, classes * variables)."""
        return self.log_shares.exp().flatten(-2)

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean)

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of each bit of the one-hot vector."""
        return self.variance.clamp_min(0).sqrt()

    @property
    def mode(self) -> Tensor:
        return _one_hot(self.log_shares).flatten(-2)

    def _perturbed(self, sample_shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        """Log-probabilities with Gumbel noise: their largest is a draw of the class (Gumbel-max)."""
        shape = (*sample_shape, *self.log_shares.shape)
        drawn = noise(_exponential, shape, like=self.log_shares, generator=generator)
        return self.log_shares - drawn.log()

    def _split(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (self.classes, self.variables))


class OneHotCategorical(_Categorical):
    """One-hot vectors of independent variables; the gradient of a draw is that of the probabilities (straight through).

    That gradient is biased (Bengio et al. 2013): draws and probabilities are exact.

    >>> OneHotCategorical(torch.zeros(2, 3, 1)).sample().sum(-1)
    tensor([1., 1.])
    """

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        drawn, shares = _one_hot(self._perturbed(sample_shape, generator)), self.log_shares.exp()
        return (drawn + (shares - shares.detach())).flatten(-2)  # one-hot to the bit: the bracket is 0

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats of one-hot vectors, shape (*samples, *batch)."""
        return (self._split(value) * self.log_shares).sum((-2, -1))


class RelaxedCategorical(_Categorical):
    """Points of the simplex, `softmax((log pi + g) / t)` with Gumbel noise g: Jang et al. (2017).

    The density is that of Maddison et al. (2017), definition 1; temperature t to 0 gives one-hot vectors. `mean` and
    `stddev` are those of the one-hot vector that is relaxed.

    Args:
        logits: shape (*batch, classes, variables), any real.
        temperature: t, above 0.

    >>> RelaxedCategorical(torch.zeros(2, 3, 1), 0.5).rsample().sum(-1).round()
    tensor([1., 1.])
    """

    def __init__(self, logits: Float[Tensor, "*batch classes variables"], temperature: float):
        self.temperature = temperature
        super().__init__(logits)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        return torch.softmax(self._perturbed(sample_shape, generator) / self.temperature, -2).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of points of the simplex, shape (*samples, *batch)."""
        classes, t = self.classes, self.temperature
        log_x = self._split(value).clamp_min(torch.finfo(value.dtype).tiny).log()
        scores = self.log_shares - t * log_x
        of_variables = (scores - log_x).sum(-2) - classes * scores.logsumexp(-2)
        return of_variables.sum(-1) + self.variables * (math.lgamma(classes) + (classes - 1) * math.log(t))


def _exponential(shape: Sequence[int], *, generator: torch.Generator | None, **more: Any) -> Tensor:
    """Standard exponential noise, never 0."""
    made = torch.empty(shape, **more).exponential_(generator=generator)
    return made.clamp_min_(torch.finfo(made.dtype).tiny)


def _one_hot(scores: Tensor) -> Tensor:
    """1 at the largest of the last axis but one, 0 elsewhere."""
    return torch.zeros_like(scores).scatter_(-2, scores.argmax(-2, keepdim=True), 1.0)


@register_kl(_Categorical, Codes)
def _categorical_codes(q: _Categorical, p: Codes) -> Tensor:
    """The KL of the one-hot vectors, relaxed or not: Jang et al. (2017); Dupont (2018)."""
    if p.log_shares.shape != (q.variables, q.classes):
        raise NotImplementedError
    return (q.log_shares.exp() * (q.log_shares - p.log_shares.mT)).sum((-2, -1))
