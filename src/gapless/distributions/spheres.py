"""Directions: distributions on the unit sphere S^(d-1) in d dimensions."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import register_kl
from torch.nn import functional

from gapless.distributions.bessel import bessel, exact
from gapless.distributions.seeded import Located, Seeded
from gapless.randomness import noise

__all__ = ["UniformOnSphere", "VonMisesFisher"]


def log_area(dimension: int) -> float:
    """Logarithm of the area of the unit sphere in so many dimensions: `log 2 pi^(d/2) / Gamma(d/2)`."""
    return math.log(2) + dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2)


class UniformOnSphere(Seeded):
    """Every direction alike: log-density `-log area` on the unit sphere.

    Args:
        zero: any tensor of shape (dimension,): says type and device.

    >>> (1 / UniformOnSphere(torch.zeros(3)).log_prob(torch.tensor([0.0, 0.0, 1.0])).exp()).round(decimals=4)
    tensor(12.5664)
    """

    def __init__(self, zero: Float[Tensor, " dimension"]):
        self.zero, self.dimension = zero, zero.shape[-1]
        super().__init__(zero.shape)

    @property
    def mean(self) -> Tensor:
        return torch.zeros_like(self.zero)

    @property
    def stddev(self) -> Tensor:
        return torch.full_like(self.zero, self.dimension**-0.5)

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Unit vectors, shape (*sample_shape, dimension)."""
        drawn = noise(torch.randn, (*sample_shape, self.dimension), like=self.zero, generator=generator)
        return functional.normalize(drawn, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of points on the sphere, shape (*samples,)."""
        return value.new_full(value.shape[:-1], -log_area(self.dimension))


class VonMisesFisher(Located):
    """`q(z) = C_d(kappa) exp(kappa mu'z)` on the unit sphere: Davidson et al. (2018).

    `mean` is mu, the mean direction: the mean on the sphere and the mode, a point that a decoder of directions knows.
    The mean in space, `E z = A_d(kappa) mu`, lies inside the ball: it is `mean_in_space`. `stddev` is the standard
    deviation of each coordinate about that.

    Draws are `z = w mu + sqrt(1 - w^2) v`, v uniform across mu, w by rejection (Wood 1994). Their gradient is pathwise:
    in mu through a Householder reflection that carries the axis to mu, in kappa by implicit reparameterization
    (Figurnov et al. 2018), `dw/dkappa = -(dF/dkappa) / f` with the distribution function F of the accepted w, so no
    correction for the rejections is left over.

    Args:
        direction: mu, unit vectors of shape (*batch, d), d at least 2.
        concentration: kappa, above 0, shape (*batch,).

    >>> q = VonMisesFisher(torch.eye(3)[:1], torch.tensor([50.0]))
    >>> q.rsample((4,)).norm(dim=-1).shape
    torch.Size([4, 1])
    """

    def __init__(self, direction: Float[Tensor, "*batch d"], concentration: Float[Tensor, "*batch"]):
        self.loc = self.direction = direction
        self.concentration = concentration
        self.dimension = direction.shape[-1]
        self._kappa, self._bessel = exact(concentration), bessel(concentration, self.dimension)
        self._log_area = log_area(self.dimension)
        super().__init__(direction.shape)

    @property
    def mean_in_space(self) -> Tensor:
        """E z = A_d(kappa) mu, inside the ball; shape (*batch, d)."""
        return self._known(self._bessel.ratio, self._bessel.slope)[..., None] * self.direction

    @property
    def variance(self) -> Tensor:
        along, across = (v.to(self.direction) for v in (self._bessel.slope, self._bessel.ratio / self._kappa))
        return across[..., None] + (along - across)[..., None] * self.direction.square()

    @property
    def stddev(self) -> Tensor:
        return self.variance.clamp_min(0).sqrt()

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, d)."""
        fall = self._fall((*sample_shape, *self.batch_shape), generator)
        tangent = noise(torch.randn, (*fall.shape, self.dimension - 1), like=self.direction, generator=generator)
        across = reflected(functional.normalize(tangent, dim=-1), self.direction)
        return (1 - 2 * fall)[..., None] * self.direction + 2 * (fall * (1 - fall)).sqrt()[..., None] * across

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats on the sphere, shape (*samples, *batch)."""
        cosine = (self.direction * value).sum(-1)
        return self.concentration * cosine - self._known(self._bessel.log_mean, self._bessel.ratio) - self._log_area

    def entropy(self) -> Tensor:
        """Differential entropy on the sphere in nats, shape (*batch,)."""
        return self._log_area - self.information()

    def information(self) -> Tensor:
        """KL to the uniform distribution on the sphere, `kappa A_d(kappa) - G(kappa)` in nats, shape (*batch,)."""
        return self._known(self._kappa * self._bessel.ratio - self._bessel.log_mean, self._kappa * self._bessel.slope)

    def _known(self, value: Tensor, slope: Tensor) -> Tensor:
        """A function of kappa whose value and derivative are known; it has no second derivative."""
        kappa = self.concentration
        return value.to(kappa) + slope.to(kappa) * (kappa - kappa.detach())

    def _fall(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        """u = (1 - w) / 2 of draws w: how far they fall from mu to -mu; differentiable in kappa."""
        kappa = self.concentration.expand(shape)
        fall = accepted(kappa.detach(), self.dimension, generator)
        if not (torch.is_grad_enabled() and kappa.requires_grad):
            return fall
        slope = fall_slope(fall, kappa, 1 - self._bessel.ratio, self.dimension).to(fall)
        return fall + slope * (kappa - kappa.detach())


def reflected(tangent: Float[Tensor, "*samples across"], mu: Float[Tensor, "*batch d"]) -> Float[Tensor, "*samples d"]:
    """(0, tangent) under the reflection that carries the first axis to mu or -mu, whichever is farther."""
    sign = torch.where(mu[..., :1] < 0, -1.0, 1.0)
    normal = torch.cat([mu[..., :1] + sign, mu[..., 1:]], -1)
    share = 2 * (normal[..., 1:] * tangent).sum(-1, keepdim=True) / normal.square().sum(-1, keepdim=True)
    return functional.pad(tangent, (1, 0)) - share * normal


@torch.no_grad()
def accepted(kappa: Tensor, dimension: int, generator: torch.Generator | None) -> Tensor:
    """Draws of u = (1 - w) / 2 with density proportional to `exp(-2 kappa u) (u (1 - u))^((d - 3) / 2)`: Wood (1994).

    Written in u, which keeps its digits near 0, where a concentrated w crowds at 1.
    """
    flat = kappa.flatten()
    found, left = torch.zeros_like(flat), torch.arange(len(flat), device=kappa.device)
    while len(left):
        u, taken = _proposed(flat[left], dimension - 1, generator)
        found[left[taken]] = u[taken]
        left = left[~taken]
    limits = torch.finfo(kappa.dtype)
    return found.clamp(limits.tiny, 1 - limits.eps).reshape(kappa.shape)


def _proposed(kappa: Tensor, rest: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """One proposal each, and which of them are accepted."""
    b = rest / (2 * kappa + torch.sqrt(4 * kappa.square() + rest**2))
    x0 = (1 - b) / (1 + b)
    # Beta(rest / 2, rest / 2) is the share that one of two squared lengths has of their sum.
    one, two = noise(torch.randn, (2, len(kappa), rest), like=kappa, generator=generator).square().sum(-1)
    beta = one / (one + two)
    u = b * beta / (1 - (1 - b) * beta)
    level = torch.log(2 * b / (1 + b) + 2 * x0 * u) - torch.log(4 * b / (1 + b) ** 2)
    log_share = kappa * (2 * b / (1 + b) - 2 * u) + rest * level
    return u, log_share >= torch.log(noise(torch.rand, (len(kappa),), like=kappa, generator=generator))


_STEP = 0.12
_T = torch.arange(-27, 38, dtype=torch.float64) * _STEP
_NODES = torch.exp(_T - torch.exp(-_T))
_WEIGHTS = _STEP * _NODES * (1 + torch.exp(-_T))
"""Integrals over (0, inf) of what falls exponentially: double exponential rule of Takahasi & Mori (1974)."""


@torch.no_grad()
def fall_slope(fall: Tensor, kappa: Tensor, rest: Tensor, dimension: int) -> Tensor:
    """du/dkappa at fixed F(u; kappa): implicit reparameterization, in float64, of the shape of `fall`.

    In y = log u / (1 - u), with density f: `dy/dkappa = int_y^inf (1 - A - 2 u') f(y') dy' / f(y)`, and the same with
    the sign changed from -inf to y. Of the two that is taken whose integrand does not change its sign.

    Args:
        fall: u = (1 - w) / 2, shape (*samples, *batch).
        kappa: concentrations, broadcastable.
        rest: 1 - A(kappa), float64, broadcastable.
        dimension: d.
    """
    u, kappa, half = exact(fall), exact(kappa), (dimension - 1) / 2
    y, width = torch.log(u) - torch.log1p(-u), u * (1 - u)
    side = torch.where(2 * u < rest, -1.0, 1.0).to(u)
    steep = (half * (1 - 2 * u) - 2 * kappa * width).abs()
    curved = (width * (2 * kappa * (1 - 2 * u) + 2 * half)).clamp_min(0)
    scale = 1 / (steep + curved.sqrt())
    there = y[..., None] + (side * scale)[..., None] * _NODES.to(u.device)
    below, above = functional.logsigmoid(there), functional.logsigmoid(-there)
    log_density = -2 * kappa[..., None] * below.exp() + half * (below + above)
    here = -2 * kappa * u + half * (torch.log(u) + torch.log1p(-u))
    values = (rest[..., None] - 2 * below.exp()) * torch.exp(log_density - here[..., None])
    return width * side * scale * (values @ _WEIGHTS.to(u.device))


@register_kl(VonMisesFisher, UniformOnSphere)
def _fisher_uniform(q: VonMisesFisher, p: UniformOnSphere) -> Tensor:
    return q.information()
