"""The processes of one job, as `torchrun` or `accelerate launch` starts them: who am I, how many are we.

A job of one process never loads torch.distributed; everything here is then what it would be without it.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from gapless.errors import GaplessError

__all__ = [
    "any_of", "barrier", "device_of", "gather", "is_first", "job", "mean", "rank", "scatter", "share", "size", "told",
    "total",
]  # fmt: skip

STEP_SECONDS = 45
"""How long a process waits for the others within a step: what hangs without a sign of life ends the job."""
PATIENT_SECONDS = 24 * 3600
"""How long it waits where one of them reads data or writes a checkpoint; one that dies is noticed at once."""
_LOST = ("connection closed by peer", "connection reset", "connection refused", "broken pipe", "timed out", "timeout",
         "nccl", "socket", "read error", "write error")  # fmt: skip
_groups: dict[str, Any] = {}
_met: dict[str, Any] = {"jobs": 0}


def size() -> int:
    """How many processes there are: 1 without a launcher."""
    return _groups["size"] if _groups else 1


def rank() -> int:
    """The number of this process, from 0."""
    return _groups["rank"] if _groups else 0


def is_first() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return rank() == 0


def device_of(name: str) -> str:
    """The device this process computes on: with several accelerators each process has its own."""
    return f"{name}:{os.environ.get('LOCAL_RANK', 0)}" if name == "cuda" and size() > 1 else name


@contextmanager
def job(device: str = "cpu") -> Iterator[None]:
    """Inside, the processes that a launcher started work together; without a launcher nothing happens.

    Args:
        device: cpu, where they talk by gloo, or cuda, where they talk by NCCL.

    Raises:
        GaplessError: another process of the job ended or is silent.
    """
    if _groups or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    mine = _begin(device)
    try:
        yield
        barrier()
    except RuntimeError as error:
        raise (_lost(error) or error) from error
    finally:  # also of a failure: whoever catches it and begins another job meets the others anew
        _end(mine)


def _begin(device: str) -> bool:
    from torch import distributed

    _end_with_the_launcher()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    mine = not distributed.is_initialized()
    if mine:
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        # The first meeting is patient: processes load torch at different speeds.
        distributed.init_process_group(backend, timeout=timedelta(seconds=STEP_SECONDS), **_meeting())
    patient = distributed.new_group(backend="gloo", timeout=timedelta(seconds=PATIENT_SECONDS))
    _groups.update(size=distributed.get_world_size(), rank=distributed.get_rank(), patient=patient)
    return mine


def _meeting() -> dict[str, Any]:
    """Where the processes of a job find each other: another place each time, for addresses of the last are still there.

    That many jobs were begun is the same number on all of them.
    """
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if "store" not in _met:
        timeout = timedelta(seconds=STEP_SECONDS)
        _met["store"], _met["rank"], _met["size"] = next(iter(rendezvous("env://", timeout=timeout)))
        _met["store"].set_timeout(timeout)
    _met["jobs"] += 1
    store = PrefixStore(f"gapless/{_met['jobs']}", _met["store"])
    return {"store": store, "rank": _met["rank"], "world_size": _met["size"]}


def _end(mine: bool) -> None:
    from torch import distributed

    _groups.clear()
    if mine:
        distributed.destroy_process_group()


def _end_with_the_launcher() -> None:
    """No process outlives a launcher that was killed: Linux sends a SIGTERM, which saves and stops."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _lost(error: RuntimeError) -> GaplessError | None:
    text = str(error).lower()
    if isinstance(error, GaplessError) or not any(sign in text for sign in _LOST):
        return None
    return GaplessError(
        f"process {rank()} of {size()} lost another one: {str(error).splitlines()[0][:200]}",
        fix="see what the other one said first; the same command goes on from the last checkpoint",
    )


def barrier() -> None:
    """Wait, patiently, until all are here."""
    if size() > 1:
        from torch import distributed

        distributed.barrier(group=_groups["patient"])


def told(value: Any) -> Any:
    """What the first process says, plain data; the others' own value is not looked at."""
    if size() == 1:
        return value
    words = json.dumps(value).encode() if is_first() else b""
    length = _spoken(torch.tensor([len(words)]))
    text = (
        torch.frombuffer(bytearray(words), dtype=torch.uint8)
        if is_first()
        else torch.empty(int(length), dtype=torch.uint8)
    )
    return json.loads(bytes(_spoken(text).tolist()))


def _spoken(values: Tensor) -> Tensor:
    from torch import distributed

    distributed.broadcast(values, 0, group=_groups["patient"])
    return values


def any_of(wishes: Sequence[bool]) -> tuple[bool, ...]:
    """For each of some questions, whether any process says yes."""
    if size() == 1:
        return tuple(wishes)
    from torch import distributed

    votes = torch.tensor([int(wish) for wish in wishes])
    distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return tuple(bool(vote) for vote in votes)


def share(items: int) -> slice:
    """This process's part of a batch: contiguous, as even as can be, empty where there are more processes than items.

    >>> share(5)
    slice(0, 5, None)
    """
    return slice(items * rank() // size(), items * (rank() + 1) // size())


def total(values: Tensor) -> Tensor:
    """The sum over all processes; without gradient, and patient."""
    if size() > 1:
        from torch import distributed

        distributed.all_reduce(values, group=_groups["patient"] if values.device.type == "cpu" else None)
    return values


def mean(values: Tensor) -> Tensor:
    """The mean of all values of all processes, shape (); without gradient where there are several.

    >>> mean(torch.tensor([1.0, 2.0]))
    tensor(1.5000)
    """
    if size() == 1:
        return values.mean()
    from torch import distributed

    both = torch.stack(
        [values.detach().sum(dtype=torch.float64), values.new_tensor(values.numel(), dtype=torch.float64)]
    )
    distributed.all_reduce(both)
    return (both[0] / both[1]).to(values.dtype)


def gather(rows: Tensor, items: int, *, axis: int = 0) -> Tensor:
    """All rows of a batch, from the rows of this process; differentiable, twice where a penalty is of a gradient.

    Every process goes on with the same numbers and so has the whole gradient of what follows. Gradients of parameters
    are averaged over the processes at the end, hence the factor: a mean of shares times their number is their sum.

    Args:
        rows: the part `share(items)` of some axis.
        items: rows of the whole.
        axis: which.
    """
    return _Gather.apply(rows, items, axis)  # pyright: ignore[reportReturnType]


def scatter(values: Tensor, *, axis: int = 0) -> Tensor:
    """This process's rows of a batch that all have; differentiable, the inverse of `gather` in both directions."""
    return _Scatter.apply(values, axis)  # pyright: ignore[reportReturnType]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, items: int, axis: int) -> Tensor:
        ctx.axis = axis
        return _whole(rows, items, axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return scatter(gradients[0], axis=ctx.axis) * size(), None, None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, axis: int) -> Tensor:
        ctx.items, ctx.axis = values.shape[axis], axis
        return _own(values, axis).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gather(gradients[0], ctx.items, axis=ctx.axis) / size(), None


def _own(values: Tensor, axis: int) -> Tensor:
    mine = share(values.shape[axis])
    return values.narrow(axis, mine.start, mine.stop - mine.start)


def _whole(rows: Tensor, items: int, axis: int) -> Tensor:
    from torch import distributed

    shape = (*rows.shape[:axis], items, *rows.shape[axis + 1 :])
    whole = rows.new_zeros(shape)
    _own(whole, axis).copy_(rows)
    distributed.all_reduce(whole)  # a sum with zeros: exact, and shares of any size
    return whole
