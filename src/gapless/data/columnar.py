"""Arrow, Feather and Parquet files, folders of them, and folders that Hugging Face's `datasets` has saved."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gapless.data.arrays import arrange, from_oriented
from gapless.data.arrow_files import ArrowFile, mapped_rows
from gapless.data.categories import MOST, Spellings, few, note
from gapless.data.columns import Coder, Plan, common_dtype, item_bytes, plan, refuse_columns, values_of
from gapless.data.disk import OnDisk
from gapless.data.parquet_files import ParquetFile, ParquetRows
from gapless.data.pieces import Piece, Pieces, collect
from gapless.data.raw import Raw, Request, printable
from gapless.data.records import Record, image_pieces
from gapless.errors import DataError, UsageError

__all__ = ["SUFFIXES", "columnar_pieces", "holds_columns", "read_columnar"]

SUFFIXES = (".arrow", ".feather", ".parquet")
MEMORY_BYTES = 256 << 20  # decoded Parquet up to this is kept in memory
_IMAGE_ROWS = 64  # rows with image files that are read at once
_HELD_OUT = ("test", "validation")
_Files = list[ArrowFile] | list[ParquetFile]


@dataclass(frozen=True)
class _Source:
    """The files of a source, which of them are to train on, and what to read from them."""

    files: Any
    train_files: int | None
    chosen: Plan
    request: Request
    where: str
    notes: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...] = ()

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def train_items(self) -> int | None:
        return None if self.train_files is None else sum(file.rows for file in self.files[: self.train_files])


def holds_columns(folder: Path) -> bool:
    """Whether a folder holds Arrow or Parquet files, or was saved by `datasets`."""
    return _is_saved(folder) or (folder / "dataset_dict.json").is_file() or bool(_listed(folder))


def read_columnar(path: Path, request: Request) -> Raw:
    """The values of a file or folder: mapped, by row groups, or decoded into memory where that is all there is.

    Raises:
        DataError: if it is damaged, has values missing, or takes more memory than the cap.
        MissingExtra: if pyarrow is not installed.
    """
    source = _open(path, request)
    values = None if source.chosen.encoded else _on_disk(source)
    if values is None:
        return collect(_pieces(source), where=source.where)
    labels, names = _labels(source)
    raw = from_oriented(values, where=source.where, columns=_columns(source), full_scale=None)
    more = {"labels": labels, "label_names": names, "train_items": source.train_items}
    more["categories"] = source.categories
    return Raw(**{**vars(raw), **more, "notes": source.notes + source.chosen.notes})


def columnar_pieces(path: Path, request: Request) -> Pieces:
    """The same in pieces, however large it is.

    Raises:
        DataError: if it is damaged, or has values missing.
        MissingExtra: if pyarrow is not installed.
    """
    return _pieces(_open(path, request))


def _open(path: Path, request: Request) -> _Source:
    where = printable(str(path))
    train, held, notes = _paths(path, where)
    kinds = {file.suffix.lower() == ".parquet" for file in train + held}
    if len(kinds) > 1:
        raise DataError("Arrow and Parquet files lie side by side", where=where, fix="give a folder of one kind")
    files: Any = [(ParquetFile if kinds == {True} else ArrowFile)(file) for file in train + held]
    for file in files[1:]:
        if not file.schema.equals(files[0].schema):
            what = f"the files have different columns: {printable(file.path.name)!r} has others than the first"
            raise DataError(what, where=where, fix="write all files with one schema")
    chosen = plan(files[0].schema, request, where=where)
    if request.resize and not chosen.encoded:
        raise UsageError("resize has no meaning for numbers", where=where, fix="leave resize out")
    if not sum(file.rows for file in files):
        raise DataError("at least 1 items are needed; there is none", where=where, fix="add items")
    for file in files:
        if isinstance(file, ParquetFile) and not chosen.encoded:
            file.refuse_bombs(chosen)
    source = _Source(files, len(train) if held else None, chosen, request, where, notes)
    return _with_categories(source) if chosen.texts else source


def _with_categories(source: _Source) -> _Source:
    """The same with the codes of every column of text, after one pass over them."""
    chosen, known, where = source.chosen, source.request.categories, source.where
    spellings = {name: Spellings(name, known.get(name, ()), where) for name in chosen.texts}
    codes: dict[str, dict[str, float]] = {name: {} for name in chosen.texts}
    for file in source.files:
        for batch in file.batches(list(chosen.texts)):
            for name, some in spellings.items():
                for text in batch.column(name).unique().to_pylist():
                    if text is not None and len(some) <= MOST:
                        codes[name][str(text)] = some.code(str(text))
    many = [name for name, some in spellings.items() if name not in known and not few(len(some), source.rows)]
    refuse_columns(source.files[0].schema, many, where)
    ranked = {name: some.ranked() for name, some in spellings.items()}
    final = {name: {text: ranked[name][0][int(code)] for text, code in met.items()} for name, met in codes.items()}
    names = {name: found for name, (_, found) in ranked.items()}
    notes = tuple(note(name, found) for name, found in names.items())
    chosen = replace(chosen, codes=final, notes=chosen.notes + notes)
    return replace(source, chosen=chosen, categories=tuple(names.get(name, ()) for name in chosen.values))


def _paths(path: Path, where: str) -> tuple[list[Path], list[Path], tuple[str, ...]]:
    if not path.is_dir():
        return [path], [], ()
    if _is_saved(path):
        return _saved(path), [], ()
    if (path / "dataset_dict.json").is_file():
        return _parts(path, where)
    return _listed(path), [], ()


def _listed(folder: Path) -> list[Path]:
    names = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    return sorted(p for p in names if p.is_file() and not p.is_symlink())


def _is_saved(folder: Path) -> bool:
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def _saved(folder: Path) -> list[Path]:
    """The files of a folder written by `Dataset.save_to_disk`; the names in it cannot lead out of it."""
    state = _json(folder / "state.json")
    named = state.get("_data_files")
    entries = [entry for entry in named if isinstance(entry, dict)] if isinstance(named, list) else []
    names = [str(entry.get("filename")) for entry in entries]
    if not names or any(Path(n).name != n or (folder / n).is_symlink() for n in names):
        fix = "save it again with save_to_disk"
        raise DataError("state.json names no data files of this folder", where=printable(str(folder)), fix=fix)
    if state.get("_indices_data_files"):
        fix = "save it again after flatten_indices()"
        raise DataError("the rows are picked by a list of indices", where=printable(str(folder)), fix=fix)
    return [folder / name for name in names]


def _parts(folder: Path, where: str) -> tuple[list[Path], list[Path], tuple[str, ...]]:
    """A folder written by `DatasetDict.save_to_disk`: its train part, and the test or the validation part."""
    splits = [p.name for p in sorted(folder.iterdir()) if p.is_dir() and not p.is_symlink() and _is_saved(p)]
    if "train" not in splits:
        what = f"there is no part called 'train'; there are {', '.join(map(printable, splits[:6])) or 'none'}"
        raise DataError(what, where=where, fix="give the folder of one part")
    held = next((name for name in _HELD_OUT if name in splits), None)
    left = [printable(name) for name in splits if name not in ("train", held)]
    notes = (f"its own held-out part: {held!r}",) if held else ()
    notes += (f"parts left out: {', '.join(left)}",) if left else ()
    return _saved(folder / "train"), _saved(folder / held) if held else [], notes


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > 1 << 24:
            raise ValueError("it is too large")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
    except (ValueError, RecursionError) as error:
        what = f"not readable JSON: {printable(str(error)[:100])}"
        raise DataError(what, where=printable(str(path)), fix="get or write the folder again") from error
    return values


def _on_disk(source: _Source) -> OnDisk | None:
    if isinstance(source.files[0], ArrowFile):
        return mapped_rows(source.files, source.chosen, arrange=lambda values: _arranged(values, source.chosen))
    if source.rows * item_bytes(source.files[0].schema, source.chosen) <= MEMORY_BYTES:
        return None
    _refuse_missing(source)
    return ParquetRows(source.files, source.chosen)


def _refuse_missing(source: _Source) -> None:
    first = 0
    for file in source.files:
        for batch in file.batches(list(source.chosen.values)):
            values_of(batch, source.chosen, first=first, where=source.where)
            first += batch.num_rows


def _columns(source: _Source) -> tuple[str, ...]:
    return tuple(printable(name) for name in source.chosen.values) if source.chosen.stored is None else ()


def _coder(source: _Source) -> Coder | None:
    chosen = source.chosen
    if chosen.label is None:
        return None
    return Coder(chosen.label, chosen.label_names, where=source.where, asked=source.request.label is not None)


def _labels(source: _Source) -> tuple[np.ndarray | None, tuple[str, ...]]:
    coder = _coder(source)
    if coder is None:
        return None, ()
    codes = [coder(batch.column(0)) for batch in _batches(source, [coder.name])]
    rank, names = coder.names()
    return rank[np.concatenate(codes)], names


def _batches(source: _Source, columns: list[str]) -> Iterator[Any]:
    for file in source.files:
        if isinstance(file, ParquetFile):
            yield from file.batches(columns, rows=_IMAGE_ROWS if source.chosen.encoded else None)
        else:
            yield from file.batches(columns)


def _pieces(source: _Source) -> Pieces:
    if source.chosen.encoded:
        return _images(source)
    chosen, coder = source.chosen, _coder(source)
    dtype = common_dtype(source.files[0].schema, chosen)
    event = (len(chosen.values),) if chosen.stored is None else chosen.stored
    like = _arranged(np.broadcast_to(np.zeros((), dtype=dtype), (max(1, source.rows), *event)), chosen)

    def chunks() -> Iterator[Piece]:
        first = 0
        for batch in _batches(source, [*chosen.values, *([coder.name] if coder else [])]):
            values = values_of(batch, chosen, first=first, where=source.where).astype(dtype, copy=False)
            first += batch.num_rows
            yield _arranged(values, chosen), coder(batch.column(coder.name)) if coder else None

    return Pieces(
        source.rows,
        tuple(int(v) for v in like.shape[1:]),
        dtype,
        chunks,
        coder.names if coder else _no_names,
        columns=_columns(source),
        categories=source.categories,
        full_scale=None,
        train_items=source.train_items,
        notes=[*source.notes, *chosen.notes],
    )


def _arranged(values: np.ndarray, chosen: Plan) -> np.ndarray:
    return values if chosen.stored is None else arrange(values)


def _no_names() -> tuple[np.ndarray, tuple[str, ...]]:
    return np.empty(0, dtype=np.int64), ()


def _images(source: _Source) -> Pieces:
    chosen, coders = source.chosen, [_coder(source)]

    def records() -> Iterator[Record]:
        coders[0], row = _coder(source), 0
        for batch in _batches(source, [*chosen.values, *([chosen.label] if chosen.label else [])]):
            codes = coders[0](batch.column(1)).tolist() if coders[0] else [None] * batch.num_rows
            for code, cell in zip(codes, batch.column(0), strict=True):
                yield _record(row, cell, code)
                row += 1

    def names() -> tuple[np.ndarray, tuple[str, ...]]:
        return coders[0].names() if coders[0] else _no_names()

    pieces = image_pieces(records, names, source.request, where=source.where)
    pieces.notes += [*source.notes, *chosen.notes]
    if source.train_items is not None and pieces.items == source.rows:
        pieces.train_items = source.train_items
    return pieces


def _record(row: int, cell: Any, code: int | None) -> Record:
    content = cell.as_py()
    if isinstance(content, dict):
        content = content.get("bytes")
    return Record(f"row {row}", content, code, "" if content is not None else "the row holds no bytes, at most a path")
