"""Threads that compute together stay on processors of their own, and only where that can be in nobody's way."""

import os
import subprocess
import sys

import pytest
import torch

from gapless import processes
from gapless.training import placement

LINUX = sys.platform == "linux"
CALLER, WORKER, READER = 100, 101, 102


class Machine:
    """Two processors, and what is done to threads on them."""

    def __init__(self, monkeypatch, ran=((CALLER, 10), (WORKER, 9), (READER, 9), (103, 1))):
        self.here, self.bound, self.looks, self.ran = 0, [], 0, dict(ran)
        monkeypatch.setattr(placement, "why_not", lambda: "")
        monkeypatch.setattr(placement, "_processor", lambda: self.here)
        monkeypatch.setattr(placement, "_run_times", self.run_times)
        monkeypatch.setattr(placement.threading, "get_native_id", lambda: CALLER)
        monkeypatch.setattr(placement.threading, "enumerate", lambda: [Thread(CALLER), Thread(READER)])
        monkeypatch.setattr(placement.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
        monkeypatch.setattr(placement.os, "sched_setaffinity", self.bind, raising=False)

    def run_times(self):
        self.looks += 1
        return {thread: 1000 + self.looks * ran for thread, ran in self.ran.items()}

    def bind(self, thread, where):
        self.bound.append((thread, set(where)))


class Thread:
    def __init__(self, number):
        self.native_id = number


def after(steps):
    apart = placement.Apart()
    for _ in range(steps):
        apart.step()
    return apart


def test_the_thread_that_computes_is_found_and_bound_where_the_caller_is_not(monkeypatch):
    machine = Machine(monkeypatch)
    apart = after(placement._WINDOW + 1)
    assert apart.active
    assert machine.bound == [(WORKER, {1})]  # not the reader, which is Python's, nor the one that hardly ran


def test_it_takes_the_free_place_when_the_caller_comes_to_its_own(monkeypatch):
    machine = Machine(monkeypatch)
    apart = after(placement._WINDOW + 1)
    machine.bound.clear()
    apart.step()
    assert machine.bound == []
    machine.here = 1
    apart.step()
    assert machine.bound == [(WORKER, {0})]
    apart.step()
    assert len(machine.bound) == 1
    machine.here = 0
    apart.step()
    assert machine.bound[1:] == [(WORKER, {1})]


def test_all_are_free_afterwards_also_after_an_error(monkeypatch):
    machine = Machine(monkeypatch)

    def train():
        with placement.kept_apart() as apart:
            for _ in range(placement._WINDOW + 1):
                apart.step()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        train()
    assert machine.bound[-1] == (WORKER, {0, 1})


@pytest.mark.parametrize("ran", [((CALLER, 10),), ((CALLER, 10), (WORKER, 9), (103, 8))])
def test_other_numbers_of_threads_are_looked_for_again_and_then_left(monkeypatch, ran):
    machine = Machine(monkeypatch, ran)
    apart = after(placement._WINDOW * placement._TRIES)
    assert not apart.why  # still looking
    apart.step()
    assert f"{len(ran)} threads compute, on 2 processors" in apart.why
    assert machine.bound == []
    looked = machine.looks
    apart.step()
    assert machine.looks == looked


def test_a_thread_that_ended_or_processors_that_are_gone_end_it(monkeypatch):
    Machine(monkeypatch)

    def refused(thread, where):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(placement.os, "sched_setaffinity", refused, raising=False)
    apart = after(placement._WINDOW + 1)
    assert "cannot be bound" in apart.why
    assert not apart.active
    apart.step()
    apart.release()


@pytest.mark.skipif(not LINUX, reason="not Linux")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda m: m.setenv("GAPLESS_TUNE", "0"), "GAPLESS_TUNE=0"),
        (lambda m: m.setenv("OMP_PROC_BIND", "close"), "OMP_PROC_BIND is set by hand"),
        (lambda m: m.setattr(processes, "size", lambda: 2), "several processes"),
        (lambda m: m.setattr(torch, "get_num_threads", lambda: 1), "one thread computes"),
        (lambda m: m.setattr(torch, "get_num_threads", lambda: 4), "4 threads, 2 processors"),
        (lambda m: m.setattr(placement.os.path, "exists", lambda _: False), "does not say"),
        (lambda m: m.setattr(placement.sys, "platform", "darwin"), "not Linux"),
    ],
)
def test_it_is_left_to_the_kernel_where_it_could_be_in_the_way(monkeypatch, spoil, why):
    for name in ("GAPLESS_TUNE", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(placement.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert placement.why_not() == ""
    spoil(monkeypatch)
    assert why in placement.why_not()


TRAINING = """
import hashlib, os
import numpy as np
import gapless
from gapless.training import placement

class Told(gapless.training.Callback):
    def on_step(self, step, terms):
        if apart and apart[0].active:
            seen.append(sorted(map(len, affinities())))

def affinities():
    return [os.sched_getaffinity(int(t)) for t in os.listdir("/proc/self/task")]

apart, seen, made = [], [], placement.Apart.__init__
placement.Apart.__init__ = lambda self: (made(self), apart.append(self))[0]
x = np.random.default_rng(0).random((6_400, 256)).astype(np.float32)
settings = gapless.Settings(latent=2, epochs=8, batch_size=128, hidden=(512,))
run = gapless.train(gapless.read(x), settings=settings, callbacks=[Told()])
weights = b"".join(value.numpy().tobytes() for value in run.model.state_dict().values())
everywhere = all(len(found) == len(os.sched_getaffinity(0)) for found in affinities())
print(hashlib.sha256(weights).hexdigest(), everywhere, any(1 in found for found in seen), apart[0].why)
"""


@pytest.mark.skipif(not LINUX or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two processors")
def test_a_real_training_ends_in_the_same_bits_and_leaves_no_thread_bound():
    digests = set()
    for tune in ("1", "0"):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        done = subprocess.run(
            [sys.executable, "-c", TRAINING], env={**environment, "GAPLESS_TUNE": tune},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        digest, everywhere, bound, why = done.stdout.rstrip("\n").split(" ", 3)
        digests.add(digest)
        assert everywhere == "True"
        # On a machine that is busy it may be seen of no thread in time that it computes.
        assert bound == "True" if tune == "1" and "threads compute" not in why else bound == "False"
    assert len(digests) == 1
