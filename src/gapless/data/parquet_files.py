"""Parquet files: row groups decoded when they are asked for, some of them kept."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gapless.data.arrays import arrange
from gapless.data.columns import Plan, common_dtype, item_bytes, values_of
from gapless.data.disk import WINDOW_BYTES, OnDisk, pyarrow
from gapless.data.raw import printable, size_text
from gapless.errors import DataError

__all__ = ["ParquetFile", "ParquetRows"]

_GROUP_CAP = 1 << 30  # bytes of one row group, decoded
_RATIO_CAP = 1 << 20  # decoded bytes a byte of the file may stand for
_BATCH_BYTES = 1 << 24


class ParquetFile:
    """A Parquet file, its footer read and nothing else.

    Args:
        path: the file.

    Raises:
        DataError: if the footer is damaged.
    """

    compressed = True  # its values never lie in the file as numbers

    def __init__(self, path: Path):
        self.path, self.where = path, printable(str(path))
        pa, parquet = pyarrow("pyarrow"), pyarrow("pyarrow.parquet")
        self._errors = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)
        try:
            self._file = parquet.ParquetFile(path, memory_map=False, pre_buffer=False)
            self.schema = self._file.schema_arrow
            meta = self._file.metadata
            self.groups = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        except self._errors as error:
            raise self._damaged(error) from error
        if min(self.groups, default=0) < 0 or sum(self.groups) != meta.num_rows:
            raise self._damaged(ValueError("the counts of rows contradict each other"))
        self.rows = sum(self.groups)

    def batches(self, columns: list[str] | None = None, *, rows: int | None = None) -> Iterator[Any]:
        """The rows as record batches of a bounded number of rows.

        Raises:
            DataError: if the file is damaged.
        """
        batches = self._file.iter_batches(batch_size=rows or self._step(), columns=columns, use_threads=False)
        while True:
            try:
                batch = next(batches, None)
                if batch is not None:
                    batch.validate(full=True)
            except self._errors as error:
                raise self._damaged(error) from error
            if batch is None:
                return
            yield batch

    def group(self, number: int, chosen: Plan) -> np.ndarray:
        """The values of one row group, (rows, *stored).

        Raises:
            DataError: if it is damaged.
        """
        try:
            table = self._file.read_row_group(number, columns=list(chosen.values), use_threads=False)
            if table.num_rows != self.groups[number]:
                raise ValueError(f"row group {number} has {table.num_rows} rows, not {self.groups[number]}")
            batches = table.to_batches()
        except self._errors as error:
            raise self._damaged(error) from error
        first = sum(self.groups[:number])
        parts = [values_of(batch, chosen, first=first, where=self.where) for batch in batches]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def refuse_bombs(self, chosen: Plan) -> None:
        """Stop at rows that the bytes of the file cannot stand for.

        Raises:
            DataError: with what the footer announces.
        """
        count, size = self.rows * item_bytes(self.schema, chosen), self.path.stat().st_size
        if count > size * _RATIO_CAP:
            what = f"the footer announces {self.rows} rows, {size_text(count)}; the file has {size_text(size)}"
            raise DataError(what, where=self.where, fix="get or write the file again")

    def _step(self) -> int:
        width = max(1, sum(self._uncompressed()) // max(1, self.rows))
        return max(1, min(1 << 16, _BATCH_BYTES // width))

    def _uncompressed(self) -> list[int]:
        meta = self._file.metadata
        return [meta.row_group(i).total_byte_size for i in range(meta.num_row_groups)]

    def _damaged(self, error: BaseException) -> DataError:
        first = printable((str(error).splitlines() or [type(error).__name__])[0][:200])
        return DataError(f"not a readable Parquet file: {first}", where=self.where, fix="get or write the file again")


class ParquetRows(OnDisk):
    """Rows of Parquet files; a row group is decoded as a whole, and the groups in use are kept.

    Args:
        files: the files in their order.
        chosen: the columns to read.

    Raises:
        DataError: if a row group is too large to be decoded as a whole.
    """

    def __init__(self, files: list[ParquetFile], chosen: Plan):
        width = item_bytes(files[0].schema, chosen)
        self._chosen = chosen
        self._groups = [(file, i) for file in files for i in range(len(file.groups))]
        sizes = [file.groups[i] for file, i in self._groups]
        largest = max(sizes) * width
        if largest > _GROUP_CAP:
            what = f"a row group takes {size_text(largest)} once decoded; the cap is {size_text(_GROUP_CAP)}"
            raise DataError(what, where=files[0].where, fix="write shards: gapless shards SOURCE -o FOLDER")
        self.edges = self._edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._turn = threading.Lock()
        self._room = WINDOW_BYTES + 2 * largest
        dtype = common_dtype(files[0].schema, chosen)
        event = (len(chosen.values),) if chosen.stored is None else chosen.stored
        like = self._arranged(np.broadcast_to(np.zeros((), dtype=dtype), (int(self.edges[-1]), *event)))
        super().__init__(tuple(int(v) for v in like.shape), dtype)

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """The rows at some positions; one thread at a time."""
        with self._turn:
            return self._rows(positions)

    def _rows(self, positions: np.ndarray) -> np.ndarray:
        groups = np.searchsorted(self._edges, positions, side="right") - 1
        values = np.empty((len(positions), *self.shape[1:]), dtype=self.dtype)
        for number in np.unique(groups).tolist():
            here = groups == number
            values[here] = self._group(number)[positions[here] - self._edges[number]]
        return values

    def _group(self, number: int) -> np.ndarray:
        if number not in self._kept:
            file, inside = self._groups[number]
            self._kept[number] = self._arranged(file.group(inside, self._chosen))
            while sum(group.nbytes for group in self._kept.values()) > self._room and len(self._kept) > 1:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _arranged(self, values: np.ndarray) -> np.ndarray:
        return values if self._chosen.stored is None else arrange(values)
