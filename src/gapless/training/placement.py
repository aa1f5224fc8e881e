"""Which processor each of OpenMP's threads computes on, while training.

In a virtual machine the kernel takes a processor that rests for one that is away, and wakes a thread where its waker
runs. Two threads of one step then share a processor, each waiting for the other at every operation, while the other
processor idles, for seconds, until the kernel happens to balance them. Here they are kept apart. It changes where
something is computed, never what.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from gapless import machine, processes

__all__ = ["Apart", "kept_apart", "why_not"]

_WINDOW, _TRIES = 10, 20
"""Steps in which it is seen which threads compute, and how often one looks."""
_COMPUTES = 0.25
"""What a thread that computes has run at least in that time, in units of what the calling thread has."""
_BY_HAND = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


class Apart:
    """Binds each thread that computes with the calling one to a processor of its own.

    The calling thread goes where the kernel wants it; where it comes to another one's place, that one takes the place
    that is free. `step` costs a microsecond.

    Attributes:
        why: why nothing is done; empty where it is, or will be.
    """

    def __init__(self) -> None:
        self.why = why_not()
        self._steps, self._ran = 0, dict[int, int]()
        self._threads, self._processors = dict[int, int](), frozenset[int]()  # threads by processor

    @property
    def active(self) -> bool:
        """Whether threads are bound now."""
        return bool(self._threads)

    def step(self) -> None:
        """Called by the training thread after every step."""
        if self._threads:
            here = _processor()
            if here in self._threads:
                free = min(self._processors - self._threads.keys())
                self._bind({free: self._threads.pop(here)})
        elif not self.why:
            if self._steps and self._steps % _WINDOW == 0:
                self._begin()
            if self._steps % _WINDOW == 0:
                self._ran = _run_times()
            self._steps += 1

    def release(self) -> None:
        """All threads may run anywhere again."""
        for thread in self._threads.values():
            with suppress(OSError):
                os.sched_setaffinity(thread, self._processors)
        self._threads = {}

    def _begin(self) -> None:
        ran = {thread: now - self._ran.get(thread, now) for thread, now in _run_times().items()}
        python = {thread.native_id for thread in threading.enumerate()}
        least = _COMPUTES * ran.get(threading.get_native_id(), 0)
        computing = [thread for thread, time in ran.items() if thread not in python and time > least]
        self._processors = frozenset(os.sched_getaffinity(0))
        places = sorted(self._processors - {_processor()})
        if len(computing) == len(places):
            self._bind(dict(zip(places, computing, strict=True)))
        elif self._steps >= _WINDOW * _TRIES:
            self.why = f"{len(computing) + 1} threads compute, on {len(places) + 1} processors"

    def _bind(self, threads: dict[int, int]) -> None:
        self._threads.update(threads)
        try:
            for processor, thread in threads.items():
                os.sched_setaffinity(thread, {processor})
        except OSError as error:  # the thread has ended, or its processors were taken away
            self.release()
            self.why = f"threads cannot be bound: {error}"


@contextmanager
def kept_apart() -> Iterator[Apart]:
    """Inside, the threads that compute are kept apart, from the moment they are known; afterwards they are free."""
    apart = Apart()
    try:
        yield apart
    finally:
        apart.release()


def why_not() -> str:
    """Why threads are left where the kernel puts them; empty where they are kept apart.

    With fewer threads than processors another process could want the same ones, while others idle.
    """
    if not machine.tuned():
        return "GAPLESS_TUNE=0 is set"
    if sys.platform != "linux" or not os.path.exists("/proc/self/schedstat"):
        return "the kernel is not Linux, or does not say how long a thread ran"
    bound = [name for name in _BY_HAND if name in os.environ]
    if bound:
        return f"{bound[0]} is set by hand"
    if processes.size() > 1:
        return "several processes share the machine"
    threads, processors = torch.get_num_threads(), len(os.sched_getaffinity(0))
    if threads == 1:
        return "one thread computes"
    return "" if threads == processors else f"{threads} threads, {processors} processors: others may want them, too"


def _run_times() -> dict[int, int]:
    """Nanoseconds that each thread of this process has run."""
    times = {}
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as file:
            times[int(thread)] = int(file.read().split()[0])
    return times


def _processor() -> int:
    """Where the calling thread runs."""
    return _libc.sched_getcpu()


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
