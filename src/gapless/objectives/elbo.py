"""The evidence lower bound, with weights, controls of the KL, and penalties beside it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gapless.draws import draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives.control import Control, of_step
from gapless.objectives.objective import Objective, Terms
from gapless.regularizers.regularizer import Penalties, Regularizer
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
        _check(reconstruction=reconstruction, regularization=regularization, samples=samples)
        self.reconstruction, self.regularization, self.samples = reconstruction, regularization, samples
        self.schedule, self.warmup, self.cycles = schedule, warmup, cycles
        self.ramp, self.control = Ramp(schedule, warmup, cycles), Control(capacity, free_bits)
        self.capacity, self.free_bits = self.control.capacity, free_bits
        self.penalties = Penalties(penalties)
        self.comparable, self.freezes = self.penalties.comparable, self.penalties.whole

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction at the end of training, both in nats.

        Infinite for the KL alone; with a capacity, the weight of the KL's distance from it.
        """
        return self.regularization / self.reconstruction if self.reconstruction else float("inf")

    def beta_at(self, step: int) -> float | None:
        """The effective beta at a step: what rises is it, or the capacity where there is one."""
        share = 1.0 if self.capacity is not None else self.ramp(step, self.steps)
        return share * self.effective_beta if self.reconstruction else self.effective_beta

    def plan(self, steps: int, items: int | None = None) -> None:
        super().plan(steps, items)
        self.penalties.plan(items)

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        draws = draw(model, x, samples=self.samples, generator=generator)
        reconstruction, kl = draws.reconstruction, draws.divergence()
        share = 1.0 if self.schedule == "constant" else of_step(lambda step: self.ramp(step, self.steps), step, kl)
        regularization = self.control.charged(draws, kl, share)
        # A term of weight 0 is left out, not multiplied: an autoencoder's KL is infinite.
        weighted = ((self.reconstruction, reconstruction), (self.regularization, regularization))
        loss = sum((weight * term.mean() for weight, term in weighted if weight), start=x.new_zeros(()))
        loss, shown = self.penalties.charged(loss, draws, generator)
        return Terms(loss, reconstruction, kl, self.control.shown(self.effective_beta, share) | shown)


def _check(*, reconstruction: float, regularization: float, samples: int) -> None:
    if not (reconstruction >= 0 and regularization >= 0 and reconstruction + regularization > 0 and samples >= 1):
        raise UsageError(
            "an ELBO needs weights of at least 0, one of them above, and at least one sample; "
            f"got reconstruction={reconstruction}, regularization={regularization}, samples={samples}"
        )
