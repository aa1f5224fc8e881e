"""What suits the data: the scaling and the likelihood, each with the reason in a sentence."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gapless.data.inspection import Inspection, Survey, count_where, moments
from gapless.data.kinds import NORMAL_COLUMN, column_heads, told
from gapless.data.raw import Raw
from gapless.data.scaling import Scaling
from gapless.errors import DataError, UsageError

__all__ = ["Choice", "choose"]

_FLOAT32 = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).tiny)  # a scale below it is 0 in float32
_MANY_ZEROS = 0.3
_COUNTS_ABOVE = 20
_MOST_CLASSES = 256
MIXED = "Mixed"
_WHOLE = ("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial", "Categorical")
"""Likelihoods of whole numbers: any scaling would leave none."""
_LEARNED_SCALE = ("NormalWithLearnedScale", "LaplaceWithLearnedScale")
"""Likelihoods that learn one scale of their noise, or one a feature."""


@dataclass(frozen=True)
class Choice:
    """The scaling and the likelihood taken, its arguments, and the inspection that tells why."""

    scaling: Scaling
    likelihood: str
    inspection: Inspection
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Facts:
    """What the rules look at: the data, ranges of the train part and of all, the ends of the range of an image."""

    raw: Raw
    train_index: np.ndarray
    train: Survey
    whole: Survey
    notes: list[str]
    heads: list[dict[str, Any]] = field(default_factory=list)
    ends: tuple[float, float] = field(init=False)
    at_extremes: float = field(init=False)
    binary: bool = field(init=False)

    def __post_init__(self) -> None:
        self.ends = _ends(self.raw, self.train, self.whole)
        self.at_extremes, self.binary = _extremes(self.raw, self.whole, self.ends)


def choose(
    raw: Raw,
    train_index: np.ndarray,
    *,
    train: Survey,
    whole: Survey,
    likelihood: str,
    scaling: str,
    where: str,
    missing: bool = False,
    noise_scale: str = "shared",
) -> Choice:
    """The scaling and the likelihood for some data.

    Args:
        raw: the data as read.
        train_index: (n,) rows to train on; moments come from them alone.
        train: ranges of those rows.
        whole: ranges of all rows.
        likelihood: a name, kept, or "auto".
        scaling: "auto", "none", "unit" or "standard".
        where: the source, for messages.
        missing: whether values that are not a number were not observed.
        noise_scale: whether a learned scale of the noise is "shared", or one a "feature".

    Raises:
        DataError: if scaled values leave the range of float32, or a column has no value at all.
        UsageError: if the likelihood or the scaling that was asked for does not go with the data.
    """
    facts = _Facts(raw, train_index, train, whole, list(raw.notes))
    _refuse_empty(facts, where)
    likelihood = MIXED if likelihood == "auto" and raw.categories else likelihood
    _refuse_contradictions(facts, likelihood, scaling, where)
    _note_constants(facts)
    if missing:
        _note_missing(facts)
    if likelihood == MIXED:
        facts.heads = column_heads(raw, train, whole, moments(raw.values, train_index))
        facts.notes.append(f"likelihood {MIXED}: {told(facts.heads)}")
    name = scaling if scaling != "auto" else _scaling_name(facts, likelihood)
    taken = _scaling(facts, name)
    _refuse_overflow(taken, whole, where)
    if likelihood == "auto":
        likelihood = _likelihood(facts, taken)
    elif likelihood.endswith("Bernoulli") and raw.kind == "table" and not facts.binary:
        facts.notes.append(
            f"warning: likelihood {likelihood} was asked for, but the columns are not all 0 or 1: "
            "its values are no densities; NormalWithOptimalScale suits them"
        )
    _note_counts(facts, likelihood)
    return Choice(taken, likelihood, _inspection(facts), _arguments(facts, likelihood, where, noise_scale))


def _arguments(facts: _Facts, likelihood: str, where: str, noise_scale: str) -> dict[str, Any]:
    """What the likelihood must be told of the data."""
    if noise_scale != "shared":
        if noise_scale != "feature" or likelihood not in _LEARNED_SCALE:
            what = f"a noise scale is shared, or one a feature of {' or '.join(_LEARNED_SCALE)}"
            said = f"{what}; got {noise_scale!r} and the likelihood {likelihood}"
            raise UsageError(said, where=where, fix=f"use --likelihood {_LEARNED_SCALE[0]} --noise-scale feature")
        return {"shape": list(facts.raw.values.shape[1:])}
    if likelihood == MIXED:
        return {"columns": facts.heads}
    if likelihood != "Categorical":
        return {}
    classes = int(facts.whole.maximum) + 1
    if classes > _MOST_CLASSES:
        what = f"a Categorical likelihood explains whole numbers below {_MOST_CLASSES}; the largest is {classes - 1}"
        raise UsageError(what, where=where, fix="use --likelihood NegativeBinomial for counts")
    return {"classes": max(classes, 2)}


def _refuse_contradictions(facts: _Facts, likelihood: str, scaling: str, where: str) -> None:
    if likelihood == MIXED and facts.raw.kind == "image":
        raise UsageError("a mixed likelihood is for the columns of a table; these are images", where=where)
    if likelihood != MIXED and facts.raw.categories:
        names = [c for c, known in zip(facts.raw.columns, facts.raw.categories, strict=True) if known]
        drop = " ".join(f"--drop {name!r}" for name in names[:6])
        what = f"{len(names)} columns are text, which a {likelihood} likelihood cannot explain"
        raise UsageError(what, where=where, fix=f"use --likelihood {MIXED}, or leave them out: {drop}")
    if scaling not in ("auto", "none") and likelihood in _WHOLE:
        what = f"a {likelihood} likelihood explains whole numbers as they are; {scaling} scaling leaves none"
        raise UsageError(what, where=where, fix="use --scaling none")
    if scaling == "unit" and likelihood == MIXED:
        raise UsageError("columns of several kinds have no scaling onto 0..1", where=where, fix="leave --scaling out")


def _refuse_empty(facts: _Facts, where: str) -> None:
    empty = np.argwhere(facts.train.low > facts.train.high)
    if not len(empty):
        return
    names = [facts.raw.columns[int(at[0])] if facts.raw.columns else str(tuple(at.tolist())) for at in empty[:4]]
    drop = " ".join(f"--drop {name!r}" for name in names)
    fix = f"leave them out: {drop}" if facts.raw.columns else "crop the images"
    what = f"{len(empty)} features have no value in any item to train on: {', '.join(map(repr, names))}"
    raise DataError(what, where=where, fix=fix)


def _note_missing(facts: _Facts) -> None:
    share = facts.whole.missing / facts.raw.values.size
    if not share:
        facts.notes.append("no value is missing; those of other items may be")
        return
    facts.notes.append(
        f"{100 * share:.3g} % of the values are missing: they count as not observed (likelihood Masked), "
        "the encoder is shown the mean in their place"
    )


def _ends(raw: Raw, train: Survey, whole: Survey) -> tuple[float, float]:
    if raw.kind == "table" or (whole.minimum >= 0 and whole.maximum <= 1):
        return 0.0, 1.0
    return (0.0, raw.full_scale) if raw.full_scale else (train.minimum, train.maximum)


def _extremes(raw: Raw, whole: Survey, ends: tuple[float, float]) -> tuple[float, bool]:
    low, high = ends
    if raw.kind == "table":
        return 0.0, whole.integer and whole.minimum >= 0 and whole.maximum <= 1
    margin, everything = 0.05 * (high - low), np.arange(len(raw.values))
    below, above = low + margin, high - margin
    if raw.values.dtype.kind in "iu":  # whole numbers are compared with whole numbers, six times faster
        below, above = math.floor(below), math.ceil(above)
    near = count_where(raw.values, everything, lambda c: (c <= below) | (c >= above))
    if near < whole.observed:
        return near / max(1, whole.observed), False
    return 1.0, count_where(raw.values, everything, lambda c: (c == low) | (c == high)) == near


def _scaling_name(facts: _Facts, likelihood: str) -> str:
    bernoulli = likelihood.endswith("Bernoulli")
    if likelihood in _WHOLE:
        return "none"
    if facts.raw.kind == "table":
        return "none" if bernoulli or (facts.binary and likelihood == "auto") else "standard"
    if facts.ends == (0.0, 1.0):
        return "none"
    if bernoulli and facts.raw.values.dtype.kind == "f" and not facts.raw.full_scale:
        return "none"
    return "unit"


def _scaling(facts: _Facts, name: str) -> Scaling:
    if name == "none":
        facts.notes.append("scaling: none, the values are used as they are")
        return Scaling()
    return (_unit if name == "unit" else _standard)(facts)


def _unit(facts: _Facts) -> Scaling:
    if facts.raw.kind == "table":
        facts.notes.append("scaling: each column onto 0..1 by its range in the train part")
        low, high = (v.astype(np.float64) for v in (facts.train.low, facts.train.high))
        return _checked(low, high - low, "unit")
    low, high = facts.ends
    if low == 0:
        facts.notes.append(f"scaling: divided by {high:g}" if high else "scaling: every value is 0")
    else:
        facts.notes.append(f"scaling: {low:g}..{high:g}, the range of the train part, onto 0..1")
    if facts.raw.full_scale == high and facts.whole.maximum < high / 8:
        facts.notes.append(f"the largest value is {facts.whole.maximum:g} of {high:g}: the images are dark")
    return _checked(np.array([low]), np.array([high - low]), "unit")


def _standard(facts: _Facts) -> Scaling:
    mean, variance = moments(facts.raw.values, facts.train_index)
    if facts.heads:
        normal = np.array([head["kind"] == NORMAL_COLUMN for head in facts.heads])
        facts.notes.append("scaling: the normal columns to mean 0 and standard deviation 1 over the train part")
        return _checked(np.where(normal, mean, 0.0), np.where(normal, np.sqrt(variance), 1.0), "standard")
    if facts.raw.kind == "table":
        facts.notes.append("scaling: each column to mean 0 and standard deviation 1 over the train part")
        spread = np.where(facts.train.constant, 0.0, np.sqrt(variance))
        return _checked(mean, spread, "standard")
    facts.notes.append("scaling: all values to mean 0 and standard deviation 1 over the train part")
    spread = np.sqrt(variance.mean() + np.square(mean - mean.mean()).mean())
    return _checked(np.array([mean.mean()]), np.array([spread]), "standard")


def _checked(shift: np.ndarray, scale: np.ndarray, name: str) -> Scaling:
    scale = np.where(scale > _SMALLEST, scale, 1.0)
    return Scaling(tuple(shift.astype(np.float64).tolist()), tuple(scale.astype(np.float64).tolist()), name)


def _likelihood(facts: _Facts, scaling: Scaling) -> str:
    low, high = _scaled_range(scaling, facts.whole)
    reason = _reason(facts, inside=low >= 0 and high <= 1)
    name = "Bernoulli" if reason[0] else "NormalWithOptimalScale"
    facts.notes.append(f"likelihood {name}: {reason[1]}")
    return name


def _reason(facts: _Facts, *, inside: bool) -> tuple[bool, str]:
    if facts.binary:
        return inside, "every value is one of two" + ("" if inside else ", but scaled values leave 0..1")
    if facts.raw.kind == "table":
        return False, "the columns are not all 0 or 1"
    share = f"{100 * facts.at_extremes:.0f} % of the values lie within 5 % of an end of the range"
    return inside and facts.at_extremes > 0.5, share + ("" if inside else ", and scaled values leave 0..1")


def _scaled_range(scaling: Scaling, whole: Survey) -> tuple[float, float]:
    shift, scale = np.array(scaling.shift), np.array(scaling.scale)
    low, high = (v.astype(np.float64) for v in (whole.low, whole.high))
    return float(((low - shift) / scale).min()), float(((high - shift) / scale).max())


def _refuse_overflow(scaling: Scaling, whole: Survey, where: str) -> None:
    extreme = max(map(abs, _scaled_range(scaling, whole)))
    if extreme > _FLOAT32:
        what = f"scaled values reach {extreme:.3g}; 32-bit floats end at {_FLOAT32:.3g}"
        raise DataError(what, where=where, fix="rescale the data, or use scaling='standard'")


def _note_constants(facts: _Facts) -> None:
    always, in_train = int(facts.whole.constant.sum()), int(facts.train.constant.sum())
    if facts.whole.minimum == facts.whole.maximum:
        facts.notes.append(f"every value is {facts.whole.minimum:g}: there is nothing to learn")
    if facts.raw.kind == "image":
        if always:
            facts.notes.append(f"{always} of {facts.whole.low.size} values never change (kept, they carry nothing)")
        return
    columns = facts.raw.values.shape[1]
    facts.notes.append(f"{columns} columns" + (f", {always} constant (kept, they carry nothing)" if always else ""))
    if in_train > always:
        facts.notes.append(f"{in_train - always} columns change in the held-out part alone (their scale is 1)")


def _note_counts(facts: _Facts, likelihood: str) -> None:
    whole = facts.whole
    if likelihood in (*_WHOLE, MIXED) or facts.raw.kind == "image":
        return
    if not whole.integer or whole.minimum < 0 or whole.maximum <= _COUNTS_ABOVE:
        return
    zeros = count_where(facts.raw.values, np.arange(whole.items), lambda c: c == 0) / max(1, whole.observed)
    if zeros > _MANY_ZEROS:
        facts.notes.append(
            f"these look like counts ({100 * zeros:.0f} % are 0, the largest is {whole.maximum:g}): "
            "--likelihood NegativeBinomial explains counts, and so does the recipe scvi"
        )


def _inspection(facts: _Facts) -> Inspection:
    raw, whole = facts.raw, facts.whole
    counts = [] if raw.labels is None else np.bincount(raw.labels, minlength=len(raw.label_names)).tolist()
    return Inspection(
        items=whole.items,
        event_shape=tuple(raw.values.shape[1:]),
        dtype=str(raw.values.dtype),
        minimum=whole.minimum,
        maximum=whole.maximum,
        mean=whole.mean,
        binary=facts.binary,
        integer=whole.integer,
        at_extremes=facts.at_extremes,
        constant_features=int(whole.constant.sum()),
        classes=None if raw.labels is None else len(raw.label_names),
        class_counts=dict(_pairs(raw.label_names, counts)),
        notes=tuple(facts.notes),
        missing=whole.missing / raw.values.size,
    )


def _pairs(names: tuple[str, ...], counts: list[int]) -> Iterator[tuple[str, int]]:
    return zip(names, counts, strict=False)
