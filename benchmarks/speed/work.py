"""What the scripts share, with numpy alone: MNIST from idx files, what is to be done, and one line of results."""

import gzip
import json
import math
import os
import time
from pathlib import Path

import numpy as np

LATENT = {"W1": 20, "W2": 16}
BATCH, RATE = 128, 1e-3
WORK = os.environ.get("BENCH_WORK", "W1")
EPOCHS = int(os.environ.get("BENCH_EPOCHS", "2"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "inf"))  # stop this long after the first step
SEED = int(os.environ.get("BENCH_SEED", "0"))
STARTED = float(os.environ.get("BENCH_STARTED", time.time()))  # when the driver started this process
DATA = Path(os.environ.get("BENCH_DATA", "../shared/data/mnist"))


def images() -> np.ndarray:
    """The 60,000 training images, uint8, shape (n, 28, 28)."""
    with gzip.open(DATA / "train-images-idx3-ubyte.gz") as file:
        return np.frombuffer(bytearray(file.read()), np.uint8, offset=16).reshape(-1, 28, 28)


class Clock:
    """Seconds to the first step, and images a second over the last epoch (after the first step if time is short)."""

    def __init__(self, per_epoch: int):
        self.per_epoch, self.steps, self.marks, self.cpu = per_epoch, 0, {}, {}

    def step(self) -> bool:
        """Called after every optimizer step; True when time is up."""
        self.steps += 1
        if self.steps == 1 or self.steps % self.per_epoch in (0, 1):
            self.marks[self.steps], self.cpu[self.steps] = time.time(), time.process_time()
        return time.time() - self.marks[1] > SECONDS

    def report(self, loss: float) -> None:
        """Print the results: one JSON line, the last of the process."""
        first = 1 if math.isfinite(SECONDS) else self.steps - self.per_epoch + 1
        images = (self.steps - first) * BATCH
        wall, cpu = time.time(), time.process_time()
        rate = images / (self.marks.get(self.steps, wall) - self.marks[first])
        cpu_rate = images / (self.cpu.get(self.steps, cpu) - self.cpu[first])
        result = {"first_step": self.marks[1] - STARTED, "rate": rate, "cpu_rate": cpu_rate, "loss": float(loss)}
        print(json.dumps(result), flush=True)


class Stop(Exception):  # noqa: N818 - it is no error
    """Time is up."""
