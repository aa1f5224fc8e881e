"""Conditional models: the label of each item as the context of encoder and decoder."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gapless.data import Dataset, Items
from gapless.errors import DataError, UsageError
from gapless.model import Model

__all__ = ["UNKNOWN", "aligned", "context_of", "given", "given_label", "known_classes", "of_label"]

UNKNOWN = ("", "?", "unknown", "unlabelled", "-1")
"""Names, in any case, that say that the class of an item is not known."""


def known_classes(data: Dataset) -> Dataset:
    """The data with the classes that are classes; items named by one of `UNKNOWN` have the code -1.

    >>> from gapless.data import read
    >>> known_classes(read("digits")).label_names[:3]
    ('0', '1', '2')
    """
    names = tuple(name for name in data.label_names if name.strip().lower() not in UNKNOWN)
    if names == data.label_names:
        return data
    train, held_out = (aligned(items, data.label_names, names) for items in (data.train, data.held_out))
    return replace(data, train=train, held_out=held_out, label_names=names)


def aligned(items: Items, names: Sequence[str], known: Sequence[str]) -> Items:
    """Items whose labels are codes into other names: -1 where the name is not among them.

    Args:
        items: with codes into `names`.
        names: of their classes.
        known: the classes wanted, for example those that a model was trained with.
    """
    if items.labels is None or tuple(names) == tuple(known):
        return items
    codes = np.array([*(known.index(name) if name in known else -1 for name in names), -1], dtype=np.int64)
    return replace(items, labels=codes[items.labels])


def context_of(model: Model, items: Items, positions: Any) -> Tensor | None:
    """The context of some items, one row each: a 1 at the item's class; None for an unconditional model.

    Args:
        model: the model; its `context` is the number of classes.
        items: where the labels are; an unknown class, -1, is a row of zeros.
        positions: (k,) whole numbers in 0..n-1.

    Returns:
        Shape (k, context), float32.

    Raises:
        DataError: the items have no labels, or one that the model does not know.
    """
    if not model.context:
        return None
    if items.labels is None:
        raise DataError(
            "this model is conditional: it needs the label of every item", fix="name the column with --label, or "
            "give one folder a class",
        )  # fmt: skip
    codes = torch.as_tensor(items.labels[torch.as_tensor(positions).numpy()], dtype=torch.int64)
    if codes.numel() and int(codes.max()) >= model.context:
        raise DataError(f"this model knows {model.context} classes; an item has the label number {int(codes.max())}")
    rows = torch.zeros(len(codes), model.context)
    known = codes >= 0
    rows[known, codes[known]] = 1.0
    return rows


def given(model: Model, items: Items, positions: Any) -> Model:
    """The model with the labels of some items bound; an unconditional model as it is."""
    context = context_of(model, items, positions)
    return model if context is None else model.given(context)


def given_label(model: Model, names: Sequence[str], label: str | None) -> Model:
    """The model with one label bound for all items.

    Args:
        model: conditional or not.
        names: names of the classes it was trained with.
        label: one of them; None for an unconditional model.

    Raises:
        UsageError: a conditional model without a label, or a label it does not know, or one that has no use.
    """
    if not model.context:
        if label is not None:
            raise UsageError("this model is not conditional: it has no use for a label", fix="leave --label out")
        return model
    if label is None or label not in names:
        what = "needs a label" if label is None else f"does not know the label {label!r}"
        raise UsageError(f"this conditional model {what}", fix=f"give --label, one of {', '.join(names)}")
    return model.given(torch.eye(model.context)[[names.index(label)]])


def of_label(data: Dataset, label: str) -> Dataset:
    """The items of one class alone.

    Raises:
        DataError: there are none.
    """
    code = list(data.label_names).index(label) if label in data.label_names else -1
    parts = [_only(part, code) for part in (data.train, data.held_out)]
    if not all(map(len, parts)):
        raise DataError(
            f"no items have the label {label!r}", where=data.source, fix=f"use {', '.join(data.label_names)}"
        )
    return replace(data, train=parts[0], held_out=parts[1])


def _only(items: Items, code: int) -> Items:
    if items.labels is None:
        return replace(items, index=items.index[:0])
    chosen = np.flatnonzero(items.labels == code)
    return Items(items.values, items.labels[chosen], items.index[chosen])
