"""Rows that stay on disk, read like the rows of an array, in bounded memory."""

import math
import mmap
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gapless.data.raw import printable
from gapless.errors import DataError, MissingExtra

__all__ = ["Content", "FileRows", "OnDisk", "Part", "Values", "is_mapped", "map_bytes", "pyarrow"]

MAP_BYTES = 256 << 20  # a file up to this is mapped, so that a map holds no more of the memory
WINDOW_BYTES = 64 << 20  # of row groups that are shuffled among each other
_DENSE = 8  # rows that fill an eighth of the bytes between them are read in one piece
_STEP = 1 << 26


class OnDisk(ABC):
    """Rows of one shape and dtype that are read when they are asked for.

    To add one: give shape and dtype here, and write `rows`. Where single rows are dear because whole groups are read
    at once, set `edges`; orders then stay within some groups at a time.

    Args:
        shape: (n, *event).
        dtype: of the values.
    """

    edges: np.ndarray | None = None  # (groups + 1,) int64, the first row of every group, and n

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype

    @abstractmethod
    def rows(self, positions: np.ndarray) -> np.ndarray:
        """The rows at some positions, (k,) int64 inside 0..n-1, as a copy (k, *event)."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod([int(length) for length in self.shape], dtype=object))

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, key: Any) -> np.ndarray:
        positions = np.arange(*key.indices(len(self))) if isinstance(key, slice) else np.asarray(key, dtype=np.int64)
        if positions.ndim != 1:
            raise IndexError(f"rows are picked by a slice or a list of positions; got {positions.ndim} dimensions")
        if len(positions) and not -len(self) <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"a position is outside of 0..{len(self) - 1}")
        return self.rows(np.where(positions < 0, positions + len(self), positions))


Values = np.ndarray | OnDisk


def is_mapped(values: Values) -> bool:
    """Whether values stay on disk."""
    return isinstance(values, OnDisk | np.memmap)


def map_bytes(path: Path) -> mmap.mmap:
    """A file as bytes in memory, read-only and only where it is touched."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


class Content:
    """The bytes of a file: mapped where the file is small, else read run by run.

    A kernel maps up to 2 MiB around every byte that is touched, so that scattered reads of a large map soon hold all
    of it in memory; a large file is therefore read with calls, which hold nothing.

    Args:
        path: the file; it is opened once and stays open.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self.size = os.fstat(self._file).st_size
        self._map = np.frombuffer(map_bytes(path), dtype=np.uint8) if 0 < self.size <= MAP_BYTES else None

    def gather(self, starts: np.ndarray, width: int) -> np.ndarray:
        """Runs of `width` bytes, wherever they start.

        Args:
            starts: (k,) int64; `starts + width` must lie inside of the file.
            width: bytes of one run, positive.

        Returns:
            (k, width) uint8, a copy.

        Raises:
            DataError: if the file has become shorter.
        """
        if self._map is not None:
            return _pick(self._map, starts, width)
        if len(starts) > 1 and bool((starts[1:] > starts[:-1]).all()):
            first, end = int(starts[0]), int(starts[-1]) + width
            if end - first <= _DENSE * len(starts) * width:
                return _pick(self._read(first, end - first), starts - first, width)
        runs = b"".join([os.pread(self._file, width, start) for start in starts.tolist()])
        return self._whole(bytearray(runs), len(starts) * width).reshape(len(starts), width)

    def _read(self, start: int, count: int) -> np.ndarray:
        pieces = [os.pread(self._file, min(_STEP, count - at), start + at) for at in range(0, count, _STEP)]
        return self._whole(bytearray(b"".join(pieces)), count)

    def _whole(self, got: bytearray, count: int) -> np.ndarray:
        if len(got) != count:
            fix = "write the file again, and leave it alone while it is read"
            raise DataError("the file has become shorter since it was opened", where=printable(str(self.path)), fix=fix)
        return np.frombuffer(got, dtype=np.uint8)


def _pick(content: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    # a view of every run there could be, each one opaque item: picking items copies each run at once
    runs = np.ndarray((len(content) - width + 1,), dtype=np.dtype((np.void, width)), buffer=content, strides=(1,))
    return runs[starts].view(np.uint8).reshape(len(starts), width)


@dataclass(frozen=True)
class Part:
    """Some consecutive rows in one file.

    Args:
        content: the file.
        rows: how many.
        starts: for each column, the byte its values start at; one column holds whole items.
    """

    content: Content
    rows: int
    starts: tuple[int, ...]


class FileRows(OnDisk):
    """Rows of fixed width in files, at known places: a large .npy, or the record batches of Arrow files.

    Args:
        parts: the rows in their order.
        dtypes: for each column, the dtype of its values.
        stored: shape of one item in a file, None where each column is a feature.
        arrange: brings rows (k, *stored) into the shape they are used in.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        dtypes: Sequence[np.dtype],
        *,
        stored: tuple[int, ...] | None,
        arrange: Callable[[np.ndarray], np.ndarray],
    ):
        self._parts, self._dtypes, self._stored, self._arrange = list(parts), list(dtypes), stored, arrange
        self._files = list({id(part.content): part.content for part in parts}.values())
        number = {id(content): i for i, content in enumerate(self._files)}
        self._file_of = np.array([number[id(part.content)] for part in parts], dtype=np.int64)
        self._starts = np.array([part.starts for part in parts], dtype=np.int64)
        self._first = np.concatenate([[0], np.cumsum([part.rows for part in parts])]).astype(np.int64)
        self._widths = [dtype.itemsize * math.prod(stored or ()) for dtype in self._dtypes]
        self._refuse_outside()
        common = self._dtypes[0] if len(self._dtypes) == 1 else np.result_type(*self._dtypes)
        event = (len(self._dtypes),) if stored is None else stored
        shape = (int(self._first[-1]), *event)
        like = arrange(np.broadcast_to(np.zeros((), dtype=common), shape))
        super().__init__(tuple(int(v) for v in like.shape), common)

    def _refuse_outside(self) -> None:
        for part in self._parts:
            for start, width in zip(part.starts, self._widths, strict=True):
                if start < 0 or start + part.rows * width > part.content.size:
                    where, fix = printable(str(part.content.path)), "get or write the file again"
                    raise DataError("the file is shorter than its header announces", where=where, fix=fix)

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """The rows at some positions."""
        part = np.searchsorted(self._first, positions, side="right") - 1
        within = positions - self._first[part]
        columns = [self._column(j, part, within) for j in range(len(self._dtypes))]
        if self._stored is not None:
            values = columns[0].reshape(len(positions), *self._stored)
            return self._arrange(values.astype(self.dtype, copy=False))
        return np.stack(columns, axis=1, dtype=self.dtype)

    def _column(self, column: int, part: np.ndarray, within: np.ndarray) -> np.ndarray:
        width = self._widths[column]
        starts = self._starts[part, column] + within * width
        if len(self._files) == 1:
            return self._files[0].gather(starts, width).reshape(-1).view(self._dtypes[column])
        files = self._file_of[part]
        content = np.empty((len(starts), width), dtype=np.uint8)
        for number in np.unique(files):
            here = files == number
            content[here] = self._files[number].gather(starts[here], width)
        return content.reshape(-1).view(self._dtypes[column])


def pyarrow(module: str) -> Any:
    """A module of pyarrow.

    Raises:
        MissingExtra: if it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = "Arrow and Parquet files and shards need pyarrow, which is not installed"
        raise MissingExtra(what, fix='pip install "gapless[tables]"') from error
