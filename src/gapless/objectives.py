"""What is minimised: a map from (model, batch) to terms in nats per example, summed over features."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from gapless.distributions import divergence, divergence_per_feature
from gapless.errors import UsageError
from gapless.model import Model
from gapless.parts import Part
from gapless.schedules import Ramp

__all__ = ["ELBO", "GECO", "Objective", "Terms"]


class Terms(NamedTuple):
    """The terms of one batch, in nats.

    Attributes:
        loss: what is minimised, shape ().
        reconstruction: -E_q log p(x|z), lower is better, shape (batch,).
        regularization: KL(q(z|x) || p(z)), shape (batch,).
        extras: further terms by name, shape () or (batch,).
    """

    loss: Tensor
    reconstruction: Tensor
    regularization: Tensor
    extras: dict[str, Tensor]

    @property
    def elbo(self) -> Float[Tensor, " batch"]:
        """The evidence lower bound itself, whatever the weights: -(reconstruction + regularization)."""
        return -(self.reconstruction + self.regularization)


class Objective(Part, ABC):
    """A map from a model and a batch to `Terms`.

    To add one: return `Terms` from `forward`; `loss` is what is minimised and may differ from the bound reported.
    What changes while training is a function of (step, steps), or a buffer: then a resumed run continues exactly.

    Attributes:
        samples: draws z ~ q(z|x) an item.
        steps: optimizer steps in all; None until `plan` says so, and then everything has its value of the end.
        comparable: whether held-out losses of different epochs, taken at the end's weights, measure the same thing.
    """

    samples: int = 1
    steps: int | None = None
    comparable: bool = True

    def plan(self, steps: int) -> None:
        """Say how many optimizer steps there will be, so that shares of them become steps; no part of the state."""
        self.steps = steps

    @abstractmethod
    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        """Terms of a batch.

        Args:
            model: the model, in training or evaluation mode.
            x: a batch in model units, shape (batch, *event).
            step: number of optimizer steps taken so far, for weights that change with it.
            generator: source of the noise; the global one when None.
        """

    def _bound(
        self, model: Model, x: Tensor, *, generator: torch.Generator | None
    ) -> tuple[Distribution, Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """q(z|x), -E_q log p(x|z) and KL(q(z|x) || p(z))."""
        posterior = model.encode(x)
        z = posterior.rsample((self.samples,), generator=generator)  # pyright: ignore[reportCallIssue]
        repeated = x if self.samples == 1 else x.expand(self.samples, *x.shape).flatten(0, 1)
        likelihood = model.likelihood.calibrate(model.decode(z.flatten(0, 1)), repeated)
        reconstruction = -likelihood.log_prob(repeated).unflatten(0, (self.samples, -1)).mean(0)
        return posterior, reconstruction, divergence(posterior, model.prior_distribution(), z)


class ELBO(Objective):
    """`loss = reconstruction * E_q[-log p(x|z)] + regularization * R(KL(q(z|x) || p(z)))`, mean over the batch.

    (1, 1) is the negative ELBO of Kingma & Welling (2014), eq. 3; (1, beta) is beta-VAE, Higgins et al. (2017), eq. 4;
    (1, 0) with a point-mass posterior is an autoencoder; (0, 1) is the KL alone. Both terms are sums over features,
    so the weights mean what they say: the effective beta is their ratio. r is the schedule's share, 1 at the end:
    `R = r KL`; with a capacity C `R = |KL - r C|`, KL the batch's mean, Burgess et al. (2018), eq. 8; with free bits l
    `R = r sum_j max(l, KL_j)`, KL_j the batch's mean of one latent feature, Kingma et al. (2016), eq. 15.

    Args:
        reconstruction: weight of the reconstruction, at least 0.
        regularization: weight of the KL, or of its distance from the capacity, at least 0.
        samples: draws z ~ q(z|x) an item, at least 1.
        schedule: shape of r: constant, linear, cosine or cyclic.
        warmup: share of all steps in which r rises from 0, 0 to 1.
        cycles: how many times a cyclic r starts again, at least 1.
        capacity: nats an item, at least 0; not with free bits.
        free_bits: nats of each latent feature, at least 0.

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
        capacity: float | None = None,
        free_bits: float | None = None,
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
        self.capacity, self.free_bits = _nats("capacity", capacity), _nats("free_bits", free_bits)
        if capacity is not None and free_bits is not None:
            raise UsageError("a capacity and free bits both set the least KL", fix="give one of them")

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction at the end of training, both in nats.

        Infinite for the KL alone; with a capacity, the weight of the KL's distance from it.
        """
        return self.regularization / self.reconstruction if self.reconstruction else float("inf")

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        posterior, reconstruction, kl = self._bound(model, x, generator=generator)
        share = self.ramp(step, self.steps)
        regularization = self._regularized(share, posterior, model.prior_distribution(), kl)
        # A term of weight 0 is left out, not multiplied: an autoencoder's KL is infinite.
        weighted = ((self.reconstruction, reconstruction), (self.regularization, regularization))
        loss = sum((weight * term.mean() for weight, term in weighted if weight), start=x.new_zeros(()))
        return Terms(loss, reconstruction, kl, self._shown(share, x))

    def _regularized(self, share: float, posterior: Distribution, prior: Distribution, kl: Tensor) -> Tensor:
        """R: shape (batch,), or () where it is of the batch's mean."""
        if self.capacity is not None:
            return (kl.mean() - share * self.capacity).abs()
        if self.free_bits is not None:
            return share * _per_feature(posterior, prior).mean(0).clamp_min(self.free_bits).sum()
        return share * kl if share < 1 else kl

    def _shown(self, share: float, x: Tensor) -> dict[str, Tensor]:
        if self.schedule == "constant":
            return {}
        name, end = ("beta", self.effective_beta) if self.capacity is None else ("capacity", self.capacity)
        return {name: x.new_tensor(share * end if share < 1 else end)}


