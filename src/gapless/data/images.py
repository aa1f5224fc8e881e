"""Folders and zip files of images, one sub-folder a class: headers first, then pixels into one array."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import numpy as np

from gapless.data.arrays import from_oriented
from gapless.data.bounded import Stream, open_zip, refuse_beyond_cap
from gapless.data.pixels import Head, Unreadable, read_head, read_pixels
from gapless.data.raw import Raw, Request, printable
from gapless.errors import DataError

__all__ = ["SUFFIXES", "read_image_folder", "read_image_zip"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_MAX_FILE = 1 << 29  # bytes of one image file


@dataclass
class _Files:
    """Image files by their path inside the source, how one is loaded, and what was found on the way."""

    names: list[str]
    load: Callable[[str], bytes]
    where: str
    others: int = 0
    notes: list[str] = field(default_factory=list)


def read_image_folder(folder: Path, request: Request) -> Raw:
    """The images of a folder; links that lead out of it and files that are not regular are left alone.

    Raises:
        DataError: if there are none, they differ in size, or one cannot be read.
    """
    names, others, left = _walk(folder)
    files = _Files(names, lambda name: _load_file(folder / name), printable(str(folder)), others)
    if left:
        files.notes.append(f"{left} links or special files left alone")
    return _read(files, request)


def read_image_zip(path: Path, request: Request) -> Raw:
    """The images of a .zip file, read from it without unpacking.

    Raises:
        DataError: if it is no zip file, there are no images, they differ in size, or one cannot be read.
    """
    with open_zip(path) as archive:
        members = [i.filename for i in archive.infolist() if i.filename and not i.filename.endswith("/")]
        visible = list(dict.fromkeys(name for name in members if not _hidden(name)))
        names = [name for name in visible if _is_image(name)]
        files = _Files(names, lambda name: _load_member(archive, name), printable(str(path)), len(visible) - len(names))
        return _read(files, request)


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _walk(folder: Path) -> tuple[list[str], int, int]:
    """Names of the images, how many other files there are, and how many entries were left alone."""
    names, others, left = [], 0, 0
    root, waiting = os.path.realpath(folder), [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}{entry.name}"
                if _hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                elif not _stays_inside(entry, root):
                    left += 1
                elif _is_image(name):
                    names.append(name)
                else:
                    others += 1
    return names, others, left


def _stays_inside(entry: os.DirEntry[str], root: str) -> bool:
    if not entry.is_symlink():
        return entry.is_file(follow_symlinks=False)
    target = os.path.realpath(entry.path)
    return os.path.isfile(target) and target.startswith(root.rstrip(os.sep) + os.sep)


def _load_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return _bounded(stream, os.fstat(stream.fileno()).st_size)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error


def _load_member(archive: ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as stream:
            return _bounded(stream, archive.getinfo(name).file_size)
    except Unreadable:
        raise
    except Exception as error:  # a damaged or encrypted member: zipfile and zlib raise errors of many kinds
        raise Unreadable(printable(str(error)) or type(error).__name__) from error


def _bounded(stream: Stream, size: int) -> bytes:
    if size > _MAX_FILE:
        raise Unreadable(f"the file is larger than {_MAX_FILE >> 20} MiB")
    return stream.read(_MAX_FILE)


def _read(files: _Files, request: Request) -> Raw:
    files.names.sort()
    if not files.names:
        other = f"; {files.others} other files are there" if files.others else ""
        raise DataError(f"no images were found{other}", where=files.where, fix=f"looked for {', '.join(SUFFIXES)}")
    skipped: list[str] = []
    heads = _heads(files, request, skipped)
    kind = _common_kind(heads, files.notes)
    size = request.resize or _common_size(heads, files.where)
    if request.resize:
        files.notes.append(f"resized to {size[0]}x{size[1]} (height x width), bilinear")
    values, names = _pixels(files, list(heads), request, skipped, kind=kind, size=size)
    if skipped:
        files.notes.append(f"skipped {len(skipped)} unreadable files: {', '.join(skipped)}")
    labels = _labels(names, files.notes)
    return from_oriented(values, labels, where=files.where, notes=tuple(files.notes))


def _heads(files: _Files, request: Request, skipped: list[str]) -> dict[str, Head]:
    heads: dict[str, Head] = {}
    for name in files.names:
        try:
            heads[name] = read_head(files.load(name))
        except Unreadable as error:
            _skip_or_stop(files.where, name, error, request, skipped)
    if not heads:
        raise DataError(f"none of {len(files.names)} image files can be read", where=files.where, fix="check the files")
    return heads


def _skip_or_stop(where: str, name: str, error: Unreadable, request: Request, skipped: list[str]) -> None:
    if not request.skip_errors:
        what = f"the image file {printable(name)!r} cannot be read: {error}"
        raise DataError(
            what, where=where, fix="repair or remove it, or leave such files out: --on-error skip"
        ) from error
    skipped.append(f"{printable(name)} ({error})")


def _common_size(heads: dict[str, Head], where: str) -> tuple[int, int]:
    sizes = Counter(head.size for head in heads.values())
    size, count = sizes.most_common(1)[0]
    if len(sizes) == 1:
        return size
    odd = [f"{printable(n)} {_by(h.size)}" for n, h in heads.items() if h.size != size]
    what = f"the images differ in size: {count} of {len(heads)} are {_by(size)} (height x width), {len(odd)} are not"
    more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
    raise DataError(what, where=f"{where}: {', '.join(odd[:3])}{more}", fix=f"--resize {_by(size)}")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _common_kind(heads: dict[str, Head], notes: list[str]) -> str:
    kinds = Counter(head.kind for head in heads.values())
    alpha = [head.mode for head in heads.values() if head.alpha]
    if alpha:
        notes.append(f"{'/'.join(sorted(set(alpha)))}: alpha composited over white in {len(alpha)} of {len(heads)}")
    if any(head.mode == "CMYK" for head in heads.values()):
        notes.append("CMYK: converted to RGB")
    if animated := sum(head.animated for head in heads.values()):
        notes.append(f"{animated} files have several frames: the first is used")
    if kinds["grey16"] and len(kinds) > 1:
        notes.append(f"{kinds['grey16']} of {len(heads)} images have 16 bits: brought to 8, like the others")
    if kinds["colour"]:
        if len(kinds) > 1:
            notes.append(f"{kinds['colour']} of {len(heads)} images are in colour: all are read as RGB")
        return "colour"
    return "grey" if kinds["grey"] else "grey16"


def _pixels(
    files: _Files, names: list[str], request: Request, skipped: list[str], *, kind: str, size: tuple[int, int]
) -> tuple[np.ndarray, list[str]]:
    dtype = np.dtype(np.uint16 if kind == "grey16" else np.uint8)
    shape = (len(names), 3 if kind == "colour" else 1, *size)
    count = int(np.prod([float(v) for v in shape])) * dtype.itemsize
    refuse_beyond_cap(count, where=files.where, fix="make them smaller: --resize 32x32")
    values, kept = np.empty(shape, dtype=dtype), []
    for name in names:
        try:
            values[len(kept)] = read_pixels(files.load(name), kind=kind, resize=request.resize)
            kept.append(name)
        except Unreadable as error:
            _skip_or_stop(files.where, name, error, request, skipped)
    return values[: len(kept)], kept


def _labels(names: list[str], notes: list[str]) -> list[str] | None:
    folders = _below_common_top(names)
    classes = {parts[0] for parts in folders if parts}
    if not classes or (len(classes) == 1 and all(folders)):
        return None
    if not all(folders):
        notes.append("no labels: some images lie beside the sub-folders")
        return None
    if any(len(parts) > 1 for parts in folders):
        notes.append("some images lie deeper than one folder: the first folder is the class")
    notes.append(f"labels from {len(classes)} sub-folders")
    return [parts[0] for parts in folders]


def _below_common_top(names: list[str]) -> list[tuple[str, ...]]:
    folders = [tuple(name.split("/")[:-1]) for name in names]
    common = 0
    while all(len(parts) > common for parts in folders) and len({parts[common] for parts in folders}) == 1:
        common += 1
    return [parts[common:] for parts in folders]
