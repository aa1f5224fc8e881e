"""Objectives of models whose weights have a distribution."""

import torch
from torch import Tensor

from gapless.errors import UsageError
from gapless.model import Model
from gapless.networks.bayesian import weight_divergence, weights_drawn
from gapless.objectives.objective import Around, Objective, Terms

__all__ = ["Bayesian"]


class Bayesian(Around):
    """`loss = E_q(w) [loss of the objective] + KL(q(w) || p(w)) / items`, one draw of the weights w a batch.

    The negative bound on the evidence of all data under weights w and codes z, per item: Kingma & Welling (2014),
    appendix F; Blundell et al. (2015). The KL of the weights is counted once for all the data, so each item
    bears its share, whatever the size of a batch.

    Args:
        objective: what is minimised given the weights.
        items: number of training items; by default what `plan` says.

    >>> from gapless.objectives import ELBO
    >>> Bayesian(ELBO(), items=100).effective_beta
    1.0
    """

    def __init__(self, objective: Objective, *, items: int | None = None):
        super().__init__(objective)
        if items is not None and items < 1:
            raise UsageError(f"the weights' share of the loss needs at least 1 item; got {items}")
        self.items = self._planned = items

    def plan(self, steps: int, items: int | None = None) -> None:
        super().plan(steps, items)
        self._planned = self.items or items

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        if self._planned is None:
            raise UsageError(
                "the share of the weights' KL needs the number of training items",
                fix="give items, or call plan(steps, items) first",
            )
        with weights_drawn(model, generator):
            terms = self.objective(model, x, step=step, generator=generator)
        share = weight_divergence(model) / self._planned
        return terms._replace(loss=terms.loss + share, extras={**terms.extras, "weights": share})
