"""What reading gives: the items of each part, and all that is known of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gapless.data.disk import Values
from gapless.data.fingerprints import fingerprint
from gapless.data.inspection import Inspection
from gapless.data.scaling import Scaling

__all__ = ["Dataset", "Items"]


@dataclass(frozen=True)
class Items:
    """One part of the data: rows of a shared array, picked by position, in the dtype of the source.

    Args:
        values: (n_source, *event) raw; may stay on disk (a `np.memmap` or `OnDisk`), and is then never copied whole.
        labels: (n,) int64 codes into the label names, aligned with `index`; None without labels.
        index: (n,) int64 positions into `values`.
        covariates: (n, covariates) float32, standardised, aligned with `index`; None without any.

    >>> Items(np.array([[10], [20], [30]]), None, np.array([2, 0])).take([0]).tolist()
    [[30]]
    """

    values: Values
    labels: np.ndarray | None
    index: np.ndarray
    covariates: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one item: (channels, height, width) or (columns,)."""
        return tuple(self.values.shape[1:])

    def at(self, positions: Any) -> "Items":
        """The items at some positions of this part, with what is known of them; the values are shared."""
        rows = np.asarray(positions, dtype=np.int64)
        labels, covariates = (None if known is None else known[rows] for known in (self.labels, self.covariates))
        return Items(self.values, labels, self.index[rows], covariates)

    def take(self, positions: Any) -> np.ndarray:
        """The raw rows at some positions of this part.

        Args:
            positions: (k,) whole numbers in 0..n-1.

        Returns:
            (k, *event) a copy, in the dtype of the source.
        """
        return np.asarray(self.values[self.index[np.asarray(positions, dtype=np.int64)]])


@dataclass(frozen=True)
class Dataset:
    """Data read, split, inspected, with the scaling and the likelihood that suit it.

    Args:
        source: what was read, printable; the path as it was given.
        kind: "image", event (channels, height, width), or "table", event (columns,).
        train: what to learn from.
        held_out: what to judge by.
        columns: names of a table's columns, () for images.
        label_names: names of the classes, () without labels.
        scaling: raw units to model units; its moments come from `train` alone.
        likelihood: the name of the likelihood to use.
        inspection: what the data looks like, and every decision taken.
        options: JSON-able keyword arguments of `read` that give this again.
        arguments: what the likelihood is told of the data: the heads of a table's columns, or the number of classes.
        missing: whether values that are not a number were not observed.
        categories: for each column the names of its codes, () where it holds numbers; () if all do.
        covariates: names of the numbers that are given beside each item.
        covariate_scaling: their raw units to what a model is given; its moments come from `train` alone.
    """

    source: str
    kind: str
    train: Items
    held_out: Items
    columns: tuple[str, ...]
    label_names: tuple[str, ...]
    scaling: Scaling
    likelihood: str
    inspection: Inspection
    options: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    missing: bool = False
    categories: tuple[tuple[str, ...], ...] = ()
    covariates: tuple[str, ...] = ()
    covariate_scaling: Scaling = field(default_factory=Scaling)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one item."""
        return self.train.event_shape

    @property
    def head(self) -> dict[str, Any]:
        """The likelihood as plain data: what `parts.build` and `recipes.build` make it of."""
        head = {"kind": self.likelihood, **self.arguments}
        return {"kind": "Masked", "likelihood": head} if self.missing else head

    def fingerprint(self) -> str:
        """Hexadecimal digits that stand for the values, their order and the split; see `data.fingerprints`."""
        return fingerprint(self.train.values, self.train.index, self.held_out.index)
