"""What a regularizer is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gapless.draws import Draws
from gapless.errors import UsageError
from gapless.parts import Part

__all__ = ["Penalty", "Regularizer"]


class Penalty(NamedTuple):
    """What a regularizer makes of a batch.

    Attributes:
        value: what the model is charged with before the weight, shape (). It may move the model alone.
        own: loss of the regularizer's own parameters (a critic), shape (); it may move them alone. None without any.
    """

    value: Tensor
    own: Tensor | None = None


class Regularizer(Part, ABC):
    """A penalty beside reconstruction and KL: a map from the draws of a batch to a number.

    To add one: keep `weight`, and return a `Penalty` from `forward`. A regularizer with parameters of its own calls
    itself through `ownership.frozen` in `value`, and gets the model's tensors detached in `own`.

    Attributes:
        weight: what the value is multiplied by in the loss.
        items: number of training items; None until `plan` says so.
        comparable: whether its values of different epochs measure the same thing; not where a critic learns.
        whole: whether it needs the networks' weights whole on every process: their squares, a gradient's gradient.
    """

    weight: float
    items: int | None = None
    comparable: bool = True
    whole: bool = False

    def plan(self, items: int | None) -> None:
        """Say how many training items there are; no part of the state."""
        self.items = items

    @abstractmethod
    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        """The penalty of a batch.

        Args:
            draws: codes drawn for the batch, with posterior, prior, likelihood and model.
            generator: source of further noise; the global one when None.
        """

    def charged(self, draws: Draws, generator: torch.Generator | None) -> tuple[Tensor, dict[str, Tensor]]:
        """What it adds to the loss, and what is shown of it by name."""
        name, penalty = type(self).__name__, self(draws, generator=generator)
        shown, added = {name: penalty.value}, self.weight * penalty.value
        if penalty.own is None:
            return added, shown
        return added + penalty.own, {**shown, f"{name} (own)": penalty.own}


class Penalties(nn.ModuleList):
    """The regularizers beside the two terms of a loss, planned and charged together.

    Attributes:
        comparable: whether the values of all of them are.
        whole: whether any of them needs whole weights.
    """

    def __init__(self, regularizers: Iterable[Regularizer] = ()):
        super().__init__(regularizers)
        self.comparable = all(regularizer.comparable for regularizer in self._each())
        self.whole = any(regularizer.whole for regularizer in self._each())

    def plan(self, items: int | None) -> None:
        """Say how many training items there are."""
        for regularizer in self._each():
            regularizer.plan(items)

    def charged(
        self, loss: Tensor, draws: Draws, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss with what they add to it, and what is shown of them by name."""
        every: dict[str, Tensor] = {}
        for regularizer in self._each():
            added, shown = regularizer.charged(draws, generator)
            loss, every = loss + added, every | shown
        return loss, every

    def _each(self) -> list[Regularizer]:
        return list(self)  # pyright: ignore[reportReturnType]


def checked_weight(weight: float, name: str = "weight") -> float:
    """The weight, if it pulls the right way.

    Raises:
        UsageError: it is below 0, which would reward what the regularizer is against, or not finite.
    """
    if not 0 <= weight < math.inf:
        raise UsageError(
            f"the {name} of a regularizer is finite and at least 0; got {weight}",
            fix="a weight below 0 would reward what is to be avoided",
        )
    return weight
