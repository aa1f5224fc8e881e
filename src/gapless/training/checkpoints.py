"""Checkpoints: folders of safetensors and JSON, each new, whole or absent, the newest whole one used."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gapless.errors import DataError, Diverged
from gapless.files import (
    damages,
    discard,
    json_of,
    make_folder,
    publish,
    read_bounded,
    sync_folder,
    write_atomic,
    writing,
)  # fmt: skip

__all__ = ["Checkpoints", "Snapshot"]

TENSORS, RECORD, LATEST = "state.safetensors", "state.json", "latest"
WITNESS = ".checkpointed"
"""A file beside the checkpoints: there were some, so a run that finds none has lost them."""
KEPT = 2
EVERY_SECONDS = 30.0
_RECORD_LIMIT = 1 << 30
_POINTER_LIMIT = 1 << 12
START_AGAIN = "restore the folder from a copy, or start again with --fresh --force"


@dataclass(frozen=True)
class Snapshot:
    """Everything a training run is, between two steps. No generator's state: randomness comes from counters.

    Attributes:
        tensors: weights, moments, averages, sums, by name.
        record: plain data: the step and what was measured.
    """

    tensors: dict[str, Tensor]
    record: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return int(self.record["step"])


class Checkpoints:
    """The checkpoints of one run: `step-0000000120/` with `state.safetensors`, `state.json` and `manifest.json`.

    A checkpoint is written beside, synced and renamed; `latest` names it last; the two newest are kept.

    Args:
        folder: where they lie; made when the first is written.
        every: seconds between two of them; 0 writes one after every step.
    """

    def __init__(self, folder: Path, *, every: float = EVERY_SECONDS):
        self.folder, self.every = Path(folder), every
        self.remarks: list[str] = []
        self._last = time.monotonic()

    @property
    def witness(self) -> Path:
        """The file that says that there were checkpoints."""
        return self.folder.with_name(WITNESS)

    @property
    def any(self) -> bool:
        """Whether there is one, whole or not."""
        return bool(self._found())

    @property
    def due(self) -> bool:
        """Whether the time has come for another."""
        return time.monotonic() - self._last >= self.every

    def save(self, snapshot: Snapshot) -> Path:
        """Write a checkpoint; the older ones stay until it is whole.

        Raises:
            Diverged: a tensor is not finite; the last finite checkpoint stays the newest.
            StorageError: it could not be written; the older ones are whole.
        """
        _refuse_infinite(snapshot)
        folder = self.folder / f"step-{snapshot.step:010d}"
        with writing(self.folder):
            make_folder(self.folder)
            if not (self._named() == folder and not _damages(folder)):
                publish(folder, _contents(snapshot), kind="checkpoint")
                write_atomic(self.folder / LATEST, f"{folder.name}\n".encode())
            if not self.witness.exists():
                write_atomic(self.witness, b"")
            self._forget_old(folder)
        self._last = time.monotonic()
        return folder

    def newest(self) -> Snapshot | None:
        """The newest whole checkpoint; None where there never was one. What is damaged is named in `remarks`.

        Raises:
            DataError: there were checkpoints, and every one is damaged or gone.
        """
        if self.folder.is_symlink():
            raise DataError("the checkpoints are a link", where=str(self.folder), fix="copy the folder itself there")
        found, named = self._found(), self._named()
        if named is not None and named not in found:
            self.remarks.append(f"the checkpoint {named.name}, the newest, is missing")
        for folder in found:
            damaged = _damages(folder)
            if not damaged:
                return _read(folder)
            self.remarks.append(f"the checkpoint {folder.name} is damaged ({'; '.join(damaged)}) and is not used")
        if found:
            what = f"none of {len(found)} checkpoints is whole: {self.remarks[-1]}"
            raise DataError(what, where=str(self.folder), fix=START_AGAIN)
        if named is not None or self.witness.exists():
            what = "; ".join(["checkpoints were written here and none is left", *self.remarks])
            raise DataError(what, where=str(self.folder), fix=START_AGAIN)
        return None

    def verify(self) -> dict[str, list[str]]:
        """What is wrong with each checkpoint, by name; an empty list for a whole one."""
        found, named = self._found(), self._named()
        damaged = {folder.name: _damages(folder) for folder in found}
        if named is not None and named not in found:
            damaged[named.name] = ["missing"]
        if not damaged and self.witness.exists():
            damaged[self.folder.name] = ["every checkpoint is missing"]
        return damaged

    def clear(self) -> None:
        """Remove all checkpoints: the run is complete without them."""
        with writing(self.folder):
            if self.folder.is_dir():
                (self.folder / LATEST).unlink(missing_ok=True)
                for path in [*self._found(), *self.folder.glob(".*.partial")]:
                    discard(path)
                with suppress(OSError):  # somebody else's file is in it, and stays
                    self.folder.rmdir()
                sync_folder(self.folder.parent)
            self.witness.unlink(missing_ok=True)

    def _found(self) -> list[Path]:
        """The one `latest` names, then the others, newest first."""
        named = self._named()
        folders = sorted((p for p in self.folder.glob("step-*") if p.is_symlink() or p.is_dir()), reverse=True)
        return sorted(folders, key=lambda folder: folder != named)

    def _named(self) -> Path | None:
        pointer = self.folder / LATEST
        if not (pointer.is_symlink() or pointer.exists()):
            return None
        name = read_bounded(pointer, _POINTER_LIMIT).decode("utf-8", "replace").strip()
        return self.folder / name if name == Path(name).name and name.startswith("step-") else None

    def _forget_old(self, current: Path) -> None:
        """Keep the one just written and the newest whole one before it."""
        others = [folder for folder in self._found() if folder != current]
        older = (folder for folder in others if folder.name < current.name and not _damages(folder))
        kept = set(islice(older, KEPT - 1))
        for path in {*others, *self.folder.glob(".*.partial")} - kept:
            discard(path)


def _damages(folder: Path) -> list[str]:
    return ["a link"] if folder.is_symlink() else damages(folder)


def _refuse_infinite(snapshot: Snapshot) -> None:
    bad = _infinite(snapshot.tensors)
    if bad:
        raise Diverged(
            f"not finite after this step: {', '.join(bad[:3])}{' ...' if len(bad) > 3 else ''}; training stopped",
            where=f"step {snapshot.step}",
            fix="lower --learning-rate (a tenth of it), or look for extreme values with `gapless inspect`",
        )


def _infinite(tensors: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that are not finite; the sums may be infinite, as the KL of a point mass is."""
    return [name for name, value in tensors.items() if name != "sums" and not torch.isfinite(value).all()]


def _contents(snapshot: Snapshot) -> dict[str, bytes]:
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in snapshot.tensors.items()}
    return {
        TENSORS: save(tensors, metadata={"format": "gapless"}),
        RECORD: json.dumps(snapshot.record, allow_nan=False).encode(),
    }


def _read(folder: Path) -> Snapshot:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load((folder / TENSORS).read_bytes())
        snapshot = Snapshot(tensors, json_of(read_bounded(folder / RECORD, _RECORD_LIMIT)))
        whole = snapshot.step >= 0 and not _infinite(tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"this checkpoint cannot be read: {error}", where=str(folder)) from error
    if not whole:
        raise DataError("this checkpoint holds values that are not finite", where=str(folder))
    return snapshot
