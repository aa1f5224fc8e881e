"""What this machine gives training, and one line of advice for each thing that is off."""

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gapless import machine
from gapless.cli.output import print_json

__all__ = ["Check", "checks", "doctor"]

_LIBRARIES = ("gapless", "torch", "numpy", "scikit-learn", "safetensors")


@dataclass(frozen=True)
class Check:
    """One fact of the machine.

    Attributes:
        name: what was looked at.
        found: what was found, one line.
        advice: what to do about it; empty where nothing is off.
    """

    name: str
    found: str
    advice: str = ""


def doctor(*, runs: Path, json: bool) -> None:
    """Print every check, those that are off with their advice.

    Args:
        runs: the folder runs will be written to.
        json: print a JSON object.
    """
    found = list(checks(runs))
    if json:
        return print_json({"checks": [asdict(check) for check in found], "off": sum(bool(c.advice) for c in found)})
    width = max(len(check.name) for check in found)
    for check in found:
        print(f"{check.name:<{width}}  {check.found}")
        if check.advice:
            print(f"{'':<{width}}  fix: {check.advice}")
    return None


def checks(runs: Path) -> Iterator[Check]:
    """All checks, in the order they are printed."""
    machine.before_torch()
    yield Check("versions", ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES))
    yield Check("machine", f"Python {platform.python_version()}, {platform.platform()}")
    yield from (
        _threads(),
        _openmp(),
        _placement(),
        _allocator(),
        _process(),
        _optimizer(),
        _layout(),
        _bf16(),
        _devices(),
        _disk(runs),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


def _threads() -> Check:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    advice = f"set OMP_NUM_THREADS={usable} or fewer" if threads > usable else ""
    return Check("threads", f"{threads} of {usable} usable processors, load {_load()}", advice)


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _openmp() -> Check:
    found = machine.openmp()
    spins = found["runtime"] == "gnu" and "=" not in found["wait"]
    advice = f"set GOMP_SPINCOUNT={machine.SPIN} before Python starts" if spins else ""
    return Check("OpenMP", f"{found['runtime']}, {found['wait']}", advice)


def _placement() -> Check:
    from gapless.training import placement

    left = placement.why_not()
    return Check("placement", f"left to the kernel: {left}" if left else "in training, threads are kept apart")


def _allocator() -> Check:
    allocator = machine.tune()
    named = allocator.why.split(" ")[0].split("=")[0]
    advice = f"unset {named}: convolutions train faster without it" if "set" in allocator.why else ""
    return Check("allocator", f"{'tuned' if allocator.tuned else 'not tuned'}: {allocator.why}", advice)


def _process() -> Check:
    if machine.tuned():
        return Check("process", "steps are played again where that gives the same bits; commands end at once")
    return Check("process", "steps are all done plainly; commands take half a second to end", "unset GAPLESS_TUNE")


def _optimizer() -> Check:
    import torch

    from gapless.training.optimizers import fused_is_available

    if fused_is_available(torch.device("cpu"), torch.float32):
        return Check("optimizer", "Adam by the fused kernel")
    return Check("optimizer", "Adam by torch.optim", "use a torch that has _fused_adam_: starting is a second faster")


def _layout() -> Check:
    import torch

    there = torch.backends.mkldnn.is_available()
    advice = "" if there else "use a torch built with oneDNN: convolutions are several times faster"
    return Check("convolutions", f"channels last, oneDNN {'there' if there else 'missing'}", advice)


def _bf16() -> Check:
    import torch

    try:
        there = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        there = False
    return Check("bf16", "in hardware" if there else "none on this processor; float32 serves")


def _devices() -> Check:
    import torch

    cuda = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = [*cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
    return Check("accelerators", ", ".join(found) or "none; the processor serves")


def _disk(runs: Path) -> Check:
    from shutil import disk_usage

    folder = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return Check("runs", f"{folder} cannot be written", "choose another -o, or another folder to work in")
    free = disk_usage(folder).free / 1e9
    advice = "make room: a run with its checkpoints may need more" if free < 1 else ""
    return Check("runs", f"{folder} can be written, {free:,.0f} GB free", advice)
