"""Known factors by name: what built-in data is made from, classes, columns of a table, or files beside the data."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from gapless.data import factors_of, read_items
from gapless.data_card import DataCard
from gapless.errors import DataError, UsageError

__all__ = ["known_factors"]

CLASSES = "label"


def known_factors(card: DataCard, source: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Values of each factor for every item of a source, in its order, shape (n,).

    Args:
        card: the card of the run's data: which columns the model does not see.
        source: the data.
        names: factors of built-in data, "label" for the classes, columns of a table, or .csv and .npz files, which give
            all their columns and members.

    Raises:
        DataError: a file or column cannot be read.
        UsageError: a column is what the model was trained on.
    """
    built_in, found = factors_of(source), {}
    for name in names:
        if name in built_in:
            found[name] = built_in[name]
        elif Path(name).suffix.lower() in _READERS:
            found |= _of_file(Path(name))
        else:
            found[name] = _of_column(card, source, name)
    return found


def _of_column(card: DataCard, source: Any, name: str) -> np.ndarray:
    """The column as the reader reads classes; those that are all numbers are numbers again."""
    if name in card.columns:
        raise UsageError(
            f"the model was trained on the column {name!r}: it finds what it is given", where="--factors",
            fix=f"train with --drop {name}, so that the model does not see it",
        )  # fmt: skip
    options, label = card.options, card.options.get("label")
    wanted = label if name == CLASSES else name
    drop = [column for column in (*(options.get("drop") or ()), label) if column and column != wanted]
    part = read_items(source, array=options.get("array"), label=wanted, drop=drop, resize=options.get("resize"))
    if part.items.labels is None:
        raise DataError(f"this data has no classes to take {name!r} from", where=str(source))
    return _as_numbers(part.label_names)[part.items.labels]


def _of_file(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), fix="give a .csv or .npz file of factors")
    try:
        found = _READERS[path.suffix.lower()](path)
    except (OSError, ValueError, EOFError, csv.Error) as error:
        raise DataError(
            f"no factors can be read from this file: {str(error).splitlines()[0]}", where=str(path),
            fix="give columns or members with one value an item",
        ) from error  # fmt: skip
    if not found or any(values.ndim != 1 for values in found.values()):
        raise DataError("factors have one value an item", where=str(path), fix="give one column or member a factor")
    return found


def _of_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as members:
        return {name: members[name] for name in members.files}


def _of_csv(path: Path) -> dict[str, np.ndarray]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    names = list(rows[0]) if rows else []
    return {name: _as_numbers([row[name] or "" for row in rows]) for name in names}


_READERS = {".npz": _of_npz, ".csv": _of_csv}


def _as_numbers(texts: Any) -> np.ndarray:
    """Text as whole numbers or real ones where all of it is."""
    array = np.array(texts, dtype=str)
    try:
        numbers = array.astype(np.float64)
    except ValueError:
        return array
    if not np.isfinite(numbers).all():
        raise DataError("factors must be finite", fix="fill or remove those items")
    return numbers.astype(np.int64) if (numbers == np.floor(numbers)).all() else numbers
