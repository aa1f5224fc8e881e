"""Bounds by importance weights, with any estimator of their gradient; what is reported is always the bound itself.

With `log w[m, k]` of m = 1..M groups of k = 1..K draws, every bound here is a mixture of means over m of
`log 1/K sum_k w[m, k]`.
"""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.draws import Draws, draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives.objective import Objective, Terms

__all__ = ["CIWAE", "ESTIMATORS", "IWAE", "MIWAE", "PIWAE"]

ESTIMATORS = ("reparameterized", "sticking-the-landing", "doubly-reparameterized", "score-function")
"""Gradients of a bound: plain; without the score of q, Roeder et al. (2017); with it folded into the path through z,
Tucker et al. (2019); without any path through z (REINFORCE), Williams (1992)."""
_CONSTANT_POSTERIOR = ("sticking-the-landing", "doubly-reparameterized")

Mixture = tuple[tuple[float, int], ...]
"""Shares and numbers of groups M of the bounds that are mixed."""


def importance_bound(log_weights: Float[Tensor, "samples batch"], groups: int) -> Float[Tensor, " batch"]:
    """`1/M sum_m log 1/K sum_k w[m, k]` in nats, for samples = M K draws cut into `groups` = M."""
    grouped = log_weights.unflatten(0, (groups, -1))
    return (grouped.logsumexp(1) - math.log(grouped.shape[1])).mean(0)


def mixed_bound(log_weights: Float[Tensor, "samples batch"], mixture: Mixture) -> Float[Tensor, " batch"]:
    """The mixture of importance bounds in nats."""
    return torch.stack([share * importance_bound(log_weights, groups) for share, groups in mixture]).sum(0)


class _Importance(Objective):
    """The part that the bounds share: draws, the estimator of the gradient, and terms.

    Attributes:
        draws: M K, draws an item in all.
        estimator: one of ESTIMATORS.
    """

    draws: int
    estimator: str

    @property
    @abstractmethod
    def mixture(self) -> Mixture:
        """The bound as a mixture of importance bounds."""

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction: the bounds know no other than 1."""
        return 1.0

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        pathwise = self.estimator != "score-function"
        draws = draw(model, x, samples=self.draws, generator=generator, pathwise=pathwise)
        log_weights = draws.log_weights(constant_posterior=self.estimator in _CONSTANT_POSTERIOR)
        bound = self._estimated(draws, log_weights, self.mixture)
        return self._terms(draws, bound)

    def _estimated(self, draws: Draws, log_weights: Tensor, mixture: Mixture) -> Float[Tensor, " batch"]:
        """The bound, with the estimator's gradient."""
        bound = mixed_bound(log_weights, mixture)
        if self.estimator == "doubly-reparameterized" and draws.z.requires_grad:
            share = _doubly(log_weights.detach(), mixture)[..., None]
            draws.z.register_hook(lambda gradient: gradient * share)
        if self.estimator == "score-function":
            score = bound.detach() * draws.posterior.log_prob(draws.z).sum(0)
            return bound + score - score.detach()  # the value stays the bound's
        return bound

    def _terms(self, draws: Draws, bound: Tensor) -> Terms:
        shown = {"bound": bound.detach().mean()}
        return Terms(-bound.mean(), draws.reconstruction, draws.divergence(), shown)


def _doubly(log_weights: Tensor, mixture: Mixture) -> Tensor:
    """What the gradient through z is multiplied by: normalised weights v once more, `sum_i s_i v_i^2 / sum_i s_i v_i`.

    Tucker et al. (2019), for a mixture of bounds; shape (samples, batch).
    """
    once, twice = torch.zeros_like(log_weights), torch.zeros_like(log_weights)
    for share, groups in mixture:
        weights = log_weights.unflatten(0, (groups, -1)).softmax(1).flatten(0, 1)
        once += share / groups * weights
        twice += share / groups * weights.square()
    return twice / once.clamp_min(torch.finfo(once.dtype).tiny)


