"""Tables as text: .csv and .tsv, read line by line, with the place of whatever is wrong."""

import csv
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np

from gapless.data.arrays import from_array
from gapless.data.categories import MOST, Spellings, few, note
from gapless.data.labels import encode
from gapless.data.raw import Raw, Request, printable
from gapless.errors import DataError, UsageError

__all__ = ["read_table"]

_LONGEST_LINE = 1 << 24  # characters
_DELIMITERS = (",", ";", "\t", "|")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")
_SAMPLE_LINES = 10


@dataclass
class _Table:
    """The cells as numbers (row by row, NaN where a cell is none), and what else was met."""

    names: list[str]
    delimiter: str
    header: bool
    cells: array = field(default_factory=lambda: array("d"))
    lines: array = field(default_factory=lambda: array("q"))
    texts: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def values(self) -> np.ndarray:
        return np.frombuffer(self.cells, dtype=np.float64).reshape(-1, len(self.names))


def read_table(path: Path, request: Request) -> Raw:
    """A .csv or .tsv file: numbers with a decimal point or categories, one row an item, perhaps names in the first row.

    Raises:
        DataError: if it is no such table, or cells are missing or neither; with row, line and column.
        UsageError: if a column that was asked for is not there.
    """
    where = printable(str(path))
    try:
        table = _parse(path, where)
        dropped = {_column(table, name, where) for name in request.drop}
        label = _label_column(path, table, request, dropped, where)
        labels = None if label is None else _texts(path, table, label)
        categories = _categories(path, table, dropped | ({label} if label is not None else set()), request, where)
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8 text: byte {error.object[error.start]:#04x} ({error.reason})"
        raise DataError(what, where=where, fix="save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"not a readable table: {error}", where=where, fix="close every quotation mark") from error
    keep = _kept(table, dropped | ({label} if label is not None else set()), where)
    values = table.values if len(keep) == len(table.names) else table.values[:, keep]
    if not request.keep_missing:
        _refuse_missing(table, values, keep, where)
    _note_unlabelled(table, labels)
    columns = tuple(printable(table.names[i]) for i in keep)
    if not len(values):
        raise DataError("the table has no rows of numbers", where=where, fix="add rows")
    raw = from_array(values, where=where, columns=columns, notes=tuple(table.notes))
    if categories:
        raw = replace(raw, categories=tuple(categories.get(i, ()) for i in keep))
    if labels is None:
        return raw
    codes, names = encode(labels, items=len(values), where=where)
    return replace(raw, labels=codes, label_names=names)


def _lines(stream: TextIO, where: str) -> Iterator[str]:
    number = 0
    while line := stream.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            what = f"line {number} is longer than {_LONGEST_LINE} characters"
            raise DataError(what, where=where, fix="check the file; very wide data goes into .npy")
        if "\0" in line:
            raise DataError("this is binary data, not text", where=f"{where}, line {number}", fix="check the ending")
        yield line


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(_lines(stream, printable(str(path))), delimiter=delimiter, strict=True)
        try:
            yield from ((reader.line_num, row) for row in reader if row)
        except csv.Error as error:
            raise csv.Error(f"line {reader.line_num}: {error}") from error


def _parse(path: Path, where: str) -> _Table:
    rows = _rows(path, _delimiter(path, where))
    first = next(rows, None)
    if first is None:
        raise DataError("the table has no rows", where=where, fix="write the data again")
    table = _begin(first[1], _delimiter(path, where))
    if not table.header:
        _add(table, *first, where)
    for line, row in rows:
        _add(table, line, row, where)
    return table


def _begin(first: list[str], delimiter: str) -> _Table:
    numeric = [_is_number(cell) for cell in first]
    header = not all(known or _is_missing(cell) for known, cell in zip(numeric, first, strict=True))
    names = [cell.strip() if header else "" for cell in first]
    table = _Table([name or f"x{i}" for i, name in enumerate(names)], delimiter, header)
    if header and any(numeric):
        shown = ", ".join(printable(cell) for cell in first[:6])
        table.notes.append(f"the first row has numbers and text ({shown}): it is read as the names of the columns")
    return table


def _add(table: _Table, line: int, row: list[str], where: str) -> None:
    if len(row) != len(table.names):
        what = f"line {line} has {len(row)} cells; the first has {len(table.names)}"
        raise DataError(what, where=where, fix="repair that line; the delimiter is " + repr(table.delimiter))
    try:
        if "_" in "".join(row):
            raise ValueError  # Python reads 1_000 as a number; a table means a name
        numbers = list(map(float, row))
    except ValueError:
        numbers = [_number(table, column, cell) for column, cell in enumerate(row)]
    table.cells.extend(numbers)
    table.lines.append(line)


def _number(table: _Table, column: int, cell: str) -> float:
    if _is_number(cell):
        return float(cell)
    if not _is_missing(cell):
        table.texts.setdefault(column, cell)
    return float("nan")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _delimiter(path: Path, where: str) -> str:
    """The delimiter under which the first lines have as many cells each, and most of them are numbers."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = _lines(stream, where)
        sample = [line for line, _ in zip(lines, range(_SAMPLE_LINES), strict=False) if line.strip()]
    return max(_DELIMITERS, key=lambda delimiter: _fitness(sample, delimiter))


def _fitness(sample: list[str], delimiter: str) -> tuple[bool, float, int]:
    rows = [row for row in csv.reader(sample, delimiter=delimiter) if row]
    width = len(rows[0]) if rows else 0
    if width < 2 or any(len(row) != width for row in rows):
        return False, 0.0, 0
    body = [cell for row in rows[1:] or rows for cell in row]
    return True, sum(bool(_NUMBER.fullmatch(cell)) for cell in body) / len(body), width


def _column(table: _Table, name: str, where: str) -> int:
    if table.names.count(name) != 1:
        shown = ", ".join(printable(n) for n in table.names[:12]) + (" ..." if len(table.names) > 12 else "")
        how = "no column" if name not in table.names else "more than one column"
        raise UsageError(f"there is {how} {name!r}", where=where, fix=f"the columns are: {shown}")
    return table.names.index(name)


def _label_column(path: Path, table: _Table, request: Request, dropped: set[int], where: str) -> int | None:
    texts = [c for c in sorted(table.texts) if c not in dropped and table.names[c] not in request.categories]
    if request.label is not None:
        label = _column(table, request.label, where)
        table.notes.append(f"labels from column {printable(request.label)!r}")
        return label
    if len(texts) == 1 and not request.categories and _few_distinct(path, table, texts[0]):
        name = printable(table.names[texts[0]])
        table.notes.append(f"labels from column {name!r}, the only one that is not numbers")
        return texts[0]
    return None


def _categories(path: Path, table: _Table, out: set[int], request: Request, where: str) -> dict[int, tuple[str, ...]]:
    """Columns of text as codes, written into the cells; the names of the codes of each."""
    known = [c for c, name in enumerate(table.names) if name in request.categories]
    columns = sorted({*table.texts, *known} - out)
    if not columns:
        return {}
    _refuse_text(table, [c for c in columns if c not in known and not _is_text(table, c)], where)
    spellings = {c: Spellings(table.names[c], request.categories.get(table.names[c], ()), where) for c in columns}
    met = _codes(path, table, spellings)
    rows = len(table.lines)
    _refuse_text(table, [c for c in columns if c not in known and not few(len(spellings[c]), rows)], where)
    found = {}
    for column, codes in met.items():
        rank, found[column] = spellings[column].ranked()
        missing = np.isnan(codes)
        table.values[:, column] = np.where(missing, np.nan, rank[np.where(missing, 0, codes).astype(np.int64)])
        table.notes.append(note(table.names[column], found[column]))
    return found


def _is_text(table: _Table, column: int) -> bool:
    """Whether no cell of a column of text is a number: one that is mostly numbers has a slip in it."""
    return bool(np.isnan(table.values[:, column]).all()) and not _NUMBER.fullmatch(table.texts[column])


def _codes(path: Path, table: _Table, spellings: dict[int, Spellings]) -> dict[int, np.ndarray]:
    """The codes of some columns in one pass, NaN where a cell is missing; no more spellings than can be used."""
    met = {column: array("d") for column in spellings}
    for row in _body(path, table):
        for column, some in spellings.items():
            cell = row[column]
            use = len(some) <= MOST and not _is_missing(cell)
            met[column].append(some.code(cell) if use else float("nan"))
    return {column: np.frombuffer(codes, dtype=np.float64) for column, codes in met.items()}


def _few_distinct(path: Path, table: _Table, column: int) -> bool:
    limit = max(20, len(table.lines) / 10)
    return len(set(_texts(path, table, column))) <= limit


def _refuse_text(table: _Table, texts: list[int], where: str) -> None:
    if not texts:
        return
    shown = ", ".join(f"{printable(table.names[c])!r} ({printable(table.texts[c][:30])!r})" for c in texts[:6])
    more = f" and {len(texts) - 6} more" if len(texts) > 6 else ""
    options = " ".join(f"--drop {printable(table.names[c])!r}" for c in texts[:6])
    fix = (
        f"leave them out: {options}; or name the one with the classes: --label NAME; or encode them as numbers "
        f"(text alone, in at most {MOST} spellings that repeat, is read as categories)"
    )
    if all(_NUMBER.fullmatch(table.texts[c]) for c in texts):
        fix = "write decimals with a point, not a comma"
    raise DataError(f"{len(texts)} columns are not numbers: {shown}{more}", where=where, fix=fix)


def _texts(path: Path, table: _Table, column: int) -> list[str]:
    return [row[column].strip() for row in _body(path, table)]


def _body(path: Path, table: _Table) -> Iterator[list[str]]:
    """The rows without the names of the columns, read again."""
    rows = _rows(path, table.delimiter)
    if table.header:
        next(rows)
    return (row for _, row in rows)


def _kept(table: _Table, out: set[int], where: str) -> list[int]:
    keep = [column for column in range(len(table.names)) if column not in out]
    if table.header and 0 in keep and table.names[0] == "x0" and _counts_rows(table.values[:, 0]) and len(keep) > 1:
        table.notes.append("the first column has no name and counts the rows: left out")
        keep.remove(0)
    if not keep:
        raise DataError("no column is left to learn from", where=where, fix="drop fewer columns")
    return keep


def _counts_rows(column: np.ndarray) -> bool:
    return len(column) > 1 and column[0] in (0, 1) and bool((np.diff(column) == 1).all())


def _refuse_missing(table: _Table, values: np.ndarray, keep: list[int], where: str) -> None:
    missing = np.isnan(values)
    if not missing.any():
        return
    names = [printable(table.names[i]) for i in keep]
    few_names = [names[i] for i in np.flatnonzero(missing.any(axis=0))[:4]]
    fix = (
        f"keep them as not observed: --missing keep; or fill or remove them; "
        f"or leave the columns out: {' '.join(f'--drop {n!r}' for n in few_names)}"
    )
    _refuse_first(table, missing, names, where, fix)


def _note_unlabelled(table: _Table, labels: list[str] | None) -> None:
    """Tell of rows without a class: their label is empty, which is for the recipe to take or to refuse."""
    empty = (labels or []).count("")
    if empty:
        table.notes.append(f"the label of {empty:,} of {len(table.lines):,} rows is empty: their class is not known")


def _refuse_first(table: _Table, missing: np.ndarray, names: list[str], where: str, fix: str) -> None:
    row, column = (int(i) for i in np.unravel_index(int(missing.argmax()), missing.shape))
    place = f"{where}: first in data row {row + 1}, line {table.lines[row]}, column {names[column]!r}"
    raise DataError(f"{int(missing.sum())} cells are missing (empty, NA or nan)", where=place, fix=fix)
