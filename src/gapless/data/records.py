"""Image files inside of other files, one after the other: headers first, then pixels, in bounded memory."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gapless.data.pieces import Piece, Pieces
from gapless.data.pixels import Head, Unreadable, read_head, read_pixels
from gapless.data.raw import Request, printable
from gapless.errors import DataError

__all__ = ["MAX_FILE", "Record", "image_pieces"]

MAX_FILE = 1 << 29  # bytes of one image file
_TOGETHER = 1 << 24  # bytes of pixels in one piece
_NAMED = 3


@dataclass(frozen=True)
class Record:
    """One image file: its name for messages, its bytes (None and the reason where there are none), its label code."""

    name: str
    content: bytes | None
    label: int | None = None
    reason: str = ""


@dataclass
class _Heads:
    """What the headers of all records tell, without keeping one of them for each."""

    kinds: Counter[Head] = field(default_factory=Counter)
    first: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, name: str, head: Head) -> None:
        self.kinds[head] += 1
        names = self.first.setdefault(head.size, []) if len(self.first) < 99 or head.size in self.first else []
        if len(names) < _NAMED:
            names.append(f"{printable(name)} {_by(head.size)}")
        self.count += 1


def image_pieces(
    records: Callable[[], Iterator[Record]],
    names: Callable[[], tuple[np.ndarray, tuple[str, ...]]],
    request: Request,
    *,
    where: str,
) -> Pieces:
    """The images of some records, decoded piece by piece.

    Args:
        records: gives the records from the first on; it is called twice.
        names: the class names, after the last record.
        request: the size to bring them to, and whether to leave out what cannot be read.
        where: the source, for messages.

    Raises:
        DataError: if there are none, they differ in size, or one cannot be read.
    """
    heads = _look(records(), request, where)
    if not heads.count:
        raise DataError("no images were found", where=where, fix="PNG, JPEG, BMP, GIF, TIFF and WEBP are read")
    kind, size = _kind(heads), request.resize or _size(heads, where)
    dtype = np.dtype(np.uint16 if kind == "grey16" else np.uint8)
    notes = _notes(heads, kind, request)
    event = (3 if kind == "colour" else 1, *size)
    skipped: list[str] = []

    def chunks() -> Iterator[Piece]:
        skipped.clear()
        yield from _decoded(records(), request, where, event=event, dtype=dtype, kind=kind, skipped=skipped)
        if skipped:
            notes.append(f"skipped {len(skipped)} unreadable files: {', '.join(skipped)}")

    return Pieces(heads.count, event, dtype, chunks, names, notes=notes)


def _look(records: Iterator[Record], request: Request, where: str) -> _Heads:
    heads = _Heads()
    for record in records:
        try:
            heads.add(record.name, read_head(_content(record)))
        except Unreadable as error:
            _skip_or_stop(record.name, error, request, where, heads.skipped)
    return heads


def _content(record: Record) -> bytes:
    if record.content is None:
        raise Unreadable(record.reason)
    if len(record.content) > MAX_FILE:
        raise Unreadable(f"the file is larger than {MAX_FILE >> 20} MiB")
    return record.content


def _skip_or_stop(name: str, error: Unreadable, request: Request, where: str, skipped: list[str]) -> None:
    if not request.skip_errors:
        what = f"the image {printable(name)!r} cannot be read: {error}"
        fix = "repair or remove it, or leave such images out: --on-error skip"
        raise DataError(what, where=where, fix=fix) from error
    skipped.append(f"{printable(name)} ({error})")


def _kind(heads: _Heads) -> str:
    kinds = {head.kind for head in heads.kinds}
    return "colour" if "colour" in kinds else "grey" if "grey" in kinds else "grey16"


def _size(heads: _Heads, where: str) -> tuple[int, int]:
    sizes: Counter[tuple[int, int]] = Counter()
    for head, count in heads.kinds.items():
        sizes[head.size] += count
    size, count = sizes.most_common(1)[0]
    if len(sizes) == 1:
        return size
    odd = [name for other, names in heads.first.items() if other != size for name in names][:_NAMED]
    what = f"the images differ in size: {count} of {heads.count} are {_by(size)} (height x width)"
    raise DataError(what, where=f"{where}: {', '.join(odd)}", fix=f"--resize {_by(size)}")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _notes(heads: _Heads, kind: str, request: Request) -> list[str]:
    counts = {
        "alpha composited over white": sum(n for head, n in heads.kinds.items() if head.alpha),
        "CMYK converted to RGB": sum(n for head, n in heads.kinds.items() if head.mode == "CMYK"),
        "first of several frames used": sum(n for head, n in heads.kinds.items() if head.animated),
        "16 bits brought to 8": sum(n for head, n in heads.kinds.items() if head.kind == "grey16" != kind),
        "grey read as RGB": sum(n for head, n in heads.kinds.items() if head.kind == "grey" != kind),
    }
    notes = [f"{what} in {count} of {heads.count} images" for what, count in counts.items() if count]
    if request.resize:
        notes.append(f"resized to {_by(request.resize)} (height x width), bilinear")
    return notes


def _decoded(
    records: Iterator[Record],
    request: Request,
    where: str,
    *,
    event: tuple[int, ...],
    dtype: np.dtype,
    kind: str,
    skipped: list[str],
) -> Iterator[Piece]:
    step = max(1, _TOGETHER // (int(np.prod(event)) * dtype.itemsize))
    images, labels = [], []
    for record in records:
        try:
            images.append(read_pixels(_content(record), kind=kind, resize=request.resize))
            labels.append(record.label)
        except Unreadable as error:
            _skip_or_stop(record.name, error, request, where, skipped)
        if len(images) == step:
            yield _piece(images, labels)
            images, labels = [], []
    if images:
        yield _piece(images, labels)


def _piece(images: list[np.ndarray], labels: list[int | None]) -> Piece:
    known = [label for label in labels if label is not None]
    return np.stack(images), (np.array(known, dtype=np.int64) if len(known) == len(labels) else None)
