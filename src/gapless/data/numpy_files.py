"""Files of numpy: .npy mapped, .npz mapped where its members are stored and read within the cap where compressed."""

import math
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from gapless.data.arrays import arrange, from_array, refuse_dtype, refuse_shape
from gapless.data.bounded import Stream, open_zip, refuse_beyond_cap, take_exactly
from gapless.data.disk import MAP_BYTES, Content, FileRows, Part
from gapless.data.labels import looks_continuous
from gapless.data.raw import Raw, Request, printable, size_text
from gapless.errors import DataError, UsageError

__all__ = ["read_npy", "read_npz"]

_VALUE_NAMES = ("X", "x", "data", "images", "values", "features")
_LABEL_NAMES = ("y", "Y", "labels", "label", "targets", "target")
_SPARSE = {"data", "indices", "indptr", "shape"}
_LOCAL_HEADER = 30  # bytes of a zip's local file header before the name
_ENCRYPTED = 0x1
_BROKEN = (BadZipFile, NotImplementedError, RuntimeError, UnicodeError, EOFError, struct.error, zlib.error)


@dataclass(frozen=True)
class _Header:
    """What the head of an array file announces, and where its values start in it."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int

    @property
    def count(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def order(self) -> Any:
        return "F" if self.fortran else "C"


def read_npy(path: Path, request: Request) -> Raw:
    """A .npy file: its values stay on disk, mapped, or read row by row where a map would fill the memory.

    Raises:
        DataError: if it is no such file, is shorter than its header announces, or cannot be learned from.
    """
    where = printable(str(path))
    with path.open("rb") as stream:
        header = _header(stream, where)
    refuse_dtype(header.dtype, where=where)
    refuse_shape(header.shape, where=where)
    values = _mapped(path, header, 0, path.stat().st_size, where)
    if header.count > MAP_BYTES and not header.fortran:
        return _by_calls(path, header, where)
    return from_array(values, where=where)


def _by_calls(path: Path, header: _Header, where: str) -> Raw:
    raw = from_array(np.broadcast_to(np.zeros((), dtype=header.dtype), header.shape), where=where)
    dtype = np.dtype(np.uint8) if header.dtype == bool else header.dtype
    part = Part(Content(path), header.shape[0], (header.start,))
    return replace(raw, values=FileRows([part], [dtype], stored=header.shape[1:], arrange=arrange))


def read_npz(path: Path, request: Request) -> Raw:
    """One array of a .npz file, with its labels where it has them; a sparse matrix (CSR) becomes a dense table.

    Raises:
        DataError: if it is no such file, is damaged, or holds nothing to learn from.
        UsageError: if a member that was asked for is not there.
    """
    where = printable(str(path))
    try:
        with open_zip(path) as archive:
            return _Archive(path, archive, where).read(request)
    except _BROKEN as error:
        raise DataError(
            f"not a readable .npz file: {printable(str(error))}", where=where, fix="write it again"
        ) from error


class _Archive:
    """The members of an open .npz file, headers first."""

    def __init__(self, path: Path, archive: ZipFile, where: str):
        self.path, self.archive, self.where = path, archive, where
        self.members = {i.filename[:-4]: i for i in archive.infolist() if i.filename.endswith(".npy")}
        if not self.members:
            raise DataError("the .npz file holds no arrays", where=where, fix="write it with numpy.savez")
        self.headers = {name: self._header(info) for name, info in self.members.items()}

    def read(self, request: Request) -> Raw:
        if request.array is None and self.members.keys() >= _SPARSE:
            values, notes = self._dense()
            name = "data"
        else:
            name, notes = self._pick(request), ()
            header = self.headers[name]
            refuse_dtype(header.dtype, where=self._at(name))
            refuse_shape(header.shape, where=self._at(name))
            values = self.load(name)
        labels, more = self._labels(request.label, name, len(values))
        raw = from_array(values, labels, where=self._at(name), notes=notes + more)
        return replace(raw, covariates=self._covariates(request.covariates, len(values)))

    def _covariates(self, names: tuple[str, ...], items: int) -> np.ndarray | None:
        """Members of one number an item, side by side; None where these are no members but columns of a table."""
        if not names or not self.members.keys() >= set(names):
            return None
        for name in names:
            if self.headers[name].shape not in ((items,), (items, 1)) or self.headers[name].dtype.kind not in "buif":
                what = f"a covariate is one number an item, shape ({items},); this has {self.headers[name].shape}"
                raise DataError(what, where=self._at(name), fix="write each covariate as an array of its own")
        return np.stack([np.asarray(self.load(name), np.float64).reshape(items) for name in names], axis=1)

    def load(self, name: str) -> np.ndarray:
        """One member: mapped if it is stored, else read within the cap."""
        info, header, where = self.members[name], self.headers[name], self._at(name)
        if info.compress_type == ZIP_STORED and header.count:
            return _mapped(self.path, header, self._offset(info), info.file_size, where)
        with self.archive.open(info) as stream:
            stream.read(header.start)
            data = take_exactly(stream, header.count, where=where)
        return data.view(header.dtype).reshape(header.shape, order=header.order)

    def _header(self, info: ZipInfo) -> _Header:
        if info.flag_bits & _ENCRYPTED:
            raise DataError("the .npz file is encrypted", where=self.where, fix="write it without a password")
        with self.archive.open(info) as stream:
            return _header(stream, self._at(info.filename[:-4]))

    def _offset(self, info: ZipInfo) -> int:
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            head = file.read(_LOCAL_HEADER)
        return info.header_offset + _LOCAL_HEADER + sum(int.from_bytes(head[i : i + 2], "little") for i in (26, 28))

    def _at(self, name: str) -> str:
        return f"{self.where}, array {printable(name)!r}"

    def _pick(self, request: Request) -> str:
        if request.array is not None:
            return self._asked("array", request.array)
        taken = (*_LABEL_NAMES, request.label)
        sized = [n for n, h in self.headers.items() if 2 <= len(h.shape) <= 4 and h.dtype.kind in "buif"]
        sized = [n for n in sized if n not in taken] or sized
        if len(sized) == 1:
            return sized[0]
        named = [n for n in _VALUE_NAMES if n in (sized or self.headers)]
        if named or len(self.members) == 1:
            return named[0] if named else next(iter(self.members))
        what = f"which array to learn from is not clear; there are {self._listing()}"
        raise DataError(what, where=self.where, fix="name one: --array NAME")

    def _asked(self, option: str, name: str) -> str:
        if name not in self.members:
            what = f"there is no array {name!r}; there are {self._listing()}"
            raise UsageError(what, where=self.where, fix=f"give one of them as {option}")
        return name

    def _listing(self) -> str:
        names = [f"{printable(n)} {h.shape}" for n, h in self.headers.items()]
        return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")

    def _labels(self, asked: str | None, taken: str, items: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
        if asked is not None:
            return self._labels_at(self._asked("label", asked)), (f"labels from array {asked!r}",)
        name = next((n for n in _LABEL_NAMES if n in self.members and n != taken), None)
        if name is None:
            return None, ()
        labels = self._labels_at(name)
        if looks_continuous(labels):
            return None, (f"array {name!r} is not used as labels: its numbers are not whole",)
        return labels, (f"labels from array {name!r}",)

    def _labels_at(self, name: str) -> np.ndarray:
        dtype = self.headers[name].dtype
        if dtype.kind not in "SU":
            refuse_dtype(dtype, where=self._at(name))
        return self.load(name)

    def _dense(self) -> tuple[np.ndarray, tuple[str, ...]]:
        for name in _SPARSE:
            refuse_dtype(self.headers[name].dtype, where=self._at(name))
            if name != "data" and self.headers[name].dtype.kind not in "iu":
                raise DataError(
                    "positions in a sparse matrix need whole numbers", where=self._at(name), fix="write it again"
                )
        if "format" in self.members and self.headers["format"].dtype.kind in "SU":
            kind = self.load("format").astype(str).ravel()[:1].tolist()
            if kind != ["csr"]:
                raise DataError(f"the sparse format {kind} cannot be read", where=self.where, fix="save .tocsr()")
        parts = {name: self.load(name) for name in sorted(_SPARSE)}
        return _dense(parts, self.where)


def _header(stream: Stream, where: str) -> _Header:
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"format version {version} holds fields, not plain numbers")
        if any(not isinstance(length, int) or length < 0 for length in shape):
            raise ValueError(f"impossible shape {shape}")
    except Exception as error:  # numpy parses the header as Python text: what may be raised is not listed anywhere
        what = f"not a readable numpy array: {printable(str(error)[:200])}"
        raise DataError(what, where=where, fix="write it again with numpy.save") from error
    return _Header(shape, fortran, dtype, stream.tell())


def _mapped(path: Path, header: _Header, offset: int, available: int, where: str) -> np.ndarray:
    if header.start + header.count > available or offset + available > path.stat().st_size:
        what = f"the header announces {size_text(header.count)} of values, shape {header.shape}; the file is shorter"
        raise DataError(what, where=where, fix="get or write the file again")
    return np.memmap(
        path, dtype=header.dtype, mode="r", offset=offset + header.start, shape=header.shape, order=header.order
    )


def _dense(parts: dict[str, np.ndarray], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    data, indices, indptr = (parts[key].reshape(-1) for key in ("data", "indices", "indptr"))
    shape = tuple(int(v) for v in parts["shape"].reshape(-1))
    if len(shape) != 2:
        raise DataError(
            f"a sparse matrix needs two dimensions; its shape is {shape}", where=where, fix="write it again"
        )
    refuse_shape(shape, where=where)
    refuse_beyond_cap(math.prod(shape) * data.dtype.itemsize, where=where, fix="keep fewer columns")
    widths = np.diff(indptr.astype(np.int64))
    whole = len(indptr) == shape[0] + 1 and indptr[0] == 0 and indptr[-1] == len(data) == len(indices)
    if not whole or (widths < 0).any() or (len(indices) and not 0 <= indices.min() <= indices.max() < shape[1]):
        raise DataError("the sparse matrix (CSR) contradicts itself", where=where, fix="write it again")
    dense = np.zeros(shape, dtype=np.uint8 if data.dtype == bool else data.dtype.newbyteorder("="))
    np.add.at(dense, (np.repeat(np.arange(shape[0]), widths), indices.astype(np.int64)), data)
    share = 100 * len(data) / dense.size
    return dense, (f"sparse matrix {shape[0]} x {shape[1]}, {share:.3g} % stored, made dense",)
