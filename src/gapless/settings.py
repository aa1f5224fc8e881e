"""What a training run is asked to do; plain data, imports no torch."""

from dataclasses import asdict, dataclass
from typing import Any

from gapless.errors import UsageError

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything about a training run but its data and its recipe.

    Args:
        latent: number of latent features.
        epochs: passes over the training items; by default as many as see a million items, between 10 and 200.
        batch_size: items a step.
        learning_rate: step size of Adam.
        seed: seed of weights, order and noise.
        network: auto, mlp, residual or convolutional; auto: convolutional for images of over 1,024 values.
        hidden: units of the mlp encoder's hidden layers; the decoder mirrors them.
        channels: channels of the convolutional encoder's levels; the decoder mirrors them.
        activation: elu, gelu, relu, silu, softplus or tanh.
        beta: weight of the KL, for recipes that have it.
        device: cpu, cuda or mps.
    """

    latent: int = 16
    epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 1e-3
    seed: int = 0
    network: str = "auto"
    hidden: tuple[int, ...] = (512, 256)
    channels: tuple[int, ...] = (32, 64)
    activation: str = "relu"
    beta: float | None = None
    device: str = "cpu"

    def __post_init__(self):
        at_least = {"latent": 1, "batch_size": 1, "seed": 0, "epochs": 1}
        for name, lowest in at_least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise UsageError(f"{name} must be at least {lowest}; got {value}")
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"learning_rate must be above 0 and finite; got {self.learning_rate}")

    def epochs_for(self, items: int) -> int:
        """The number of epochs over `items` training items: the one asked for, or the default."""
        return self.epochs or min(200, max(10, -(-1_000_000 // items)))

    def options(self) -> dict[str, float]:
        """The recipe's options that were given."""
        return {} if self.beta is None else {"beta": self.beta}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
