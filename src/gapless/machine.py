"""The machine: what is set before torch is loaded, how memory is kept and left, and what there is to know of it.

It knows no other part of gapless and loads torch only where a function needs it. Nothing here changes a number: threads
are told how to wait and the allocator what to keep, never how much to compute where.
"""

import gc
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

__all__ = ["Allocator", "before_torch", "leave", "openmp", "tune", "tuned"]

SPIN = "10000"
"""How many times a thread of GNU OpenMP looks before it sleeps at a barrier. Its own default, 300,000, lets those that
wait take the processor from those they wait for; it takes 100 to 1,000 itself where it sees more threads than
processors, but it cannot see those of other processes. Measured in docs/speed.md."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 1 << 30
_OPT_OUT = "GAPLESS_TUNE"


def before_torch(environment: MutableMapping[str, str] = os.environ) -> None:
    """Say how OpenMP's threads wait, where nobody else has; of use only before torch is loaded.

    Args:
        environment: what is changed.

    >>> changed = {}
    >>> before_torch(changed); changed
    {'GOMP_SPINCOUNT': '10000'}
    """
    if tuned(environment) and "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN)


def tuned(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether anything is done for speed's sake that can be left: GAPLESS_TUNE=0 says no."""
    return environment.get(_OPT_OUT) != "0"


def leave() -> None:
    """Called at the end of a process that is ours alone: what torch has brought goes back to the system as it is.

    Python searches all objects for garbage three times and takes them apart one by one, 0.4 s with torch's modules.
    Here they are declared permanent. Then nothing in a reference cycle is finalized, not even the globals of a module:
    that is no way to end a process in which others keep files open, so `import gapless` does not. GAPLESS_TUNE=0
    leaves it to Python, and so does a process without torch.
    """
    if "torch" in sys.modules and tuned():
        gc.freeze()


class Allocator(NamedTuple):
    """Whether freed memory stays mapped for the next step.

    Attributes:
        tuned: it does.
        why: why, or why not.
    """

    tuned: bool
    why: str


def tune() -> Allocator:
    """Let freed memory up to 1 GiB a block stay with the process; called where training or decoding starts.

    glibc gives blocks of a few hundred kilobytes back to the kernel at every `free`, and every activation of every step
    then costs its page faults again. The process keeps what it once needed until it ends; its peak is the same. What
    was set by hand (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_, GLIBC_TUNABLES) is left alone, and GAPLESS_TUNE=0
    leaves everything alone.
    """
    import ctypes  # here, as `import gapless` loads this module

    refused = _why_not()
    if refused:
        return Allocator(False, refused)
    try:
        mallopt = ctypes.CDLL(None).mallopt
        done = [mallopt(option, _KEPT_BYTES) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    except (OSError, AttributeError) as error:
        return Allocator(False, f"mallopt is not there: {error}")
    return Allocator(all(done), "mallopt: blocks up to 1 GiB stay mapped" if all(done) else "mallopt refused")


def _why_not() -> str | None:
    import platform

    if not tuned():
        return f"{_OPT_OUT}=0 is set"
    if platform.libc_ver()[0] != "glibc":
        return "the C library is not glibc"
    if any(name in os.environ.get("LD_PRELOAD", "") for name in ("jemalloc", "tcmalloc", "mimalloc")):
        return "another allocator is preloaded"
    by_hand = [name for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_") if name in os.environ]
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        by_hand.append("GLIBC_TUNABLES")
    return f"{by_hand[0]} is set by hand" if by_hand else None


def openmp() -> dict[str, str]:
    """The OpenMP runtime torch was loaded with, and how its threads wait.

    Returns:
        "runtime": gnu, llvm, intel or none; "wait": the setting, as NAME=VALUE.
    """
    loaded = _loaded_libraries()
    names = {"gnu": "libgomp", "intel": "libiomp", "llvm": "libomp"}
    runtime = next((name for name, part in names.items() if any(part in library for library in loaded)), "none")
    variables = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    given = [f"{name}={os.environ[name]}" for name in variables if name in os.environ]
    return {"runtime": runtime, "wait": ", ".join(given) or "the runtime's default"}


def _loaded_libraries() -> list[str]:
    if sys.platform != "linux":
        import torch

        return ["libomp"] if torch.backends.openmp.is_available() else []
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return [os.path.basename(line.rstrip()) for line in file if "omp" in line]
