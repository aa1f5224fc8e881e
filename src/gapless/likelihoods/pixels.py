"""Intensities in [0, 1]: with a density, or in levels."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gapless import distributions
from gapless.errors import UsageError
from gapless.likelihoods.likelihood import Known, Likelihood
from gapless.likelihoods.normals import SCALE_FLOOR

__all__ = ["ContinuousBernoulli", "DiscretisedLogistic", "DiscretisedLogisticMixture"]

_FIRST_SCALE = 0.1
_DARKEST = 0.02
"""Starting means are kept this far from 0 and 1: the logit of a continuous Bernoulli grows like 1 / mean."""


class ContinuousBernoulli(Likelihood):
    """Values in [0, 1] with a true density, from logits: Loaiza-Ganem & Cunningham (2019).

    A `Bernoulli` of grey values leaves its normalising constant out; this is the density it would have.

    >>> ContinuousBernoulli()(torch.zeros(5, 1, 8)).mean.shape
    torch.Size([5, 8])
    """

    support = (0.0, 1.0)

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.ContinuousBernoulli:
        logits = parameters.squeeze(1)
        return distributions.ContinuousBernoulli(logits, event_dims=logits.dim() - 1)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return _logits_of(mean.double().clamp(_DARKEST, 1 - _DARKEST)).to(mean)[None]


class DiscretisedLogistic(Likelihood):
    """Intensities of some levels, from the centre and the scale of a logistic each: Salimans et al. (2017).

    A probability, not a density: its logarithm is at most 0 and comparable between models.

    Args:
        levels: how many there are between 0 and 1, at least 2; 256 for images of 8 bits.

    >>> DiscretisedLogistic(17)(torch.zeros(5, 2, 8)).mean.shape
    torch.Size([5, 8])
    """

    support = (0.0, 1.0)
    discrete = True
    parameters_per_value = 2

    def __init__(self, levels: int = 256):
        super().__init__()
        self.levels = _checked(levels, "levels", 2)

    @classmethod
    def suited(cls, known: Known) -> "DiscretisedLogistic":
        return cls(_levels(known))

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.DiscretisedLogistic:
        loc, scale = parameters[:, 0], _scale(parameters[:, 1])
        return distributions.DiscretisedLogistic(loc, scale, levels=self.levels, event_dims=loc.dim() - 1)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return torch.stack(_centred(mean, torch.tensor(_FIRST_SCALE)))


class DiscretisedLogisticMixture(Likelihood):
    """Intensities of some levels, each from a mixture of discretised logistics: Salimans et al. (2017).

    Args:
        components: of each value's mixture, at least 1.
        levels: how many there are between 0 and 1, at least 2.

    >>> DiscretisedLogisticMixture(3)(torch.zeros(5, 9, 8)).mean.shape
    torch.Size([5, 8])
    """

    support = (0.0, 1.0)
    discrete = True

    def __init__(self, components: int = 5, *, levels: int = 256):
        super().__init__()
        self.components, self.levels = _checked(components, "components", 1), _checked(levels, "levels", 2)

    @classmethod
    def suited(cls, known: Known) -> "DiscretisedLogisticMixture":
        return cls(levels=_levels(known))

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Weights, centres and scales of the components: (3 components, *event)."""
        return (3 * self.components, *event_shape)

    def forward(
        self, parameters: Float[Tensor, " batch parameters *event"]
    ) -> distributions.DiscretisedLogisticMixture:
        logits, loc, raw = parameters.chunk(3, 1)
        dims = parameters.dim() - 2
        return distributions.DiscretisedLogisticMixture(logits, loc, _scale(raw), levels=self.levels, event_dims=dims)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        # Scales apart: components that were equal at the start would long stay so.
        scales = _FIRST_SCALE * 2.0 ** -torch.arange(self.components)
        loc, raw = (torch.stack(v) for v in zip(*(_centred(mean, scale) for scale in scales), strict=True))
        return torch.cat([torch.zeros_like(loc), loc, raw])


def _levels(known: Known) -> int:
    return 256 if known.step is None else round(1 / known.step) + 1


def _scale(raw: Tensor) -> Tensor:
    return SCALE_FLOOR + functional.softplus(raw)


def _centred(mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and raw scale under which a logistic with folded tails has this mean: `folded_mean` solved for loc."""
    m, s = mean.double().clamp(1e-3, 1 - 1e-3), SCALE_FLOOR + scale.double().to(mean.device)
    loc = s * (torch.log(torch.expm1(m / s)) - torch.log(-torch.expm1((m - 1) / s)))
    raw = torch.log(torch.expm1(s - SCALE_FLOOR))
    return loc.to(mean), raw.to(mean).expand_as(mean)


def _logits_of(mean: Tensor) -> Tensor:
    """The logits of continuous Bernoullis with these means, by bisection."""
    low, high = torch.full_like(mean, -2 / _DARKEST), torch.full_like(mean, 2 / _DARKEST)
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = distributions.ContinuousBernoulli(middle).mean > mean
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return 0.5 * (low + high)


def _checked(value: int, name: str, least: int) -> int:
    if value < least:
        raise UsageError(f"{name} is a whole number of at least {least}; got {value}")
    return value
