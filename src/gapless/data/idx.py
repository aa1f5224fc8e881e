"""The idx format of MNIST: one file, or a folder with images, labels and perhaps a held-out part."""

import gzip
import math
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gapless.data.arrays import from_array
from gapless.data.bounded import Stream, refuse_beyond_cap, take_exactly
from gapless.data.raw import Raw, Request, printable
from gapless.errors import DataError

__all__ = ["holds_idx", "is_idx", "read_idx_file", "read_idx_folder"]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX = re.compile(r"(idx\d(-\w+)?|\.idx)(\.gz)?$", re.IGNORECASE)
_IMAGES = re.compile(r"^(?!\.).*images.*idx3(-\w+)?(\.gz)?$", re.IGNORECASE)
_HELD_OUT = re.compile(r"t10k|test", re.IGNORECASE)
_AGAIN = "get the file again"


def is_idx(path: Path) -> bool:
    """Whether a file is in this format, by its name."""
    return bool(_IDX.search(path.name))


def holds_idx(folder: Path) -> bool:
    """Whether a folder has image files of this format."""
    return any(_IMAGES.search(entry.name) for entry in folder.iterdir())


def read_idx_file(path: Path, request: Request) -> Raw:
    """One idx or idx.gz file, with the labels that lie beside it.

    Raises:
        DataError: if it is no such file, or is damaged.
    """
    values, labels = _with_labels(path)
    return from_array(values, labels, where=printable(str(path)), notes=_labels_note(labels))


def read_idx_folder(folder: Path, request: Request) -> Raw:
    """The images of a folder with their labels; a train part and a t10k or test part are kept apart.

    Raises:
        DataError: if it is not clear which files belong together, or one is damaged.
    """
    where = printable(str(folder))
    paths = _unpacked_once(entry for entry in sorted(folder.iterdir()) if _IMAGES.search(entry.name))
    held_out = [path for path in paths if _HELD_OUT.search(path.name)]
    train = [path for path in paths if path not in held_out]
    if len(paths) == 1:
        return read_idx_file(paths[0], request)
    if len(train) != 1 or len(held_out) != 1:
        what = (
            f"one train file and one t10k or test file are needed; found {', '.join(printable(p.name) for p in paths)}"
        )
        raise DataError(what, where=where, fix="give one file, or a folder with one pair")
    return _both_parts(train[0], held_out[0], where)


def _both_parts(train: Path, held_out: Path, where: str) -> Raw:
    (values, labels), (more, more_labels) = _with_labels(train), _with_labels(held_out)
    if values.shape[1:] != more.shape[1:] or values.dtype != more.dtype:
        what = f"the two parts differ: {values.shape} {values.dtype} and {more.shape} {more.dtype}"
        raise DataError(what, where=where, fix="give one file")
    if not len(values) or not len(more):
        raise DataError("one of the two parts has no items", where=where, fix=_AGAIN)
    both = None if labels is None or more_labels is None else np.concatenate([labels, more_labels])
    note = f"the source brings its own held-out part ({printable(held_out.name)}): it is used, held_out is not"
    notes = (note, *_labels_note(both))
    raw = from_array(np.concatenate([values, more]), both, where=where, notes=notes)
    return Raw(**{**vars(raw), "train_items": len(values)})


def _labels_note(labels: np.ndarray | None) -> tuple[str, ...]:
    return () if labels is None else ("labels from the idx1 file beside the images",)


def _unpacked_once(paths: Iterable[Path]) -> list[Path]:
    by_name: dict[str, Path] = {}
    for path in paths:
        by_name.setdefault(path.name.removesuffix(".gz"), path)
    return list(by_name.values())


def _with_labels(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    values = _read(path)
    sibling = _labels_beside(path)
    if sibling is None or values.ndim < 2:
        return values, None
    labels = _read(sibling)
    if labels.shape != (len(values),):
        what = f"{len(values)} items need as many labels; the shape of the labels is {labels.shape}"
        raise DataError(what, where=printable(str(sibling)), fix=_AGAIN)
    return values, labels


def _labels_beside(path: Path) -> Path | None:
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    candidates = (path.with_name(name), path.with_name(name + ".gz"))
    return next((c for c in candidates if c.name != path.name and c.is_file()), None)


def _read(path: Path) -> np.ndarray:
    where = printable(str(path))
    if not path.is_file():
        raise DataError("this is no regular file", where=where, fix="copy its content to a file first")
    if path.suffix.lower() != ".gz":
        with path.open("rb") as stream:
            return _values(stream, where, path.stat().st_size)
    with gzip.open(path, "rb") as stream:
        return _values(stream, where, None)


def _values(stream: Stream, where: str, available: int | None) -> np.ndarray:
    dtype, shape = _header(stream, where)
    count = math.prod(shape) * dtype.itemsize
    refuse_beyond_cap(count, where=where, fix="the header is damaged, or the file is too large: use .npy")
    if available is not None and count > available:
        what = f"the header announces {count} bytes of values, shape {shape}; the file has {available} bytes"
        raise DataError(what, where=where, fix=_AGAIN)
    return take_exactly(stream, count, where=where).view(dtype).reshape(shape)


def _header(stream: Stream, where: str) -> tuple[np.dtype, tuple[int, ...]]:
    try:
        magic = stream.read(4)
        known = len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _DTYPES and 1 <= magic[3] <= 4
        sizes = stream.read(4 * magic[3]) if known else b""
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"not a readable gzip file: {error}", where=where, fix=_AGAIN) from error
    if not known or len(sizes) < 4 * magic[3]:
        what = f"not an idx file: it starts with {magic.hex(' ')}"
        raise DataError(what, where=where, fix="the header is 00 00, the type, the number of dimensions, their sizes")
    return np.dtype(_DTYPES[magic[2]]), tuple(int(v) for v in np.frombuffer(sizes, dtype=">u4"))
