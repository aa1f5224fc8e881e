"""What an epoch measured."""

import math
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
        effective_beta: weight of the KL per unit weight of the reconstruction in the epoch's last step; None where the
            objective has none, or the record is older than this number.
        kl_per_feature: KL of each latent feature, mean over the first 2,048 held-out items; None where the KL does not
            split into features.
    """

    epoch: int
    step: int
    seconds: float
    items_per_second: float
    live: int
    train: Evaluation
    held_out: Evaluation
    effective_beta: float | None = None
    kl_per_feature: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; infinite values become None, and a beta that there is not is left out."""
        values = {**asdict(self), "train": self.train.to_dict(), "held_out": self.held_out.to_dict()}
        beta, kl = values.pop("effective_beta"), self.kl_per_feature
        shown = {} if beta is None else {"effective_beta": _finite(beta)}
        return {**values, **shown, "kl_per_feature": None if kl is None else [_finite(value) for value in kl]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Epoch":
        """The record that `to_dict` wrote."""
        parts = {name: Evaluation.from_dict(values[name]) for name in ("train", "held_out")}
        beta, kl = values.get("effective_beta", math.nan), values.get("kl_per_feature")
        shown = {
            "effective_beta": math.inf if beta is None else None if math.isnan(beta) else beta,
            "kl_per_feature": None if kl is None else tuple(math.inf if value is None else value for value in kl),
        }
        return cls(**{**values, **parts, **shown})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The first epoch of lowest held-out loss, the trained objective: the one whose weights are kept."""
    return min(history, key=lambda epoch: epoch.held_out.loss)
