"""What a likelihood head is."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from gapless.parts import Part

__all__ = ["Known", "Likelihood"]


class Known(NamedTuple):
    """What is known of the data when a likelihood is made for it, in model units.

    Attributes:
        event_shape: shape of one item.
        largest: the largest value; None where it is not known.
        step: distance of neighbouring values, where the raw values are whole numbers; None elsewhere.
    """

    event_shape: tuple[int, ...]
    largest: float | None = None
    step: float | None = None


class Likelihood(Part, ABC):
    """A head: decoder output (batch, *parameter_shape) -> p(x|z), event_shape (*event).

    To add one: say what values it can explain in `support`, how many numbers a value needs in
    `parameters_per_value`, and return a distribution from `forward`.

    Attributes:
        support: lowest and highest value in model units.
        parameters_per_value: numbers the decoder puts out for one value.
        whole: whether only whole numbers can be explained.
        numeric: whether values are quantities, which have a mean; False where they are names of classes.
        discrete: whether `log_prob` is of a probability, though values are no whole numbers: of levels of grey.
        density: whether `log_prob` is a log-density or log-probability; False for a metric in its place.
        batchwise: whether `calibrate` looks at the batch as a whole while training.
        missing: whether values that are not a number count as not observed; `Masked` says so to what it holds.
    """

    support: tuple[float, float] = (-float("inf"), float("inf"))
    parameters_per_value: ClassVar[int] = 1
    whole: bool = False
    missing: bool = False
    numeric: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    density: ClassVar[bool] = True
    batchwise: ClassVar[bool] = False

    @classmethod
    def suited(cls, known: Known) -> "Likelihood":
        """A fresh head for data of which this is known: one scale a feature, the number of classes or levels."""
        return cls()

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """What the decoder must put out for one example: (parameters_per_value, *event)."""
        return (self.parameters_per_value, *event_shape)

    def view(self, x: Float[Tensor, " batch *event"]) -> Tensor:
        """What the encoder is shown of x before it is standardized: x itself, or its logarithm, a one-hot code, ..."""
        return x

    def view_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of `view` of one item."""
        return event_shape

    def seen(self, observed: Bool[Tensor, " batch *event"]) -> Tensor:
        """Which numbers of `view` show a value that was observed, of the shape of the view."""
        shape = self.view_shape(tuple(observed.shape[1:]))
        added = len(shape) - observed.dim() + 1  # axes before the event's own: those of a one-hot code
        return observed.reshape(len(observed), *[1] * added, *observed.shape[1:]).expand(len(observed), *shape)

    def supports(self, event_shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Lowest and highest value of each feature, and whether it must be whole: three tensors (*event)."""
        low, high = self.support
        whole = torch.full(event_shape, self.whole)
        return torch.full(event_shape, low), torch.full(event_shape, high), whole

    @abstractmethod
    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> Distribution:
        """p(x|z) with batch_shape (batch,) and event_shape (*event)."""

    @abstractmethod
    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        """The parameters under which p(x|z) has the data's mean: where training starts.

        Called once before training: a head may keep what it needs of the mean in a buffer.
        """

    def start(self, x: Float[Tensor, " items *event"]) -> None:
        """Begin at some training items in model units; called once, after `offset`, before training."""

    def calibrate(self, distribution: Distribution, x: Tensor, *, like: Distribution | None = None) -> Distribution:
        """The distribution that x is scored by: the given one, unless the head takes something from x itself.

        For a scale fitted to the batch while training, or an item's own library size. Every bound goes through it.

        Args:
            distribution: what `forward` gave.
            x: the items that are scored.
            like: what this batch was calibrated to before, where it is decoded once more in the same step: what was
                fitted to it then holds, and nothing is learned again.
        """
        return distribution

    @property
    def fitted_to_batch(self) -> bool:
        """Whether this head, or one that it is made of, is `batchwise`."""
        return any(isinstance(part, Likelihood) and part.batchwise for part in self.modules())
