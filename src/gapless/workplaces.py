"""Where a run is made: one folder, one writer, a plan that says what is made, checkpoints until it is complete."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from gapless import aside, processes
from gapless.errors import DataError, GaplessError, UsageError
from gapless.files import (
    LOCK,
    MANIFEST,
    damages,
    locked,
    make_folder,
    manifest_of,
    sync_folder,
    write_json,
    write_manifest,
    writing,
)  # fmt: skip
from gapless.plans import differences, identity_of, read_plan
from gapless.training.checkpoints import EVERY_SECONDS, START_AGAIN, Checkpoints

__all__ = ["Workplace", "claimed", "environment", "is_finished", "is_ours", "is_unfinished", "replacing"]

CONFIG, WEIGHTS, METRICS, ENVIRONMENT = "config.json", "model.safetensors", "metrics.jsonl", "environment.json"
PLAN, STUDY, CHECKPOINTS = "plan.json", "study.json", "checkpoints"
REPORT, WATCH = "report.html", "watch.jsonl"
SCHEMA = 1
_WRITTEN = (CONFIG, WEIGHTS, METRICS, ENVIRONMENT, PLAN, STUDY, REPORT, WATCH, MANIFEST, *aside.MARKS)
_OWN = (LOCK, *aside.MARKS, *(f".{name}.partial" for name in _WRITTEN))
"""Files that are no content: the lock, the marks, and what a kill leaves of a file that was being written."""


class Workplace:
    """A claimed folder; `claimed` makes it.

    Attributes:
        folder: where.
        checkpoints: those of the run that is made here.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: float = EVERY_SECONDS,
        fresh: bool = False,
        force: bool = False,
        new: bool = False,
        made: bool = False,
        locks: ExitStack | None = None,
    ):
        self.folder = folder
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, every=every)
        self._fresh, self._force, self._new, self._made = fresh, force, new, made
        self._locks = locks or ExitStack()

    @property
    def finished(self) -> bool:
        """Whether what was planned here is complete and as it was written.

        Raises:
            DataError: it was complete and is damaged.
        """
        return processes.told(processes.is_first() and self._finished())

    def _finished(self) -> bool:
        manifest = None if self._force else manifest_of(self.folder)  # with `force`, `begin` decides
        if manifest is None or not manifest.get("complete"):
            return False
        found = damages(self.folder)
        if found:
            raise DataError(
                f"what was finished here is damaged: {'; '.join(found)}",
                where=str(self.folder),
                fix="restore the folder from a copy, or make it again with --force",
            )
        return True

    def begin(self, plan: dict[str, Any]) -> str:
        """Say what is made here, or make sure that it is what was begun here.

        With `force`, what was begun here is replaced; but an unfinished run of the same plan goes on, unless `fresh`.

        Args:
            plan: plain data; everything the result depends on but the machine.

        Returns:
            The identity of the plan, a hexadecimal digest.

        Raises:
            UsageError: something else was begun here; the message says what differs.
            DataError: what was begun here cannot be read.
        """
        plan = json.loads(json.dumps({"schema": SCHEMA, **plan}))
        if processes.is_first():
            self._begin(plan)
        processes.barrier()
        return identity_of(plan)

    def _begin(self, plan: dict[str, Any]) -> None:
        if self._force:
            self._make_room(plan)
        known = read_plan(self.folder / PLAN)
        if known is None and is_ours(self.folder):
            raise UsageError(
                f"there is a run here and no word of what was to be made: {PLAN} is missing",
                where=str(self.folder),
                fix="choose another -o, or replace it with --force",
            )
        if known is None:
            with writing(self.folder):
                write_json(self.folder / PLAN, plan)
        elif known != plan:
            raise UsageError(
                f"another run was begun here: {'; '.join(differences(known, plan)[:6])}",
                where=str(self.folder),
                fix="repeat the command that began it, choose another -o, or replace it with --force",
            )

    def _make_room(self, plan: dict[str, Any]) -> None:
        """Replace what is here, or go on with it: a command that was killed and is repeated has the same plan."""
        self._force = False
        finished = is_finished(self.folder)
        if not (self._fresh or finished) and self._goes_on(plan):
            _note("this run was begun here and goes on; --fresh --force begins it anew")
            return
        old, progress = aside.aside_of(self.folder), _progress(self.folder)
        thrown = not finished and aside.has_predecessor(self.folder)
        with writing(self.folder):
            token = aside.set_aside(self.folder, finished=finished)
            make_folder(self.folder)
        self._locks.enter_context(locked(self.folder))
        self._new = self._made = True
        with writing(self.folder):
            aside.mark(self.folder, token)
        if thrown:
            _note(f"the unfinished run here ({progress}) is thrown away; {old} stays until the new run is complete")
        elif not finished:
            _note(f"the unfinished run here ({progress}) stays in {old} until the new run is complete")

    def _goes_on(self, plan: dict[str, Any]) -> bool:
        lost = os.path.lexists(self.folder / CONFIG) and not self.checkpoints.any
        try:
            return read_plan(self.folder / PLAN) == plan and not lost
        except DataError:
            return False

    def reopen(self) -> None:
        """Before it is taken up: break the seal of what ran out of time.

        Raises:
            DataError: all of it was written once, and neither its manifest nor a checkpoint is left.
        """
        if not self.checkpoints.any:
            self._refuse_lost()
        with writing(self.folder):
            (self.folder / MANIFEST).unlink(missing_ok=True)
            sync_folder(self.folder)

    def _refuse_lost(self) -> None:
        if os.path.lexists(self.folder / CONFIG):  # it is written after the last checkpoint
            gone = "its checkpoints are" if os.path.lexists(self.folder / MANIFEST) else f"{MANIFEST} is"
            what = f"this run was trained before, and {gone} gone: it is neither whole nor can it go on"
            raise DataError(what, where=str(self.folder), fix=START_AGAIN)
        metrics = self.folder / METRICS
        if metrics.is_file() and metrics.stat().st_size and not self.checkpoints.witness.exists():
            _note("epochs were trained here and there is no checkpoint of them yet: it begins at step 1")

    def seal(self, names: list[str], *, kind: str) -> None:
        """All of it is written: list it with its checksums."""
        with writing(self.folder):
            write_manifest(self.folder, names, kind=kind, facts={"complete": True})

    def tidy(self) -> None:
        """Remove what only an unfinished run needs, and what this one replaced; also what a kill left of that."""
        with writing(self.folder):
            self.checkpoints.clear()
            aside.forget(self.folder)

    def leave(self) -> None:
        """Remove what this call has made, if nothing was saved in it; what it has replaced comes back."""
        with suppress(OSError, GaplessError):  # what stopped this call is what is told
            if not self._new or not _nothing_saved(self.folder):
                return
            for name in (PLAN, METRICS):
                (self.folder / name).unlink(missing_ok=True)
            _strip(self.folder)
            self._locks.close()
            if self._made:
                self.folder.rmdir()
                aside.put_back(self.folder, leftovers=_OWN)


