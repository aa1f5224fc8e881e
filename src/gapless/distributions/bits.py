"""Bits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gapless.distributions.factorized import Factorized

__all__ = ["Bernoulli"]


_THRESHOLD = 40  # softplus(l) is l above it; torch does so above 20, where e^-20 is more than float64's rounding


class Bernoulli(Factorized):
    """Independent bits from logits. `x log p + (1 - x) log(1 - p) = x l - softplus(l)`, summed over the event.

    Values between 0 and 1 are accepted as is usual for grey images; the result is then a cross-entropy, not the
    logarithm of a density (Loaiza-Ganem & Cunningham 2019).

    Args:
        logits: log-odds, shape (*batch, *event), any real.
        event_dims: how many trailing axes make one example.

    >>> Bernoulli(torch.zeros(1, 2)).log_prob(torch.tensor([[0.0, 1.0]]))
    tensor([-1.3863])
    """

    def __init__(self, logits: Tensor, *, event_dims: int = 1):
        self.logits = logits
        super().__init__(logits, event_dims)

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).to(self.logits.dtype)

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean)

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Bits as 0.0 and 1.0, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            uniform = self._noise(sample_shape, self.logits, generator, torch.rand)
            return (uniform < self.mean).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, summed over the event: shape (*batch,)."""
        alike = value.shape == self.logits.shape and value.dtype == self.logits.dtype
        if alike and not torch.compiler.is_compiling():  # the same in one pass
            return -self._sum(_CrossEntropy.apply(self.logits, value))
        return self._sum(self.log_prob_per_feature(value))

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-probability of each feature in nats, shape (*samples, *batch, *event)."""
        return value * self.logits - functional.softplus(self.logits, threshold=_THRESHOLD)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch,)."""
        return self._sum(functional.softplus(self.logits, threshold=_THRESHOLD) - self.mean * self.logits)


class _CrossEntropy(torch.autograd.Function):
    """`softplus(l) - x l`, elementwise, whose gradient is the one product it comes down to: `(sigmoid(l) - x) g`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, value: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.addcmul(functional.softplus(logits, threshold=_THRESHOLD), logits, value, value=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, value = ctx.saved_tensors
        by_value = -logits * gradient if ctx.needs_input_grad[1] else None
        return (torch.sigmoid(logits) - value) * gradient, by_value

    @staticmethod
    def jvp(ctx: Any, by_logits: Tensor, by_value: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, value = ctx.saved_tensors
        return (torch.sigmoid(logits) - value) * by_logits - logits * by_value
