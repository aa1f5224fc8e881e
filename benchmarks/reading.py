"""Images a second of shuffled batches, and peak memory, by where the data lies: memory, .npy, Arrow shards, Parquet.

    python benchmarks/reading.py [IMAGES [BATCH]]

Every case runs in a process of its own over the same uint8 images of 28 x 28; two epochs, the better one counts. The
baseline is indexing one uint8 tensor in memory (no conversion), as the figures of the design were taken. Images per
second of CPU time are what remains of it where other jobs want the processors and the disk.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CASES = ("tensor", "resident", "npy", "arrow", "parquet")


def write(folder: Path, images: int) -> None:
    """The same images in every format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gapless.data import write_shards

    values = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.uint8, shape=(images, 28, 28))
    draws = np.random.default_rng(0)
    for start in range(0, images, 20_000):
        values[start : start + 20_000] = draws.integers(0, 256, values[start : start + 20_000].shape, dtype=np.uint8)
    values.flush()
    write_shards(folder / "x.npy", folder / "arrow")
    field = pa.field("image", pa.binary(784), metadata={"shape": "[28, 28]"})
    schema = pa.schema([field])
    with pq.ParquetWriter(folder / "x.parquet", schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, images, 5_000):
            rows = np.ascontiguousarray(values[start : start + 5_000]).tobytes()
            column = pa.FixedSizeBinaryArray.from_buffers(field.type, len(rows) // 784, [None, pa.py_buffer(rows)])
            writer.write_batch(pa.record_batch([column], schema=schema), row_group_size=5_000)


def one(folder: Path, case: str, batch: int) -> None:
    """Rate and memory of one case."""
    import torch

    from gapless.data import Feed, read

    torch.set_num_threads(1)
    name = {"npy": "x.npy", "arrow": "arrow", "parquet": "x.parquet"}.get(case, "x.npy")
    source = np.load(folder / name) if case in ("tensor", "resident") else folder / name
    data = read(source)
    feed = Feed(data.train, data.scaling)
    rows = torch.from_numpy(np.asarray(source)) if case == "tensor" else None
    rates, efforts = [], []
    for epoch in range(2):
        start, spent = time.perf_counter(), time.process_time()
        if rows is not None:
            for positions in feed.order(0, epoch).split(batch):
                rows.index_select(0, positions)
        else:
            for _ in feed.stream(0, epoch, batch):
                pass
        rates.append(len(feed) / (time.perf_counter() - start))
        efforts.append(len(feed) / (time.process_time() - spent))
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    gigabytes = max(rates) * 784 / 1e9
    print(f"| {case} | {max(rates):,.0f} | {gigabytes:.2f} | {max(efforts):,.0f} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        one(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    else:
        images, batch = int((*sys.argv, "60000")[1]), int((*sys.argv, "128", "128")[2])
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), images)
            print("| | images/s | GB/s | images/CPU s | peak MB |\n|---|---|---|---|---|", flush=True)
            for case in CASES:
                subprocess.run([sys.executable, __file__, folder, case, str(batch)], check=True)
