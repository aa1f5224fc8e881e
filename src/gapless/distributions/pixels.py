"""Intensities in [0, 1]: continuous, or in levels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gapless.distributions.factorized import Factorized

__all__ = ["ContinuousBernoulli", "DiscretisedLogistic", "DiscretisedLogisticMixture"]

_NEAR = 0.3
"""Below this |h| the series of log(sinh h / h) is used: seven terms leave 16 digits of it and its slopes."""
_SERIES = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250, 2 / 127702575)
"""Coefficients of h^2, h^4, ... in log(sinh h / h): 2^(2n-1) B_2n / (n (2n)!)."""


class ContinuousBernoulli(Factorized):
    """Independent values in [0, 1] with a density: Loaiza-Ganem & Cunningham (2019).

    `p(x) = C(p) p^x (1 - p)^(1 - x)` is, with the logit l, `exp(l x) l / (exp(l) - 1)`, hence
    `log p(x) = l (x - 1/2) - log(sinh(h) / h)` with h = l / 2: even in l, and smooth at 0, the uniform density.

    Args:
        logits: l, shape (*batch, *event), any real.
        event_dims: how many trailing axes make one example.

    >>> ContinuousBernoulli(torch.zeros(1, 2)).log_prob(torch.rand(1, 2))
    tensor([0.])
    """

    def __init__(self, logits: Tensor, *, event_dims: int = 1):
        self.logits = logits
        super().__init__(logits, event_dims)

    @property
    def mean(self) -> Tensor:
        return 0.5 + 0.5 * _log_sinhc_slope(0.5 * self.logits)

    @property
    def mode(self) -> Tensor:
        return (self.logits > 0).to(self.logits.dtype)

    @property
    def variance(self) -> Tensor:
        return 0.25 * _log_sinhc_curvature(0.5 * self.logits)

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws by the inverse of the distribution function, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            uniform = self._noise(sample_shape, self.logits, generator, torch.rand)
            steep = self.logits.abs().clamp_min(torch.finfo(self.logits.dtype).tiny)
            falling = (-torch.log1p(uniform * torch.expm1(-steep)) / steep).clamp(0, 1)
            return torch.where(self.logits > 0, 1 - falling, falling)

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-density of each feature in nats, shape (*samples, *batch, *event)."""
        return (value - 0.5) * self.logits - _log_sinhc(0.5 * self.logits)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (*batch,)."""
        return self._sum(_log_sinhc(0.5 * self.logits) - (self.mean - 0.5) * self.logits)


class DiscretisedLogistic(Factorized):
    """Independent intensities in levels, each the logistic's mass in its bin: Salimans et al. (2017).

    With `levels` L, half a bin `d = 1 / (2 (L - 1))` and the logistic function S,
    `P(x) = S((x + d - loc) / scale) - S((x - d - loc) / scale)`; what lies below belongs to 0, what lies above to 1.
    A value between two levels counts as the nearest.

    Args:
        loc: centre, shape (*batch, *event), any real.
        scale: of the logistic, broadcastable to loc, above 0.
        levels: how many, at least 2: 0, 1 / (levels - 1), ..., 1.
        event_dims: how many trailing axes make one example.

    >>> DiscretisedLogistic(torch.full((1, 2), 0.5), torch.ones(()), levels=2).log_prob(torch.ones(1, 2))
    tensor([-1.3863])
    """

    def __init__(self, loc: Tensor, scale: Tensor, *, levels: int = 256, event_dims: int = 1):
        self.loc, self.scale, self.levels = loc, scale, levels
        super().__init__(loc, event_dims)

    @property
    def mean(self) -> Tensor:
        """The mean of the logistic with its tails folded; that of the levels is within half a bin of it.

        They agree to exp(-pi^2 scale / d): no difference unless the scale is well below a bin.
        """
        return folded_mean(self.loc, self.scale)

    @property
    def mode(self) -> Tensor:
        ends = torch.zeros_like(self.loc), torch.ones_like(self.loc)
        return _likeliest(self, (_nearest(self.loc, self.levels), *ends))

    @property
    def variance(self) -> Tensor:
        return _variance(self, self.levels)

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws, each of them a level, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            uniform = self._noise(sample_shape, self.loc, generator, torch.rand)
            return _nearest(self.loc + self.scale * torch.logit(uniform), self.levels)

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-probability of each feature in nats, shape (*samples, *batch, *event)."""
        return _log_mass(value, self.loc, self.scale, self.levels)


