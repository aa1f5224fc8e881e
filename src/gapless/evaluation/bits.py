"""Bits per dimension, where the data makes them mean something."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gapless import likelihoods
from gapless.data import Items, Scaling
from gapless.likelihoods import Likelihood

__all__ = ["Bits", "Counting", "counting_of"]


@dataclass(frozen=True)
class Bits:
    """Bits per dimension.

    Attributes:
        value: an upper bound of the code length in bits a value; None where there is none.
        how: how it was counted, or why there is none; one sentence.
    """

    value: float | None
    how: str


@dataclass(frozen=True)
class Counting:
    """How bits are counted for a likelihood and some data.

    Attributes:
        how: a sentence.
        bin_width: widths of the bins of whole raw values, model units, shape (1,) or (columns,): the density is to be
            taken of values with uniform noise of that width; None where probabilities are counted as they are.
        known: whether there are bits at all.
    """

    how: str
    bin_width: Tensor | None = None
    known: bool = True

    def bits(self, log_likelihood: float, event_shape: tuple[int, ...]) -> Bits:
        """`-(log p(x) + sum log width) / (D log 2)`; Theis et al. (2016), for dequantised values.

        Args:
            log_likelihood: mean bound in nats an item, of the dequantised values where there is a bin width.
            event_shape: of one item, D values.
        """
        if not self.known:
            return Bits(None, self.how)
        values = math.prod(event_shape)
        volume = 0.0
        if self.bin_width is not None:
            volume = float(self.bin_width.double().log().mean()) * values
        return Bits(-(log_likelihood + volume) / (values * math.log(2)), self.how)


def counting_of(likelihood: Likelihood, items: Items, scaling: Scaling) -> Counting:
    """How bits are counted for some data under a likelihood.

    Args:
        likelihood: the head of the model.
        items: the data, in the dtype of the source.
        scaling: raw units to model units.
    """
    if isinstance(likelihood, likelihoods.Bernoulli):
        if _binary(items, scaling):
            return Counting("probabilities of 0 and 1, nothing to dequantise")
        return Counting("a Bernoulli likelihood of grey values is a cross-entropy, not a density", known=False)
    if not likelihood.density:
        return Counting("this likelihood is a metric in the place of a density", known=False)
    if likelihood.whole or likelihood.discrete:
        return Counting("probabilities of whole values, nothing to dequantise")
    if math.isfinite(likelihood.support[0]) or math.isfinite(likelihood.support[1]):
        return Counting("the density ends where values do, in the middle of their bins", known=False)
    if items.values.dtype.kind in "uib":
        width = 1 / torch.tensor(scaling.scale, dtype=torch.float64)
        return Counting(
            "whole values, dequantised: uniform noise of one raw unit is added, and the density is multiplied by the "
            "bin's width, which bounds the bits from above (Theis et al. 2016)",
            width,
        )
    return Counting(
        "the values are real numbers of no known bin width, and a density has no bits without one", known=False
    )


def _binary(items: Items, scaling: Scaling) -> bool:
    """Whether every value is 0 or 1 in model units."""
    for start in range(0, len(items), 4096):
        values = scaling(items.take(np.arange(start, min(start + 4096, len(items)))))
        if not ((values == 0) | (values == 1)).all():
            return False
    return True