class IWAE(_Importance):
    """`L_K = E log 1/K sum_k w_k`: Burda et al. (2016), eq. 8; the ELBO for K = 1, log p(x) as K grows.

    Args:
        samples: K, draws z ~ q(z|x) an item, at least 1.
        estimator: of the gradient: reparameterized, sticking-the-landing, doubly-reparameterized or score-function.

    >>> IWAE(5).mixture
    ((1.0, 1),)
    """

    def __init__(self, samples: int = 5, *, estimator: str = "reparameterized"):
        super().__init__()
        self.samples, self.estimator = _count("samples", samples), _known(estimator)
        self.draws = samples

    @property
    def mixture(self) -> Mixture:
        return ((1.0, 1),)


class MIWAE(_Importance):
    """`1/M sum_m log 1/K sum_k w[m, k]`: Rainforth et al. (2018); MIWAE(M, 1) is the ELBO of M draws.

    Args:
        outer: M, groups an item, at least 1.
        samples: K, draws a group, at least 1.
        estimator: of the gradient, as in `IWAE`.

    >>> MIWAE(8, 8).draws
    64
    """

    def __init__(self, outer: int = 8, samples: int = 8, *, estimator: str = "reparameterized"):
        super().__init__()
        self.outer, self.samples, self.estimator = _count("outer", outer), _count("samples", samples), _known(estimator)
        self.draws = outer * samples

    @property
    def mixture(self) -> Mixture:
        return ((1.0, self.outer),)


class CIWAE(_Importance):
    """`share ELBO + (1 - share) IWAE_K`, both of the same draws: Rainforth et al. (2018).

    Args:
        samples: K, draws an item, at least 1.
        share: weight of the ELBO, 0 to 1.
        estimator: of the gradient, as in `IWAE`.

    >>> CIWAE(64, 0.5).mixture
    ((0.5, 64), (0.5, 1))
    """

    def __init__(self, samples: int = 64, share: float = 0.5, *, estimator: str = "reparameterized"):
        super().__init__()
        if not 0 <= share <= 1:
            raise UsageError(f"the ELBO's share of a CIWAE lies between 0 and 1; got {share}")
        self.samples, self.share, self.estimator = _count("samples", samples), share, _known(estimator)
        self.draws = samples

    @property
    def mixture(self) -> Mixture:
        return ((self.share, self.samples), (1 - self.share, 1))


class PIWAE(_Importance):
    """The encoder climbs MIWAE(M, K), decoder and prior climb IWAE(M K): Rainforth et al. (2018).

    Each by its own gradient: the encoder's bound is computed with decoder and prior frozen, the other with the draws
    held, and with encoder and posterior frozen where the prior is made of them (VampPrior). The value reported is the
    tighter bound, IWAE(M K).

    Args:
        outer: M, groups an item, at least 1.
        samples: K, draws a group, at least 1.
        estimator: of the encoder's gradient, as in `IWAE`.

    >>> PIWAE(8, 8).mixture
    ((1.0, 1),)
    """

    freezes = True

    def __init__(self, outer: int = 8, samples: int = 8, *, estimator: str = "reparameterized"):
        super().__init__()
        self.outer, self.samples, self.estimator = _count("outer", outer), _count("samples", samples), _known(estimator)
        self.draws = outer * samples

    @property
    def mixture(self) -> Mixture:
        return ((1.0, 1),)

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        pathwise = self.estimator != "score-function"
        moving = draw(model, x, samples=self.draws, generator=generator, pathwise=pathwise, moves="encoder")
        log_weights = moving.log_weights(constant_posterior=self.estimator in _CONSTANT_POSTERIOR)
        encoders = self._estimated(moving, log_weights, ((1.0, self.outer),))
        held = moving.at(moving.z.detach(), moves="decoder")
        decoders = mixed_bound(held.log_weights(constant_posterior=True), self.mixture)
        return self._terms(held, decoders + encoders - encoders.detach())


def _count(name: str, value: int) -> int:
    if value < 1:
        raise UsageError(f"a bound needs {name} of at least 1; got {value}")
    return value


def _known(estimator: str) -> str:
    if estimator not in ESTIMATORS:
        raise UsageError(f"there is no estimator {estimator!r}", fix=f"use one of {', '.join(ESTIMATORS)}")
    return estimator
