"""Covariates: numbers that are known of every item and given beside it, taken out of the columns of a table."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gapless.data.raw import CAP_BYTES, Raw, printable
from gapless.data.scaling import Scaling
from gapless.errors import DataError, UsageError

__all__ = ["standardised", "taken"]


def taken(raw: Raw, names: Sequence[str], *, where: str) -> Raw:
    """The data without the columns of those names, which become its covariates.

    Args:
        raw: a table, or any data whose reader found covariates of these names beside the items.
        names: of the columns, in the order in which a model is given them.
        where: the source, for messages.

    Raises:
        UsageError: there is no such column, or none is left to learn from.
        DataError: one holds text, or no number for some item, or the data is larger than memory.
    """
    if not names:
        return raw
    if raw.covariates is None:
        raw = _split(raw, list(names), where)
    assert raw.covariates is not None
    broken = np.flatnonzero(~np.isfinite(raw.covariates).all(axis=1))
    if len(broken):
        what = (
            f"every item needs its covariates; {len(broken):,} of {len(raw.covariates):,} have none, or no finite one"
        )
        place = f"{where}: first in row {broken[0]}, rows counted from 0"
        raise DataError(what, where=place, fix="fill or remove those rows")
    said = f"covariates, given to encoder and decoder about their mean in units of their deviation: {', '.join(names)}"
    return replace(raw, notes=(*raw.notes, said))


def _split(raw: Raw, names: list[str], where: str) -> Raw:
    if raw.kind != "table":
        what = "covariates are columns of a table, or arrays of an .npz file beside its images"
        raise UsageError(what, where=where, fix="leave --covariates out, or write images and covariates into one .npz")
    for name in names:
        if raw.columns.count(name) != 1 or names.count(name) != 1:
            how = "no column" if name not in raw.columns else "more than one column"
            shown = ", ".join(raw.columns[:12]) + (" ..." if len(raw.columns) > 12 else "")
            raise UsageError(
                f"there is {how} {printable(name)!r} to condition on", where=where, fix=f"there are: {shown}"
            )
    places = [raw.columns.index(name) for name in names]
    text = [raw.columns[place] for place in places if raw.categories and raw.categories[place]]
    if text:
        fix = f"give the classes of one column with --label {text[0]!r} --condition, or encode them as numbers"
        raise DataError(f"a covariate is a number; the column {text[0]!r} holds text", where=where, fix=fix)
    keep = [place for place in range(len(raw.columns)) if place not in places]
    if not keep:
        raise UsageError("no column is left to learn from", where=where, fix="name fewer covariates")
    values = _in_memory(raw.values, where)
    return replace(
        raw,
        values=np.ascontiguousarray(values[:, keep]),
        covariates=values[:, places].astype(np.float64),
        columns=tuple(raw.columns[place] for place in keep),
        categories=tuple(raw.categories[place] for place in keep) if raw.categories else (),
    )


def _in_memory(values: Any, where: str) -> np.ndarray:
    if values.nbytes > CAP_BYTES:
        fix = "write a table of fewer rows or columns, or leave --covariates out"
        raise DataError("columns can be taken out of tables that fit in memory alone", where=where, fix=fix)
    return np.asarray(values[np.arange(len(values))])


def standardised(covariates: np.ndarray | None, train: np.ndarray) -> Scaling:
    """Each covariate to mean 0 and standard deviation 1 over the items to train on; a constant one to 0.

    Args:
        covariates: raw, (n, covariates); None without any.
        train: (k,) positions of those items.
    """
    if covariates is None:
        return Scaling()
    mean, spread = covariates[train].mean(axis=0), covariates[train].std(axis=0)
    spread = np.where(spread > 1e-12 * np.abs(mean), spread, 1.0)
    return Scaling(tuple(mean.tolist()), tuple(spread.tolist()), "standard")
