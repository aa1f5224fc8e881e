"""The wrapped normal on the Poincare ball: geometry, density, its limits, and models that use it."""

import math

import numpy as np
import pytest
import torch

import gapless
from gapless import posteriors, priors, recipes, study
from gapless.distributions import DiagonalNormal, PoincareNormal, divergence
from gapless.distributions.hyperbolic import from_centre, mobius_sum, vector_to
from gapless.errors import UsageError
from gapless.settings import Settings


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(a, b, c):
    """Geodesic distance by the arcosh formula, which uses neither Mobius sums nor exponential maps."""
    below = (1 - c * a.square().sum(-1)) * (1 - c * b.square().sum(-1))
    return torch.acosh(1 + 2 * c * (a - b).square().sum(-1) / below) / c**0.5


@pytest.mark.parametrize("c", [0.3, 1.0, 2.5])
def test_draws_lie_at_the_distances_they_were_drawn_at(c):
    loc = from_centre(double(0.5, -0.7, 0.4), c)
    p = PoincareNormal(loc, double(0.5, 1.0, 0.2), c)
    z = p.sample((1000,), generator=torch.Generator().manual_seed(0))
    v = p.tangent.sample((1000,), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(distance(loc, z, c), v.norm(dim=-1), rtol=1e-6)
    assert torch.allclose(vector_to(z, loc, c), v, rtol=1e-6, atol=1e-6)
    assert torch.allclose(mobius_sum(-loc, mobius_sum(loc, z, c), c), z, atol=1e-12)


@pytest.mark.parametrize(("latent", "c"), [(2, 1.0), (3, 0.5), (4, 1.7)])
def test_the_density_is_that_of_the_change_of_variables(latent, c, ledger):
    """log p(z) = log N(v) - log |det dz/dv|, the determinant by autograd."""
    loc = from_centre(normals(latent, seed=1), c)
    p = PoincareNormal(loc, normals(latent, seed=2).exp(), c)
    worst = double(0.0)
    for v in p.tangent.sample((10,), generator=torch.Generator().manual_seed(3)):

        def placed(v):
            return mobius_sum(loc, from_centre(v, c), c)

        volume = torch.autograd.functional.jacobian(placed, v).slogdet().logabsdet
        error = p.log_prob(placed(v)) - (p.tangent.log_prob(v) - volume)
        worst = torch.maximum(worst, error.abs())
    ledger(
        "PoincareNormal", f"log-density, {latent} features, c = {c}", truth=0,
        oracle="Jacobian of the exponential map, by autograd", measured=worst, tolerance=1e-8, why="float64",
    )  # fmt: skip


def grid(latent, c):
    """Places on the ball and their weights: Gauss-Legendre in the distance from 0 and the height, even in the angle."""
    nodes, weights = np.polynomial.legendre.leggauss(300)
    radius, share = 8 * (nodes + 1), 8 * weights
    size = np.tanh(c**0.5 * radius / 2) / c**0.5
    share = share * size ** (latent - 1) * (1 - c * size**2) / 2  # dz = |z|^(d-1) d|z| dOmega
    angle = 2 * math.pi * (np.arange(200) + 0.5) / 200
    turn, even = np.stack([np.cos(angle), np.sin(angle)], 1), np.full(200, 2 * math.pi / 200)
    if latent == 3:
        height, spread = np.polynomial.legendre.leggauss(60)
        flat = np.sqrt(1 - height**2)
        turn = np.concatenate([np.c_[f * turn, np.full(200, h)] for f, h in zip(flat, height, strict=True)])
        even = np.outer(spread, even).ravel()
    return torch.tensor(size[:, None, None] * turn), torch.tensor(share[:, None] * even)


@pytest.mark.parametrize(("latent", "c"), [(2, 1.0), (2, 0.4), (3, 1.0)])
def test_the_density_integrates_to_one(latent, c, ledger):
    z, weights = grid(latent, c)
    loc, scale = double(0.3, -0.4, 0.2)[:latent], double(0.9, 0.5, 0.7)[:latent]
    mass = (PoincareNormal(loc, scale, c).log_prob(z).exp() * weights).sum()
    ledger(
        "PoincareNormal", f"integral over the ball, {latent} features, c = {c}", oracle="quadrature", truth=1,
        measured=mass, tolerance=1e-4, why="error of the quadrature",
    )  # fmt: skip


def test_without_curvature_it_is_a_normal_of_half_the_scale(ledger):
    loc, scale, z = normals(3), double(0.5, 1.0, 2.0), normals(20, 3, seed=1)
    flat = DiagonalNormal(loc, scale / 2)
    errors = [(PoincareNormal(loc, scale, c).log_prob(z) - flat.log_prob(z)).abs().max() for c in (1e-5, 1e-7)]
    ledger(
        "PoincareNormal", "distance of the log-density from N(loc, scale^2 / 4), c = 1e-5 over c = 1e-7", truth=100,
        oracle="the first order in c", measured=errors[0] / errors[1], tolerance=1, why="the second order is 1e-5 x",
    )  # fmt: skip
    assert errors[1] < 1e-3
    p = PoincareNormal(loc, scale, 1e-8)
    draws = [q.rsample((50,), generator=torch.Generator().manual_seed(0)) for q in (p, flat)]
    assert torch.allclose(*draws, atol=1e-5)
    assert torch.allclose(p.stddev, flat.stddev, atol=1e-6)


def test_on_a_line_the_kl_is_that_of_normals(ledger):
    """In one dimension hyperbolic space is flat: in geodesic lengths both are normals."""
    c, loc, other = 0.8, double(0.7), double(-0.2)
    q = PoincareNormal(from_centre(loc, c), double(0.6), c)
    p = PoincareNormal(from_centre(other, c), double(1.1), c)
    z = q.sample((40_000,), generator=torch.Generator().manual_seed(0))
    truth = math.log(1.1 / 0.6) + (0.6**2 + 0.9**2) / (2 * 1.1**2) - 0.5
    each = q.log_prob(z) - p.log_prob(z)
    ledger(
        "PoincareNormal", "KL by 40,000 draws, one feature", truth=truth,
        oracle="KL of two normals in geodesic lengths", measured=divergence(q, p, z),
        tolerance=4 * each.std() / 200, why="4 standard errors",
    )  # fmt: skip


def test_nothing_lies_outside_the_ball():
    p = PoincareNormal(torch.zeros(2), torch.ones(2), 4.0)
    assert p.log_prob(torch.tensor([[0.5, 0.0], [0.6, 0.6]])).tolist() == [-math.inf, -math.inf]
    z = PoincareNormal(torch.zeros(2), torch.full((2,), 50.0)).sample((1000,))
    assert z.norm(dim=-1).max() < 1
    assert torch.isfinite(PoincareNormal(torch.zeros(2), torch.ones(2)).log_prob(z)).all()


def test_single_precision_holds_for_all_the_head_puts_out():
    for seed, size in enumerate((0.0, 1e-4, 1.0, 30.0, 1e6)):
        parameters = (size * normals(50, 8, seed=seed)).float().requires_grad_()
        q = posteriors.PoincareNormal()(parameters)
        z = q.rsample((3,), generator=torch.Generator().manual_seed(0))
        kl = q.log_prob(z) - priors.PoincareNormal(4)().log_prob(z)
        gradient = torch.autograd.grad(kl.sum(), parameters)[0]
        assert torch.isfinite(gradient).all(), size
        exact = PoincareNormal(q.loc.double(), q.scale.double()).log_prob(z.double())
        # 12 from the centre |z|^2 lies 2e-5 off 1: a rounding of 1e-7 moves such a place by 1 % of a unit of length.
        error = (q.log_prob(z) - exact).abs()
        assert error.max() < 0.1, size
        assert error.median() < 2e-3, size


def test_a_ball_needs_a_curvature():
    for make in (lambda: posteriors.PoincareNormal(0.0), lambda: priors.PoincareNormal(2, curvature=-1.0)):
        with pytest.raises(UsageError, match="curvature"):
            make()


def test_a_model_on_the_ball_learns_and_is_saved(tmp_path):
    data = gapless.read("digits")
    settings = Settings(latent=2, epochs=3, hidden=(32,), option=("curvature=0.5",))
    run = study.train(data, recipe="poincare", settings=settings, folder=tmp_path / "run")
    losses = [epoch["held_out"]["loss"] for epoch in run.history]
    assert losses[-1] < losses[0]
    again = gapless.load_run(tmp_path / "run").model
    assert again.posterior.curvature == again.prior.curvature == 0.5
    assert again.sample(5).shape == (5, 1, 8, 8)
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(again.embed(x), run.model.embed(x))


def test_at_a_small_curvature_the_bound_is_that_of_the_plain_vae():
    """Coordinates are half the lengths: the KL of (loc, scale) to (0, 1) is the same in either."""
    flat = recipes.build("vae", (5,), latent=2, hidden=(8,))[0]
    q = flat.encode(torch.rand(6, 5))
    curved = PoincareNormal(q.loc.double() / 2, q.scale.double(), 1e-8)
    z = curved.sample((20_000,), generator=torch.Generator().manual_seed(0))
    p = priors.PoincareNormal(2, curvature=1e-8)()
    p = PoincareNormal(p.loc.double(), p.scale.double(), 1e-8)
    each = curved.log_prob(z) - p.log_prob(z)
    truth = divergence(q, flat.prior_distribution()).double()
    assert ((each.mean(0) - truth).abs() < 4.5 * each.std(0) / 20_000**0.5 + 1e-6).all()
