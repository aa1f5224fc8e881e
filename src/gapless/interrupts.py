"""Ctrl-C and SIGTERM: taken before torch is imported, and heard between two steps while a run is being saved."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["asked", "deferred", "take"]

EXIT = 130
AGAIN_SECONDS = 0.5
"""Signals closer to each other than this are one."""
_state = {"asked": 0.0, "deferred": 0}


def take() -> None:
    """Answer SIGINT and SIGTERM from now on: the first asks for a stop, the second ends the process at once.

    A signal that this process was started to ignore, as a shell's background job does, stays ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _answer)


def _answer(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state["asked"]:
        if now - _state["asked"] > AGAIN_SECONDS:
            os._exit(EXIT)
        return  # who ends a process often signals it and then its group
    _state["asked"] = now
    if not _state["deferred"]:
        raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a first signal is only noted: who is inside looks at `asked()` where stopping loses nothing."""
    _state["deferred"] += 1
    try:
        yield
    finally:
        _state["deferred"] -= 1


def asked() -> bool:
    """Whether a signal asked for a stop."""
    return _state["asked"] > 0
