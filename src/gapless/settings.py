"""What a training run is asked to do; plain data, imports no torch."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from gapless.errors import UsageError
from gapless.schedules import RATES, Ramp

__all__ = ["KL_OPTIONS", "OPTIMIZERS", "PRECISIONS", "Settings"]

OPTIMIZERS = ("adam", "adamw", "muon")
PRECISIONS = ("float32", "bf16")
KL_OPTIONS = ("beta", "kl_schedule", "kl_warmup", "kl_cycles", "capacity", "free_bits", "target")
"""The settings that are options of a recipe; None leaves the recipe's own value."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything about a training run but its data and its recipe.

    Args:
        latent: number of latent features.
        epochs: passes over the training items; by default as many as see a million items, between 10 and 200.
        batch_size: items a step.
        accumulate: parts a batch is cut into, one after another, to save memory.
        optimizer: adam, adamw or muon.
        learning_rate: largest step size of the optimizer.
        schedule: course of the learning rate: constant, cosine (down to 0), one-cycle (up and down) or staged.
        warmup: share of all steps in which the learning rate rises, from 0 to below 1; 0 is 0.3 for one-cycle.
        weight_decay: decoupled decay of the weights, for adamw and muon.
        clip: largest norm of the gradient.
        ema: decay of averaged weights, between 0 and 1; they are validated and kept.
        patience: epochs to wait for a lower held-out loss before stopping.
        precision: float32 or bf16.
        condition: give encoder and decoder the label of each item.
        binarize: draw every grey value anew as a bit whenever it is seen.
        seed: seed of weights, order and noise.
        network: auto, affine, mlp, residual, convolutional or spatial; auto: convolutional for images of over
            1,024 values.
        hidden: units of the mlp encoder's hidden layers; the decoder mirrors them.
        channels: channels of the convolutional encoder's levels; the decoder mirrors them.
        activation: elu, gelu, relu, silu, softplus or tanh.
        beta: weight of the KL, for recipes that have it.
        kl_schedule: course of the KL's weight, or of the capacity: constant, linear, cosine or cyclic.
        kl_warmup: share of all steps in which it rises from 0, from 0 to 1.
        kl_cycles: how many times a cyclic schedule starts again.
        capacity: nats an item that the KL is drawn to.
        free_bits: nats of each latent feature that cost nothing.
        target: nats of reconstruction an item that geco holds; by default those of half the variance explained.
        option: an option of the recipe, NAME=VALUE, as `gapless recipes` lists them; can be given more than once.
        device: cpu, cuda or mps.
    """

    latent: int = 16
    epochs: int | None = None
    batch_size: int = 128
    accumulate: int = 1
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    schedule: str = "one-cycle"
    warmup: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None
    ema: float | None = None
    patience: int | None = None
    precision: str = "float32"
    condition: bool = False
    binarize: bool = False
    seed: int = 0
    network: str = "auto"
    hidden: tuple[int, ...] = (512, 256)
    channels: tuple[int, ...] = (32, 64)
    activation: str = "relu"
    beta: float | None = None
    kl_schedule: str | None = None
    kl_warmup: float | None = None
    kl_cycles: int | None = None
    capacity: float | None = None
    free_bits: float | None = None
    target: float | None = None
    option: tuple[str, ...] = ()
    device: str = "cpu"

    def __post_init__(self):
        self._check_choices()
        self._check_numbers()
        if self.weight_decay and self.optimizer == "adam":
            raise UsageError("weight_decay needs another optimizer than adam", fix="use --optimizer adamw or muon")
        self.options()  # refuses what is no NAME=VALUE
        if self.accumulate > self.batch_size:
            raise UsageError(f"accumulate cuts a batch of {self.batch_size} items into {self.accumulate} parts")
        ramp = {"shape": self.kl_schedule, "warmup": self.kl_warmup, "cycles": self.kl_cycles}
        Ramp(**{name: value for name, value in ramp.items() if value is not None})

    def _check_choices(self) -> None:
        choices = {"optimizer": OPTIMIZERS, "schedule": tuple(RATES), "precision": PRECISIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")

    def _check_numbers(self) -> None:
        at_least = {"latent": 1, "batch_size": 1, "seed": 0, "epochs": 1, "patience": 1, "accumulate": 1}
        for name, lowest in at_least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise UsageError(f"{name} must be at least {lowest}; got {value}", fix=f"give {lowest} or more")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} must be above 0 and finite; got {value}")
        for name in ("weight_decay", "beta", "capacity", "free_bits"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UsageError(f"{name} must be at least 0 and finite; got {value}")
        if self.target is not None and not math.isfinite(self.target):
            raise UsageError(f"target must be finite; got {self.target}")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"warmup is a share of all steps, from 0 to below 1; got {self.warmup}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UsageError(f"ema is a decay between 0 and 1; got {self.ema}")
        if any(units < 1 for units in self.hidden):
            raise UsageError(
                f"hidden needs layers of at least 1 unit; got {', '.join(map(str, self.hidden))}",
                fix="give the units of each layer, for example --hidden 64 --hidden 32",
            )

    def epochs_for(self, items: int) -> int:
        """The number of epochs over `items` training items: the one asked for, or the default."""
        return self.epochs or min(200, max(10, -(-1_000_000 // items)))

    def options(self) -> dict[str, Any]:
        """The recipe's options that were given."""
        named = {name: getattr(self, name) for name in KL_OPTIONS if getattr(self, name) is not None}
        return {**named, **dict(_option(text) for text in self.option)}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _option(text: str) -> tuple[str, Any]:
    """`samples=5` as a name and a value: a number, true, false, null, or text."""
    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        raise UsageError(f"--option takes NAME=VALUE; got {text!r}", fix="for example --option samples=5")
    try:
        return name.strip().replace("-", "_"), json.loads(value)
    except ValueError:
        return name.strip().replace("-", "_"), value.strip()
