"""What a reader is asked for, and what it hands over."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["CAP_BYTES", "Raw", "Request", "printable", "size_text"]

CAP_BYTES = 8 << 30  # the most that is read into memory; mapped arrays may be larger


@dataclass(frozen=True)
class Request:
    """The wishes of the user that a reader may heed.

    Args:
        array: the member of an npz to learn from.
        label: the column of a table, or the member of an npz, that holds the classes.
        drop: columns of a table to leave out.
        resize: (height, width) for image files.
        skip_errors: leave unreadable image files out, and say so, instead of stopping.
        keep_missing: values that are missing become NaN, instead of stopping.
        categories: for each column of text that a model was trained on, the names of its codes.
        covariates: columns of a table, or members of an npz, that are given beside each item.
    """

    array: str | None = None
    label: str | None = None
    drop: tuple[str, ...] = ()
    resize: tuple[int, int] | None = None
    skip_errors: bool = False
    keep_missing: bool = False
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    covariates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raw:
    """Data as it was read, before any split, scaling or choice.

    Args:
        values: (n, channels, height, width) for images, (n, columns) for tables, in the dtype of the source.
        kind: "image" or "table".
        labels: (n,) int64 codes into `label_names`.
        label_names: the classes.
        columns: names of a table's columns.
        categories: for each column the names of its codes, () where it holds numbers; () if all do.
        full_scale: the largest value the format can hold, where it has one.
        train_items: if the source brings its own held-out part: the first so many are to train on.
        notes: decisions taken while reading.
        covariates: (n, covariates) float64, what is given beside each item.
    """

    values: Any  # an array, or rows on disk (gapless.data.disk.Values)
    kind: str
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    full_scale: float | None = None
    train_items: int | None = None
    notes: tuple[str, ...] = ()
    covariates: np.ndarray | None = None


def printable(name: str) -> str:
    """A file, column or class name safe to print and to store: control characters and lone bytes are escaped."""
    safe = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in safe)


def size_text(count: int) -> str:
    """A number of bytes for people."""
    if count < 1 << 20:
        return f"{count} bytes"
    return f"{count / (1 << 30):.3g} GiB" if count < 1 << 50 else f"{count / (1 << 50):.3g} PiB"
