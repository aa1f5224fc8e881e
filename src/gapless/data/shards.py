"""Shards: any source written once as Arrow files that are mapped, with a manifest that says what is in them."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gapless.data.arrays import from_oriented, refuse_dtype, refuse_shape
from gapless.data.arrow_files import ArrowFile, mapped_rows
from gapless.data.columns import Plan
from gapless.data.disk import pyarrow
from gapless.data.pieces import Piece, Pieces, refuse_partly_labelled
from gapless.data.raw import Raw, Request, printable
from gapless.errors import DataError, UsageError
from gapless.files import sync_folder, write_json

__all__ = ["MANIFEST", "holds_shards", "read_shards", "verify_shards", "write_pieces"]

MANIFEST = "manifest.json"
SHARD_BYTES = 1 << 30
_FORMAT, _VERSION = "gapless shards", 1
_BATCH_BYTES = 1 << 24
_VALUES, _LABEL = "values", "label"


@dataclass
class _Written:
    """The shards written so far, and the labels met."""

    folder: Path
    shards: list[dict[str, Any]] = field(default_factory=list)
    items: int = 0
    labelled: int = 0


def write_pieces(pieces: Pieces, folder: Path, *, source: str) -> dict[str, Any]:
    """Write pieces as shards: the folder is there whole, or not at all.

    Args:
        pieces: what to write.
        folder: where to; it must not be there.
        source: what was read, for the manifest.

    Returns:
        The manifest.

    Raises:
        DataError: if a piece cannot be read.
        UsageError: if the folder is there already.
        MissingExtra: if pyarrow is not installed.
    """
    pyarrow("pyarrow.ipc")
    if folder.exists() or folder.is_symlink():
        fix = "name another folder, or remove this one first"
        raise UsageError("the folder is there already", where=printable(str(folder)), fix=fix)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a writing that was interrupted
    try:
        partial.mkdir(parents=True)
        manifest = _write(pieces, partial, source)
        write_json(partial / MANIFEST, manifest)
        partial.rename(folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            fix = "make room, or name a folder elsewhere"
            what = f"the shards cannot be written: {error.strerror or error}"
            raise DataError(what, where=printable(str(folder)), fix=fix) from error
        raise
    sync_folder(folder.parent)
    return manifest


def _write(pieces: Pieces, folder: Path, source: str) -> dict[str, Any]:
    if not pieces.items:
        raise DataError("at least 1 items are needed; there is none", where=source, fix="add items")
    written = _Written(folder)
    chunks = _rows_of_batches(pieces)
    piece = next(chunks, None)
    while piece is not None:
        piece = _write_shard(piece, chunks, pieces, written)
    refuse_partly_labelled(written.labelled, written.items, where=source)
    rank, names = pieces.names() if written.labelled else (np.empty(0, dtype=np.int64), ())
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "source": source,
        "items": written.items,
        "event_shape": list(pieces.event_shape),
        "dtype": pieces.dtype.str,
        "columns": list(pieces.columns),
        **({"categories": [list(names) for names in pieces.categories]} if pieces.categories else {}),
        "label_names": list(names),
        "label_codes": rank.tolist(),
        "full_scale": pieces.full_scale,
        "train_items": pieces.train_items,
        "notes": list(pieces.notes),
        "shards": written.shards,
    }


def _rows_of_batches(pieces: Pieces) -> Iterator[Piece]:
    """The pieces cut to record batches of a bounded size."""
    step = max(1, _BATCH_BYTES // max(1, pieces.item_bytes))
    for values, codes in pieces.chunks():
        for start in range(0, len(values), step):
            yield values[start : start + step], None if codes is None else codes[start : start + step]


def _write_shard(piece: Piece, rest: Iterator[Piece], pieces: Pieces, written: _Written) -> Piece | None:
    """Write one shard; the piece that was too much for it, None at the end."""
    pa, ipc = pyarrow("pyarrow"), pyarrow("pyarrow.ipc")
    path = written.folder / f"shard-{len(written.shards):05d}.arrow"
    has_labels, items, following = piece[1] is not None, 0, piece
    schema = _schema(pieces, has_labels)
    with path.open("wb") as stream:
        with ipc.new_file(stream, schema) as writer:
            while following is not None and (following[1] is not None) == has_labels:
                if items and (items + len(following[0])) * pieces.item_bytes > SHARD_BYTES:
                    break
                writer.write_batch(pa.record_batch(_arrays(following, schema), schema=schema))
                items += len(following[0])
                following = next(rest, None)
        stream.flush()
        os.fsync(stream.fileno())
    written.shards.append({"file": path.name, "items": items, "bytes": path.stat().st_size, "sha256": _sha256(path)})
    written.items += items
    written.labelled += items if has_labels else 0
    return following


def _schema(pieces: Pieces, has_labels: bool) -> Any:
    pa = pyarrow("pyarrow")
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(pieces.dtype.newbyteorder("=")), list(pieces.event_shape))
    fields = [pa.field(_VALUES, kind, nullable=False)]
    return pa.schema(fields + ([pa.field(_LABEL, pa.int64(), nullable=False)] if has_labels else []))


def _arrays(piece: Piece, schema: Any) -> list[Any]:
    pa = pyarrow("pyarrow")
    kind = schema.field(_VALUES).type
    flat = pa.array(np.ascontiguousarray(piece[0], dtype=piece[0].dtype.newbyteorder("=")).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, type=kind.storage_type)
    values = pa.ExtensionArray.from_storage(kind, storage)
    return [values] if piece[1] is None else [values, pa.array(piece[1], type=pa.int64())]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def holds_shards(folder: Path) -> bool:
    """Whether a folder is one of shards."""
    if not (folder / MANIFEST).is_file():  # a pipe of that name would be waited for
        return False
    try:
        with (folder / MANIFEST).open("rb") as stream:
            return f'"format": "{_FORMAT}"'.encode() in stream.read(200)
    except OSError:
        return False


def read_shards(folder: Path, request: Request) -> Raw:
    """Shards, mapped; sizes and counts are compared with the manifest, checksums by `verify_shards`.

    Raises:
        DataError: if a shard is missing or is not what the manifest says.
        MissingExtra: if pyarrow is not installed.
    """
    where = printable(str(folder))
    manifest = _manifest(folder, where)
    files = [_shard(folder, entry, manifest, where) for entry in manifest["shards"]]
    chosen = Plan((_VALUES,), tuple(manifest["event_shape"]))
    values = mapped_rows(files, chosen, arrange=_as_it_is)
    wanted = (manifest["items"], *manifest["event_shape"])
    if values is None or values.shape != wanted or values.dtype.str != manifest["dtype"]:
        raise _other(where, "the shards hold other values than the manifest says")
    raw = from_oriented(
        values, where=where, columns=tuple(manifest["columns"]), full_scale=manifest["full_scale"],
        notes=(*manifest["notes"], f"shards of {printable(manifest['source'])}"),
    )  # fmt: skip
    labels, names = _labels(files, manifest, where)
    known = tuple(tuple(some) for some in manifest.get("categories", ()))
    more = {"labels": labels, "label_names": names, "train_items": manifest["train_items"], "categories": known}
    return Raw(**{**vars(raw), **more})


def _as_it_is(values: np.ndarray) -> np.ndarray:
    return values


def verify_shards(folder: Path) -> int:
    """Compare every shard's checksum with the manifest.

    Returns:
        How many shards there are.

    Raises:
        DataError: naming the first shard that differs.
    """
    where = printable(str(folder))
    manifest = _manifest(folder, where)
    for entry in manifest["shards"]:
        path = folder / entry["file"]
        if not path.is_file() or path.stat().st_size != entry["bytes"] or _sha256(path) != entry["sha256"]:
            raise _other(where, f"the shard {entry['file']!r} is missing or was changed")
    return len(manifest["shards"])


def _other(where: str, what: str) -> DataError:
    return DataError(what, where=where, fix="write the shards again")


def _manifest(folder: Path, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["version"] != _VERSION:
            raise DataError(
                f"version {manifest['version']} of shards cannot be read", where=where, fix="update gapless"
            )
        refuse_shape((manifest["items"], *manifest["event_shape"]), where=where)
        refuse_dtype(np.dtype(manifest["dtype"]), where=where)
        names = [entry["file"] for entry in manifest["shards"]]
        sound = all(Path(name).name == name and name.endswith(".arrow") for name in names)
        sound &= all(isinstance(v, str) for key in ("columns", "notes", "label_names") for v in manifest[key])
        known = manifest.get("categories", [])
        sound &= len(known) in (0, len(manifest["columns"])) and all(
            isinstance(v, str) for names in known for v in names
        )
        sound &= isinstance(manifest["source"], str) and isinstance(manifest["full_scale"], float | int | None)
        sound &= sorted(manifest["label_codes"]) == list(range(len(manifest["label_names"])))
        sound &= manifest["train_items"] is None or 0 < int(manifest["train_items"]) < manifest["items"]
        sound &= sum(entry["items"] for entry in manifest["shards"]) == manifest["items"]
        width = math.prod(manifest["event_shape"]) * np.dtype(manifest["dtype"]).itemsize
        sound &= manifest["items"] * width <= sum(entry["bytes"] for entry in manifest["shards"])
        if not sound or not names:
            raise ValueError("it contradicts itself")
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _other(where, f"the manifest cannot be read: {printable(repr(error)[:100])}") from error
    return manifest


def _shard(folder: Path, entry: dict[str, Any], manifest: dict[str, Any], where: str) -> ArrowFile:
    path = folder / entry["file"]
    if path.is_symlink() or not path.is_file() or path.stat().st_size != entry["bytes"]:
        raise _other(where, f"the shard {entry['file']!r} is missing or has another size")
    file = ArrowFile(path)
    pa = pyarrow("pyarrow")
    kind = file.schema.field(_VALUES).type if _VALUES in file.schema.names else None
    wanted = pa.fixed_shape_tensor(pa.from_numpy_dtype(np.dtype(manifest["dtype"])), manifest["event_shape"])
    if file.rows != entry["items"] or kind != wanted:
        raise _other(where, f"the shard {entry['file']!r} holds other values than the manifest says")
    return file


def _labels(
    files: Sequence[ArrowFile], manifest: dict[str, Any], where: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    names = tuple(manifest["label_names"])
    if not names:
        return None, ()
    parts = [batch.column(_LABEL).to_numpy() for f in files if _LABEL in f.schema.names for batch in f.batches()]
    codes = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    if len(codes) != manifest["items"] or codes.min() < 0 or codes.max() >= len(names):
        raise _other(where, "the labels do not fit the manifest")
    return np.array(manifest["label_codes"], dtype=np.int64)[codes], names
