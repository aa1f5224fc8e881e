"""Rows on disk: the same rows as in memory, mapped or read by calls, and never more memory than was asked for."""

import os

import numpy as np
import pytest
import torch

from gapless.data import Feed, Items, OnDisk, Scaling, disk, read
from gapless.data.disk import Content, FileRows, Part
from gapless.errors import DataError

RNG = np.random.default_rng(3)


@pytest.fixture(params=["mapped", "calls"])
def how(request, monkeypatch):
    if request.param == "calls":
        monkeypatch.setattr(disk, "MAP_BYTES", 0)
        monkeypatch.setattr("gapless.data.numpy_files.MAP_BYTES", 0)
    return request.param


def rows_of(tmp_path, values, copies=1):
    parts = []
    for i, some in enumerate(np.array_split(values, copies)):
        path = tmp_path / f"{i}.bin"
        path.write_bytes(b"12345" + some.tobytes())  # 5 bytes before: nothing is aligned
        parts.append(Part(Content(path), len(some), (5,)))
    return FileRows(parts, [values.dtype], stored=values.shape[1:], arrange=lambda rows: rows)


@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f8", ">i2", "f2"])
@pytest.mark.parametrize("files", [1, 3])
def test_rows_are_those_of_the_array(dtype, files, how, tmp_path):
    values = RNG.integers(0, 100, (50, 3, 2)).astype(dtype)
    rows = rows_of(tmp_path, values, files)
    assert (rows.shape, rows.ndim, rows.size, len(rows), rows.nbytes) == (
        values.shape, 3, values.size, 50, values.nbytes
    )  # fmt: skip
    for key in (slice(None), slice(7, 31, 2), [49, 0, 0, -1], RNG.permutation(50), np.arange(5, 40), []):
        assert np.array_equal(rows[key], values[key])
    for outside in ([50], [-51]):
        with pytest.raises(IndexError, match=r"0\.\.49"):
            rows[outside]


def test_dense_and_scattered_reads_agree(monkeypatch, tmp_path):
    monkeypatch.setattr(disk, "MAP_BYTES", 0)
    monkeypatch.setattr(disk, "_STEP", 1000)
    values = RNG.integers(0, 255, (4000, 7), dtype=np.uint8)
    rows = rows_of(tmp_path, values)
    for step in (1, 2, 7, 8, 9, 500):
        assert np.array_equal(rows[np.arange(0, 4000, step)], values[::step])


@pytest.mark.parametrize("shape", [(40, 6), (40, 5, 6), (40, 5, 6, 3), (40, 3, 5, 6), (40,)])
@pytest.mark.parametrize("dtype", ["u1", ">f4", "?"])
def test_a_large_npy_is_read_as_a_small_one(shape, dtype, monkeypatch, tmp_path):
    np.save(tmp_path / "x.npy", RNG.integers(0, 2, shape).astype(dtype))
    small = read(tmp_path / "x.npy")
    monkeypatch.setattr("gapless.data.numpy_files.MAP_BYTES", 0)
    large = read(tmp_path / "x.npy")
    assert isinstance(small.train.values, np.memmap)
    assert isinstance(large.train.values, OnDisk)
    assert large.inspection == small.inspection
    assert large.scaling == small.scaling
    assert large.fingerprint() == small.fingerprint()
    assert np.array_equal(large.train.take([3, 1, 8]), small.train.take([3, 1, 8]))
    x, y = (Feed(d.train, d.scaling).batch(torch.tensor([5, 0, 2])) for d in (small, large))
    assert torch.equal(x, y)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8", "i8"])
def test_feeding_from_disk_and_from_memory_gives_the_same_bits(dtype, how, tmp_path):
    values = (RNG.random((30, 4)) * 200).astype(dtype)
    scaling = Scaling((3.0, 1.0, 0.5, 2.0), (7.0, 3.0, 2.0, 1.5), "standard")
    index = RNG.permutation(30)[:20]
    memory, on_disk = (Feed(Items(v, None, index), scaling) for v in (values, rows_of(tmp_path, values)))
    assert on_disk.mapped
    positions = torch.arange(20).flip(0)
    assert torch.equal(memory.batch(positions), on_disk.batch(positions))
    assert np.array_equal(memory.batch(positions).numpy(), scaling(values[index[::-1]]))
    on_disk.batch(positions).zero_()
    assert torch.equal(memory.batch(positions), on_disk.batch(positions))


def test_a_file_that_ends_early_is_refused(tmp_path, monkeypatch):
    values = RNG.integers(0, 255, (40, 50), dtype=np.uint8)
    rows_of(tmp_path, values)
    with pytest.raises(DataError, match="shorter than its header"):
        FileRows([Part(Content(tmp_path / "0.bin"), 41, (5,))], [values.dtype], stored=(50,), arrange=lambda r: r)
    monkeypatch.setattr(disk, "MAP_BYTES", 0)
    rows = rows_of(tmp_path, values)
    os.truncate(tmp_path / "0.bin", 1000)
    for key in ([39, 2], slice(None)):
        with pytest.raises(DataError, match="become shorter"):
            rows[key]


def test_a_file_is_closed_with_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "MAP_BYTES", 0)
    before = len(os.listdir("/proc/self/fd"))
    rows = rows_of(tmp_path, RNG.random((10, 2)), 4)
    assert len(os.listdir("/proc/self/fd")) == before + 4
    del rows
    assert len(os.listdir("/proc/self/fd")) == before
