"""The smallest KL whose reconstruction meets a target."""

import math

import torch
from torch import Tensor

from gapless.draws import draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives.objective import Objective, Terms

__all__ = ["GECO"]


class GECO(Objective):
    """`loss = KL(q(z|x) || p(z)) + multiplier * (E_q[-log p(x|z)] - target)`: Rezende & Viola (2018).

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
        draws = draw(model, x, samples=self.samples, generator=generator)
        reconstruction, kl = draws.reconstruction, draws.divergence()
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
