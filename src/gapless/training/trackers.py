"""Other trackers, through accelerate: every epoch's numbers also go to TensorBoard, Weights & Biases, MLflow ..."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapless.errors import MissingExtra, UsageError
from gapless.files import writing
from gapless.training.callbacks import Callback

if TYPE_CHECKING:
    from gapless.training.loop import Epoch

__all__ = ["Tracked", "tracker_names"]

PROJECT = "gapless"
_PACKAGES = {"comet_ml": "comet-ml"}  # where the package has another name


def tracker_names(asked: Sequence[str]) -> tuple[str, ...]:
    """The trackers that were asked for by name, or `all` that are installed.

    Raises:
        UsageError: accelerate knows no such tracker, or with `all` none is installed.
        MissingExtra: its library is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = [str(name) for name in get_available_trackers()]
    if "all" in asked:
        if not installed:
            raise MissingExtra("no tracker is installed", where="--log-with all", fix="pip install tensorboard")
        return tuple(installed)
    for name in asked:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UsageError(
                f"there is no tracker {name!r}",
                where="--log-with",
                fix=f"use all, or one of {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}",
            )
        if name not in installed and name in _known():
            package = _PACKAGES.get(name, name)
            raise MissingExtra(f"{name} is not installed", where="--log-with", fix=f"pip install {package}")
    return tuple(dict.fromkeys(asked))


def _known() -> set[str]:
    """Names of the trackers that need a library; one registered by its owner needs none that we know of."""
    from accelerate.utils import LoggerType

    return {str(name) for name in LoggerType}


class Tracked(Callback):
    """Sends every epoch's numbers to trackers; `metrics.jsonl` of the run folder stays what counts.

    A run that goes on sends the epochs after its checkpoint again: a tracker may then show some of them twice.

    Args:
        names: what `tracker_names` gave.
        folder: where trackers that write files write them.
        settings: plain data shown as the run's configuration.
    """

    def __init__(self, names: Sequence[str], folder: Path, settings: dict[str, Any]):
        self.names, self.folder, self.settings = tuple(names), Path(folder), settings
        self.trackers: list[Any] = []

    def on_start(self, epochs: int, steps_per_epoch: int, history: Sequence["Epoch"]) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        for name in self.names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            place = (str(self.folder),) if kind.requires_logging_directory else ()
            tracker = kind(PROJECT, *place)
            self.trackers.append(tracker)
            tracker.start()
            tracker.store_init_configuration(dict(_scalars(self.settings)))

    def on_epoch(self, epoch: "Epoch") -> None:
        values = {name: value for name, value in _scalars(epoch.to_dict()) if isinstance(value, int | float)}
        for tracker in self.trackers:
            tracker.log(values, step=epoch.epoch)

    def on_end(self) -> None:
        for tracker in self.trackers:
            tracker.finish()
        self.trackers.clear()


def _scalars(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested plain data as flat names, `held_out/elbo`; what is None or infinite is left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        elif value is not None and not (isinstance(value, float) and not math.isfinite(value)):
            yield f"{prefix}{name}", value
