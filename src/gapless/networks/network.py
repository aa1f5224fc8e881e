"""What a network is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from gapless.errors import UsageError
from gapless.parts import Part

__all__ = ["Network"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU, "gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus, "tanh": nn.Tanh,
}  # fmt: skip


class Network(Part, ABC):
    """A map from (batch, *inputs) to (batch, *outputs).

    To add one: keep `inputs` and `outputs` (shapes without the batch axis) and write `forward`.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    by_feature: ClassVar[bool] = False
    """Whether it learns faster on a CPU from batches that lie feature by feature in memory."""

    @abstractmethod
    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        """The network's value, any real number."""


def activation_of(name: str, *, overwrites: bool = False) -> nn.Module:
    """That activation; where nothing else reads what it is given, it may overwrite it."""
    if name not in ACTIVATIONS:
        raise UsageError(f"there is no activation {name!r}", fix=f"use one of {', '.join(ACTIVATIONS)}")
    return nn.ReLU(inplace=True) if overwrites and name == "relu" else ACTIVATIONS[name]()


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(shape)
    if not all(isinstance(size, int) and size >= 1 for size in shape):
        raise UsageError(f"sizes are whole numbers of at least 1; got {shape}")
    return shape
