"""Tar files of images as webdataset writes them: read through from the first byte, nothing put on disk."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gapless.data.labels import encode
from gapless.data.pieces import Pieces, collect
from gapless.data.raw import Raw, Request, printable
from gapless.data.records import MAX_FILE, Record, image_pieces
from gapless.errors import DataError

__all__ = ["SUFFIXES", "holds_tars", "read_tars", "tar_pieces"]

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_LABEL = "cls"
_MAX_LABEL = 1 << 12  # bytes
_BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, UnicodeError)
_OPENERS: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))


def holds_tars(folder: Path) -> bool:
    """Whether a folder holds tar files."""
    return bool(_listed(folder))


def _listed(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    names = [p for p in path.iterdir() if p.name.lower().endswith(SUFFIXES) and not p.name.startswith(".")]
    return sorted(p for p in names if p.is_file() and not p.is_symlink())


def read_tars(path: Path, request: Request) -> Raw:
    """The images of a tar file, or of a folder of them, decoded into memory.

    Raises:
        DataError: if they cannot be read, or take more memory than the cap.
    """
    return collect(tar_pieces(path, request), where=printable(str(path)))


def tar_pieces(path: Path, request: Request) -> Pieces:
    """The images of some tar files; files that share a name up to its first dot make one item.

    The label is the text of the member with the ending `.cls`, or the one asked for. Links, devices and sparse
    members are left alone, and members beyond a size are refused before they are read.

    Args:
        path: a file, or a folder of files.
        request: the label's ending, the size of the images, whether to skip what cannot be read.

    Raises:
        DataError: if a file is damaged, or its images cannot be read.
    """
    codes: dict[str, int] = {}
    where = printable(str(path))
    ending = (request.label or _LABEL).lstrip(".").lower()

    def records() -> Iterator[Record]:
        for file in _listed(path):
            yield from _records(file, ending, codes)

    def names() -> tuple[np.ndarray, tuple[str, ...]]:
        return encode(np.array(list(codes)), items=len(codes), where=where)

    pieces = image_pieces(records, names, request, where=where)
    if codes:
        pieces.notes.append(f"labels from the members that end in .{ending}")
    return pieces


def _records(path: Path, ending: str, codes: dict[str, int]) -> Iterator[Record]:
    where = printable(str(path))
    try:
        with _opened(path) as stream, tarfile.open(fileobj=_Capped(stream), mode="r:") as archive:  # type: ignore[call-overload]
            yield from _items(archive, ending, codes, where)
    except DataError:
        raise
    except _BROKEN as error:
        what = f"not a readable tar file: {printable(str(error)[:200])}"
        raise DataError(what, where=where, fix="get or write the file again") from error


def _opened(path: Path) -> Any:
    with path.open("rb") as stream:
        head = stream.read(6)
    return next((opener for magic, opener in _OPENERS if head.startswith(magic)), open)(path, "rb")


class _Capped:
    """A stream that refuses to hand out more at once than one image file may have: tar headers can ask for anything."""

    def __init__(self, stream: Any):
        self._stream = stream

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_FILE:
            raise tarfile.ReadError(f"a header asks for {size} bytes at once")
        return self._stream.read(size)

    def seek(self, place: int) -> int:
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()


def _items(archive: Any, ending: str, codes: dict[str, int], where: str) -> Iterator[Record]:
    """The images, each with the label that lies beside it, before or after."""
    key, image, label = "", None, None
    while (member := archive.next()) is not None:
        archive.members = []  # it would keep every member it has seen
        if not member.isreg() or member.issparse() or PurePosixPath(member.name).name.startswith("."):
            continue
        if member.size > MAX_FILE:
            what = f"the member {printable(member.name)!r} announces {member.size} bytes; the limit is {MAX_FILE}"
            raise DataError(what, where=where, fix="leave it out of the file")
        stem, _, rest = PurePosixPath(member.name).name.partition(".")
        here = f"{PurePosixPath(member.name).parent}/{stem}"
        if here != key:
            if image is not None:
                yield _record(image, label, codes, where)
            key, image, label = here, None, None
        if f".{rest}".lower().endswith(_IMAGES):
            if image is not None:
                yield _record(image, label, codes, where)
            image = (member.name, archive.extractfile(member).read())
        elif rest.lower() == ending:
            label = _text(archive, member, where)
    if image is not None:
        yield _record(image, label, codes, where)


def _text(archive: Any, member: Any, where: str) -> str:
    if member.size > _MAX_LABEL:
        what = f"the label {printable(member.name)!r} has {member.size} bytes"
        raise DataError(what, where=where, fix=f"labels have up to {_MAX_LABEL} bytes")
    return archive.extractfile(member).read().decode("utf-8", "backslashreplace").strip()


def _record(image: tuple[str, bytes], label: str | None, codes: dict[str, int], where: str) -> Record:
    if label is None and codes:
        what = f"{printable(image[0])!r} has no label; others have"
        raise DataError(what, where=where, fix="give every image one, or none")
    code = None if label is None else codes.setdefault(label, len(codes))
    return Record(image[0], image[1], code)
