"""Checkpoints: folders of safetensors and JSON, each new, whole or absent, the newest whole one used."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gapless.errors import DataError, Diverged
from gapless.files import damages, publish, read_bounded, sync_folder, write_atomic, writing

__all__ = ["Checkpoints", "Snapshot"]

TENSORS, RECORD, LATEST = "state.safetensors", "state.json", "latest"
KEPT = 2
EVERY_SECONDS = 30.0
_RECORD_LIMIT = 1 << 30


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
            self.folder.mkdir(exist_ok=True)
            if not (self._named() == folder and not damages(folder)):
                publish(folder, _contents(snapshot), kind="checkpoint")
                write_atomic(self.folder / LATEST, f"{folder.name}\n".encode())
            self._forget_old(folder)
        self._last = time.monotonic()
        return folder

    def newest(self) -> Snapshot | None:
        """The newest whole checkpoint; None where there is none at all. What is damaged is named in `remarks`.

        Raises:
            DataError: there are checkpoints and every one is damaged.
        """
        found = self._found()
        for folder in found:
            damaged = damages(folder)
            if not damaged:
                return _read(folder)
            self.remarks.append(f"the checkpoint {folder.name} is damaged ({'; '.join(damaged)}) and is not used")
        if found:
            raise DataError(
                f"none of {len(found)} checkpoints is whole: {self.remarks[-1]}",
                where=str(self.folder),
                fix="restore the folder from a copy, or start again with --fresh --force",
            )
        return None

    def verify(self) -> dict[str, list[str]]:
        """What is wrong with each checkpoint, by name; an empty list for a whole one."""
        return {folder.name: damages(folder) for folder in self._found()}

    def clear(self) -> None:
        """Remove all checkpoints: the run is complete without them."""
        if self.folder.is_dir():
            with writing(self.folder):
                (self.folder / LATEST).unlink(missing_ok=True)
                for folder in [*self._found(), *self.folder.glob(".*.partial")]:
                    _remove(folder)
                self.folder.rmdir()
                sync_folder(self.folder.parent)

    def _found(self) -> list[Path]:
        """The one `latest` names, then the others, newest first."""
        named = self._named()
        folders = sorted((p for p in self.folder.glob("step-*") if p.is_dir()), reverse=True)
        return sorted(folders, key=lambda folder: folder != named)

    def _named(self) -> Path | None:
        pointer = self.folder / LATEST
        name = pointer.read_text("utf-8", errors="replace").strip() if pointer.is_file() else ""
        return self.folder / name if name == Path(name).name and name.startswith("step-") else None

    def _forget_old(self, current: Path) -> None:
        others = [folder for folder in self._found() if folder != current]
        whole = [folder for folder in others if folder.name < current.name][: KEPT - 1]
        for folder in {*others, *self.folder.glob(".*.partial")} - set(whole):
            _remove(folder)


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


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
        snapshot = Snapshot(tensors, json.loads(read_bounded(folder / RECORD, _RECORD_LIMIT)))
        whole = snapshot.step >= 0 and not _infinite(tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"this checkpoint cannot be read: {error}", where=str(folder)) from error
    if not whole:
        raise DataError("this checkpoint holds values that are not finite", where=str(folder))
    return snapshot
