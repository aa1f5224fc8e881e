"""What each column of a table holds, and which likelihood explains it: the rules behind `Mixed`."""

from typing import Any

import numpy as np

from gapless.data.inspection import Survey
from gapless.data.raw import Raw

__all__ = ["NORMAL_COLUMN", "column_heads", "told"]

_DIGITS = 9  # whole numbers from 0 to here are categories
_COUNTS_ABOVE = 20
NORMAL_COLUMN = "NormalWithLearnedScale"
"""Learned by gradient, so that it is right under every bound; an optimal scale would be that of unweighted draws."""


def column_heads(
    raw: Raw, train: Survey, whole: Survey, moments: tuple[np.ndarray, np.ndarray]
) -> list[dict[str, Any]]:
    """The likelihood of each column as plain data, fit for `parts.build`.

    Text and whole numbers from 0 to 9 are categories, 0 and 1 are bits, whole numbers from 0 to above 20 with a
    variance above their mean are counts; all else is normal with a scale of its own, 1 where it never changes.

    Args:
        raw: the table.
        train: ranges of the rows to train on.
        whole: ranges of all rows.
        moments: mean and variance of each column over the rows to train on.
    """
    names = raw.categories or ((),) * len(raw.columns)
    return [_head(len(names[j]), train, whole, j, moments[0][j], moments[1][j]) for j in range(len(names))]


def _head(categories: int, train: Survey, whole: Survey, j: int, mean: float, variance: float) -> dict[str, Any]:
    low, high = float(whole.low[j]), float(whole.high[j])
    if categories:
        return {"kind": "Categorical", "classes": categories}
    if whole.whole[j] and low >= 0 and high <= 1:
        return {"kind": "Bernoulli"}
    if train.constant[j]:
        return {"kind": "Normal", "scale": 1.0}
    if whole.whole[j] and low >= 0 and high <= _DIGITS:
        return {"kind": "Categorical", "classes": int(high) + 1}
    if whole.whole[j] and low == 0 and high > _COUNTS_ABOVE and variance > mean:
        return {"kind": "NegativeBinomial"}
    return {"kind": NORMAL_COLUMN}


def told(heads: list[dict[str, Any]]) -> str:
    """How many columns have which likelihood, for people."""
    kinds = [head["kind"] for head in heads]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