class GECO(Objective):
    """`loss = KL(q(z|x) || p(z)) + multiplier * (E_q[-log p(x|z)] - target)`: Rezende & Viola (2018), algorithm 1.

    The smallest KL whose reconstruction meets a target. After each training batch the multiplier grows by the factor
    `exp(rate * c)`, c the running mean of the reconstruction's excess over the target; it changes by 1 % a step at
    most, so that the hundreds of nats of excess at the start cannot wind it up faster than it unwinds. Multiplier and
    running mean are buffers: the state of the objective. Held-out losses of two epochs have different multipliers and
    are not comparable, so the last weights are kept.

    Args:
        target: nats of reconstruction an item, -log p(x|z), to be met.
        rate: growth of the multiplier's logarithm a step and nat of excess, above 0.
        memory: weight of the past in the running mean of the excess, in [0, 1).
        samples: draws z ~ q(z|x) an item, at least 1.

    >>> GECO(80.0).effective_beta
    1.0
    """

    comparable = False
    multiplier: Tensor
    excess: Tensor
    weight: Tensor

    def __init__(self, target: float, *, rate: float = 0.01, memory: float = 0.9, samples: int = 1):
        super().__init__()
        if not (math.isfinite(target) and 0 < rate < math.inf and 0 <= memory < 1 and samples >= 1):
            raise UsageError(
                "GECO needs a finite target, a rate above 0, a memory in [0, 1) and at least one sample; "
                f"got target={target}, rate={rate}, memory={memory}, samples={samples}"
            )
        self.target, self.rate, self.memory, self.samples = target, rate, memory, samples
        self.register_buffer("multiplier", torch.ones(()))
        self.register_buffer("excess", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction as it stands: 1 / multiplier."""
        return 1 / float(self.multiplier)

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        _, reconstruction, kl = self._bound(model, x, generator=generator)
        excess, multiplier = reconstruction.mean() - self.target, self.multiplier.clone()
        if self.training:
            self._follow(excess.detach())
        return Terms(kl.mean() + multiplier * excess, reconstruction, kl, {"multiplier": multiplier})

    @torch.no_grad()
    def _follow(self, excess: Tensor) -> None:
        self.excess.mul_(self.memory).add_((1 - self.memory) * excess)
        self.weight.mul_(self.memory).add_(1 - self.memory)
        growth = (self.rate * self.excess / self.weight).clamp(-GROWTH, GROWTH).exp()
        self.multiplier.mul_(growth).clamp_(1 / LARGEST, LARGEST)


GROWTH = math.log(1.01)
"""The largest change of the multiplier's logarithm in one step."""
LARGEST = 1e3
"""The multiplier stays between this and its inverse, also where the target cannot be met."""


def _nats(name: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise UsageError(f"{name} is a number of nats, at least 0 and finite; got {value}")
    return value


def _per_feature(posterior: Distribution, prior: Distribution) -> Float[Tensor, "batch latent"]:
    kl = divergence_per_feature(posterior, prior)
    if kl is None:
        raise UsageError(
            f"free bits need a KL that splits into latent features; "
            f"KL({type(posterior).__name__} || {type(prior).__name__}) does not",
            fix="use a capacity, or a diagonal normal posterior with a standard normal prior",
        )
    return kl