class DiscretisedLogisticMixture(Factorized):
    """Independent intensities of some levels, each from a mixture of discretised logistics: Salimans et al. (2017).

    Every value has its own mixture; nothing ties the colours of a pixel.

    Args:
        logits: of the components' weights, shape (*batch, components, *event).
        loc: centres, of the shape of logits.
        scale: scales, of the shape of logits, above 0.
        levels: how many, at least 2.
        event_dims: how many trailing axes make one example; the components' axis stands before them.

    >>> mixture = DiscretisedLogisticMixture(torch.zeros(4, 3, 8), torch.zeros(4, 3, 8), torch.ones(4, 3, 8), levels=9)
    >>> mixture.mean.shape, mixture.event_shape
    (torch.Size([4, 8]), torch.Size([8]))
    """

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, *, levels: int = 256, event_dims: int = 1):
        self.axis = -1 - event_dims
        self.log_weights, self.loc, self.scale, self.levels = logits.log_softmax(self.axis), loc, scale, levels
        super().__init__(loc.select(self.axis, 0), event_dims)

    @property
    def mean(self) -> Tensor:
        """The mean of the components' means; see `DiscretisedLogistic.mean`."""
        return (self.log_weights.exp() * folded_mean(self.loc, self.scale)).sum(self.axis)

    @property
    def mode(self) -> Tensor:
        """The likeliest of the components' centres and the ends."""
        zero = torch.zeros_like(self.loc.select(self.axis, 0))
        return _likeliest(self, (*_nearest(self.loc, self.levels).unbind(self.axis), zero, zero + 1))

    @property
    def variance(self) -> Tensor:
        return _variance(self, self.levels)

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws, each of them a level, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            which, uniform = (self._noise(sample_shape, self.loc, generator, torch.rand) for _ in range(2))
            below = self.log_weights.exp().cumsum(self.axis).narrow(self.axis, 0, self.loc.shape[self.axis] - 1)
            chosen = (which.unsqueeze(self.axis) >= below).sum(self.axis, keepdim=True)
            shape = (*uniform.shape[: len(sample_shape)], *self.loc.shape)
            loc, scale = (v.expand(shape).gather(self.axis, chosen).squeeze(self.axis) for v in (self.loc, self.scale))
            return _nearest(loc + scale * torch.logit(uniform), self.levels)

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """Log-probability of each feature in nats, shape (*samples, *batch, *event)."""
        each = _log_mass(value.unsqueeze(self.axis), self.loc, self.scale, self.levels)
        return (self.log_weights + each).logsumexp(self.axis)


def folded_mean(loc: Tensor, scale: Tensor) -> Tensor:
    """The mean of a logistic whose tails are folded onto 0 and 1: `scale log (1 + e^a) / (1 + e^b)`.

    It is the integral over t in [0, 1] of S((loc - t) / scale); a = loc / scale, b = (loc - 1) / scale.
    """
    return scale * (functional.softplus(loc / scale) - functional.softplus((loc - 1) / scale))


def _log_mass(value: Tensor, loc: Tensor, scale: Tensor, levels: int) -> Tensor:
    # S(a) - S(b) = S(a) S(-b) (1 - exp(b - a)): exact however far out the bin lies.
    value, half = _nearest(value, levels), 0.5 / (levels - 1)
    below, above = (functional.logsigmoid(v / scale) for v in (value + half - loc, loc - value + half))
    inside = below + above + torch.log(-torch.expm1(-2 * half / scale))
    return torch.where(value < half, below, torch.where(value > 1 - half, above, inside))


def _nearest(value: Tensor, levels: int) -> Tensor:
    return (value * (levels - 1)).round().clamp(0, levels - 1) / (levels - 1)


def _likeliest(distribution: Factorized, candidates: Sequence[Tensor]) -> Tensor:
    values = torch.stack(tuple(candidates))
    best = distribution.log_prob_per_feature(values).argmax(0, keepdim=True)
    return values.gather(0, best)[0]


def _variance(distribution: Factorized, levels: int) -> Tensor:
    """By the sum over the levels, one after another: the memory of one."""
    first = second = torch.zeros_like(distribution.mean)
    for level in range(1, levels):
        value = torch.full_like(first, level / (levels - 1))
        mass = distribution.log_prob_per_feature(value).exp()
        first, second = first + mass * value, second + mass * value.square()
    return (second - first.square()).clamp_min(0)


def _log_sinhc(h: Tensor) -> Tensor:
    """`log(sinh h / h)`, with gradients that are right at 0 and far out."""
    far = _far(h)
    size = far.abs()
    outer = size - torch.log(2 * size) + torch.log(-torch.expm1(-2 * size))
    square = _near(h).square()
    return torch.where(h.abs() < _NEAR, square * _polynomial(_SERIES, square), outer)


def _log_sinhc_slope(h: Tensor) -> Tensor:
    """Its first derivative, `coth h - 1/h`, the Langevin function."""
    far, near = _far(h), _near(h)
    series = [2 * n * c for n, c in enumerate(_SERIES, 1)]
    return torch.where(h.abs() < _NEAR, near * _polynomial(series, near.square()), 1 / far.tanh() - 1 / far)


def _log_sinhc_curvature(h: Tensor) -> Tensor:
    """Its second derivative, `1/h^2 - 1/sinh^2 h`."""
    far, decay = _far(h), torch.exp(-2 * _far(h).abs())
    series = [2 * n * (2 * n - 1) * c for n, c in enumerate(_SERIES, 1)]
    outer = 1 / far.square() - 4 * decay / (1 - decay).square()
    return torch.where(h.abs() < _NEAR, _polynomial(series, _near(h).square()), outer)


def _near(h: Tensor) -> Tensor:
    return h.clamp(-_NEAR, _NEAR)


def _far(h: Tensor) -> Tensor:
    # What `where` does not take must be finite, too: its gradient is multiplied by 0.
    return torch.where(h.abs() < _NEAR, torch.ones_like(h), h)


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total
