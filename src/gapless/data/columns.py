"""Columns of Arrow and Parquet files: which hold the values, which the labels, and how they become arrays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gapless.data.categories import MOST
from gapless.data.disk import pyarrow
from gapless.data.labels import encode
from gapless.data.raw import Request, printable
from gapless.errors import DataError, UsageError

__all__ = [
    "Coder", "Plan", "common_dtype", "dtypes_of", "item_bytes", "plan", "refuse_columns", "refuse_nulls", "values_of",
]  # fmt: skip

_IMAGE_COLUMNS = ("image", "img", "png", "jpg", "jpeg", "picture")
_LABEL_COLUMNS = ("label", "labels", "target", "class", "y")
_FEW = 20  # a lone column of text with up to so many spellings, or one for ten rows, holds labels


@dataclass(frozen=True)
class Plan:
    """What to read from the columns of a file.

    Args:
        values: names of the columns that hold the values.
        stored: shape of one item where one column holds whole items, None where each column is a feature.
        label: name of the column that holds the labels.
        label_names: the classes, where the file itself names them.
        encoded: whether the values are image files.
        notes: decisions taken.
        texts: names of those columns of values that hold text.
        codes: for each of them the code of every spelling, once they are known.
        keep_missing: whether what is missing becomes NaN.
    """

    values: tuple[str, ...]
    stored: tuple[int, ...] | None
    label: str | None = None
    label_names: tuple[str, ...] = ()
    encoded: bool = False
    notes: tuple[str, ...] = field(default=())
    texts: tuple[str, ...] = ()
    codes: dict[str, dict[str, float]] = field(default_factory=dict)
    keep_missing: bool = False


def plan(schema: Any, request: Request, *, where: str) -> Plan:
    """Which columns to read, from the schema alone.

    Args:
        schema: of the file.
        request: the label and the columns to drop.
        where: the file, for messages.

    Raises:
        DataError: if columns cannot be read as numbers; each is named with its type.
        UsageError: if a column that was asked for is not there.
    """
    names = [str(name) for name in schema.names]
    for name in (*request.drop, *([request.label] if request.label else [])):
        if names.count(name) != 1:
            shown = ", ".join(printable(n) for n in names[:12]) + (" ..." if len(names) > 12 else "")
            how = "no column" if name not in names else "more than one column"
            raise UsageError(f"there is {how} {name!r}", where=where, fix=f"the columns are: {shown}")
    if len(set(names)) < len(names):
        raise DataError("two columns have one name", where=where, fix="rename them")
    kept = [name for name in names if name not in request.drop and name != request.label]
    kinds = {name: _kind(schema.field(name)) for name in kept}
    images, whole = ([n for n in kept if kinds[n] == kind] for kind in ("image", "items"))
    unknown = [name for name in kept if name not in request.categories]
    label = request.label or _label(schema, unknown, kinds, alone=not (whole or images))
    chosen = _one(images or whole, "images" if images else "items", where) if images or whole else ()
    rest = [name for name in kept if name not in chosen and name != label]
    notes = (f"labels from column {printable(label)!r}",) if label else ()
    if chosen:
        if rest:
            notes += (f"columns left out: {', '.join(printable(n) for n in rest[:6])}",)
        stored = () if images else _shape(schema.field(chosen[0]))
        names_in_file = _names_in_file(schema, label)
        return Plan(chosen, stored, label, names_in_file, bool(images), notes, keep_missing=request.keep_missing)
    refuse_columns(schema, [name for name in rest if kinds[name] not in ("number", "text")], where)
    if not rest:
        raise DataError("no column is left to learn from", where=where, fix="drop fewer columns")
    texts = tuple(name for name in rest if kinds[name] == "text" or name in request.categories)
    names_in_file = _names_in_file(schema, label)
    return Plan(tuple(rest), None, label, names_in_file, False, notes, texts, keep_missing=request.keep_missing)


def _one(names: list[str], what: str, where: str) -> tuple[str, ...]:
    if len(names) == 1:
        return (names[0],)
    named = [name for name in names if name.lower() in _IMAGE_COLUMNS]
    if len(named) == 1:
        return (named[0],)
    shown = ", ".join(repr(printable(n)) for n in names[:6])
    fix = " ".join(f"--drop {printable(n)!r}" for n in names[1:6])
    raise DataError(f"several columns hold {what}: {shown}", where=where, fix=f"leave all but one out: {fix}")


def _label(schema: Any, kept: list[str], kinds: dict[str, str], *, alone: bool) -> str | None:
    """The column that the file says holds classes; or the lone one of text, or beside whole items the one called so."""
    classes = [name for name in kept if _names_in_file(schema, name)]
    if not classes and alone:
        classes = [name for name in kept if kinds[name] == "text"]
    if not classes:
        called = [name for name in kept if name.lower() in _LABEL_COLUMNS and not alone]
        floating = pyarrow("pyarrow.types").is_floating
        classes = [n for n in called if kinds[n] in ("number", "text") and not floating(schema.field(n).type)]
    return classes[0] if len(classes) == 1 else None


def _kind(column: Any) -> str:
    """What a column holds: "number", "text", "items" (numbers of one shape), "image", or else its type."""
    types, kind = pyarrow("pyarrow.types"), _storage(column.type)
    if types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind):
        return "number"
    if types.is_dictionary(kind):
        return "text" if _is_text(kind.value_type) else str(kind)
    if _is_text(kind):
        return "text"
    if _shape(column) is not None:
        return "items"
    image = types.is_struct(kind) and any(child.name == "bytes" and _is_bytes(child.type) for child in kind)
    return "image" if image or _is_bytes(kind) else str(kind)


def _is_text(kind: Any) -> bool:
    types = pyarrow("pyarrow.types")
    return types.is_string(kind) or types.is_large_string(kind)


def _is_bytes(kind: Any) -> bool:
    types = pyarrow("pyarrow.types")
    return types.is_binary(kind) or types.is_large_binary(kind)


def _storage(kind: Any) -> Any:
    return kind.storage_type if hasattr(kind, "storage_type") else kind


def _shape(column: Any) -> tuple[int, ...] | None:
    """The shape of one item of a column of fixed-size lists or bytes, None of any other."""
    types, kind, shape = pyarrow("pyarrow.types"), _storage(column.type), ()
    if types.is_fixed_size_binary(kind) and not types.is_decimal(kind):
        return _declared(column, (int(kind.byte_width),))
    while types.is_fixed_size_list(kind):
        shape, kind = (*shape, int(kind.list_size)), kind.value_type
    if not shape or not (types.is_floating(kind) or types.is_integer(kind)):
        return None
    declared = getattr(column.type, "shape", None)
    return tuple(int(v) for v in declared) if declared else _declared(column, shape)


def _declared(column: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the metadata of a column gives as JSON under "shape", where it fits."""
    try:
        given = tuple(int(v) for v in json.loads((column.metadata or {})[b"shape"]))
    except (KeyError, ValueError, TypeError):
        return shape
    return given if np.prod(given, dtype=object) == np.prod(shape, dtype=object) and min(given) > 0 else shape


