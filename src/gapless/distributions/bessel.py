"""Modified Bessel functions of the first kind, as directions need them: logarithms and ratios that neither overflow
nor cancel, for every dimension and concentration.

With `nu = d/2 - 1`, `G(kappa) = log 0F1(nu + 1; kappa^2 / 4) = log[Gamma(nu + 1) (2 / kappa)^nu I_nu(kappa)]` is the
logarithm of the mean of exp(kappa z_1) over the unit sphere; it is 0 at kappa = 0, and its derivative is the ratio
`A(kappa) = I_(nu+1)(kappa) / I_nu(kappa)`.
"""

import functools
import math
from typing import NamedTuple

import torch
from numpy.polynomial import Polynomial
from torch import Tensor

__all__ = []

LARGE = 40.0
"""From this order on the uniform expansion is exact to rounding; smaller orders are reached from it by recurrence."""
_TERMS = 9


class Bessel(NamedTuple):
    """Values in float64, each of the shape of kappa.

    Attributes:
        log_mean: G(kappa), in nats.
        ratio: A(kappa), from 0 to below 1.
        slope: dA/dkappa.
    """

    log_mean: Tensor
    ratio: Tensor
    slope: Tensor


@torch.no_grad()
def bessel(kappa: Tensor, dimension: int) -> Bessel:
    """G, A and dA/dkappa of directions in so many dimensions, at concentrations above 0.

    Backward recurrence from a large order, by which errors shrink: `A_nu = kappa / (2 (nu + 1) + kappa A_(nu+1))` and
    `G_nu = G_(nu+1) + log(1 + kappa A_(nu+1) / (2 (nu + 1)))`, both from I_(nu-1) - I_(nu+1) = 2 nu / kappa I_nu
    (Abramowitz & Stegun 1964, 9.6.26).
    """
    kappa = exact(kappa)
    order = dimension / 2 - 1
    steps = max(0, math.ceil(LARGE - order))
    log_mean, ratio = _uniform(kappa, order + steps)
    for step in reversed(range(steps)):
        twice = 2 * (order + step + 1)
        log_mean = log_mean + torch.log1p(kappa * ratio / twice)
        ratio = kappa / (twice + kappa * ratio)
    return Bessel(log_mean, ratio, 1 - ratio.square() - (dimension - 1) * ratio / kappa)


def exact(values: Tensor) -> Tensor:
    """The values as constants in float64, on the CPU where the device has none."""
    return values.detach().to("cpu" if values.device.type == "mps" else values.device, torch.float64)


def _uniform(kappa: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """G and A by the expansion that is uniform in kappa: Abramowitz & Stegun (1964), 9.7.7, and its derivative."""
    x = kappa / order
    root = torch.sqrt(1 + x.square())
    t = 1 / root
    terms = [(_debye(k), order**-k) for k in range(_TERMS)]
    series = sum(scale * _value(u, t) for u, scale in terms)
    slope = sum(scale * _value(u.deriv(), t) for u, scale in terms)
    # The order's own constant: what Stirling's formula leaves of log Gamma(order + 1).
    rest = math.lgamma(order + 1) - order * math.log(order) + order - 0.5 * math.log(2 * math.pi * order)
    log_mean = order * (x.square() / (1 + root) - torch.log((1 + root) / 2)) - 0.5 * torch.log(root)
    ratio = x / (1 + root) - x * t.square() / (2 * order) - x * t**3 / order * slope / series
    return log_mean + torch.log(series) + rest, ratio  # pyright: ignore[reportArgumentType]


@functools.cache
def _debye(k: int) -> Polynomial:
    """u_k(t), Abramowitz & Stegun (1964), 9.3.10."""
    if k == 0:
        return Polynomial([1.0])
    u, t = _debye(k - 1), Polynomial([0.0, 1.0])
    return 0.5 * t**2 * (1 - t**2) * u.deriv() + 0.125 * ((1 - 5 * t**2) * u).integ()


def _value(polynomial: Polynomial, t: Tensor) -> Tensor:
    value = torch.zeros_like(t)
    for coefficient in reversed(polynomial.coef.tolist()):
        value = value * t + coefficient
    return value
