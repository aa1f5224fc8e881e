"""Categories."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gapless import distributions
from gapless.errors import UsageError
from gapless.likelihoods.likelihood import Known, Likelihood

__all__ = ["Categorical"]


class Categorical(Likelihood):
    """Each value is one of some classes, a whole number from 0: `log p(x = c|z) = log softmax(decoder(z))_c`.

    The encoder is shown one-hot codes as further features or channels. There is no mean of names to start at:
    training starts with all classes equally likely.

    Args:
        classes: how many there are, at least 2.

    >>> Categorical(3)(torch.zeros(5, 3, 8)).mode.shape, Categorical(3).view(torch.zeros(5, 8)).shape
    (torch.Size([5, 8]), torch.Size([5, 24]))
    """

    support = (0.0, float("inf"))
    whole = True
    numeric = False

    def __init__(self, classes: int = 2):
        super().__init__()
        if classes < 2:
            raise UsageError(f"a category needs at least 2 classes; got {classes}")
        self.classes, self.support = classes, (0.0, float(classes - 1))

    @classmethod
    def suited(cls, known: Known) -> "Categorical":
        return cls() if known.largest is None else cls(max(2, int(known.largest) + 1))

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Logits of the classes: (classes, *event)."""
        return (self.classes, *event_shape)

    def view(self, x: Float[Tensor, " batch *event"]) -> Tensor:
        """One-hot codes, shape (batch, features * classes, ...): the classes of one feature or channel side by side."""
        classes = torch.arange(self.classes, dtype=x.dtype, device=x.device)
        codes = x.unsqueeze(2) == classes.reshape(-1, *[1] * (x.dim() - 2))
        return codes.to(x.dtype).flatten(1, 2)

    def view_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(features * classes, ...)."""
        return (event_shape[0] * self.classes, *event_shape[1:])

    def seen(self, observed: Bool[Tensor, " batch *event"]) -> Tensor:
        """Which numbers of `view` show a value that was observed, of the shape of the view."""
        codes = observed.unsqueeze(2)
        return codes.expand(*codes.shape[:2], self.classes, *codes.shape[3:]).flatten(1, 2)

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.Categorical:
        return distributions.Categorical(parameters, event_dims=parameters.dim() - 2)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return mean.new_zeros(self.parameter_shape(tuple(mean.shape)))
