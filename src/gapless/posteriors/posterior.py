"""What a posterior head is."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from gapless.parts import Part

__all__ = ["Posterior"]


class Posterior(Part, ABC):
    """A head: encoder output (batch, *parameter_shape(latent)) -> q(z|x), event_shape (latent,).

    To add one: say how many numbers a latent feature needs in `parameters_per_code`, or what shape all of them need
    in `parameter_shape`, and return a distribution with `rsample(sample_shape, generator)`, `mean` and `stddev` from
    `forward`. A mean is the embedding: it must be the same at every call.
    """

    parameters_per_code: ClassVar[int] = 1
    moved_by_draws: ClassVar[bool] = True
    """Whether its own parameters get a gradient through its draws; a codebook gets its from a regularizer."""

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        """What the encoder must put out for one item with so many latent features."""
        return (self.parameters_per_code * latent,)

    def start(self, encoded: Tensor) -> None:
        """Look at the untrained encoder's output for some training items, shape (items, *parameters), before training.

        For parts that begin at the data, such as a codebook; the others ignore it.
        """

    @abstractmethod
    def forward(self, parameters: Float[Tensor, " batch *parameters"]) -> Distribution:
        """q(z|x) with batch_shape (batch,) and event_shape (latent,)."""
