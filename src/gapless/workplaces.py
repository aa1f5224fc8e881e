"""Where a run is made: one folder, one writer, a plan that says what is made, checkpoints until it is complete."""

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gapless import processes
from gapless.errors import DataError, UsageError
from gapless.files import (
    LOCK,
    MANIFEST,
    damages,
    locked,
    manifest_of,
    read_bounded,
    sync_folder,
    write_json,
    write_manifest,
    writing,
)  # fmt: skip
from gapless.training.checkpoints import EVERY_SECONDS, Checkpoints

__all__ = ["Workplace", "claimed", "environment", "is_finished", "is_ours", "is_unfinished", "replacing"]

CONFIG, WEIGHTS, METRICS, ENVIRONMENT = "config.json", "model.safetensors", "metrics.jsonl", "environment.json"
PLAN, STUDY, CHECKPOINTS = "plan.json", "study.json", "checkpoints"
SCHEMA = 1
_PLAN_LIMIT = 64 * 2**20


class Workplace:
    """A claimed folder; `claimed` makes it.

    Attributes:
        folder: where.
        checkpoints: those of the run that is made here.
    """

    def __init__(self, folder: Path, *, every: float = EVERY_SECONDS):
        self.folder = folder
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, every=every)

    @property
    def finished(self) -> bool:
        """Whether what was planned here is complete and as it was written.

        Raises:
            DataError: it was complete and is damaged.
        """
        return processes.told(processes.is_first() and self._finished())

    def _finished(self) -> bool:
        manifest = manifest_of(self.folder)
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

        Args:
            plan: plain data; everything the result depends on but the machine.

        Returns:
            The identity of the plan, a hexadecimal digest.

        Raises:
            UsageError: something else was begun here; the message says what differs.
        """
        plan = json.loads(json.dumps({"schema": SCHEMA, **plan}))
        if processes.is_first():
            self._begin(plan)
        processes.barrier()
        return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()

    def _begin(self, plan: dict[str, Any]) -> None:
        known = self._plan()
        if known is None:
            with writing(self.folder):
                write_json(self.folder / PLAN, plan)
        elif known != plan:
            raise UsageError(
                f"another run was begun here: {'; '.join(_differences(known, plan)[:6])}",
                where=str(self.folder),
                fix="repeat the command that began it, choose another -o, or replace it with --force",
            )

    def reopen(self) -> None:
        """Break the seal of what ran out of time, before it is taken up again."""
        with writing(self.folder):
            (self.folder / MANIFEST).unlink(missing_ok=True)
            sync_folder(self.folder)

    def seal(self, names: list[str], *, kind: str) -> None:
        """All of it is written: list it with its checksums."""
        with writing(self.folder):
            write_manifest(self.folder, names, kind=kind, facts={"complete": True})

    def tidy(self) -> None:
        """Remove what only an unfinished run needs, and what this one replaced."""
        with writing(self.folder):
            self.checkpoints.clear()
            shutil.rmtree(_old(self.folder), ignore_errors=True)

    def _plan(self) -> dict[str, Any] | None:
        path = self.folder / PLAN
        if not path.exists():
            return None
        try:
            return json.loads(read_bounded(path, _PLAN_LIMIT))
        except ValueError as error:
            raise DataError(
                f"the plan of this run is not JSON: {error}", where=str(path), fix="make it again with --force"
            ) from error


@contextmanager
def claimed(
    folder: Path, *, fresh: bool = False, force: bool = False, every: float = EVERY_SECONDS
) -> Iterator[Workplace]:
    """Be the only writer of a folder, new or begun before.

    Args:
        folder: where; made if it is not there.
        fresh: refuse if anything was begun there.
        force: replace what was begun there; it stays beside, with `.old` behind its name, until the new is complete.
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
    _refuse_foreign(folder)
    with ExitStack() as stack:
        if _begun(folder):
            if fresh and not force:
                raise UsageError(
                    "there is a run here, and --fresh replaces nothing",
                    where=str(folder),
                    fix="choose another -o, leave --fresh out to go on with it, or replace it with --force",
                )
            if force:
                with locked(folder):
                    _set_aside(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(folder))
        new = not _begun(folder)
        processes.barrier()
        try:
            yield Workplace(folder, every=every)
        except BaseException:
            if new and _nothing_saved(folder):
                shutil.rmtree(folder, ignore_errors=True)
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
    _refuse_foreign(folder)
    if _begun(folder) and not force:
        raise UsageError(
            "there is a run here", where=str(folder), fix="choose another folder, or replace it with force=True"
        )
    partial = folder.with_name(f".{folder.name}.partial")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    try:
        yield partial
        with writing(folder):
            if folder.exists():
                _set_aside(folder)
            partial.rename(folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(_old(folder), ignore_errors=True)


def is_ours(folder: Path) -> bool:
    """Whether a folder is a run or a study of gapless, finished or not."""
    return any((folder / name).is_file() for name in (PLAN, CONFIG, STUDY))


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a complete run or study."""
    try:
        return bool((manifest_of(folder) or {}).get("complete"))
    except DataError:
        return False


def is_unfinished(folder: Path) -> bool:
    """Whether a run or study was begun in a folder and is not complete."""
    return (folder / PLAN).is_file() and not is_finished(folder)


def _refuse_foreign(folder: Path) -> None:
    exists = folder.exists() or folder.is_symlink()
    if exists and not (folder.is_dir() and (not _content(folder) or is_ours(folder))):
        raise UsageError(
            "there is something here that gapless did not write", where=str(folder), fix="choose another -o"
        )


def _begun(folder: Path) -> bool:
    return folder.is_dir() and bool(_content(folder))


def _content(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != LOCK and not path.name.endswith(".partial")]


def _nothing_saved(folder: Path) -> bool:
    metrics = folder / METRICS
    return set(_content(folder)) <= {PLAN, METRICS} and not (metrics.exists() and metrics.stat().st_size)


def _old(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def _set_aside(folder: Path) -> None:
    """What is finished stays beside until the new is complete; what is not finished goes."""
    old = _old(folder)
    with writing(folder):
        if old.exists() and not is_finished(folder):
            shutil.rmtree(folder)
        else:
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)


def _differences(known: Any, asked: Any, name: str = "") -> list[str]:
    if isinstance(known, dict) and isinstance(asked, dict):
        keys = [*known, *(key for key in asked if key not in known)]
        parts = (_differences(known.get(k), asked.get(k), f"{name}.{k}" if name else k) for k in keys)
        return [line for part in parts for line in part]
    if known == asked:
        return []
    return [f"{name} was {_short(known)}, is now {_short(asked)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


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
