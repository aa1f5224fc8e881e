"""Distributions whose sampling takes a generator and whose log-density is summed over an example's features.

torch.distributions draws from the global generator only, has no point mass, and spends a pass per feature where one
fused sum will do; what is here differs from it in nothing else, and is tested against it.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence, register_kl
from torch.nn import functional

from gapless.errors import UsageError

__all__ = ["Bernoulli", "DiagonalNormal", "PointMass", "divergence", "divergence_per_feature", "reparameterize"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def reparameterize(loc: Tensor, scale: Tensor, eps: Tensor) -> Tensor:
    """The reparameterization trick: `z = loc + scale * eps`, a draw that is differentiable in what it was drawn from.

    `eps ~ N(0, I)` is a constant to the derivative, so `dz/dloc = 1` and `dz/dscale = eps`, exactly.
    Kingma & Welling (2014), section 2.4. This is the only place in gapless where it stands.

    Args:
        loc: mean, shape (*batch, *event).
        scale: standard deviation, broadcastable to `loc`, at least 0.
        eps: standard normal noise, shape (*samples, *batch, *event); it gets no gradient.

    Returns:
        z, of the shape of `eps`.

    >>> reparameterize(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([0.5]))
    tensor([2.])
    """
    return loc + scale * eps.detach()


class _Summed(Distribution):
    """A distribution over examples of `event_dims` axes whose features are independent given its parameters."""

    arg_constraints: ClassVar[dict] = {}  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, parameter: Tensor, event_dims: int):
        self.event_dims = event_dims
        split = parameter.dim() - event_dims
        super().__init__(parameter.shape[:split], parameter.shape[split:], validate_args=False)

    def _sum(self, values: Tensor) -> Tensor:
        return values.flatten(values.dim() - self.event_dims).sum(-1) if self.event_dims else values

    def _noise(self, sample_shape: Sequence[int], like: Tensor, generator: torch.Generator | None, draw) -> Tensor:
        # A CPU generator serves every device, so that the same seed gives the same noise everywhere.
        device = generator.device if generator is not None else like.device
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        return draw(shape, generator=generator, device=device, dtype=like.dtype).to(like.device, non_blocking=True)


class DiagonalNormal(_Summed):
    """Normal with independent features: `N(loc, diag(scale^2))`, log-density summed over the event.

    Args:
        loc: mean, shape (*batch, *event).
        scale: standard deviation, broadcastable to `loc`, above 0.
        event_dims: how many trailing axes make one example.

    >>> DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2)).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, *, event_dims: int = 1):
        self.loc, self.scale = loc, scale
        super().__init__(loc, event_dims)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return self.scale.expand_as(self.loc)

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()

    def rsample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, *event)."""
        return reparameterize(self.loc, self.scale, self._noise(sample_shape, self.loc, generator, torch.randn))

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws without gradient, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, summed over the event: shape (*batch,)."""
        if self.scale.dim() == 0:  # one scale for all: it is applied to sums
            squares = self._sum((value - self.loc).square())
            return -0.5 * squares / self.scale.square() - self.event_shape.numel() * (self.scale.log() + _HALF_LOG_2PI)
        standardised = (value - self.loc) / self.scale
        return -self._sum(0.5 * standardised.square() + self.scale.log() + _HALF_LOG_2PI)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (*batch,)."""
        return self._sum(self.stddev.log() + 0.5 + _HALF_LOG_2PI)


class PointMass(_Summed):
    """All mass on one point: the code of an autoencoder. It has no density; its KL to any density is infinite.

    Args:
        loc: the point, shape (*batch, *event).
        event_dims: how many trailing axes make one example.

    >>> PointMass(torch.ones(3, 2)).rsample((4,)).shape
    torch.Size([4, 3, 2])
    """

    has_rsample = True

    def __init__(self, loc: Tensor, *, event_dims: int = 1):
        self.loc = loc
        super().__init__(loc, event_dims)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return torch.zeros_like(self.loc)

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.loc)

    def rsample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The point itself, repeated: shape (*sample_shape, *batch, *event)."""
        return self.loc.expand((*sample_shape, *self.loc.shape))

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The point itself without gradient."""
        return self.rsample(sample_shape).detach()


class Bernoulli(_Summed):
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

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Bits as 0.0 and 1.0, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            uniform = self._noise(sample_shape, self.logits, generator, torch.rand)
            return (uniform < self.mean).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, summed over the event: shape (*batch,)."""
        if value.shape == self.logits.shape and value.dtype == self.logits.dtype:  # the same in one pass
            return -self._sum(functional.binary_cross_entropy_with_logits(self.logits, value, reduction="none"))
        return self._sum(value * self.logits - functional.softplus(self.logits))

    def entropy(self) -> Tensor:
        """Entropy in nats, shape (*batch,)."""
        return self._sum(functional.softplus(self.logits) - self.mean * self.logits)


def divergence(q: Distribution, p: Distribution, z: Tensor | None = None) -> Float[Tensor, " *batch"]:
    """KL(q || p) in nats: in closed form where one is registered, else estimated by the samples `z`.

    `KL(q || p) = E_q[log q(z) - log p(z)]`; the estimate is the mean of that difference over `z ~ q`.

    Args:
        q: batch_shape (*batch,), event_shape (latent,).
        p: batch_shape () or (*batch,), event_shape (latent,).
        z: samples of q, shape (samples, *batch, latent); needed only where no closed form is known.

    Returns:
        One value an example, at least 0 in closed form, infinite for a point mass.

    Raises:
        UsageError: no closed form is known and no samples were given.
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        if z is None:
            raise UsageError(
                f"no closed form of KL({type(q).__name__} || {type(p).__name__}) is known and no samples were given",
                fix="pass z, samples of q of shape (samples, *batch, latent)",
            ) from None
        return (q.log_prob(z) - p.log_prob(z)).mean(0)


def divergence_per_feature(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q || p) for each latent feature in nats, shape (*batch, *event); None where it does not split so."""
    if isinstance(q, DiagonalNormal) and isinstance(p, DiagonalNormal):
        ratio = q.scale / p.scale
        return 0.5 * (ratio.square() + ((q.loc - p.loc) / p.scale).square() - 1) - ratio.log()
    return None


@register_kl(DiagonalNormal, DiagonalNormal)
def _normal_normal(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    per_feature = divergence_per_feature(q, p)
    assert per_feature is not None
    return q._sum(per_feature)


@register_kl(PointMass, Distribution)
def _point_density(q: PointMass, p: Distribution) -> Tensor:
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    return torch.full(shape, math.inf, dtype=q.loc.dtype, device=q.loc.device)
