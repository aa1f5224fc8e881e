"""Images whose pixels are drawn anew as bits whenever they are seen."""

import torch
from torch import Tensor

from gapless import processes
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives.objective import Around, Terms

__all__ = ["DynamicBinarization"]


class DynamicBinarization(Around):
    """The objective of `b ~ Bernoulli(x)`, drawn anew at every look: "dynamically binarised" images.

    The protocol of Salakhutdinov & Murray (2008) and Burda et al. (2016), section 5.1: grey values are probabilities,
    and a Bernoulli likelihood of bits is a density where that of grey values is none.

    Args:
        objective: what is minimised of the bits.

    >>> from gapless.objectives import ELBO
    >>> DynamicBinarization(ELBO()).effective_beta
    1.0
    """

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        return self.objective(model, binarized(x, generator), step=step, generator=generator)


def binarized(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bits as 0.0 and 1.0, each 1 with the probability of its grey value.

    Args:
        x: grey values in [0, 1], any shape.
        generator: moved by one number only, so that processes with unequal rows keep step.

    Raises:
        UsageError: a value is no probability.
    """
    if not (x.amin() >= 0 and x.amax() <= 1):
        raise UsageError(
            f"only values in [0, 1] can be drawn as bits; these lie in [{x.min():g}, {x.max():g}]",
            fix="read the images with --scaling unit, or leave --binarize out",
        )
    seed = int(torch.randint(2**62, (), generator=generator)) + processes.rank()
    chance = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x.device)
    return (chance < x).to(x.dtype)
