"""What an epoch measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gapless.training.evaluation import Evaluation

__all__ = ["Epoch", "best_epoch"]


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured; all values in nats per example.

    Attributes:
        epoch: counted from 1.
        step: optimizer steps taken so far.
        seconds: wall-clock seconds of training so far, validation included, over all sessions.
        items_per_second: training items a second in this epoch, validation left out.
        live: latent features that carry more than 0.01 nats.
        train: means of loss, reconstruction and kl over the epoch's steps, while the weights moved.
        held_out: the same objective on the held-out items, after the epoch, with the weights of the end of training.
    """

    epoch: int
    step: int
    seconds: float
    items_per_second: float
    live: int
    train: Evaluation
    held_out: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Plain data; infinite values become None."""
        return {**asdict(self), "train": self.train.to_dict(), "held_out": self.held_out.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Epoch":
        """The record that `to_dict` wrote."""
        parts = {name: Evaluation.from_dict(values[name]) for name in ("train", "held_out")}
        return cls(**{**values, **parts})


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The first epoch of lowest held-out loss, the trained objective: the one whose weights are kept."""
    return min(history, key=lambda epoch: epoch.held_out.loss)
