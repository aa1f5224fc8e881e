"""Conditional models: the label of each item, or its covariates, as the context of encoder and decoder."""

from collections.abc import Mapping, Sequence
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
    "UNKNOWN", "aligned", "check_classes", "classified", "context_of", "given", "given_label", "given_values",
    "known_classes", "labelled", "labelled_data", "of_label", "refuse_covariates",
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
    beside, wanted = items.covariates, len(run.data.covariates)
    if (0 if beside is None else beside.shape[1]) != wanted:
        raise DataError(
            f"this model is given {wanted} covariates beside each item: {', '.join(run.data.covariates) or 'none'}",
            fix="read the items as the run reads them, run.data.read_items(source)",
        )
    if not _classes(run) or (items.labels is None and _classify(run.objective) is None):
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
    if not _classes(run):
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


def _classes(run: "Run") -> int:
    """How many classes the model of a run is told apart."""
    return run.model.context - len(run.data.covariates)


def _classify(objective: nn.Module) -> Any:
    """q(y|x) of a semi-supervised objective, or of the one that it wraps; None of any other."""
    return getattr(getattr(objective, "objective", objective), "classify", None)


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def context_of(model: Model, items: Items, positions: Any) -> Tensor | None:
    """The context of some items, one row each: a 1 at the item's class, then its covariates; None without any.

    Args:
        model: the model; its `context` is the number of classes and covariates.
        items: where labels and covariates are; an unknown class, -1, is a row of zeros.
        positions: (k,) whole numbers in 0..n-1.

    Returns:
        Shape (k, context), float32.

    Raises:
        DataError: the items have no labels, or one that the model does not know.
    """
    if not model.context:
        return None
    rows, beside = torch.as_tensor(positions).numpy(), items.covariates
    numbers = torch.empty(len(rows), 0) if beside is None else torch.from_numpy(beside[rows])
    classes = model.context - numbers.shape[1]
    return torch.cat([_one_hot(items, rows, classes), numbers], 1) if classes else numbers


def _one_hot(items: Items, rows: np.ndarray, classes: int) -> Tensor:
    if items.labels is None:
        raise DataError(
            "this model is conditional: it needs the label of every item", fix="name the column with --label, or "
            "give one folder a class",
        )  # fmt: skip
    codes = torch.as_tensor(items.labels[rows], dtype=torch.int64)
    if codes.numel() and int(codes.max()) >= classes:
        raise DataError(
            f"this model knows {classes} classes, 0 to {classes - 1}; an item has the label number {int(codes.max())}",
            where=f"item {int(rows[codes.argmax()])}",
            fix="give it the number of a class that the model was trained with, or leave it out",
        )
    hot = torch.zeros(len(codes), classes)
    known = codes >= 0
    hot[known, codes[known]] = 1.0
    return hot


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


def given_values(run: "Run", label: str | None = None, covariates: Mapping[str, float] | None = None) -> Model:
    """The model of a run with one label, and one value of each of its covariates, bound for all items.

    Args:
        run: conditional or not.
        label: one of its classes; None where it was trained without.
        covariates: raw units, by name.

    Raises:
        UsageError: a label or a covariate is missing, is not known, or has no use.
    """
    names, told = run.data.covariates, dict(covariates or {})
    wrong = [name for name in (*told, *names) if (name in told) != (name in names)]
    if wrong:
        what = "needs a value of" if wrong[0] in names else "knows no"
        means = zip(names, run.data.covariate_scaling.shift, strict=False)
        listed = " ".join(f"--given {name}={mean:.4g}" for name, mean in means)
        fix = f"for example the means, {listed}" if names else "leave --given out"
        raise UsageError(f"this model {what} the covariate {wrong[0]!r}", fix=fix)
    if not names:
        return given_label(run.model, run.data.label_names, label)
    row = torch.from_numpy(run.data.covariate_scaling(np.array([[told[name] for name in names]])))
    classes, known = _classes(run), run.data.label_names
    if not classes and label is None:
        return run.model.given(row)
    if label is None or label not in known or not classes:
        fix = f"give --label, one of {', '.join(known)}" if classes else "leave --label out"
        raise UsageError(
            f"this model {'has no use for' if not classes else 'is given'} a label; got {label!r}", fix=fix
        )
    return run.model.given(torch.cat([torch.eye(classes)[[known.index(label)]], row], 1))


def refuse_covariates(names: Sequence[str], what: str) -> None:
    """Refuse models that are given covariates, for what judges or shows one latent space.

    Raises:
        UsageError: there are some.
    """
    if names:
        raise UsageError(
            f"{what} one latent space; with covariates it is another one for every value of {_listed(names)}",
            fix="train without --covariates; `gapless evaluate` takes models with them",
        )


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
    return items.at(np.flatnonzero(items.labels == code))
