"""The evidence lower bound, with weights, controls of the KL, and penalties beside it."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless.distributions import Product, divergence_of_parts, divergence_per_feature
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives.objective import Objective, Terms
from gapless.regularizers import Regularizer
from gapless.schedules import Ramp

__all__ = ["ELBO"]


class ELBO(Objective):
    """`loss = reconstruction * E_q[-log p(x|z)] + regularization * R(KL(q(z|x) || p(z)))`, mean over the batch.

    (1, 1) is the negative ELBO of Kingma & Welling (2014), eq. 3; (1, beta) is beta-VAE, Higgins et al. (2017), eq. 4;
    (1, 0) with a point-mass posterior is an autoencoder; (0, 1) is the KL alone. Both terms are sums over features,
    so the weights mean what they say: the effective beta is their ratio. r is the schedule's share, 1 at the end:
    `R = r KL`; with a capacity C `R = |KL - r C|`, KL the batch's mean, Burgess et al. (2018), eq. 8; with one for each
    part of a product `R = sum_i |KL_i - r C_i|`, Dupont (2018), eq. 7; with free bits l
    `R = r sum_j max(l, KL_j)`, KL_j the batch's mean of one latent feature, Kingma et al. (2016), eq. 15.

    Args:
        reconstruction: weight of the reconstruction, at least 0.
        regularization: weight of the KL, or of its distance from the capacity, at least 0.
        samples: draws z ~ q(z|x) an item, at least 1.
        schedule: shape of r: constant, linear, cosine or cyclic.
        warmup: share of all steps in which r rises from 0, 0 to 1.
        cycles: how many times a cyclic r starts again, at least 1.
        capacity: nats an item, at least 0, or one number a part of a product posterior; not with free bits.
        free_bits: nats of each latent feature, at least 0.
        penalties: regularizers beside the two terms; each adds its weight times its value to the loss.

    >>> ELBO(regularization=4.0).effective_beta
    4.0
    """

    def __init__(
        self,
        reconstruction: float = 1.0,
        regularization: float = 1.0,
        *,
        samples: int = 1,
        schedule: str = "constant",
        warmup: float = 0.5,
        cycles: int = 4,
        capacity: float | Sequence[float] | None = None,
        free_bits: float | None = None,
        penalties: Sequence[Regularizer] = (),
    ):
        super().__init__()
        if not (reconstruction >= 0 and regularization >= 0 and reconstruction + regularization > 0 and samples >= 1):
            raise UsageError(
                "an ELBO needs weights of at least 0, one of them above, and at least one sample; "
                f"got reconstruction={reconstruction}, regularization={regularization}, samples={samples}"
            )
        self.reconstruction, self.regularization, self.samples = reconstruction, regularization, samples
        self.schedule, self.warmup, self.cycles = schedule, warmup, cycles
        self.ramp = Ramp(schedule, warmup, cycles)
        self.capacity, self.free_bits = _capacities(capacity), _nats("free_bits", free_bits)
        if capacity is not None and free_bits is not None:
            raise UsageError("a capacity and free bits both set the least KL", fix="give one of them")
        self.penalties = nn.ModuleList(penalties)
        self.comparable = all(penalty.comparable for penalty in penalties)
        self.freezes = any(penalty.whole for penalty in penalties)

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction at the end of training, both in nats.

        Infinite for the KL alone; with a capacity, the weight of the KL's distance from it.
        """
        return self.regularization / self.reconstruction if self.reconstruction else float("inf")

    def plan(self, steps: int, items: int | None = None) -> None:
        super().plan(steps, items)
        for penalty in self._penalties():
            penalty.plan(items)

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        draws = draw(model, x, samples=self.samples, generator=generator)
        reconstruction, kl = draws.reconstruction, draws.divergence()
        share = self.ramp(step, self.steps)
        regularization = self._regularized(share, draws.posterior, draws.prior, kl)
        # A term of weight 0 is left out, not multiplied: an autoencoder's KL is infinite.
        weighted = ((self.reconstruction, reconstruction), (self.regularization, regularization))
        loss = sum((weight * term.mean() for weight, term in weighted if weight), start=x.new_zeros(()))
        extras = self._shown(share, x)
        for penalty in self._penalties():
            added, shown = penalty.charged(draws, generator)
            loss, extras = loss + added, {**extras, **shown}
        return Terms(loss, reconstruction, kl, extras)

    def _penalties(self) -> list[Regularizer]:
        return list(self.penalties)  # pyright: ignore[reportReturnType]

    def _regularized(self, share: float, posterior: Distribution, prior: Distribution, kl: Tensor) -> Tensor:
        """R: shape (batch,), or () where it is of the batch's mean."""
        if isinstance(self.capacity, tuple):
            return (_of_parts(posterior, prior) - share * kl.new_tensor(self.capacity)).abs().sum()
        if self.capacity is not None:
            return (kl.mean() - share * self.capacity).abs()
        if self.free_bits is not None:
            return share * _per_feature(posterior, prior).mean(0).clamp_min(self.free_bits).sum()
        return share * kl if share < 1 else kl

    def _shown(self, share: float, x: Tensor) -> dict[str, Tensor]:
        if self.schedule == "constant":
            return {}
        capacity = sum(self.capacity) if isinstance(self.capacity, tuple) else self.capacity
        name, end = ("beta", self.effective_beta) if capacity is None else ("capacity", capacity)
        return {name: x.new_tensor(share * end if share < 1 else end)}


def _nats(name: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise UsageError(f"{name} is a number of nats, at least 0 and finite; got {value}")
    return value


def _capacities(value: float | Sequence[float] | None) -> float | tuple[float, ...] | None:
    if isinstance(value, Sequence):
        return tuple(_nats("capacity", part) or 0.0 for part in value)
    return _nats("capacity", value)


def _of_parts(posterior: Distribution, prior: Distribution) -> Float[Tensor, " parts"]:
    """The batch's mean KL of each part."""
    if not (isinstance(posterior, Product) and isinstance(prior, Product)):
        raise UsageError(
            f"a capacity a part needs products; got {type(posterior).__name__} and {type(prior).__name__}",
            fix="give one capacity",
        )
    return divergence_of_parts(posterior, prior).mean(1)


def _per_feature(posterior: Distribution, prior: Distribution) -> Float[Tensor, "batch latent"]:
    kl = divergence_per_feature(posterior, prior)
    if kl is None:
        raise UsageError(
            f"free bits need a KL that splits into latent features; "
            f"KL({type(posterior).__name__} || {type(prior).__name__}) does not",
            fix="use a capacity, or a diagonal normal posterior with a standard normal prior",
        )
    return kl