def refuse_columns(schema: Any, names: Sequence[str], where: str) -> None:
    """Stop at columns that cannot be read as numbers.

    Raises:
        DataError: each is named with its type.
    """
    if not names:
        return
    shown = ", ".join(f"{printable(n)!r} ({printable(str(schema.field(n).type)[:60])})" for n in names[:6])
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    options = " ".join(f"--drop {printable(n)!r}" for n in names[:6])
    fix = (
        f"leave them out: {options}; or name the one with the classes: --label NAME; or make them numbers "
        f"(text in at most {MOST} spellings that repeat is read as categories)"
    )
    raise DataError(f"{len(names)} columns are not numbers: {shown}{more}", where=where, fix=fix)


def _names_in_file(schema: Any, label: str | None) -> tuple[str, ...]:
    """The names of the classes that Hugging Face's `datasets` writes beside a column of their numbers."""
    try:
        stored = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        names = stored["names"] if stored.get("_type") == "ClassLabel" else []
        return tuple(printable(str(name)) for name in names)
    except (KeyError, ValueError, TypeError, AttributeError):
        return ()


def dtypes_of(schema: Any, chosen: Plan) -> list[np.dtype]:
    """The dtype of each column of values as it lies in the file; booleans and codes of text become uint8."""
    types, found = pyarrow("pyarrow.types"), []
    for name in chosen.values:
        if name in chosen.texts:
            found.append(np.dtype(np.uint8))
            continue
        kind = _storage(schema.field(name).type)
        while types.is_fixed_size_list(kind):
            kind = kind.value_type
        small = types.is_boolean(kind) or types.is_fixed_size_binary(kind)
        found.append(np.dtype(np.uint8) if small else np.dtype(kind.to_pandas_dtype()))
    return found


def common_dtype(schema: Any, chosen: Plan) -> np.dtype:
    """The dtype of the decoded values: one that has NaN where what is missing is kept."""
    dtypes = dtypes_of(schema, chosen)
    return np.result_type(*dtypes, np.float32) if chosen.keep_missing else np.result_type(*dtypes)


def item_bytes(schema: Any, chosen: Plan) -> int:
    """Bytes one item takes as an array."""
    width = len(chosen.values) if chosen.stored is None else int(np.prod(chosen.stored, dtype=object))
    return width * common_dtype(schema, chosen).itemsize


def values_of(batch: Any, chosen: Plan, *, first: int, where: str) -> np.ndarray:
    """The values of some rows as one array.

    Args:
        batch: a record batch.
        chosen: what to read from it.
        first: the number of its first row, for messages.
        where: the file, for messages.

    Returns:
        (k, *stored), or (k, columns).

    Raises:
        DataError: if a value is missing; with its row and column.
    """
    columns = [_numbers(batch.column(name), name, chosen, first, where) for name in chosen.values]
    return columns[0] if chosen.stored is not None else np.stack(columns, axis=1)


