"""Gradients of draws: the mean over draws is the derivative of the expectation, by closed form or quadrature.

Every draw has parameters of its own, so that its gradient is seen alone and the standard error is that of the draws.
"""

import math

import pytest
import torch
from scipy import integrate, stats

from gapless.distributions import Flowed, FullNormal, Laplace, LowRankNormal, PoincareNormal
from gapless.distributions.bijections import MARGIN, PlanarTransform

DRAWS = 40_000


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WAY = double(0.6, -1.1, 0.4)
LOC, SCALE = double(0.3, -0.8, 1.2), double(0.5, 1.4, 0.8)


def along(z):
    """(a . z)^2"""
    return (z @ WAY).square()


def squares(z):
    return z.square().sum(-1)


def low_rank():
    """E (a.z)^2 = (a.loc)^2 + sum_j a_j^2 s_j^2 + |F^T a|^2."""
    factor = randn(3, 2, seed=1)
    truth = {"loc": 2 * (WAY @ LOC) * WAY, "scale": 2 * WAY.square() * SCALE}
    truth["factor"] = 2 * torch.outer(WAY, factor.T @ WAY)
    return LowRankNormal, {"loc": LOC, "scale": SCALE, "factor": factor}, along, truth, "closed form"


def full():
    """E (a.z)^2 = (a.loc)^2 + |L^T a|^2, of a lower triangular L."""
    factor = torch.tril(randn(3, 3, seed=2), -1) + SCALE.diag()
    truth = {"loc": 2 * (WAY @ LOC) * WAY, "factor": 2 * torch.outer(WAY, factor.T @ WAY)}
    return FullNormal, {"loc": LOC, "factor": factor}, along, truth, "closed form"


def laplace():
    """E z^3 = loc^3 + 6 loc b^2, as Var z = 2 b^2."""
    truth = {"loc": 3 * LOC.square() + 6 * SCALE.square(), "scale": 12 * LOC * SCALE}
    return Laplace, {"loc": LOC, "scale": SCALE}, lambda z: z.pow(3).sum(-1), truth, "closed form"


def line():
    """On a line the ball is flat in geodesic lengths rho: z = tanh(sqrt(c) rho / 2) / sqrt(c), rho normal."""
    c, loc, scale = 0.8, 0.45, 0.7
    root = math.sqrt(c)
    centre = 2 / root * math.atanh(root * loc)

    def slope(of):
        def inner(eps):
            bent = math.tanh(root * (centre + scale * eps) / 2)
            return stats.norm.pdf(eps) * of(eps) * 2 * bent / root * (1 - bent**2) / 2  # d z^2 / d rho

        return integrate.quad(inner, -12, 12, epsabs=1e-12, limit=200)[0]

    truth = {"loc": double(slope(lambda eps: 2 / (1 - c * loc**2))), "scale": double(slope(lambda eps: eps))}
    return (lambda loc, scale: PoincareNormal(loc, scale, c)), {"loc": double(loc), "scale": double(scale)}, squares, \
        truth, "quadrature in geodesic lengths"  # fmt: skip


def disc():
    """About the centre of a disc |z| = tanh(sqrt(c) r / 2) / sqrt(c), r a Rayleigh length; both scales together."""
    c, scale = 1.3, 0.9
    root = math.sqrt(c)

    def inner(r):  # of r = scale t
        bent = math.tanh(root * scale * r / 2)
        return stats.rayleigh.pdf(r) * 2 * bent / root * (1 - bent**2) / 2 * r

    truth = double(integrate.quad(inner, 0, 12, epsabs=1e-12)[0])
    return (lambda scale: PoincareNormal(torch.zeros(len(scale), 2).double(), scale.expand(-1, 2), c)), \
        {"scale": double(scale)}, squares, {"scale": truth}, "quadrature over a Rayleigh length"  # fmt: skip


def planar():
    """z = loc + scale (t + v tanh(w t + b)), v w = log(1 + exp(u w)) - 1 + a margin: E z^2 by quadrature over t."""
    at = {"loc": 0.4, "scale": 1.3, "u": 0.9, "w": 1.7, "b": -0.6}

    def square(loc, scale, u, w, b):
        bent = (math.log1p(math.exp(u * w)) - 1 + MARGIN) / w
        inner = lambda t: stats.norm.pdf(t) * (loc + scale * (t + bent * math.tanh(w * t + b))) ** 2  # noqa: E731
        return integrate.quad(inner, -10, 10, epsabs=1e-12, epsrel=1e-12, limit=200)[0]

    truth = {}
    for name, value in at.items():
        ends = [square(**{**at, name: value + step}) for step in (1e-4, -1e-4)]
        truth[name] = double((ends[0] - ends[1]) / 2e-4)

    def make(loc, scale, u, w, b):
        return Flowed(loc, scale, PlanarTransform(u, w, b[..., 0]))

    return make, {name: double(value) for name, value in at.items()}, squares, truth, "quadrature, differences of 1e-4"


CASES = {
    "FullNormal": full, "LowRankNormal": low_rank, "Laplace": laplace, "PoincareNormal, on a line": line,
    "PoincareNormal, on a disc": disc, "Flowed, planar": planar,
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_mean_gradient_of_draws_is_the_derivative_of_the_expectation(name, ledger):
    make, parameters, of, truths, oracle = CASES[name]()
    kind, _, where = name.partition(", ")
    where = where and f" ({where})"
    own = {key: value.expand(DRAWS, *value.shape).clone().requires_grad_() for key, value in parameters.items()}
    drawn = make(**own).rsample((), generator=torch.Generator().manual_seed(11))
    found = torch.autograd.grad(of(drawn).sum(), list(own.values()))
    for (key, truth), gradient in zip(truths.items(), found, strict=True):
        error = (gradient.std(0) / math.sqrt(DRAWS)).clamp_min(1e-12)
        worst = ((gradient.mean(0) - truth) / error).abs().flatten()
        at = int(worst.argmax())
        ledger(
            f"{kind}.rsample", f"derivative of an expectation{where} in {key}, worst of {worst.numel()}", oracle=oracle,
            truth=truth.flatten()[at], measured=gradient.mean(0).flatten()[at], tolerance=4.5 * error.flatten()[at],
            why="4.5 standard errors of 40,000 draws, the worst of several",
        )  # fmt: skip
