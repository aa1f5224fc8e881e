"""What is told of every step and epoch."""

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gapless.files import write_atomic, writing

if TYPE_CHECKING:
    from gapless.objectives import Terms
    from gapless.training.loop import Epoch

__all__ = ["Callback", "MetricsLog", "Progress"]


class Callback:
    """Told of a training run as it goes. To add one: subclass it and write the methods you need.

    What `on_end` raises is raised where training itself went well; else it is only told of, and the others hear it too.
    """

    def on_start(self, epochs: int, steps_per_epoch: int, history: Sequence["Epoch"]) -> None:
        """Before the first step of a session; `history` holds the epochs of earlier ones."""

    def on_step(self, step: int, terms: "Terms") -> None:
        """After every optimizer step, counted from 1."""

    def on_epoch(self, epoch: "Epoch") -> None:
        """After every epoch and its validation; the model has the weights that were validated, averages where asked."""

    def on_end(self) -> None:
        """When training is over, however it ended; told to those that were told of the start."""


class MetricsLog(Callback):
    """One JSON line an epoch in a file, those of earlier sessions first.

    Args:
        path: the file, `metrics.jsonl` of a run folder.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def on_start(self, epochs: int, steps_per_epoch: int, history: Sequence["Epoch"]) -> None:
        with writing(self.path):
            write_atomic(self.path, "".join(_line(epoch) for epoch in history).encode())

    def on_epoch(self, epoch: "Epoch") -> None:
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(epoch))


def _line(epoch: "Epoch") -> str:
    return json.dumps(epoch.to_dict()) + "\n"


class Progress(Callback):
    """A progress bar on the standard error: both terms in nats, live features, effective beta, throughput, time left.

    Where that is no terminal, the same in a few plain lines: after the first epoch, and five times on the way.

    Args:
        title: what is trained.
    """

    def __init__(self, title: str):
        self.title, self.bar = title, None

    def on_start(self, epochs: int, steps_per_epoch: int, history: Sequence["Epoch"]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.began, self.done = time.monotonic(), len(history)
        self.epochs, self.latest = epochs, _terms(history[-1], epochs) if history else "held out: after the first epoch"
        if history:
            print(f"{self.title}: going on after epoch {history[-1].epoch} of {epochs}", file=sys.stderr)
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), TextColumn("{task.fields[terms]}"))
            self.bar = Bar(*columns, TimeRemainingColumn(), console=console)
            self.task = self.bar.add_task(self.title, total=epochs * steps_per_epoch, terms=self.latest)
            self.bar.start()

    def on_step(self, step: int, terms: "Terms") -> None:
        if self.bar:
            self.bar.update(self.task, completed=step, terms=self.latest)

    def on_epoch(self, epoch: "Epoch") -> None:
        self.latest = f"{_terms(epoch, self.epochs)}, {epoch.items_per_second:,.0f} items/s"
        shown = epoch.epoch in (self.done + 1, self.epochs) or epoch.epoch % math.ceil(self.epochs / 5) == 0
        if not self.bar and shown:
            print(f"{self.title}: {self.latest}  ({epoch.seconds:.0f} s{self._left(epoch.epoch)})", file=sys.stderr)
        if self.bar:
            self.bar.update(self.task, terms=self.latest)

    def _left(self, epoch: int) -> str:
        """Time left, by this session's epochs so far."""
        if epoch >= self.epochs:
            return ""
        each = (time.monotonic() - self.began) / (epoch - self.done)
        return f", {_duration(each * (self.epochs - epoch))} left"

    def on_end(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def _terms(epoch: "Epoch", epochs: int) -> str:
    held = epoch.held_out
    kl = f"{held.kl:.2f}" if math.isfinite(held.kl) else "∞"
    terms = f"held out: reconstruction {held.reconstruction:.2f}, KL {kl} nats"
    beta = epoch.effective_beta
    weight = "" if beta is None else f", β {beta:.3g}" if math.isfinite(beta) else ", β ∞"
    return f"epoch {epoch.epoch}/{epochs}  {terms}, {epoch.live} live{weight}"


def _duration(seconds: float) -> str:
    """Two places of a time, as people say it.

    >>> [_duration(s) for s in (0.2, 61, 3600 * 30 + 59)]
    ['1 s', '1 min 1 s', '30 h 0 min']
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
