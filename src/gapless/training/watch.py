"""Watching a training run: a cheap audit after every epoch, so that a collapse is announced when it happens."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gapless.conditions import given
from gapless.data import Feed
from gapless.files import write_atomic, writing
from gapless.model import Model
from gapless.training.callbacks import Callback
from gapless.training.evaluation import latent_statistics

if TYPE_CHECKING:
    from gapless.training.loop import Epoch

__all__ = ["Watch"]

REFERENCES, DRAWS, LEAST = 500, 250, 50
PATIENCE, STEPS = 3, 300
ADVICE = (
    "what to do: lower the weight of the KL (--recipe beta-vae --beta 0.1), raise it slowly from 0, "
    "use fewer latent features or a weaker decoder"
)


@dataclass
class Watch(Callback):
    """Live latent features, KL of each, and quick data-like draws from the prior after every epoch.

    Args:
        model: the model being trained.
        held_out: items to look at.
        path: where to append one JSON line an epoch; None for nowhere.
        say: what to do with an announcement.
    """

    model: Model
    held_out: Feed
    path: Path | None = None
    say: Any = None

    def __post_init__(self):
        self.most_live, self.dead_epochs, self.announced = 0, 0, False

    def on_start(self, epochs: int, steps_per_epoch: int, history: Sequence["Epoch"]) -> None:
        """When training goes on from a checkpoint: keep the lines of the epochs that count, and what was announced."""
        self.most_live, self.dead_epochs, self.announced, lines = 0, 0, False, self._lines(len(history))
        for epoch in history:
            self._judge({"live": epoch.live, **lines.get(epoch.epoch, {})}, epoch, lambda text: None)
        if self.path is not None and self.path.is_file():
            with writing(self.path):
                write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in lines.values()).encode())

    def _lines(self, epochs: int) -> dict[int, dict[str, Any]]:
        """Those of the first epochs, by number; a kill may have cut the last one short."""
        lines = dict[int, dict[str, Any]]()
        if self.path is not None and self.path.is_file():
            for text in self.path.read_text("utf-8", errors="replace").splitlines():
                with suppress(ValueError, TypeError, KeyError):
                    line = json.loads(text)
                    lines[line["epoch"]] = line
        return {epoch: line for epoch, line in lines.items() if epoch <= epochs}

    def on_epoch(self, epoch: "Epoch") -> None:
        statistics = latent_statistics(self.model, self.held_out)
        live = int(statistics.live.sum())
        record = {
            "epoch": epoch.epoch,
            "live": live,
            "latent": len(statistics.live),
            "kl_per_feature": None if statistics.kl is None else statistics.kl.tolist(),
            "data_like": self._data_like(),
        }
        if self.path is not None:
            with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        self._judge(record, epoch, self.say or (lambda text: print(text, file=sys.stderr)))

    def _judge(self, record: dict[str, Any], epoch: "Epoch", announce: Callable[[str], None]) -> None:
        """Announce once: all features dead after some were alive, or dead from the start for 3 epochs and 300 steps."""
        live = record["live"]
        self.dead_epochs = self.dead_epochs + 1 if live == 0 else 0
        waited = self.dead_epochs >= PATIENCE and epoch.step >= STEPS
        if live == 0 and not self.announced and (self.most_live > 0 or waited):
            self.announced = True
            announce(
                f"epoch {epoch.epoch}: posterior collapse: none of {self.model.latent} latent features is live "
                f"(KL {epoch.held_out.kl:.2g} nats); {ADVICE}"
            )
        if live > 0:
            self.announced = False
        self.most_live = max(self.most_live, live)

    @torch.no_grad()
    def _data_like(self) -> float | None:
        """Share of data-like draws from the prior, with few references: coarse, for its course over the epochs."""
        from gapless.audit.completeness import Isolation  # not before it is needed: every training loads this module

        if len(self.held_out) < LEAST:
            return None
        training = self.model.training
        self.model.eval()
        shown = torch.arange(min(REFERENCES, len(self.held_out)))
        x, drawn = self.held_out.batch(shown), torch.arange(DRAWS) % len(self.held_out)
        generator = torch.Generator().manual_seed(0)
        references = given(self.model, self.held_out.items, shown).reconstruct(x).flatten(1).double().cpu().numpy()
        drawing = given(self.model, self.held_out.items, drawn)
        draws = drawing.sample(DRAWS, generator=generator).flatten(1).double().cpu().numpy()
        self.model.train(training)
        gap, _ = Isolation.fit(references, rng=np.random.default_rng(0)).gap(draws)
        return float(np.clip(1 - gap, 0, 1))
