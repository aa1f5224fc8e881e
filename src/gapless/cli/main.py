"""Entry point: parses, runs, and turns every error into what / where / fix and an exit code."""

import atexit
import os
import shlex
import sys
import traceback
from collections.abc import Sequence

from gapless import interrupts
from gapless.errors import GaplessError
from gapless.machine import before_torch, leave

__all__ = ["main", "run"]

INTERNAL, USAGE = 1, 2
RESUMABLE = ("train", "compare", "demo")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 ok, 1 internal, 2 usage, 3 data, 4 audit below a stated bar, 5 diverged, 6 missing extra,
    7 what was to be saved could not be written, 8 out of memory, 130 interrupted.
    """
    interrupts.take()  # before torch is imported: half of a short run is that import
    arguments = list(sys.argv[1:] if argv is None else argv)
    arguments, debug = _take_debug(arguments)
    before_torch()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings come once a process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output left; that is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted", file=sys.stderr)
        if arguments and arguments[0] in RESUMABLE:
            print(f"resume: {_resume(arguments)}", file=sys.stderr)
        code = interrupts.EXIT
    except GaplessError as error:
        _trace(debug)
        code = _say(error.lines(), error.exit_code)
    except MemoryError:
        _trace(debug)
        code = _say(["there is not enough memory", "fix: use a smaller --batch-size or less data"], INTERNAL)
    except Exception as error:
        _trace(debug)
        first = str(error).splitlines()[0] if str(error) else ""
        code = _say(
            [
                f"internal error: {type(error).__name__}: {first}",
                "fix: run it again with --debug and report what it prints",
            ],
            INTERNAL,
        )
    sys.exit(code)


def run() -> None:
    """The command `gapless`: `main` in a process of its own, which ends without delay."""
    atexit.register(leave)
    main()


def _resume(arguments: Sequence[str]) -> str:
    """The same command without the word that would refuse to go on."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [word for word in arguments[:end] if word != "--fresh"]
    return shlex.join(["gapless", *kept, *arguments[end:]])


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _run(arguments: list[str]) -> int:
    from cyclopts import CycloptsError, UnknownCommandError

    from gapless.cli.commands import app

    try:
        app(arguments or ["--help"], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        first = " ".join(str(error).split())
        command = "" if isinstance(error, UnknownCommandError) else _command(arguments)
        return _say([first, f"fix: see `gapless {command}--help`"], USAGE)
    return 0


def _command(arguments: list[str]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0].isalpha() else ""


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """`--debug` may stand anywhere before a bare `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [word for word in arguments[:end] if word != "--debug"]
    return kept + arguments[end:], len(kept) < end


def _say(lines: Sequence[str], code: int) -> int:
    print("error: " + "\n  ".join(lines), file=sys.stderr)
    return code
