"""Memory that runs out, said so that it can be acted on: with what the same run can go on."""

from collections.abc import Iterator
from contextlib import contextmanager

from gapless import processes
from gapless.errors import OutOfMemory, is_out_of_memory
from gapless.model import Model
from gapless.networks.bayesian import bayesian_layers
from gapless.settings import Settings

__all__ = ["explained", "memory_for"]


@contextmanager
def memory_for(what: str, where: str, *, model: Model, settings: Settings, items: int) -> Iterator[None]:
    """Inside, memory that runs out is `OutOfMemory` with advice; the arguments are those of `explained`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise explained(error, what, where, model=model, settings=settings, items=items) from error


def explained(
    error: BaseException, what: str, where: str, *, model: Model, settings: Settings, items: int
) -> BaseException:
    """What torch says when memory runs out, with a way to go on; any other error is itself.

    Args:
        error: what was raised.
        what: what memory was wanted for.
        where: the place in training.
        model: the model.
        settings: how it is trained.
        items: items of the whole batch, those of all processes.
    """
    if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
        return error
    return OutOfMemory(f"there is not enough memory for {what}", where=where, fix=_advice(model, settings, items))


def _advice(model: Model, settings: Settings, items: int) -> str:
    share = -(-items // processes.size())  # rows of the fullest process
    parts = min(share, 2 * settings.accumulate)
    other = f"--batch-size {items // 2}" if items > 1 else "smaller networks"
    if parts == settings.accumulate or bayesian_layers(model):  # drawn weights cannot be had in parts
        return f"begin another run (another -o) with {other}"
    goes_on = f"the same command with --accumulate {parts} goes on with this run, each step in {parts} parts"
    return f"{goes_on}; or begin another one with {other}"