def refuse_nulls(column: Any, name: str, first: int, where: str) -> None:
    """Stop at values that are missing.

    Raises:
        DataError: with how many, and the row of the first.
    """
    if column.null_count:
        row = first + int(np.asarray(column.is_null()).argmax())
        place = f"{where}: first in row {row}, column {printable(name)!r}, rows counted from 0"
        fix = (
            "keep them as not observed: --missing keep; or fill or remove them; "
            f"or leave the column out: --drop {printable(name)!r}"
        )
        raise DataError(f"at least {column.null_count} values are missing (null)", where=place, fix=fix)


def _numbers(column: Any, name: str, chosen: Plan, first: int, where: str) -> np.ndarray:
    types, stored = pyarrow("pyarrow.types"), chosen.stored
    column = column.storage if hasattr(column, "storage") else column
    if stored is not None or not chosen.keep_missing:
        refuse_nulls(column, name, first, where)
    if name in chosen.texts:
        return _coded(column, chosen.codes[name])
    if types.is_fixed_size_binary(column.type):
        width, data = column.type.byte_width, column.buffers()[1]
        values = np.frombuffer(data, dtype=np.uint8, count=len(column) * width, offset=column.offset * width)
        return values.reshape(len(column), *(stored or (width,)))
    items = len(column)
    while types.is_fixed_size_list(column.type):
        column = column.flatten()
        if not chosen.keep_missing or types.is_fixed_size_list(column.type):
            refuse_nulls(column, name, first, where)
    if types.is_boolean(column.type) and column.null_count:
        column = column.cast(pyarrow("pyarrow").uint8())
    values = column.to_numpy(zero_copy_only=False)
    values = values.view(np.uint8) if values.dtype == bool else values
    return values.reshape(items, *(stored or ()))


def _coded(column: Any, codes: dict[str, float]) -> np.ndarray:
    """Text as codes, NaN where it is missing."""
    types = pyarrow("pyarrow.types")
    missing = np.asarray(column.is_null())
    column = column if types.is_dictionary(column.type) else column.dictionary_encode()
    # The dictionary of a file may hold what no row has.
    local = np.array([codes.get(str(v), np.nan) for v in column.dictionary.to_pylist()] or [np.nan])
    values = local[column.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)]
    values[missing] = np.nan
    return values if missing.any() else values.astype(np.uint8)


class Coder:
    """Labels to codes, piece by piece, in the order they are met; what is missing is the class without a name.

    Args:
        name: of the column, for messages.
        known: the names of the classes 0, 1, ... where the file gives them.
        where: the file, for messages.
        asked: whether somebody named this column.
    """

    def __init__(self, name: str, known: tuple[str, ...], *, where: str, asked: bool):
        self.name, self.known, self.where, self.asked = name, known, where, asked
        self._codes: dict[Any, int] = {value: value for value in range(len(known))}
        self._rows = 0

    def __call__(self, column: Any) -> np.ndarray:
        """The codes of some rows, (k,) int64."""
        types, missing = pyarrow("pyarrow.types"), np.asarray(column.is_null())
        self._rows += len(column)
        column = column if types.is_dictionary(column.type) else column.dictionary_encode()
        kind = column.type.value_type
        if not (_is_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            what = f"labels need numbers or text; column {printable(self.name)!r} holds {kind}"
            raise DataError(what, where=self.where, fix="name another column: --label NAME")
        local = np.array([self._code(v) for v in column.dictionary.to_pylist()], dtype=np.int64)
        found = np.append(local, 0)[column.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)]
        return np.where(missing, self._codes.setdefault("", len(self._codes)), found) if missing.any() else found

    def _code(self, value: Any) -> int:
        if self.known and not (isinstance(value, int) and 0 <= value < len(self.known)):
            what = f"the labels have names for 0..{len(self.known) - 1}; there is {printable(str(value))[:40]}"
            raise DataError(what, where=self.where, fix="repair the labels")
        return self._codes.setdefault(value, len(self._codes))

    def names(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The final code of every code given, and the names they point to: numbers sorted as numbers, text as text.

        Raises:
            DataError: if nobody asked for this column and it is text that never repeats.
        """
        if self.known:
            return np.arange(len(self._codes)), (*self.known, *[""] * ("" in self._codes))
        values = np.array([value for value in self._codes if value != ""])
        if not self.asked and values.dtype.kind == "U" and len(values) > max(_FEW, self._rows / 10):
            what = f"column {printable(self.name)!r} is not numbers, and has {len(values)} spellings"
            fix = f"leave it out: --drop {printable(self.name)!r}; or say that it holds the classes: --label NAME"
            raise DataError(what, where=self.where, fix=fix)
        rank, names = encode(values, items=len(values), where=self.where)
        if "" not in self._codes:
            return rank, names
        return np.insert(rank + 1, list(self._codes).index(""), 0), ("", *names)
