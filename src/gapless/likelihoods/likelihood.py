"""What a likelihood head is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from gapless.parts import Part

__all__ = ["Likelihood"]


class Likelihood(Part, ABC):
    """A head: decoder output (batch, *parameter_shape) -> p(x|z), event_shape (*event).

    To add one: say what values it can explain in `support`, how many numbers a value needs in
    `parameters_per_value`, and return a distribution from `forward`.

    Attributes:
        support: lowest and highest value in model units.
        parameters_per_value: numbers the decoder puts out for one value.
        whole: whether only whole numbers can be explained.
        missing: whether values that are not a number count as not observed.
    """

    support: ClassVar[tuple[float, float]] = (-float("inf"), float("inf"))
    parameters_per_value: ClassVar[int] = 1
    whole: ClassVar[bool] = False
    missing: ClassVar[bool] = False

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """What the decoder must put out for one example: (parameters_per_value, *event)."""
        return (self.parameters_per_value, *event_shape)

    def view(self, x: Float[Tensor, " batch *event"]) -> Tensor:
        """What the encoder is shown of x before it is standardized: x itself, or its logarithm, a one-hot code, ..."""
        return x

    def view_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of `view` of one item."""
        return event_shape

    @abstractmethod
    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> Distribution:
        """p(x|z) with batch_shape (batch,) and event_shape (*event)."""

    @abstractmethod
    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        """The parameters under which p(x|z) has the data's mean: where training starts."""

    def calibrate(self, distribution: Distribution, x: Tensor) -> Distribution:
        """The distribution that x is scored by: the given one, unless the head takes something from x itself.

        For a scale fitted to the batch while training, or an item's own library size. Every bound goes through it.
        """
        return distribution
