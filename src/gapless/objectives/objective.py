"""What an objective is, and the terms it gives."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.model import Model
from gapless.parts import Part

__all__ = ["Objective", "Terms"]


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
    Such functions are had by `control.of_step`, so that steps can be played again.

    Attributes:
        samples: draws z ~ q(z|x) an item.
        steps: optimizer steps in all; None until `plan` says so, and then everything has its value of the end.
        comparable: whether held-out losses of different epochs, taken at the end's weights, measure the same thing.
        moved: what moves codes after they are drawn from q(z|x), in words, where its bound is that of the moved ones.
        freezes: whether it runs a network with its weights held constant, which needs them whole on every process.
    """

    samples: int = 1
    steps: int | None = None
    comparable: bool = True
    freezes: bool = False
    moved: str | None = None

    def plan(self, steps: int, items: int | None = None) -> None:
        """Say what is planned; no part of the state.

        Args:
            steps: optimizer steps there will be, so that shares of them become steps.
            items: number of training items, where it is known.
        """
        self.steps = steps

    def beta_at(self, step: int) -> float | None:
        """Weight of the KL per unit weight of the reconstruction, both in nats; None where it means nothing.

        Args:
            step: optimizer steps taken so far, for weights that change with it.
        """
        return getattr(self, "effective_beta", None)

    def start(self, model: Model, x: Tensor) -> None:
        """Look at some training items in model units, once, before training; for what is derived from them.

        Args:
            model: the model, at its start.
            x: the items, shape (items, *event).
        """

    @abstractmethod
    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        """Terms of a batch.

        Args:
            model: the model, in training or evaluation mode.
            x: a batch in model units, shape (batch, *event).
            step: number of optimizer steps taken so far, for weights that change with it.
            generator: source of the noise; the global one when None.
        """


class Around(Objective):
    """An objective that does something around another one, and is planned and weighed as that one is.

    Args:
        objective: the other one.
    """

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective
        self.samples, self.comparable, self.freezes = objective.samples, objective.comparable, objective.freezes
        self.moved = objective.moved

    @property
    def effective_beta(self) -> float:
        """That of the objective: weight of the KL of the codes per unit weight of the reconstruction."""
        return float(getattr(self.objective, "effective_beta", 1.0))

    def beta_at(self, step: int) -> float | None:
        return self.objective.beta_at(step)

    def plan(self, steps: int, items: int | None = None) -> None:
        super().plan(steps, items)
        self.objective.plan(steps, items)

    def start(self, model: Model, x: Tensor) -> None:
        self.objective.start(model, x)