@contextmanager
def claimed(
    folder: Path, *, fresh: bool = False, force: bool = False, every: float = EVERY_SECONDS
) -> Iterator[Workplace]:
    """Be the only writer of a folder, new or begun before.

    Args:
        folder: where; made if it is not there.
        fresh: refuse if anything was begun there.
        force: replace what was begun there; it stays beside, with `.old` behind its name, until the new is complete.
            An unfinished run of the same plan goes on instead, unless `fresh`.
        every: seconds between checkpoints.

    Raises:
        UsageError: something gapless did not write is there, another process writes there, or `fresh` refuses.
        StorageError: it cannot be written.
    """
    folder = Path(folder)
    if not processes.is_first():  # one writer a job
        processes.barrier()
        yield Workplace(folder, every=every)
        return
    with writing(folder):
        _look(folder)
        begun = _begun(folder)
        if begun and fresh and not force:
            raise UsageError(
                "there is a run here, and --fresh replaces nothing",
                where=str(folder),
                fix="choose another -o, leave --fresh out to go on with it, or replace it with --force",
            )
        if begun and force and is_finished(folder):  # said before the data is read
            aside.refuse_in_the_way(folder)
        made = make_folder(folder)
    with ExitStack() as locks:
        locks.enter_context(locked(folder))
        with writing(folder):
            aside.in_place(folder)
            new = not _begun(folder)
        place = Workplace(folder, every=every, fresh=fresh, force=force and not new, new=new, made=made, locks=locks)
        processes.barrier()
        try:
            yield place
        except BaseException:
            place.leave()
            raise


