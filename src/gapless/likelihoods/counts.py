"""Counts: whole numbers from 0, with or without the total of the item given."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import distributions
from gapless.likelihoods.likelihood import Known, Likelihood

__all__ = ["NegativeBinomial", "Poisson", "ZeroInflatedNegativeBinomial"]

_RAREST = 1e-6
"""Starting means are at least this: what never occurs in training may occur yet."""
_LOG_LIMIT = 40.0
"""No logarithm of a mean rises above this (2e17), so that nothing overflows."""
_LOG_DISPERSION_LIMIT = 15.0
"""Inverse dispersions lie within exp(-15) and exp(15): beyond, a negative binomial is a Poisson to 7 digits."""
_FIRST_ZERO_LOGIT = -4.0
_FIRST_DISPERSIONS = (0.1, 100.0)


class _Counts(Likelihood):
    """What count heads share: logarithms shown to the encoder, and the library size.

    With `library` the decoder gives shares by a softmax over the item's features and `mean = library * share`:
    an item is scored under its own total (`calibrate`, in training and evaluation alike), what is decoded without an
    item has the mean total of the training items. The likelihood is then of the counts *given* their total.

    Attributes:
        library: whether means are shares of a library size.
        size: the library size of what is decoded without an item, where there is one.
    """

    support = (0.0, float("inf"))
    whole = True
    library: bool
    size: Tensor

    def _keep(self, library: bool) -> None:
        self.library = library
        if library:
            self.register_buffer("size", torch.ones(()))

    def view(self, x: Float[Tensor, " batch *event"]) -> Tensor:
        """`log(1 + x)`."""
        return torch.log1p(x)

    def calibrate(self, distribution: Distribution, x: Tensor, *, like: Distribution | None = None) -> Distribution:
        if not self.library:
            return distribution
        # An item without any count has no shares; it is scored under a total of 1.
        total = x.flatten(1).nansum(1).clamp_min(1)
        factor = (total / self._expected(distribution, x)).log().reshape(-1, *[1] * (x.dim() - 1))
        return distribution.times(factor)  # pyright: ignore[reportAttributeAccessIssue]

    def _expected(self, distribution: Distribution, x: Tensor) -> Tensor:
        """The total of the rates of what was observed: the whole library size, unless values are missing."""
        if not self.missing:
            return self.size
        return distribution.rate.masked_fill(x.isnan(), 0.0).flatten(1).sum(1)  # pyright: ignore[reportAttributeAccessIssue]

    def _log_rate(self, logits: Float[Tensor, " batch *event"]) -> Tensor:
        if not self.library:
            return logits.clamp_max(_LOG_LIMIT)
        return logits.flatten(1).log_softmax(1).reshape(logits.shape) + self.size.log()

    def _started(self, mean: Tensor, kept: float = 1.0) -> Tensor:
        """Logits with this mean of the rate times `kept`; the library size of decoding is kept from here on."""
        rate = mean.clamp_min(_RAREST) / kept
        if self.library:
            self.size.copy_(rate.sum())
        return rate.log()


class Poisson(_Counts):
    """Counts with the variance of their mean, which is the exponential of the decoder's output.

    Args:
        library: the decoder gives shares of the item's total instead.

    >>> Poisson()(torch.zeros(5, 1, 8)).mean.max()
    tensor(1.)
    """

    def __init__(self, *, library: bool = False):
        super().__init__()
        self._keep(library)

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.Poisson:
        return distributions.Poisson(self._log_rate(parameters.squeeze(1)), event_dims=parameters.dim() - 2)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return self._started(mean)[None]


class NegativeBinomial(_Counts):
    """Counts with the variance `m + m^2 / r` about the mean m; the inverse dispersion r is learned by gradient.

    Args:
        shape: () for one inverse dispersion, or the event shape for one a feature.
        library: the decoder gives shares of the item's total instead of means.

    >>> NegativeBinomial((8,))(torch.zeros(5, 1, 8)).variance.max().item()
    2.0
    """

    def __init__(self, shape: Sequence[int] = (), *, library: bool = False):
        super().__init__()
        self.shape = tuple(shape)
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(self.shape))
        self._keep(library)

    @classmethod
    def suited(cls, known: Known) -> "NegativeBinomial":
        return cls(known.event_shape)

    def start(self, x: Float[Tensor, " items *event"]) -> None:
        with torch.no_grad():
            self.log_inverse_dispersion.copy_(_first_dispersion(x, self.library, self.shape))

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.NegativeBinomial:
        rate, log_r = self._log_rate(parameters.squeeze(1)), _bounded(self.log_inverse_dispersion)
        return distributions.NegativeBinomial(rate, log_r, event_dims=parameters.dim() - 2)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return self._started(mean)[None]


class ZeroInflatedNegativeBinomial(_Counts):
    """Counts of single cells: `mean = library * share`, overdispersed, with further zeros; scVI, Lopez et al. (2018).

    The decoder gives the shares and the logit of a further zero; the inverse dispersion is learned by gradient, and
    the library size is the item's own total.

    Args:
        shape: () for one inverse dispersion, or the event shape for one a feature.
        library: False lets the decoder give means in the place of shares.

    >>> ZeroInflatedNegativeBinomial((8,))(torch.zeros(5, 2, 8)).mean.shape
    torch.Size([5, 8])
    """

    parameters_per_value = 2

    def __init__(self, shape: Sequence[int] = (), *, library: bool = True):
        super().__init__()
        self.shape = tuple(shape)
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(self.shape))
        self._keep(library)

    @classmethod
    def suited(cls, known: Known) -> "ZeroInflatedNegativeBinomial":
        return cls(known.event_shape)

    def start(self, x: Float[Tensor, " items *event"]) -> None:
        with torch.no_grad():
            self.log_inverse_dispersion.copy_(_first_dispersion(x, self.library, self.shape))

    def forward(
        self, parameters: Float[Tensor, " batch parameters *event"]
    ) -> distributions.ZeroInflatedNegativeBinomial:
        rate, log_r = self._log_rate(parameters[:, 0]), _bounded(self.log_inverse_dispersion)
        zero = parameters[:, 1]
        return distributions.ZeroInflatedNegativeBinomial(rate, log_r, zero, event_dims=zero.dim() - 1)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        zero = torch.full_like(mean, _FIRST_ZERO_LOGIT)
        return torch.stack([self._started(mean, kept=1 / (1 + math.exp(_FIRST_ZERO_LOGIT))), zero])


def _first_dispersion(x: Tensor, library: bool, shape: tuple[int, ...]) -> Tensor:
    """log r by moments about `s_i m`, the features' means m times the items' totals s_i over their mean (or 1).

    `sum_i (x_i - s_i m)^2 - s_i m = m^2 / r sum_i s_i^2` in expectation. What the codes will explain is in it still, so
    r starts too low; gradients alone would take thousands of steps to where it starts.
    """
    observed, counts = (~x.isnan()).to(x), x.nan_to_num(0.0)
    totals = counts.flatten(1).sum(1)
    relative = totals / totals.mean().clamp_min(_RAREST) if library else torch.ones_like(totals)
    sizes = relative.reshape(-1, *[1] * (x.dim() - 1)) * observed
    mean = counts.sum(0) / sizes.sum(0).clamp_min(_RAREST)
    excess = ((counts - sizes * mean).square() - sizes * mean).sum(0)
    expected = mean.square() * sizes.square().sum(0)
    if not shape:
        excess, expected = excess.sum(), expected.sum()
    return (expected / excess.clamp_min(_RAREST)).clamp(*_FIRST_DISPERSIONS).log()


def _bounded(log_inverse_dispersion: Tensor) -> Tensor:
    return log_inverse_dispersion.clamp(-_LOG_DISPERSION_LIMIT, _LOG_DISPERSION_LIMIT)
