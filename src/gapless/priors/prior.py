"""What a prior is."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn
from torch.distributions import Distribution

from gapless.parts import Part

__all__ = ["Prior"]


class Prior(Part, ABC):
    """A distribution over codes. `latent` is the number of latent features.

    To add one: return a distribution of event_shape (latent,) from `forward`. A prior that shares the encoder
    (VampPrior) uses the `encode` it is handed and keeps only what is its own, so that nothing is saved twice.
    """

    latent: int

    def start(self, x: Tensor, context: Tensor | None = None) -> None:
        """Look at some training items in model units, shape (items, *event), before training.

        For parts that begin at the data, such as pseudo-inputs; the others ignore it.

        Args:
            x: the items.
            context: of a conditional model, one row an item.
        """

    def join(self, posterior: nn.Module) -> "Prior":
        """See the posterior that it stands beside in a model, and give itself back.

        For priors over the posterior's own codes; the others ignore it. The posterior must not become a part of it.
        """
        return self

    @abstractmethod
    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> Distribution:
        """p(z) with batch_shape () and event_shape (latent,).

        Args:
            encode: the model's own `encode`, for priors made of posteriors; the others ignore it.
        """