@contextmanager
def replacing(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `folder` when the block ends well; what was there stays until then.

    Args:
        folder: where the result goes.
        force: replace an earlier result of gapless. A folder that holds anything else is never replaced.

    Raises:
        UsageError: there is something at `folder` that may not be replaced.
        StorageError: it cannot be written.
    """
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    with writing(folder):
        _look(folder)
        begun = _begun(folder)
        if begun and not force:
            raise UsageError(
                "there is a run here", where=str(folder), fix="choose another folder, or replace it with force=True"
            )
        if begun:
            aside.refuse_in_the_way(folder)
        make_folder(folder.parent)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    try:
        yield partial
        with ExitStack() as locks:
            if folder.is_dir():
                locks.enter_context(locked(folder))
            with writing(folder):
                _swap(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, folder: Path) -> None:
    """A new folder takes its place; a kill meanwhile leaves the old one, there or aside."""
    if _begun(folder):
        aside.mark(partial, aside.set_aside(folder, finished=is_finished(folder)))
    elif folder.is_dir():
        _strip(folder)
        folder.rmdir()
    partial.rename(folder)
    sync_folder(folder.parent)
    aside.forget(folder)


def is_ours(folder: Path) -> bool:
    """Whether a folder is a run or a study of gapless, finished or not."""
    return any(os.path.isfile(folder / name) for name in (PLAN, CONFIG, STUDY))


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a complete run or study."""
    try:
        return bool((manifest_of(folder) or {}).get("complete"))
    except DataError:
        return False


def is_unfinished(folder: Path) -> bool:
    """Whether a run or study was begun in a folder and is not complete."""
    return os.path.isfile(folder / PLAN) and not is_finished(folder)


def _look(folder: Path) -> None:
    """Refuse a folder that is not ours; put back what a killed call has set aside before it wrote anything."""
    _refuse_foreign(folder)
    if not _begun(folder):
        aside.put_back(folder, leftovers=_OWN)


def _refuse_foreign(folder: Path) -> None:
    exists = folder.exists() or folder.is_symlink()
    if exists and not (folder.is_dir() and (not _content(folder) or is_ours(folder))):
        raise UsageError(
            "there is something here that gapless did not write", where=str(folder), fix="choose another -o"
        )


def _begun(folder: Path) -> bool:
    return folder.is_dir() and bool(_content(folder))


def _content(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in _OWN]


def _strip(folder: Path) -> None:
    for name in _OWN:
        (folder / name).unlink(missing_ok=True)


def _nothing_saved(folder: Path) -> bool:
    metrics = folder / METRICS
    return set(_content(folder)) <= {PLAN, METRICS} and not (metrics.exists() and metrics.stat().st_size)


def _progress(folder: Path) -> str:
    """How far an unfinished run or study has come."""
    names = [path.name for below in ("", "*/") for path in folder.glob(f"{below}{CHECKPOINTS}/step-*")]
    steps = [int(name[5:]) for name in names if name[5:].isdecimal()]
    return f"its newest checkpoint is of step {max(steps)}" if steps else "it has no checkpoint"


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def environment() -> dict[str, Any]:
    """What the numbers depend on besides the plan: versions, machine kind, threads."""
    import numpy
    import torch

    from gapless import __version__

    return {
        "gapless": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": processes.size(),
        "cuda": torch.version.cuda,
    }
