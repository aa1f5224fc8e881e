"""Arrow IPC files and streams: mapped where they are plain, read within the cap where they are compressed."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gapless.data.columns import Plan, dtypes_of
from gapless.data.disk import Content, FileRows, Part, map_bytes, pyarrow
from gapless.data.raw import printable
from gapless.errors import DataError

__all__ = ["ArrowFile", "mapped_rows"]

_MAGIC = b"ARROW1"
_RECORD_BATCH = 3  # of the union MessageHeader in Arrow's Message.fbs
_BUFFER_CAP = 1 << 31  # bytes one record batch may take once it is decompressed


class ArrowFile:
    """An Arrow IPC file (also Feather) or stream, opened without reading its values.

    Args:
        path: the file.

    Raises:
        DataError: if it is damaged, or its compressed parts announce more than the cap.
    """

    def __init__(self, path: Path):
        self.path, self.where = path, printable(str(path))
        if path.stat().st_size == 0:
            raise DataError("the file is empty", where=self.where, fix="write the data again")
        self._map = map_bytes(path)
        pa, self._ipc = pyarrow("pyarrow"), pyarrow("pyarrow.ipc")
        self._errors = (pa.ArrowException, OSError, ValueError, struct.error, IndexError, MemoryError)
        self._buffer = pa.py_buffer(self._map)
        self.base = self._buffer.address
        self._is_file = self._map[: len(_MAGIC)] == _MAGIC
        self.compressed, self.rows, self.decoded = False, 0, 0
        try:
            self._look()
            self.schema = next(self._readers()).schema
        except self._errors as error:
            raise self._damaged(error) from error

    def batches(self, columns: list[str] | None = None) -> Iterator[Any]:
        """The record batches; of a plain file they point into the map.

        Args:
            columns: those to keep; they are checked in full, for the offsets of a damaged file lead anywhere.

        Raises:
            DataError: if one is damaged.
        """
        batches = (batch for reader in self._readers() for batch in self._of(reader))
        while True:
            try:
                batch = next(batches, None)
                if batch is not None:
                    batch = batch if columns is None else batch.select(columns)
                    batch.validate(full=columns is not None)
            except self._errors as error:
                raise self._damaged(error) from error
            if batch is None:
                return
            yield batch

    def inside(self, buffer: Any) -> bool:
        """Whether a buffer lies in the file itself."""
        return buffer.size == 0 or 0 <= buffer.address - self.base <= len(self._map) - buffer.size

    def _readers(self) -> Iterator[Any]:
        pa = pyarrow("pyarrow")
        source = pa.BufferReader(self._buffer)
        yield self._ipc.open_file(source) if self._is_file else self._ipc.open_stream(source)

    def _of(self, reader: Any) -> Iterator[Any]:
        if not self._is_file:
            return iter(reader)
        return (reader.get_batch(i) for i in range(reader.num_record_batches))

    def _damaged(self, error: BaseException) -> DataError:
        first = printable((str(error).splitlines() or [type(error).__name__])[0][:200])
        return DataError(f"not a readable Arrow file: {first}", where=self.where, fix="get or write the file again")

    def _look(self) -> None:
        """Rows and compression, from the headers of the messages alone."""
        pa = pyarrow("pyarrow")
        messages = self._ipc.MessageReader.open_stream(pa.BufferReader(self._buffer[8 if self._is_file else 0 :]))
        while True:
            try:
                message = messages.read_next_message()
            except StopIteration:
                return
            if message.type == "record batch":
                head = _Head(bytes(message.metadata))
                self.rows += head.rows
                if head.compressed and message.body is not None:
                    self._count(head, message.body)

    def _count(self, head: "_Head", body: Any) -> None:
        self.compressed = True
        lengths = [_first_number(body, start) if size else 0 for start, size in head.buffers]
        count = sum(size if length == -1 else length for length, (_, size) in zip(lengths, head.buffers, strict=True))
        if count > _BUFFER_CAP or any(length < -1 for length in lengths):
            what = f"a compressed record batch announces {count} bytes; the cap is {_BUFFER_CAP}"
            raise DataError(what, where=self.where, fix="write it again in smaller record batches")
        self.decoded += count


def _first_number(body: Any, start: int) -> int:
    return struct.unpack_from("<q", body, start)[0]


class _Head:
    """Rows, buffers and compression of a record batch, from its flatbuffer (Arrow's Message.fbs)."""

    def __init__(self, data: bytes):
        self._data = data
        message = struct.unpack_from("<I", data, 0)[0]
        header = self._follow(message, 2)
        at = self._field(header, 0)
        self.rows = struct.unpack_from("<q", data, at)[0] if at else 0
        self.buffers = self._pairs(header, 2)
        self.compressed = bool(self._field(header, 3))
        if self.rows < 0:
            raise ValueError("a record batch has a negative length")

    def _field(self, table: int, number: int) -> int:
        """Where a field of a table lies, 0 if it is not there."""
        names = table - struct.unpack_from("<i", self._data, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", self._data, names)[0]:
            return 0
        offset = struct.unpack_from("<H", self._data, names + 4 + 2 * number)[0]
        return table + offset if offset else 0

    def _follow(self, table: int, number: int) -> int:
        at = self._field(table, number)
        if not at:
            raise ValueError("a message has no header")
        return at + struct.unpack_from("<I", self._data, at)[0]

    def _pairs(self, table: int, number: int) -> list[tuple[int, int]]:
        at = self._follow(table, number)
        count = struct.unpack_from("<I", self._data, at)[0]
        return [struct.unpack_from("<qq", self._data, at + 4 + 16 * i) for i in range(count)]


def mapped_rows(
    files: list[ArrowFile], chosen: Plan, *, arrange: Callable[[np.ndarray], np.ndarray]
) -> FileRows | None:
    """The values of some files where they lie, None where they have to be decoded first.

    Args:
        files: of one schema.
        chosen: the columns to read.
        arrange: brings rows as they are stored into the shape they are used in.

    Raises:
        DataError: if a file is damaged.
    """
    if chosen.texts or any(file.compressed for file in files):
        return None
    parts = []
    for file in files:
        content = Content(file.path)
        for batch in file.batches():
            starts = tuple(_place(file, batch.column(name)) for name in chosen.values)
            if any(start is None for start in starts):
                return None
            if batch.num_rows:
                parts.append(Part(content, batch.num_rows, tuple(int(s) for s in starts if s is not None)))
    if not parts:
        return None
    return FileRows(parts, dtypes_of(files[0].schema, chosen), stored=chosen.stored, arrange=arrange)


def _place(file: ArrowFile, column: Any) -> int | None:
    """The byte at which the values of a column start in its file, None if they do not lie there as numbers."""
    types, offset = pyarrow("pyarrow.types"), 0
    column = column.storage if hasattr(column, "storage") else column
    if column.null_count or not len(column):
        return None if column.null_count else 0
    offset = column.offset
    while types.is_fixed_size_list(column.type):
        size, column = column.type.list_size, column.values
        offset = offset * size + column.offset
        if column.null_count:
            return None
    buffer = column.buffers()[1]
    if types.is_boolean(column.type) or buffer is None or not file.inside(buffer):
        return None
    width = column.type.byte_width if types.is_fixed_size_binary(column.type) else column.type.bit_width // 8
    return buffer.address - file.base + offset * width
