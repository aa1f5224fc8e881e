"""The smallest KL whose reconstruction meets a target, or the best reconstruction at a stated KL."""

import copy
import math

import torch
from torch import Tensor

from gapless.draws import draw
from gapless.errors import UsageError
from gapless.likelihoods import Likelihood
from gapless.model import Model
from gapless.objectives.objective import Objective, Terms

__all__ = ["GECO"]


class GECO(Objective):
    """`loss = KL(q(z|x) || p(z)) + multiplier * (E_q[-log p(x|z)] - target)`: Rezende & Viola (2018).

    The smallest KL whose reconstruction meets a target; with a stated `kl` the other way round,
    `loss = E_q[-log p(x|z)] + multiplier * (KL - kl)`, the best reconstruction at that rate. After each training batch
    the multiplier grows by the factor `exp(rate * c)`, c the running mean of the excess over what is stated; it changes
    by 1 % a step at most, so that the hundreds of nats of excess at the start cannot wind it up faster than it unwinds.
    Multiplier and running mean are buffers: the state of the objective. Held-out losses of two epochs have different
    multipliers and are not comparable, so the last weights are kept.

    Where neither is stated, `start` sets the target: the reconstruction by decodes that explain half of the variance,
    `-log p(x)` about `x - sqrt(1/2) (x - mean)`. It lies between the end that needs no code and the one that has all.

    Args:
        target: nats of reconstruction an item, -log p(x|z), to be met.
        kl: nats of KL an item to be met, at least 0, in the place of a target.
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
    goal: Tensor

    def __init__(
        self,
        target: float | None = None,
        *,
        kl: float | None = None,
        rate: float = 0.01,
        memory: float = 0.9,
        samples: int = 1,
    ):
        super().__init__()
        _check(target, kl, rate, memory, samples)
        self.target, self.kl, self.rate, self.memory, self.samples = target, kl, rate, memory, samples
        stated = next((float(value) for value in (target, kl) if value is not None), math.nan)  # nan until `start`
        for name, value in (("multiplier", 1.0), ("excess", 0.0), ("weight", 0.0), ("goal", stated)):
            self.register_buffer(name, torch.tensor(value), persistent=name != "goal" or math.isnan(stated))

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction as it stands: 1 / multiplier, or that of the KL."""
        return 1 / float(self.multiplier) if self.kl is None else float(self.multiplier)

    def start(self, model: Model, x: Tensor) -> None:
        self.goal.copy_(_half_explained(model, x) if self.target is None and self.kl is None else self.goal)

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        draws = draw(model, x, samples=self.samples, generator=generator)
        reconstruction, kl = draws.reconstruction, draws.divergence()
        free, held = (kl, reconstruction) if self.kl is None else (reconstruction, kl)
        excess, multiplier = held.mean() - self.goal, self.multiplier.clone()
        if self.training:
            self._follow(excess.detach())
        return Terms(free.mean() + multiplier * excess, reconstruction, kl, {"multiplier": multiplier})

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


@torch.no_grad()
def _half_explained(model: Model, x: Tensor) -> Tensor:
    """Nats of reconstruction by decodes that leave half of the variance of these items about their mean."""
    head = copy.deepcopy(model.likelihood).train()  # which may keep what it is shown
    if not all(part.numeric for part in head.modules() if isinstance(part, Likelihood)):
        raise UsageError(
            "names of classes have no variance, of which half could be explained",
            fix="give geco a --target; the held-out reconstruction of a trained vae says what can be met",
        )
    mean = x.nanmean(0).nan_to_num(0.0)
    near = torch.where(x.isnan(), mean, x - math.sqrt(0.5) * (x - mean))
    decoded = head(torch.stack([head.offset(one) for one in near]))
    return -head.calibrate(decoded, x).log_prob(x).mean()


def _check(target: float | None, kl: float | None, rate: float, memory: float, samples: int) -> None:
    if target is not None and kl is not None:
        raise UsageError("a reconstruction and a KL cannot both be held", fix="give a target or kl")
    stated = (target is None or math.isfinite(target)) and (kl is None or 0 <= kl < math.inf)
    if not (stated and 0 < rate < math.inf and 0 <= memory < 1 and samples >= 1):
        raise UsageError(
            "GECO needs a finite target or a kl of at least 0, a rate above 0, a memory in [0, 1) and at least one "
            f"sample; got target={target}, kl={kl}, rate={rate}, memory={memory}, samples={samples}"
        )
