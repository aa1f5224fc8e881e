"""The command with which a stopped run goes on: the same one, under the launcher that started it."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

__all__ = ["launched_by", "resuming"]

_LAUNCHERS = ("torchrun", "accelerate", "accelerate-launch")


def launched_by() -> list[str]:
    """The words of the launcher of a job of several processes; empty without one, or where they cannot be read.

    To be asked at the start: a launcher may end before its processes do.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return []
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:  # no Linux
        return []
    return [os.fsdecode(word) for word in words]


def resuming(arguments: Sequence[str], launcher: Sequence[str] = ()) -> str:
    """What to type: the arguments without the word that would refuse to go on, behind the launcher's own words.

    Args:
        arguments: those of `gapless`.
        launcher: what `launched_by` gave.

    >>> resuming(["train", "rows.npy", "--fresh", "--force"])
    'gapless train rows.npy --force'
    >>> resuming(["train", "d"], ["python3", "/bin/torchrun", "--nproc-per-node", "2", "-m", "gapless", "train", "d"])
    'torchrun --nproc-per-node 2 -m gapless train d'
    """
    again = _kept(arguments)
    size = os.environ.get("WORLD_SIZE", "1")
    if arguments and list(launcher[-len(arguments) :]) == list(arguments):
        return shlex.join([*_typed(launcher[: -len(arguments)]), *again])
    command = shlex.join(["gapless", *again])
    return command if size == "1" else f"launch the same {size} processes again, each with: {command}"


def _kept(arguments: Sequence[str]) -> list[str]:
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    return [word for word in arguments[:end] if word != "--fresh"] + list(arguments[end:])


def _typed(words: Sequence[str]) -> list[str]:
    """A script that the system started with its interpreter, as it is typed."""
    if len(words) > 1 and Path(words[1]).name in _LAUNCHERS:
        return [Path(words[1]).name, *words[2:]]
    return list(words)
