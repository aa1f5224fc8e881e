"""Directions: Bessel functions, densities, KL, draws and their gradients."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from gapless import posteriors, priors, recipes
from gapless.distributions import DiagonalNormal, UniformOnSphere, VonMisesFisher, divergence
from gapless.distributions.bessel import bessel
from gapless.distributions.spheres import accepted, fall_slope
from gapless.draws import draw
from gapless.errors import UsageError

DIMENSIONS = (2, 3, 4, 5, 8, 16, 33, 50)
KAPPAS = np.logspace(-3, 4, 29)


def fisher(dimension, kappa, *, count=1):
    torch.manual_seed(1)
    mu = torch.nn.functional.normalize(torch.randn(count, dimension, dtype=torch.float64), dim=-1)
    return VonMisesFisher(mu, torch.full((count,), float(kappa), dtype=torch.float64))


# Bessel functions against SciPy's, which are exponentially scaled.


def test_bessel_functions_equal_scipys(ledger):
    worst = {"G": 0.0, "A": 0.0, "dA/dkappa": 0.0}
    for dimension in range(2, 51):
        found, order = bessel(torch.from_numpy(KAPPAS), dimension), dimension / 2 - 1
        i, above = special.ive(order, KAPPAS), special.ive(order + 1, KAPPAS)
        log_mean = math.lgamma(order + 1) + order * np.log(2 / KAPPAS) + np.log(i) + KAPPAS
        slope = 1 - (above / i) ** 2 - (dimension - 1) / KAPPAS * above / i
        # SciPy's own values hold fifteen digits: errors are relative to the largest number they were made of.
        parts = np.maximum(KAPPAS, np.abs(np.log(i)) + abs(order * np.log(2 / KAPPAS).clip(-99, 99))).clip(1)
        assert np.isfinite(log_mean).all()
        worst["G"] = max(worst["G"], (np.abs(found.log_mean.numpy() - log_mean) / parts).max())
        worst["A"] = max(worst["A"], np.abs(found.ratio.numpy() / (above / i) - 1).max())
        worst["dA/dkappa"] = max(worst["dA/dkappa"], np.abs(found.slope.numpy() - slope).max())
    for name, error in worst.items():
        ledger(
            "Bessel functions of directions", f"{name}, d = 2..50, kappa 1e-3..1e4", oracle="scipy.special.ive",
            truth=0, measured=error, tolerance=1e-12, why="rounding of float64",
        )  # fmt: skip


@pytest.mark.parametrize("dimension", [2, 3, 16, 512])
def test_bessel_functions_stay_finite_and_have_their_limits(dimension):
    kappa = torch.tensor([1e-8, 1e7], dtype=torch.float64)
    log_mean, ratio, slope = bessel(kappa, dimension)
    # A = kappa / d near 0; 1 - (d - 1) / (2 kappa) + (d - 1)(d - 3) / (8 kappa^2) far out (DLMF 10.40.1).
    assert ratio[0] == pytest.approx(1e-8 / dimension, rel=1e-12)
    assert slope[0] == pytest.approx(1 / dimension, rel=1e-6)
    assert 1 - ratio[1].item() == pytest.approx((dimension - 1) / 2e7, rel=1e-4)
    assert log_mean[0].item() == pytest.approx(0, abs=1e-12)
    assert 0 < log_mean[1] < 1e7


def test_the_slopes_are_the_derivatives():
    for dimension in DIMENSIONS:
        kappa = torch.tensor([0.3, 5.0, 400.0], dtype=torch.float64)
        step = 1e-5 * kappa
        up, here, down = (bessel(k, dimension) for k in (kappa + step, kappa, kappa - step))
        assert torch.allclose((up.log_mean - down.log_mean) / (2 * step), here.ratio, rtol=1e-7)
        assert torch.allclose((up.ratio - down.ratio) / (2 * step), here.slope, rtol=1e-5)


# Densities.


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("kappa", [0.01, 2.0, 50.0])
def test_the_density_integrates_to_one(dimension, kappa, ledger):
    # Around mu the sphere is a stack of smaller spheres of radius sin(angle).
    q = fisher(dimension, kappa)
    mu = q.direction[0]
    across = torch.linalg.qr(torch.stack([mu, torch.randn_like(mu)], 1))[0][:, 1]
    area = 2 * math.pi ** ((dimension - 1) / 2) / math.gamma((dimension - 1) / 2)

    def ring(angle):
        z = math.cos(angle) * mu + math.sin(angle) * across
        return q.log_prob(z).exp().item() * area * math.sin(angle) ** (dimension - 2)

    total, _ = integrate.quad(ring, 0, math.pi, epsabs=1e-11)
    ledger(
        "VonMisesFisher", f"integral of the density, d = {dimension}, kappa = {kappa:g}", oracle="scipy.integrate.quad",
        truth=1, measured=total, tolerance=1e-8, why="quadrature",
    )  # fmt: skip


@pytest.mark.parametrize("dimension", [2, 3, 10, 50])
@pytest.mark.parametrize("kappa", [0.5, 30.0, 2000.0])
def test_density_and_entropy_equal_scipys(dimension, kappa):
    q = fisher(dimension, kappa)
    theirs = stats.vonmises_fisher(q.direction[0].numpy(), kappa)
    z = theirs.rvs(5, random_state=np.random.default_rng(0))
    assert np.allclose(q.log_prob(torch.from_numpy(z)[:, None])[:, 0].numpy(), theirs.logpdf(z), atol=1e-9)
    assert q.entropy().item() == pytest.approx(theirs.entropy(), abs=1e-8)


def test_the_uniform_density_is_one_over_the_area(ledger):
    for dimension, area in ((2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)):
        p = UniformOnSphere(torch.zeros(dimension, dtype=torch.float64))
        z = p.sample((7,), generator=torch.Generator().manual_seed(0))
        ledger(
            "UniformOnSphere.log_prob", f"nats, d = {dimension}, worst of 7 draws", oracle="-log of the area",
            truth=-math.log(area), measured=p.log_prob(z)[(p.log_prob(z) + math.log(area)).abs().argmax()],
            tolerance=1e-12, why="float64",
        )  # fmt: skip
        assert torch.allclose(z.norm(dim=-1), torch.ones(7, dtype=torch.float64))
    assert torch.allclose(p.mean, torch.zeros(4, dtype=torch.float64))
    draws = p.sample((40_000,), generator=torch.Generator().manual_seed(1))
    assert ((draws.mean(0)).abs() <= 4 * p.stddev / 200).all()
    assert torch.allclose(draws.var(0), p.variance, rtol=4 * math.sqrt(2 / 40_000))  # the fourth moment is no larger


# KL.


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("kappa", [0.01, 3.0, 100.0])
def test_kl_to_the_uniform_equals_quadrature(dimension, kappa, ledger):
    # The cosine w has the density exp(kappa w) (1 - w^2)^((d - 3) / 2) / Z, and kappa = 0 under the uniform.
    scaled = lambda angle, k: math.exp(k * (math.cos(angle) - 1)) * math.sin(angle) ** (dimension - 2)  # noqa: E731
    norm, flat = (integrate.quad(scaled, 0, math.pi, args=(k,), epsabs=0, epsrel=1e-11)[0] for k in (kappa, 0.0))
    inner = integrate.quad(
        lambda a: scaled(a, kappa) / norm * kappa * (math.cos(a) - 1), 0, math.pi, epsabs=0, epsrel=1e-11
    )[0]
    truth = inner - math.log(norm / flat)
    q = fisher(dimension, kappa)
    ledger(
        "KL(VonMisesFisher, UniformOnSphere)", f"nats, d = {dimension}, kappa = {kappa:g}", oracle="quadrature",
        truth=truth, measured=divergence(q, UniformOnSphere(q.direction[0])), tolerance=1e-9, why="quadrature",
    )  # fmt: skip


def test_kl_equals_monte_carlo_and_has_the_right_gradient(ledger):
    q = VonMisesFisher(torch.eye(5, dtype=torch.float64)[:1], torch.tensor([7.0], dtype=torch.float64).requires_grad_())
    p = UniformOnSphere(torch.zeros(5, dtype=torch.float64))
    z = q.sample((50_000,), generator=torch.Generator().manual_seed(3))
    differences = (q.log_prob(z) - p.log_prob(z)).detach()[:, 0]
    error = differences.std() / math.sqrt(len(z))
    ledger(
        "KL(VonMisesFisher, UniformOnSphere)", "nats, d = 5, kappa = 7", oracle="Monte Carlo, 50,000 draws",
        truth=differences.mean(), measured=divergence(q, p), tolerance=4 * error, why="4 standard errors",
    )  # fmt: skip
    (slope,) = torch.autograd.grad(divergence(q, p).sum(), q.concentration)
    ends = [VonMisesFisher(q.direction, torch.tensor([7.0 + e], dtype=torch.float64)) for e in (1e-5, -1e-5)]
    assert slope.item() == pytest.approx((divergence(ends[0], p) - divergence(ends[1], p)).item() / 2e-5, rel=1e-6)
    by_density = torch.autograd.grad(q.log_prob(z[:3]).sum(), q.concentration)[0]
    assert by_density.item() == pytest.approx((z[:3, 0, 0] - bessel(q.concentration, 5).ratio).sum().item(), rel=1e-9)


# Draws.


@pytest.mark.parametrize("dimension", [2, 3, 5, 20])
@pytest.mark.parametrize("kappa", [0.1, 4.0, 300.0])
def test_draws_have_the_moments_of_the_closed_form(dimension, kappa, ledger):
    q, count = fisher(dimension, kappa), 40_000
    z = q.sample((count,), generator=torch.Generator().manual_seed(5))[:, 0]
    assert torch.allclose(z.norm(dim=-1), torch.ones(count, dtype=torch.float64), atol=1e-12)
    cosine = z @ q.direction[0]
    ledger(
        "VonMisesFisher.rsample", f"E mu'z, d = {dimension}, kappa = {kappa:g}", oracle="A_d(kappa)",
        truth=q.mean_in_space.norm(), measured=cosine.mean(), tolerance=4 * cosine.std() / math.sqrt(count),
        why="4 standard errors",
    )  # fmt: skip
    assert ((z.mean(0) - q.mean_in_space[0]).abs() <= 4.5 * q.stddev[0] / math.sqrt(count)).all()
    centred = (z - q.mean_in_space[0]).square()
    assert ((centred.mean(0) - q.variance[0]).abs() <= 4.5 * centred.std(0) / math.sqrt(count)).all()


@pytest.mark.parametrize("dimension", [2, 3, 7])
@pytest.mark.parametrize("kappa", [0.2, 10.0, 3000.0])
def test_cosines_follow_their_distribution_function(dimension, kappa):
    u = accepted(torch.full((4000,), kappa, dtype=torch.float64), dimension, torch.Generator().manual_seed(8))
    angles = np.linspace(0, math.pi, 200_001)[1:-1]
    log = kappa * (np.cos(angles) - 1) + (dimension - 2) * np.log(np.sin(angles))
    share = np.cumsum(np.exp(log - log.max()))
    found = 2 * np.arcsin(np.sqrt(u.numpy()))
    # The grid holds the function to 1e-4; 4,000 draws tell 0.03 apart (the level of 0.001 is 1.95 / sqrt(4000)).
    assert stats.kstest(found, lambda a: np.interp(a, angles, share / share[-1])).statistic < 1.95 / math.sqrt(4000)


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("kappa", [0.01, 1.0, 30.0, 8000.0])
def test_the_implicit_gradient_equals_quadrature(dimension, kappa, ledger):
    concentrated = bessel(torch.tensor(kappa, dtype=torch.float64), dimension)
    draws = accepted(torch.full((2000,), kappa, dtype=torch.float64), dimension, torch.Generator().manual_seed(2))
    u = draws.quantile(torch.tensor([0.001, 0.2, 0.5, 0.9, 0.999], dtype=torch.float64))
    found = fall_slope(u, torch.full_like(u, kappa), 1 - concentrated.ratio.expand(5), dimension)
    worst = 0.0
    for here, slope in zip(u.tolist(), found.tolist(), strict=True):
        angle, ratio = 2 * math.asin(math.sqrt(here)), concentrated.ratio.item()

        def inner(a, angle=angle, ratio=ratio):
            relative = math.exp(min(700.0, kappa * (math.cos(a) - math.cos(angle))))
            return (math.cos(a) - ratio) * relative * (math.sin(a) / math.sin(angle)) ** (dimension - 2)

        ends = (0, angle) if math.cos(angle) > ratio else (angle, min(math.pi, angle + 25 / math.sqrt(max(kappa, 1))))
        value, _ = integrate.quad(inner, *ends, epsabs=0, epsrel=1e-10, limit=500)
        truth = 0.5 * math.sin(angle) * (-value if ends[0] == 0 else value)
        worst = max(worst, abs(slope / truth - 1))
    ledger(
        "VonMisesFisher.rsample", f"du/dkappa at fixed F, d = {dimension}, kappa = {kappa:g}", oracle="quadrature",
        truth=0, measured=worst, tolerance=1e-7, why="relative error of both rules",
    )  # fmt: skip


@pytest.mark.parametrize("dimension", [2, 3, 5, 16])
@pytest.mark.parametrize("kappa", [0.5, 20.0])
def test_pathwise_gradients_of_an_expectation_are_its_derivatives(dimension, kappa, ledger):
    # E a'z = A(kappa) a'mu. Its derivative in kappa is A' a'mu; in mu, along the sphere, A (a - (a'mu) mu).
    q = fisher(dimension, kappa)
    count, way = 20_000, torch.linspace(-1, 2, dimension, dtype=torch.float64)
    raw = q.direction.expand(count, dimension).clone().requires_grad_()
    concentration = q.concentration.expand(count).clone().requires_grad_()
    mine = VonMisesFisher(torch.nn.functional.normalize(raw, dim=-1), concentration)
    z = mine.rsample((), generator=torch.Generator().manual_seed(4))
    by_mu, by_kappa = torch.autograd.grad((z @ way).sum(), (raw, concentration))
    mu, (_, ratio, slope) = q.direction[0], bessel(q.concentration, dimension)
    along = (way @ mu).item()
    ledger(
        "VonMisesFisher.rsample", f"d E a'z / d kappa, d = {dimension}, kappa = {kappa:g}", oracle="closed form",
        truth=slope * along, measured=by_kappa.mean(), tolerance=4 * by_kappa.std() / math.sqrt(count),
        why="4 standard errors",
    )  # fmt: skip
    truth = ratio * (way - along * mu)
    errors = by_mu.std(0) / math.sqrt(count)
    assert ((by_mu.mean(0) - truth).abs() <= 4.5 * errors + 1e-12).all()
    worst = ((by_mu.mean(0) - truth).abs() / errors.clamp_min(1e-12)).max()
    ledger(
        "VonMisesFisher.rsample", f"d E a'z / d mu, d = {dimension}, kappa = {kappa:g}", oracle="closed form",
        truth=0, measured=worst, tolerance=4.5, why="largest deviation in standard errors",
    )  # fmt: skip


def test_a_gradient_beyond_the_first_moment_is_right_too():
    # E w^2 = 1 - (d - 1) A / kappa: another function of the draw, and so of its gradient.
    kappa = torch.full((40_000,), 6.0, dtype=torch.float64).requires_grad_()
    q = VonMisesFisher(torch.eye(4, dtype=torch.float64)[:1].expand(40_000, 4), kappa)
    (found,) = torch.autograd.grad(q.rsample((), torch.Generator().manual_seed(7))[:, 0].square().sum(), kappa)
    _, ratio, slope = bessel(torch.tensor(6.0, dtype=torch.float64), 4)
    truth = -3 * (slope / 6 - ratio / 36)
    assert abs(found.mean() - truth) <= 4 * found.std() / 200


def test_every_direction_can_be_drawn_around():
    for mu in (*torch.eye(3), *-torch.eye(3)):
        q = VonMisesFisher(mu[None], torch.tensor([1000.0]))
        z = q.sample((500,), generator=torch.Generator().manual_seed(0))
        assert (z @ mu).min() > 0.97
        assert (z.mean((0, 1)) - q.mean_in_space[0]).abs().max() < 4.5 * (1 / 1000 / 500) ** 0.5


# The parts.


@pytest.mark.parametrize("latent", [2, 16])
def test_concentrations_start_at_the_number_of_dimensions_and_stay_in_their_bound(latent):
    raw = torch.tensor([0.0, 1e9, -1e9])
    q = posteriors.VonMisesFisher(9.0)(torch.cat([raw[:, None], torch.ones(3, latent)], 1))
    expected = latent * torch.exp(torch.tensor([0.0, 9.0, -9.0]))
    assert torch.allclose(q.concentration, expected, rtol=1e-5)


def test_embeddings_are_directions_that_the_decoder_knows():
    model, _ = recipes.build("hyperspherical", (6,), latent=4, hidden=(8,))
    model.eval()
    x = torch.rand(5, 6)
    assert torch.equal(model.embed(x), model.embed(x))
    assert torch.allclose(model.embed(x).norm(dim=-1), torch.ones(5))
    assert torch.allclose(model.sample_codes(5).norm(dim=-1), torch.ones(5))
    assert torch.isfinite(model.encode(x).stddev).all()


def test_importance_weights_have_the_evidence_for_their_mean(ledger):
    # With a decoder that ignores z the evidence is known.
    model, _ = recipes.build("hyperspherical", (3,), latent=3, hidden=(4,), likelihood="Normal")
    model.eval()
    with torch.no_grad():
        list(model.decoder.modules())[-1].weight.zero_()
        x, count = torch.rand(1, 3), 20_000
        truth = model.decode(torch.eye(3)[:1]).log_prob(x)
        draws = draw(model, x, samples=count, generator=torch.Generator().manual_seed(0))
        weights = (draws.log_weights() - truth).exp().double()
    ledger(
        "VonMisesFisher, UniformOnSphere", "mean importance weight over p(x)", oracle="a decoder that ignores z",
        truth=1, measured=weights.mean(), tolerance=4 * weights.std() / math.sqrt(count), why="4 standard errors",
    )  # fmt: skip
    assert weights.std() > 0.1


def test_one_dimension_has_no_sphere():
    for make in (posteriors.VonMisesFisher().parameter_shape, priors.UniformOnSphere):
        with pytest.raises(UsageError, match="at least 2 latent"):
            make(1)
    with pytest.raises(UsageError, match="bound of the logarithm"):
        posteriors.VonMisesFisher(20.0)


def test_a_normal_prior_has_no_closed_form():
    with pytest.raises(UsageError, match="no closed form"):
        divergence(fisher(3, 1.0), DiagonalNormal(torch.zeros(3), torch.ones(3)))
