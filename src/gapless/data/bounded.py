"""Bounded reading: no more bytes than a header announced, and no more than the cap."""

import struct
import zlib
from pathlib import Path
from typing import Protocol, runtime_checkable
from zipfile import BadZipFile, ZipFile

import numpy as np

from gapless.data.raw import CAP_BYTES, printable, size_text
from gapless.errors import DataError

__all__ = ["Stream", "open_zip", "refuse_beyond_cap", "take_exactly"]

_STEP = 1 << 18  # what fits the cache of a core; larger ones are fresh memory every time
_BROKEN = (EOFError, BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError)


@runtime_checkable
class Stream(Protocol):
    """What is read from: an open file, a gzip stream or the member of a zip."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...

    def tell(self) -> int:
        """Bytes read so far."""
        ...


def refuse_beyond_cap(count: int, *, where: str, fix: str = "save it as an uncompressed .npy: it is mapped") -> None:
    """Stop before memory is taken.

    Raises:
        DataError: if `count` bytes are more than the cap.
    """
    if count > CAP_BYTES:
        what = f"this needs {size_text(count)} of memory; the cap is {size_text(CAP_BYTES)}"
        raise DataError(what, where=where, fix=fix)


def open_zip(path: Path) -> ZipFile:
    """A zip file, its list of members read and nothing else.

    Raises:
        DataError: if it is no zip file, or its list is damaged.
    """
    try:
        return ZipFile(path)
    except (BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error) as error:
        what = f"not a readable zip file: {printable(str(error))}"
        raise DataError(what, where=printable(str(path)), fix="get or write the file again") from error


def take_exactly(stream: Stream, count: int, *, where: str) -> np.ndarray:
    """All that is left of a stream, which must be `count` bytes.

    Args:
        stream: a file, or a decompressor of one.
        count: bytes the header announced.
        where: the file, for messages.

    Returns:
        (count,) uint8.

    Raises:
        DataError: if there are fewer bytes or more, or the stream is damaged.
    """
    refuse_beyond_cap(count, where=where)
    data = np.empty(count, dtype=np.uint8)
    try:
        got = _fill(stream, data)
        left = got == count and bool(stream.read(1))
    except _BROKEN as error:
        raise DataError(f"the file is damaged: {error}", where=where, fix="get the file again") from error
    if got < count or left:
        arrived = f"{got} bytes" if got < count else "more"
        what = f"the header announces {count} bytes of values; the file holds {arrived}"
        raise DataError(what, where=where, fix="get the file again")
    return data


def _fill(stream: Stream, data: np.ndarray) -> int:
    got = 0
    while got < len(data):
        piece = stream.read(min(_STEP, len(data) - got))
        if not piece:
            break
        data[got : got + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        got += len(piece)
    return got
