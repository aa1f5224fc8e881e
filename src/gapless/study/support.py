"""Whether data suits what is to be trained on it: classes, and values that the likelihood can explain."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gapless import likelihoods, recipes
from gapless.data import Dataset, Items
from gapless.errors import UsageError

__all__ = ["check_suited", "check_support", "known_of", "number_of_classes"]


def number_of_classes(data: Dataset) -> int:
    """Classes of the data, for a conditional model.

    Raises:
        UsageError: the data has none.
    """
    if not data.label_names:
        raise UsageError(
            "a conditional model needs the class of every item; this data has none",
            where=data.source,
            fix="name the column with --label, or give one folder a class",
        )
    return len(data.label_names)


def check_suited(data: Dataset, recipe: str) -> None:
    """Refuse data that was read for another likelihood than the recipe is about, unless that was asked for.

    Raises:
        UsageError: with the fix.
    """
    wanted = recipes.named_recipe(recipe).likelihood
    if wanted not in (None, data.likelihood) and data.options.get("likelihood", "auto") == "auto":
        raise UsageError(
            f"the recipe {recipe!r} is about the likelihood {wanted}; the data was read for {data.likelihood}",
            where=data.source,
            fix=f"read it with likelihood={wanted!r}, or ask for another one when it is read",
        )


def known_of(data: Dataset) -> likelihoods.Known:
    """What a likelihood may need to know of the data; of columns with scalings of their own nothing but the shape."""
    (shift, *_), (scale, *others) = data.scaling.shift, data.scaling.scale
    if others:
        return likelihoods.Known(data.event_shape)
    largest = (data.inspection.maximum - shift) / scale
    return likelihoods.Known(data.event_shape, largest, 1 / scale if data.inspection.integer else None)


def check_support(data: Dataset) -> None:
    """Refuse a likelihood that gives the data no probability.

    Raises:
        UsageError: values outside the likelihood's support, with the feature and the fix.
    """
    head = recipes.likelihood_of(data.head, known_of(data))
    low, high, whole = (ends.numpy() for ends in head.supports(data.event_shape))
    bounded = np.isfinite(high).all() and not whole.any()
    scaling = "unit to map the values to [0, 1]" if bounded else "none where the values are counts or classes"
    fix = f"use --likelihood NormalWithOptimalScale, or --scaling {scaling}"
    for items, name in ((data.train, "training"), (data.held_out, "held-out")):
        smallest, largest = _range(items, data)
        outside = (smallest < low - 1e-6) | (largest > high + 1e-6)
        if outside.any():
            at = tuple(np.argwhere(outside)[0].tolist())
            values = f"in [{low[at]:g}, {high[at]:g}]" if high[at] < math.inf else f"from {low[at]:g} on"
            raise UsageError(
                f"a {_kind(head, at)} likelihood explains values {values}; the {name} items "
                f"{_feature(data, at)}lie in [{smallest.min():g}, {largest.max():g}] (scaling: {data.scaling.name})",
                where=data.source,
                fix=fix,
            )
        if whole.any():
            _refuse_fractions(data, items, name, head, whole, fix)


def _refuse_fractions(data: Dataset, items: Items, name: str, head: Any, whole: np.ndarray, fix: str) -> None:
    """Stop at features that must be whole numbers and are not."""
    if data.inspection.integer and data.scaling.name == "none":
        return
    for rows in _chunks(items):
        scaled = np.nan_to_num(data.scaling(rows))
        broken = whole & (scaled != np.round(scaled)).any(axis=0)
        if broken.any():
            at = tuple(np.argwhere(broken)[0].tolist())
            value = next(v for v in scaled[(slice(None), *at)] if v != round(v))
            raise UsageError(
                f"a {_kind(head, at)} likelihood explains whole numbers; among the {name} items "
                f"{_feature(data, at)}there is {value:g} (scaling: {data.scaling.name})",
                where=data.source,
                fix=fix,
            )


def _kind(head: Any, at: tuple[int, ...]) -> str:
    """The likelihood of one feature, by name."""
    head = getattr(head, "likelihood", head)
    columns = getattr(head, "columns", None)
    return type(head if columns is None else columns[at[0]]).__name__


def _feature(data: Dataset, at: tuple[int, ...]) -> str:
    return f"in column {data.columns[at[0]]!r} " if data.columns and len(data.columns) > 1 else ""


def _chunks(items: Items) -> Iterator[np.ndarray]:
    return (items.take(range(start, min(start + 4096, len(items)))) for start in range(0, len(items), 4096))


def _range(items: Items, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each feature in model units, over what was observed."""
    # Scaling is increasing in every feature: the ends of the raw values are scaled, not the values.
    ends = [_ends(rows) for rows in _chunks(items)]
    low, high = np.fmin.reduce([low for low, _ in ends]), np.fmax.reduce([high for _, high in ends])
    return data.scaling(low), data.scaling(high)


def _ends(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = rows.min(axis=0), rows.max(axis=0)
    if rows.dtype.kind == "f" and np.isnan(low).any():  # the other way is far slower
        low, high = np.fmin.reduce(rows), np.fmax.reduce(rows)
    return low, high
