"""Active units: latent features whose mean moves with the item."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gapless.conditions import given
from gapless.data import Feed
from gapless.model import Model

__all__ = ["ACTIVE", "Codes", "posterior_means"]

ACTIVE = 0.01
BATCH = 512


@dataclass(frozen=True)
class Codes:
    """Means of q(z|x) of some items.

    Attributes:
        loc: shape (items, latent), float64.
    """

    loc: np.ndarray

    @property
    def activity(self) -> np.ndarray:
        """`A_j = Var_x(E_{q(z|x)}[z_j])`, shape (latent,): Burda et al. (2016), section 5.2."""
        return self.loc.var(0)

    @property
    def active(self) -> np.ndarray:
        """Which latent features have `A_j > 0.01`, the published threshold, shape (latent,)."""
        return self.activity > ACTIVE


@torch.no_grad()
def posterior_means(model: Model, feed: Feed, positions: Tensor) -> Codes:
    """The means of the posteriors of some items; the model is to be in evaluation mode.

    Args:
        model: the model.
        feed: the items.
        positions: which of them, (items,) int64.
    """
    means = [given(model, feed.items, some).embed(feed.batch(some)).cpu() for some in positions.split(BATCH)]
    return Codes(torch.cat(means).double().numpy())
