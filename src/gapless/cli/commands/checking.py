"""Commands that look at data, saved folders and the machine."""

from pathlib import Path

from gapless.cli.commands.root import HowRead, Output, app
from gapless.cli.options import Reading

__all__ = []


@app.command
def inspect(
    data: str,
    /,
    *,
    json: bool = False,
    reading: HowRead = Reading(),
) -> None:
    """Say what is in the data and how it would be read: shape, type, range, classes, scaling, likelihood.

    Args:
        data: digits, a file or folder, or a run folder.
        json: print a JSON object.
    """
    from gapless.cli import work

    work.inspect(data, reading=reading, json=json)


@app.command
def shards(
    data: str,
    /,
    *,
    output: Output = None,
    verify: bool = False,
    json: bool = False,
    reading: HowRead = Reading(),
) -> None:
    """Write a slow source (saved datasets, tar shards, folders of images) once as shards that train at full speed.

    Args:
        data: a file or folder.
        output: folder of the shards, which is then the DATA of the other commands.
        verify: compare shards that exist with their checksums, and write nothing.
        json: print a JSON object instead of a line.
    """
    from gapless.cli.shards import shards as write

    write(data, output=output, reading=reading, verify=verify, json=json)


@app.command
def verify(run: Path, /, *, json: bool = False) -> None:
    """Check every file of a run, a study or their checkpoints against what was written.

    Args:
        run: the folder.
        json: print a JSON object instead of lines.
    """
    from gapless.cli import work

    work.verify(run, json=json)


@app.command
def doctor(*, runs: Path = Path("runs"), json: bool = False) -> None:
    """Look at the machine: versions, threads, allocator, optimizer, devices, disk; advice for each thing that is off.

    Args:
        runs: the folder runs will be written to.
        json: print a JSON object instead of lines.
    """
    from gapless.cli.doctor import doctor as look

    look(runs=runs, json=json)
