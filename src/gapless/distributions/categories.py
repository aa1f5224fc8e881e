"""Categories: one of some classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gapless.distributions.factorized import Factorized

__all__ = ["Categorical"]


class Categorical(Factorized):
    """Independent features, each one of some classes, `log p(x = c) = log softmax(logits)_c`.

    The numbers of the classes are names; `mean` is their expectation all the same, `mode` is the likeliest class.

    Args:
        logits: unnormalised log-probabilities, shape (*batch, classes, *event).
        event_dims: how many trailing axes make one example; the classes' axis stands before them.

    >>> Categorical(torch.zeros(1, 4, 2)).log_prob(torch.tensor([[0.0, 3.0]]))
    tensor([-2.7726])
    """

    def __init__(self, logits: Tensor, *, event_dims: int = 1):
        self.axis = -1 - event_dims
        self.log_weights = logits.log_softmax(self.axis)
        super().__init__(logits.select(self.axis, 0), event_dims)

    @property
    def probabilities(self) -> Tensor:
        """Probability of each class, shape (*batch, classes, *event)."""
        return self.log_weights.exp()

    @property
    def mean(self) -> Tensor:
        return (self.probabilities * self._numbers).sum(self.axis)

    @property
    def mode(self) -> Tensor:
        return self.log_weights.argmax(self.axis).to(self.log_weights.dtype)

    @property
    def variance(self) -> Tensor:
        return (self.probabilities * (self._numbers - self.mean.unsqueeze(self.axis)).square()).sum(self.axis)

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Numbers of classes as floating point, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            uniform = self._noise(sample_shape, self.log_weights, generator, torch.rand)
            below = self.probabilities.cumsum(self.axis).narrow(self.axis, 0, len(self._numbers) - 1)
            return (uniform.unsqueeze(self.axis) >= below).sum(self.axis).to(self.log_weights.dtype)

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-probability of each feature in nats, shape (*samples, *batch, *event)."""
        chosen = value.long().unsqueeze(self.axis)
        samples = chosen.shape[: chosen.dim() - self.log_weights.dim()]
        weights = self.log_weights.expand(*samples, *self.log_weights.shape)
        shape = (*weights.shape[: self.axis], 1, *weights.shape[weights.dim() + self.axis + 1 :])
        return weights.gather(self.axis, chosen.expand(shape)).squeeze(self.axis)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch,)."""
        return -self._sum((self.probabilities * self.log_weights).sum(self.axis))

    @property
    def _numbers(self) -> Tensor:
        classes = self.log_weights.shape[self.axis]
        numbers = torch.arange(classes, dtype=self.log_weights.dtype, device=self.log_weights.device)
        return numbers.reshape(classes, *[1] * self.event_dims)
