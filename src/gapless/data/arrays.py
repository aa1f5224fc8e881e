"""Arrays: which shapes and dtypes can be learned from, and which way round they are."""

from typing import Any

import numpy as np

from gapless.data.disk import Values
from gapless.data.labels import encode
from gapless.data.raw import Raw
from gapless.errors import DataError, UsageError

__all__ = ["arrange", "from_array", "from_oriented", "read_array", "refuse_dtype", "refuse_shape"]

_FIXES = {
    "c": "give real and imaginary parts, or modulus and phase, as columns of their own",
    "O": "make it an array of one numeric dtype, for instance array.astype('float32'); objects are never unpickled",
    "S": "encode the text as numbers first",
    "U": "encode the text as numbers first",
    "M": "turn dates into numbers first, for instance days since the first",
    "m": "turn durations into numbers first, for instance seconds",
    "V": "copy the fields into the columns of a plain array",
}
_FULL_SCALE = {"u1": 255.0, "u2": 65535.0}


def read_array(source: Any, labels: Any = None) -> Raw:
    """An array in memory, or anything with `__array__`, with labels where they are given.

    Raises:
        DataError: if it cannot be learned from.
        UsageError: if it is no array at all.
    """
    values = _as_array(source)
    where = f"array of shape {values.shape}, {values.dtype}"
    return from_array(values, labels, where=where, columns=_column_names(source))


def _as_array(source: Any) -> np.ndarray:
    if isinstance(source, np.memmap):
        return source
    if isinstance(source, np.ma.MaskedArray) and np.ma.is_masked(source):
        raise DataError("the array has masked values", fix="fill them first, for instance with array.filled(0)")
    try:
        values = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"cannot be made an array: {type(source).__name__} ({error})"
        raise UsageError(what, fix="give a numpy array; for a tensor, tensor.detach().cpu()") from error
    if values.dtype == object and values.ndim == 0:
        what = f"a path, an array, a pair (values, labels) or 'digits' is needed; got {type(source).__name__}"
        raise UsageError(what, fix="a sparse matrix needs .toarray() first")
    return values


def _column_names(source: Any) -> tuple[str, ...]:
    columns = getattr(source, "columns", None)
    return () if columns is None or callable(columns) else tuple(str(c) for c in columns)


def from_array(
    values: np.ndarray,
    labels: Any = None,
    *,
    where: str,
    columns: tuple[str, ...] = (),
    full_scale: float | None = None,
    notes: tuple[str, ...] = (),
) -> Raw:
    """Values of any accepted shape as images (n, channels, height, width) or a table (n, columns); views, no copies.

    Args:
        values: (n,), (n, d), (n, h, w), (n, h, w, c) or (n, c, h, w) with c in 1..4.
        labels: (n,) or None.
        where: the source, for messages.
        columns: names of the columns of a table.
        full_scale: the largest value the format can hold; else that of the dtype.
        notes: decisions taken so far.

    Raises:
        DataError: if the dtype or the shape cannot be learned from.
    """
    refuse_dtype(values.dtype, where=where)
    refuse_shape(values.shape, where=where)
    values, note = _oriented(values.view(np.uint8) if values.dtype == bool else values, where=where)
    return from_oriented(values, labels, where=where, columns=columns, full_scale=full_scale, notes=notes + note)


def arrange(values: np.ndarray) -> np.ndarray:
    """Values of any accepted shape as `from_array` turns them round: (n, channels, height, width) or (n, columns)."""
    return _oriented(values, where="array")[0]


def from_oriented(
    values: Values,
    labels: Any = None,
    *,
    where: str,
    columns: tuple[str, ...] = (),
    full_scale: float | None = None,
    notes: tuple[str, ...] = (),
) -> Raw:
    """Values that are the right way round already: (n, channels, height, width) or (n, columns).

    Args:
        values: four dimensions make images, two a table.
        labels: (n,) or None.
        where: the source, for messages.
        columns: names of the columns of a table.
        full_scale: the largest value the format can hold; else that of the dtype.
        notes: decisions taken so far.

    Raises:
        DataError: if there are no items, or the labels do not fit.
    """
    refuse_shape(values.shape, where=where)
    kind = "image" if values.ndim == 4 else "table"
    codes, names = (None, ()) if labels is None else encode(labels, items=len(values), where=where)
    if kind == "table" and len(columns) != values.shape[1]:
        columns = tuple(f"x{i}" for i in range(values.shape[1]))
    if full_scale is None:
        full_scale = _FULL_SCALE.get(f"{values.dtype.kind}{values.dtype.itemsize}")
    return Raw(
        values,
        kind,
        labels=codes,
        label_names=names,
        columns=columns if kind == "table" else (),
        full_scale=full_scale if kind == "image" else None,
        notes=notes,
    )


def refuse_dtype(dtype: np.dtype, *, where: str) -> None:
    """Stop at a dtype that holds no real numbers.

    Raises:
        DataError: with what to do about that dtype.
    """
    if dtype.hasobject or dtype.kind not in "buif":
        fix = _FIXES["O" if dtype.hasobject else dtype.kind]
        raise DataError(f"real numbers are needed; the dtype is {dtype}", where=where, fix=fix)


def refuse_shape(shape: tuple[int, ...], *, where: str, least: int = 1) -> None:
    """Stop at a shape that is no table and no stack of images, or has too few items; 2 are needed for a split.

    Raises:
        DataError: with the shapes that can be read.
    """
    if not 1 <= len(shape) <= 4:
        fix = "give (n, columns), (n, height, width), (n, height, width, channels) or (n, channels, height, width)"
        raise DataError(
            f"1 to 4 dimensions are needed; the array has {len(shape)}, shape {shape}", where=where, fix=fix
        )
    if shape[0] < least:
        why = ", one to train on and one held out" if least == 2 else ""
        what = f"at least {least} items are needed{why}; there is {shape[0] or 'none'}"
        raise DataError(what, where=where, fix="add items")
    if 0 in shape:
        raise DataError(f"each item is empty: the shape is {shape}", where=where, fix="give at least one column")


def _oriented(values: np.ndarray, *, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    if values.ndim < 3:
        return (values[:, None] if values.ndim == 1 else values), ()
    if values.ndim == 3:
        return values[:, None], ()
    last, first = values.shape[3] <= 4, values.shape[1] <= 4
    if not (last or first):
        what = f"images need 1 to 4 channels, first or last; the shape is {values.shape}"
        raise DataError(what, where=where, fix="transpose, or flatten to a table (n, columns)")
    note = f"shape {values.shape}: read as (n, height, width, channels), though channels could be first as well"
    return (values.transpose(0, 3, 1, 2) if last else values), ((note,) if last and first else ())
