"""Counts: whole numbers from 0, by the logarithm of their mean."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gapless.distributions.factorized import Factorized

__all__ = ["NegativeBinomial", "Poisson", "ZeroInflatedNegativeBinomial"]

_LARGE = 50.0
"""From this inverse dispersion on Stirling's series stands for a difference of two large log-gammas."""


class _Counts(Factorized):
    """Counts whose rate is given by its logarithm.

    Attributes:
        log_rate: logarithm of the rate, shape (*batch, *event).
    """

    log_rate: Tensor

    @abstractmethod
    def times(self, log_factor: Tensor) -> "_Counts":
        """The same distribution with every rate multiplied: log_factor is broadcastable to the rate."""

    @property
    def rate(self) -> Tensor:
        """Expected counts, where nothing is inflated."""
        return self.log_rate.exp()

    @property
    def mean(self) -> Tensor:
        return self.rate

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Counts as floating point, shape (*sample_shape, *batch, *event)."""
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        with torch.no_grad():
            return self._drawn(shape, generator).to(self.log_rate)

    @abstractmethod
    def _drawn(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        """Draws of that shape, on the generator's device."""


class Poisson(_Counts):
    """Independent counts with `log p(x) = x log rate - rate - log x!`.

    Args:
        log_rate: logarithm of the mean, shape (*batch, *event).
        event_dims: how many trailing axes make one example.

    >>> Poisson(torch.zeros(1, 2)).log_prob(torch.tensor([[0.0, 1.0]]))
    tensor([-2.])
    """

    def __init__(self, log_rate: Tensor, *, event_dims: int = 1):
        self.log_rate = log_rate
        super().__init__(log_rate, event_dims)

    def times(self, log_factor: Tensor) -> "Poisson":
        return Poisson(self.log_rate + log_factor, event_dims=self.event_dims)

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:
        return self.rate

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-probability of each feature in nats, shape (*samples, *batch, *event)."""
        return value * self.log_rate - self.rate - torch.lgamma(value + 1)

    def _drawn(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return torch.poisson(_there(self.rate, shape, generator), generator=generator)


class NegativeBinomial(_Counts):
    """Independent counts of a Poisson whose rate is Gamma distributed: mean m, variance `m + m^2 / r`.

    `p(x) = G(x + r) / (G(r) x!) (r / (r + m))^r (m / (r + m))^x`, the counts of Lopez et al. (2018); in logarithms
    with `logsigmoid`, so that a Poisson is reached, not missed, as r grows.

    Args:
        log_rate: log m, shape (*batch, *event).
        log_inverse_dispersion: log r, broadcastable to log_rate.
        event_dims: how many trailing axes make one example.

    >>> NegativeBinomial(torch.zeros(1, 2), torch.zeros(2)).log_prob(torch.tensor([[0.0, 1.0]]))
    tensor([-2.0794])
    """

    def __init__(self, log_rate: Tensor, log_inverse_dispersion: Tensor, *, event_dims: int = 1):
        self.log_rate, self.log_inverse_dispersion = log_rate, log_inverse_dispersion
        super().__init__(log_rate, event_dims)

    def times(self, log_factor: Tensor) -> "NegativeBinomial":
        return NegativeBinomial(self.log_rate + log_factor, self.log_inverse_dispersion, event_dims=self.event_dims)

    @property
    def mode(self) -> Tensor:
        return (self.rate * (1 - (-self.log_inverse_dispersion).exp()).clamp_min(0)).floor()

    @property
    def variance(self) -> Tensor:
        return self.rate + (2 * self.log_rate - self.log_inverse_dispersion).exp()

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-probability of each feature in nats, shape (*samples, *batch, *event)."""
        log_r, log_m = self.log_inverse_dispersion, self.log_rate
        rising = _log_rising(value, log_r) - torch.lgamma(value + 1)
        return rising + value * (log_r + functional.logsigmoid(log_m - log_r)) + self.log_prob_of_zero()

    def log_prob_of_zero(self) -> Tensor:
        """log P(0) of each feature, `-r log(1 + m / r)`, shape (*batch, *event)."""
        return self.log_inverse_dispersion.exp() * functional.logsigmoid(self.log_inverse_dispersion - self.log_rate)

    def _drawn(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        r = self.log_inverse_dispersion.exp().expand_as(self.log_rate)
        rate, shapes = (_there(v, shape, generator) for v in ((self.log_rate.exp() / r), r))
        gamma = torch._standard_gamma(shapes, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
        return torch.poisson(rate * gamma, generator=generator)


class ZeroInflatedNegativeBinomial(_Counts):
    """Independent counts, each 0 with a probability of its own and else negative binomial: Lopez et al. (2018).

    `p(x) = pi [x = 0] + (1 - pi) NB(x)`; a logit gives pi.

    Args:
        log_rate: logarithm of the negative binomial's mean, shape (*batch, *event).
        log_inverse_dispersion: of the negative binomial, broadcastable to log_rate.
        zero_logits: logit of pi, of the shape of log_rate.
        event_dims: how many trailing axes make one example.

    >>> zeros = torch.zeros(1, 1)
    >>> ZeroInflatedNegativeBinomial(zeros, zeros, zeros).log_prob(zeros).exp()
    tensor([0.7500])
    """

    def __init__(self, log_rate: Tensor, log_inverse_dispersion: Tensor, zero_logits: Tensor, *, event_dims: int = 1):
        self.log_rate, self.zero_logits = log_rate, zero_logits
        self.counts = NegativeBinomial(log_rate, log_inverse_dispersion, event_dims=event_dims)
        super().__init__(log_rate, event_dims)

    def times(self, log_factor: Tensor) -> "ZeroInflatedNegativeBinomial":
        log_r, dims = self.counts.log_inverse_dispersion, self.event_dims
        return ZeroInflatedNegativeBinomial(self.log_rate + log_factor, log_r, self.zero_logits, event_dims=dims)

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(-self.zero_logits) * self.rate

    @property
    def mode(self) -> Tensor:
        other, zero = self.counts.mode, torch.zeros_like(self.log_rate)
        likelier = self.log_prob_per_feature(other) > self.log_prob_per_feature(zero)
        return torch.where(likelier, other, zero)

    @property
    def variance(self) -> Tensor:
        kept = torch.sigmoid(-self.zero_logits)
        return kept * (self.counts.variance + (1 - kept) * self.rate.square())

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-probability of each feature in nats, shape (*samples, *batch, *event)."""
        inflated, kept = functional.logsigmoid(self.zero_logits), functional.logsigmoid(-self.zero_logits)
        zero = torch.logaddexp(inflated, kept + self.counts.log_prob_of_zero())
        return torch.where(value == 0, zero, kept + self.counts.log_prob_per_feature(value))

    def _drawn(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        uniform = self._noise(shape[: len(shape) - self.log_rate.dim()], self.log_rate, generator, torch.rand)
        counts = self.counts._drawn(shape, generator)
        return counts * (uniform >= torch.sigmoid(self.zero_logits)).to(counts)


def _there(values: Tensor, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Values repeated to a shape, where the generator draws."""
    return values.expand(shape).to(values.device if generator is None else generator.device)


def _log_rising(x: Tensor, log_r: Tensor) -> Tensor:
    """`log G(x + r) - log G(r) - x log r`, also where the log-gammas are large and their difference is not."""
    r = log_r.exp()
    small, large = r.clamp_max(_LARGE), r.clamp_min(_LARGE)
    exact = torch.lgamma(x + small) - torch.lgamma(small) - x * small.log()
    series = (x + large - 0.5) * torch.log1p(x / large) - x + _stirling(x + large) - _stirling(large)
    return torch.where(r < _LARGE, exact, series)


def _stirling(r: Tensor) -> Tensor:
    """What Stirling's formula leaves of log G(r): `1/(12 r) - 1/(360 r^3) + 1/(1260 r^5)`."""
    square = r.square()
    return (1 / 12 - (1 / 360 - 1 / (1260 * square)) / square) / r
