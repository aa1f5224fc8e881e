"""How far reconstructions lie from the items, in the model's units and in those of the data."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gapless.conditions import given
from gapless.data import Feed
from gapless.model import Model

__all__ = ["Errors", "reconstruction_errors"]

BATCH = 256


@dataclass(frozen=True)
class Errors:
    """Errors of the mean of p(x|z) at the mean of q(z|x); values that were not observed count nowhere.

    Attributes:
        squared: mean squared error of each data feature, model units, shape (*event).
        absolute: mean absolute error of each data feature, model units, shape (*event).
        scale: raw units a model unit, shape (1,) or (columns,).
    """

    squared: np.ndarray
    absolute: np.ndarray
    scale: np.ndarray

    @property
    def mse(self) -> float:
        """Mean squared error, model units."""
        return float(np.nanmean(self.squared))

    @property
    def mae(self) -> float:
        """Mean absolute error, model units."""
        return float(np.nanmean(self.absolute))

    @property
    def raw_mse(self) -> float:
        """Mean squared error in the squared units of the data."""
        return float(np.nanmean(self.squared * np.square(self.scale)))

    @property
    def raw_mae(self) -> float:
        """Mean absolute error in the units of the data."""
        return float(np.nanmean(self.absolute * self.scale))


@torch.no_grad()
def reconstruction_errors(model: Model, feed: Feed, positions: Tensor) -> Errors | None:
    """Errors of each data feature over some items; None where values are names, which have no mean.

    Args:
        model: the model, in evaluation mode.
        feed: the items.
        positions: which of them, (items,) int64.
    """
    if not model.likelihood.numeric:
        return None
    sums = torch.zeros(3, *feed.event_shape, dtype=torch.float64)
    for some in positions.split(BATCH):
        x = feed.batch(some)
        mean = _mean(given(model, feed.items, some), x)
        if mean is None or mean.shape != x.shape:
            return None
        difference = (x - mean).double().cpu()
        seen = ~difference.isnan()
        difference = difference.nan_to_num(0.0)
        sums += torch.stack([difference.square().sum(0), difference.abs().sum(0), seen.double().sum(0)])
    squared, absolute = (sums[:2] / sums[2]).numpy()
    return Errors(squared, absolute, np.asarray(feed.scaling.scale, dtype=np.float64))


def _mean(model: Model, x: Tensor) -> Tensor | None:
    try:
        return model.reconstruct(x)
    except (NotImplementedError, AttributeError):  # categories have none
        return None
