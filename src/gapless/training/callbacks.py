"""What is told of every step and epoch."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gapless.objectives import Terms
    from gapless.training.loop import Epoch

__all__ = ["Callback", "MetricsLog", "Progress"]


class Callback:
    """Told of a training run as it goes. To add one: subclass it and write the methods you need."""

    def on_start(self, epochs: int, steps_per_epoch: int) -> None:
        """Before the first step."""

    def on_step(self, step: int, terms: "Terms") -> None:
        """After every optimizer step, counted from 1."""

    def on_epoch(self, epoch: "Epoch") -> None:
        """After every epoch and its validation."""

    def on_end(self) -> None:
        """When training is over, however it ended."""


class MetricsLog(Callback):
    """Appends one JSON line an epoch to a file.

    Args:
        path: the file, `metrics.jsonl` of a run folder.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def on_epoch(self, epoch: "Epoch") -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(epoch.to_dict()) + "\n")


class Progress(Callback):
    """A progress bar on the standard error with both terms in nats; plain lines where that is no terminal.

    Args:
        title: what is trained.
    """

    def __init__(self, title: str):
        self.title = title
        self.bar = None

    def on_start(self, epochs: int, steps_per_epoch: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.epochs, self.latest = epochs, "held out: after the first epoch"
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[terms]}"))
            self.bar = Bar(*columns, TimeRemainingColumn(), console=console)
            self.task = self.bar.add_task(self.title, total=epochs * steps_per_epoch, terms="")
            self.bar.start()

    def on_step(self, step: int, terms: "Terms") -> None:
        if self.bar:
            self.bar.update(self.task, completed=step, terms=self.latest)

    def on_epoch(self, epoch: "Epoch") -> None:
        held = epoch.held_out
        self.latest = (
            f"epoch {epoch.epoch}/{self.epochs}  held out: reconstruction {held.reconstruction:.2f}, "
            f"KL {_nats(held.kl)} nats"
        )
        if not self.bar and (epoch.epoch == self.epochs or epoch.epoch % math.ceil(self.epochs / 5) == 0):
            print(f"{self.title}: {self.latest}  ({epoch.seconds:.0f} s)", file=sys.stderr)
        if self.bar and epoch.epoch == self.epochs:
            self.bar.update(self.task, terms=self.latest)

    def on_end(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def _nats(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "∞"
