"""Which items the explorer shows, and their values as the page reads them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gapless.adapters import ENOUGH_HELD_OUT, MOST_ITEMS
from gapless.data import Dataset, Feed, Items
from gapless.errors import UsageError
from gapless.randomness import generator
from gapless.report.thumbnails import value_range

__all__ = ["MOST", "Shown", "shown_items"]

MOST = 1_000_000
SAMPLED = 2_000
"""Items looked at to find the range of values that is shown from black to white."""


@dataclass(frozen=True)
class Shown:
    """The items on the map: held-out ones first, so that an audit of the first of them is one of held-out items.

    Attributes:
        data: the data set they are of.
        items: the items.
        held_out: which of them no model was trained on, shape (n,), bool.
    """

    data: Dataset
    items: Items
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def feed(self) -> Feed:
        """The items in model units."""
        return Feed(self.items, self.data.scaling)

    def head(self, count: int) -> torch.Tensor:
        """The first items in model units, shape (count, *event)."""
        return self.feed.batch(torch.arange(min(count, len(self))))

    def judged(self, *, seed: int = 0) -> np.ndarray:
        """Positions of the items an audit rests on, as `gapless audit` chooses them: held out, or all where few are.

        Of more than 20,000 a random choice, in their order.
        """
        held_out = int(self.held_out.sum())
        if held_out < ENOUGH_HELD_OUT:
            return np.arange(min(len(self), MOST_ITEMS))
        drawn = torch.randperm(held_out, generator=generator(seed, "picture", 5)).numpy()
        return np.sort(drawn[:MOST_ITEMS])

    def display(self) -> tuple[float, float]:
        """The model-unit values shown as black and white."""
        if self.data.likelihood.endswith("Bernoulli") or self.data.scaling.name == "unit":
            return 0.0, 1.0
        return value_range([self.head(SAMPLED).numpy()])

    def labels(self) -> bytes | None:
        """int16 (n), -1 where unknown; None without labels."""
        if self.items.labels is None or not self.data.label_names:
            return None
        known = (self.items.labels >= 0) & (self.items.labels < min(len(self.data.label_names), 2**15))
        return np.where(known, self.items.labels, -1).astype("<i2").tobytes()


def shown_items(data: Dataset, *, limit: int, new: bool = False, seed: int = 0) -> Shown:
    """The held-out items, then items trained on; of each part a random choice that depends on the seed alone.

    Args:
        data: the data.
        limit: at most so many items, 1 to 1,000,000.
        new: whether the models have seen none of it; then every item counts as held out.
        seed: of the choice.

    Raises:
        UsageError: the limit is outside its range.
    """
    if not 1 <= limit <= MOST:
        raise UsageError(f"--items takes 1 to {MOST:,}; got {limit}")
    judged = _some(data.held_out, limit, seed=seed, part=0)
    learned = _some(data.train, limit - len(judged), seed=seed, part=1)
    labels = None
    if judged.labels is not None and learned.labels is not None:
        labels = np.concatenate([judged.labels, learned.labels])
    index = np.concatenate([judged.index, learned.index])
    held_out = np.ones(len(index), bool)
    held_out[len(judged) :] = new
    return Shown(data, Items(data.train.values, labels, index), held_out)


def _some(items: Items, limit: int, *, seed: int, part: int) -> Items:
    """At most `limit` items in their order."""
    if len(items) <= limit:
        return items
    drawn = torch.randperm(len(items), generator=generator(seed, "picture", 2, part))[:limit]
    chosen = np.sort(drawn.numpy())
    return items.at(chosen)


def quantised(values: Any, low: float, high: float) -> np.ndarray:
    """Values as bytes, low -> 0 and high -> 255, of the same shape."""
    grey = np.clip((np.asarray(values, np.float32) - low) / max(high - low, 1e-12), 0, 1)
    return np.rint(grey * 255).astype(np.uint8)
