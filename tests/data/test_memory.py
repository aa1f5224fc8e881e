"""Memory: data larger than it is read, surveyed and fed within a bound."""

import subprocess
import sys

import numpy as np
import pytest

EPOCH = """
import sys, numpy as np
from pathlib import Path
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
import torch
from gapless.data import Feed, columnar, disk, numpy_files, read
if sys.argv[2] == "disk":
    disk.MAP_BYTES = numpy_files.MAP_BYTES = columnar.MEMORY_BYTES = 0
warm = read(np.zeros((40, 28, 28), np.uint8))
list(Feed(warm.train, warm.scaling).stream(0, 0, 4))
torch.utils.data
before, count, total = peak(), 0, 0.0
data = read(sys.argv[1], scaling="unit")
for positions, x in Feed(data.train, data.scaling).stream(3, 1, 128):
    count += len(positions)
    total += (x[:, 0, 0, 0].double() * 255).round().sum().item()
print(before, peak(), count, round(total) + int(data.held_out.values[data.held_out.index][:, 0, 0, 0].sum()))
"""


def write(path, items, chunk=20_000):
    """Random images by chunks, so that this process needs little memory, and the sum of their first pixels."""
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(items, 28, 28))
    draws, total = np.random.default_rng(0), 0
    for start in range(0, items, chunk):
        values[start : start + chunk] = draws.integers(0, 256, (min(chunk, items - start), 28, 28), dtype=np.uint8)
        total += int(values[start : start + chunk, 0, 0].sum(dtype=np.int64))
    values.flush()
    return total


def formats(path, kind):
    """The same images in another format."""
    if kind == "npy":
        return path
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    if kind == "shards":
        from gapless.data import write_shards

        write_shards(path, path.with_name("shards"))
        return path.with_name("shards")
    values, field = np.load(path, mmap_mode="r"), pa.field("x", pa.binary(784), metadata={"shape": "[28, 28]"})
    with pq.ParquetWriter(path.with_name("x.parquet"), pa.schema([field]), use_dictionary=False) as writer:
        for start in range(0, len(values), 5000):
            rows = pa.py_buffer(np.ascontiguousarray(values[start : start + 5000]).tobytes())
            column = pa.FixedSizeBinaryArray.from_buffers(field.type, len(rows) // 784, [None, rows])
            writer.write_batch(pa.record_batch([column], schema=pa.schema([field])), row_group_size=5000)
    return path.with_name("x.parquet")


def epoch(source, how):
    done = subprocess.run([sys.executable, "-c", EPOCH, str(source), how], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    before, after, count, total = done.stdout.split()
    return float(before), float(after), int(count), int(total)


# What is held besides the 78 MB of images: a chunk of 2**22 values as it was read, joined, picked and compared (at most
# 8 times 4 MiB), the order (3 times 8 bytes an item), 6 readings of 256 KiB with their float batches; for Parquet a
# window of 64 MiB, two groups of 4 MB and a batch of decoding, and the 6 readings are of 4 MiB each.
@pytest.mark.parametrize(("kind", "bound"), [("npy", 60), ("shards", 60), ("parquet", 185)])
def test_an_epoch_of_a_hundred_thousand_images(kind, bound, tmp_path):
    total = write(tmp_path / "x.npy", 100_000)
    before, after, count, found = epoch(formats(tmp_path / "x.npy", kind), "disk")
    assert (count, found) == (90_000, total)
    assert after - before < bound


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "shards", "parquet"])
def test_an_epoch_of_a_million_images_stays_below_500_mb(kind, tmp_path):
    total = write(tmp_path / "x.npy", 1_000_000)
    _, after, count, found = epoch(formats(tmp_path / "x.npy", kind), "as it is")
    assert (count, found) == (900_000, total)
    assert after < 500
