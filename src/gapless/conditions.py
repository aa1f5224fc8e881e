"""Conditional models: the label of each item as the context of encoder and decoder."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gapless.data import Dataset, Feed, Items
from gapless.errors import DataError, UsageError
from gapless.model import Model

if TYPE_CHECKING:
    from gapless.runs import Run

__all__ = [
    "UNKNOWN", "aligned", "check_classes", "classified", "context_of", "given", "given_label", "known_classes",
    "labelled", "labelled_data", "of_label",
]  # fmt: skip

UNKNOWN = ("", "?", "unknown", "unlabelled", "-1")
"""Names, in any case, that say to a semi-supervised model that the class of an item is not known."""
_TOGETHER = 512


def known_classes(data: Dataset) -> Dataset:
    """The data with the classes that are classes; items named by one of `UNKNOWN` have the code -1.

    >>> from gapless.data import read
    >>> known_classes(read("digits")).label_names[:3]
    ('0', '1', '2')
    """
    names = tuple(name for name in data.label_names if not _is_unknown(name))
    if names == data.label_names:
        return data
    train, held_out = (aligned(items, data.label_names, names) for items in (data.train, data.held_out))
    return replace(data, train=train, held_out=held_out, label_names=names)


def check_classes(data: Dataset) -> Dataset:
    """The data itself, if no item's class is unknown: for every recipe but the semi-supervised ones.

    Raises:
        DataError: the labels of some are empty.
    """
    if "" not in data.label_names:
        return data
    labels = np.concatenate([part.labels for part in (data.train, data.held_out) if part.labels is not None])
    empty = int((labels == data.label_names.index("")).sum())
    raise DataError(
        f"every item needs a class, or none does; the label of {empty:,} of {len(labels):,} is empty",
        where=data.source,
        fix="fill or remove them, or leave the column of the classes out (--drop); or learn from them, as items of "
        "unknown class, with --recipe m2",
    )


def _is_unknown(name: str) -> bool:
    return name.strip().lower() in UNKNOWN


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


def labelled(run: "Run", items: Items, names: Sequence[str]) -> Items:
    """Items with the codes of the classes that a conditional run was trained with; of any other run as they are.

    Args:
        run: a trained run.
        items: with codes into `names`.
        names: of their classes.

    Raises:
        DataError: an item of a class that the model does not know; of a semi-supervised model it may be unknown.
    """
    if not run.model.context or (items.labels is None and _classify(run.objective) is None):
        return items
    if items.labels is None:
        return replace(items, labels=np.full(len(items), -1, dtype=np.int64))
    known, open_ended = run.data.label_names, _classify(run.objective) is not None
    met = ("" if code < 0 else names[int(code)] for code in np.unique(items.labels))
    foreign = [name for name in met if name not in known and not (open_ended and _is_unknown(name))]
    if foreign:
        raise DataError(
            f"this model was trained with the classes {_listed(known)}; here is one called {foreign[0]!r}",
            fix="leave its items out, or name the column of the classes with --label"
            + ("; an empty cell is an unknown class" if open_ended else ""),
        )
    return aligned(items, names, known)


def labelled_data(run: "Run", data: Dataset) -> Dataset:
    """The data with the codes and the names of the classes that a conditional run was trained with; see `labelled`."""
    if not run.model.context:
        return data
    train, held_out = (labelled(run, items, data.label_names) for items in (data.train, data.held_out))
    return replace(data, train=train, held_out=held_out, label_names=run.data.label_names)


def classified(model: Model, objective: nn.Module, feed: Feed) -> Feed:
    """The feed with the most probable class, `argmax_y q(y|x)`, wherever a semi-supervised model was not told it.

    Encoder and decoder of m2 are always given a class: Kingma et al. (2014), eq. 7, sums over all. A row of zeros in
    the place of one, as for the objective, which knows what is meant, they have never met.

    Args:
        model: the model.
        objective: with a `classify`; under any other one the feed is given back.
        feed: the items, with codes of the model's classes, -1 where unknown.
    """
    classify, items = _classify(objective), feed.items
    if classify is None or items.labels is None or (items.labels >= 0).all():
        return feed
    labels, unknown = items.labels.copy(), torch.from_numpy(np.flatnonzero(items.labels < 0))
    with torch.no_grad():
        for some in unknown.split(_TOGETHER):
            labels[some.numpy()] = classify(model, feed.batch(some)).argmax(1).cpu().numpy()
    again = copy(feed)  # the rows are shared
    again.items = replace(items, labels=labels)
    return again


def _classify(objective: nn.Module) -> Any:
    """q(y|x) of a semi-supervised objective, or of the one that it wraps; None of any other."""
    return getattr(getattr(objective, "objective", objective), "classify", None)


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


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
        raise DataError(
            f"this model knows {model.context} classes, 0 to {model.context - 1}; an item has the label number "
            f"{int(codes.max())}",
            where=f"item {int(torch.as_tensor(positions)[codes.argmax()])}",
            fix="give it the number of a class that the model was trained with, or leave it out",
        )
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
