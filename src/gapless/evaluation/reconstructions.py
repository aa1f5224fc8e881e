"""How far reconstructions lie from the items, in the model's units and in those of the data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gapless import likelihoods
from gapless.conditions import given
from gapless.data import Feed
from gapless.likelihoods import Likelihood
from gapless.model import Model

__all__ = ["Errors", "reconstruction_errors"]

BATCH = 256


@dataclass(frozen=True)
class Errors:
    """Errors of p(x|z) at the mean of q(z|x); values that were not observed count nowhere.

    Of quantities it is the mean of p(x|z) that errs, by squares and absolute values; of categories, which have no
    mean, the most probable one, by being another. Each is NaN at features of the other sort.

    Attributes:
        squared: mean squared error of each data feature, model units, shape (*event).
        absolute: mean absolute error of each data feature, model units, shape (*event).
        wrong: share of the items for which another category is the most probable one, shape (*event).
        scale: raw units a model unit, shape (1,) or (columns,).
        kinds: name of each column's likelihood; () where all are alike.
    """

    squared: np.ndarray
    absolute: np.ndarray
    wrong: np.ndarray
    scale: np.ndarray
    kinds: tuple[str, ...] = ()

    @property
    def mse(self) -> float | None:
        """Mean squared error over all quantities, model units; None where there are none."""
        return _mean(self.squared)

    @property
    def mae(self) -> float | None:
        """Mean absolute error over all quantities, model units."""
        return _mean(self.absolute)

    @property
    def raw_mse(self) -> float | None:
        """Mean squared error in the squared units of the data."""
        return _mean(self.squared * np.square(self.scale))

    @property
    def raw_mae(self) -> float | None:
        """Mean absolute error in the units of the data."""
        return _mean(self.absolute * self.scale)

    @property
    def wrong_share(self) -> float | None:
        """Share of wrong categories over all categorical features; None where there are none."""
        return _mean(self.wrong)

    @property
    def by_kind(self) -> dict[str, "Errors"]:
        """The same of the columns of each kind; empty where all are alike."""
        return {kind: self._of(kind) for kind in sorted(set(self.kinds))}

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        names = ("mse", "mae", "raw_mse", "raw_mae")
        found = {name: getattr(self, name) for name in names} | {"wrong_categories": self.wrong_share}
        kinds = {kind: {"columns": part.squared.size, **part.to_dict()} for kind, part in self.by_kind.items()}
        return found | ({"by_kind": kinds} if kinds else {})

    def _of(self, kind: str) -> "Errors":
        at = np.array(self.kinds) == kind
        scale = np.broadcast_to(self.scale, self.squared.shape)
        return Errors(self.squared[at], self.absolute[at], self.wrong[at], scale[at])


@torch.no_grad()
def reconstruction_errors(model: Model, feed: Feed, positions: Tensor) -> Errors | None:
    """Errors of each data feature over some items; None where p(x|z) has neither means nor categories.

    Args:
        model: the model, in evaluation mode.
        feed: the items.
        positions: which of them, (items,) int64.
    """
    sums = torch.zeros(4, *feed.event_shape, dtype=torch.float64)
    names, kinds = _sorts(model.likelihood, feed.event_shape)
    for some in positions.split(BATCH):
        x = feed.batch(some)
        found = _reconstructed(given(model, feed.items, some), x, names.to(x.device))
        if found is None or found.shape != x.shape:
            return None
        difference = (x - found).double().cpu()
        seen = ~difference.isnan()
        difference = difference.nan_to_num(0.0)
        parts = difference.square(), difference.abs(), (difference.abs() > 0.5).double(), seen.double()
        sums += torch.stack([part.sum(0) for part in parts])
    squared, absolute, wrong = (sums[:3] / sums[3]).numpy()
    squared, absolute = (np.where(names.numpy(), np.nan, errors) for errors in (squared, absolute))
    wrong = np.where(names.numpy(), wrong, np.nan)
    return Errors(squared, absolute, wrong, np.asarray(feed.scaling.scale, dtype=np.float64), kinds)


def _sorts(likelihood: Likelihood, event_shape: tuple[int, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Which features are names of classes, shape (*event), and the kinds of the columns where they differ."""
    head: Any = likelihood.likelihood if isinstance(likelihood, likelihoods.Masked) else likelihood
    if not isinstance(head, likelihoods.Mixed):
        return torch.full(event_shape, not head.numeric), ()
    columns: Any = list(head.columns)
    return torch.tensor([not column.numeric for column in columns]), tuple(type(c).__name__ for c in columns)


def _reconstructed(model: Model, x: Tensor, names: Tensor) -> Tensor | None:
    """The mean of p(x|z) at the embedding of x, and of names the most probable one."""
    try:
        decoded: Any = model.likelihood.calibrate(model.decode(model.embed(x)), x)
        return torch.where(names, decoded.mode, decoded.mean) if bool(names.any()) else decoded.mean
    except (NotImplementedError, AttributeError):  # some have neither
        return None


def _mean(values: np.ndarray) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None
