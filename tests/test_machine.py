"""What is set before torch is loaded, and the allocator: of use, never in the way of what was set by hand."""

import ctypes
import gzip
import hashlib
import os
import platform
import subprocess
import sys
import zipfile

import pytest

from gapless import machine

GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.parametrize(
    ("given", "spin"),
    [({}, machine.SPIN), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None),
     ({"GAPLESS_TUNE": "0"}, None)],
)  # fmt: skip
def test_waiting_is_said_only_where_nobody_has(given, spin):
    environment = dict(given)
    machine.before_torch(environment)
    assert environment.get("GOMP_SPINCOUNT") == spin


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_tuning_is_active_and_says_so(monkeypatch):
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    assert machine.tune().tuned
    assert machine.tune() == machine.tune()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [("GAPLESS_TUNE", "0", "GAPLESS_TUNE=0"), ("MALLOC_TRIM_THRESHOLD_", "1", "by hand"),
     ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2", "by hand"), ("LD_PRELOAD", "/lib/libjemalloc.so.2", "preloaded")],
)  # fmt: skip
def test_what_was_set_by_hand_is_left_alone(monkeypatch, name, value, why):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: pytest.fail("mallopt was called"))
    monkeypatch.setenv(name, value)
    found = machine.tune()
    assert not found.tuned
    assert why in found.why


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delenv("GAPLESS_TUNE", raising=False)
    assert machine.tune() == machine.Allocator(False, "the C library is not glibc")


FAULTS = """
import resource, sys
from gapless import machine
import torch
machine.tune()
def work():
    for size in (1 << 19, 1 << 21, 1 << 23): torch.ones(size) + 1
for _ in range(3): work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_freed_blocks_stay_mapped():
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC", "GAPLESS", "LD_"))}
    clean["OMP_NUM_THREADS"] = "1"
    done = subprocess.run([sys.executable, "-c", FAULTS], env=clean, capture_output=True, text=True, check=True)
    # Each pass touches 2 (2 + 8 + 32) MiB: 430,080 pages in 20. Without either setting a fifth of them fault at least.
    assert int(done.stdout) < 20 * 2 * 42 * 256 / 20


BITS = """
import sys, numpy as np, torch
from gapless import Settings, machine, recipes
from gapless.data import Feed, Items, Scaling
from gapless.training import fit
if sys.argv[1] == "tuned": machine.tune()
values = np.random.default_rng(0).integers(0, 256, (300, 1, 20, 20), dtype=np.uint8)
feed = Feed(Items(values, None, np.arange(300)), Scaling((0.0,), (255.0,), "unit"))
model, objective = recipes.build("vae", (1, 20, 20), latent=4, network=sys.argv[2], hidden=(64,), channels=(8, 8))
fit(model, objective, feed, feed, settings=Settings(epochs=2, batch_size=64))
sys.stdout.buffer.write(b"".join(v.numpy().tobytes() for v in model.state_dict().values()))
"""


@pytest.mark.parametrize("network", ["mlp", "convolutional"])
def test_how_threads_wait_and_memory_is_kept_changes_no_bit(network):
    digests = set()
    for kind, spin in (("tuned", machine.SPIN), ("plain", "30000000")):
        environment = {**os.environ, "GOMP_SPINCOUNT": spin, "OMP_NUM_THREADS": "2"}
        command = [sys.executable, "-c", BITS, kind, network]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        digests.add(hashlib.sha256(done.stdout).hexdigest())
    assert len(digests) == 1


def test_the_runtime_is_named():
    import torch

    found = machine.openmp()
    assert set(found) == {"runtime", "wait"}
    if sys.platform == "linux" and torch.backends.openmp.is_available():
        assert found["runtime"] in ("gnu", "llvm", "intel")


HOST = """
import gzip, sys, zipfile, gapless, torch
def helper(): pass  # globals of a module with a function are a cycle
gapless.Model
packed = gzip.open(sys.argv[1], "wt")
packed.write("kept")
archive = zipfile.ZipFile(sys.argv[2], "w")
archive.writestr("a", "kept")
class Keeper:
    def __init__(self): self.itself = self
    def __del__(self): sys.__stdout__.write("finalized")
keeper = Keeper()
"""


def test_importing_gapless_does_not_change_how_a_process_ends(tmp_path):
    files = tmp_path / "a.gz", tmp_path / "b.zip"
    done = subprocess.run([sys.executable, "-c", HOST, *files], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("finalized", "")
    assert gzip.decompress(files[0].read_bytes()) == b"kept"
    assert zipfile.ZipFile(files[1]).read("a") == b"kept"


COMMAND = """
import atexit, gc, sys
atexit.register(lambda: sys.__stdout__.write(f"frozen {gc.get_freeze_count() > 0}"))
from gapless.cli import run
run()
"""


@pytest.mark.parametrize(
    ("command", "tuned", "frozen"), [("doctor", "1", True), ("doctor", "0", False), ("-h", "1", False)]
)
def test_a_command_that_has_loaded_torch_ends_at_once(tmp_path, command, tuned, frozen):
    environment = {**os.environ, "GAPLESS_TUNE": tuned}
    script = [sys.executable, "-c", COMMAND, command]
    done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"frozen {frozen}")
    assert not done.stderr
