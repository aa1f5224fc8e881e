"""Labels of any spelling to codes and names."""

from typing import Any

import numpy as np

from gapless.data.raw import printable
from gapless.errors import DataError

__all__ = ["encode", "looks_continuous"]


def encode(labels: Any, *, items: int, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes and class names of labels: numbers sort as numbers, text as text; empty text, no class, comes first.

    Args:
        labels: (n,) or (n, 1) whole numbers, floats, booleans or text.
        items: how many there must be.
        where: the source, for messages.

    Returns:
        (n,) int64 codes, and the names they point to.

    Raises:
        DataError: if they are of another length, shape or kind, or some are missing.
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind not in "buifSU":
        raise DataError(f"labels need numbers or text; these are {array.dtype}", where=where, fix="convert them first")
    if array.ndim != 1 or len(array) != items:
        what = f"{items} items need labels of shape ({items},); these have shape {array.shape}"
        raise DataError(what, where=where, fix="give one label an item, in the same order")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array))
        what = f"{len(bad)} labels are not finite, the first in row {bad[0]} counted from 0"
        fix = "fill or remove those rows, or read without labels; for a semi-supervised recipe (m2) give them as -1"
        raise DataError(what, where=where, fix=fix)
    distinct, codes = np.unique(array, return_inverse=True)
    return _in_order([_name(value) for value in distinct.tolist()], codes.reshape(-1))


def looks_continuous(labels: np.ndarray) -> bool:
    """Whether labels are measurements, not classes: floats that are not whole."""
    return labels.dtype.kind == "f" and bool((labels != np.floor(labels)).any())


def _name(value: Any) -> str:
    if isinstance(value, bytes):
        return printable(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return printable(str(value))


def _in_order(names: list[str], codes: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        order = sorted(range(len(names)), key=lambda i: float(names[i] or "-inf"))
    except ValueError:
        order = list(range(len(names)))
    rank = np.argsort(np.array(order, dtype=np.int64))
    return rank[codes].astype(np.int64), tuple(names[i] for i in order)
