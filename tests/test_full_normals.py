"""Normals with covariances against torch.distributions, Monte Carlo and autograd."""

import math

import pytest
import torch

from gapless import posteriors
from gapless.distributions import DiagonalNormal, FullNormal, LowRankNormal, divergence, divergence_per_feature


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=noise(seed), dtype=torch.float64)


def full():
    raw = randn(3, 4, 4, seed=1)
    factor = raw.tril(-1) + torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp())
    q = FullNormal(randn(3, 4), factor)
    return q, torch.distributions.MultivariateNormal(q.loc, scale_tril=factor)


def low_rank():
    scale, factor = randn(3, 4, seed=2).exp(), randn(3, 4, 2, seed=3)
    q = LowRankNormal(randn(3, 4), scale, factor)
    return q, torch.distributions.LowRankMultivariateNormal(q.loc, factor, scale.square())


MADE = {"FullNormal": full, "LowRankNormal": low_rank}


@pytest.mark.parametrize("name", MADE)
def test_density_moments_and_entropy_are_torchs(name, ledger):
    q, theirs = MADE[name]()
    z = randn(5, 2, 3, 4, seed=4) * 3
    worst = (q.log_prob(z) - theirs.log_prob(z)).abs().max()
    ledger(name, "log-density", oracle="torch.distributions", truth=0, measured=worst, tolerance=1e-10, why="float64")
    worst = (q.entropy() - theirs.entropy()).abs().max()
    ledger(name, "entropy", oracle="torch.distributions", truth=0, measured=worst, tolerance=1e-10, why="float64")
    assert torch.allclose(q.stddev, theirs.stddev)
    assert torch.allclose(q.variance, theirs.variance)
    assert q.log_prob(z[0, 0, 0]).shape == (3,)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("prior", ["standard", "diagonal"])
def test_kl_to_diagonal_normals_is_torchs(name, prior, ledger):
    q, theirs = MADE[name]()
    loc, scale = (torch.zeros(4), torch.ones(4)) if prior == "standard" else (randn(4, seed=5), randn(4, seed=6).exp())
    p = DiagonalNormal(loc.double(), scale.double())
    dense = torch.distributions.MultivariateNormal(q.loc, theirs.covariance_matrix)
    expected = torch.distributions.kl_divergence(
        dense, torch.distributions.MultivariateNormal(p.loc, scale_tril=torch.diag(p.scale))
    )
    ledger(
        f"KL({name}, DiagonalNormal)", f"nats, {prior} prior", oracle="torch.distributions, dense covariances",
        truth=0, measured=(divergence(q, p) - expected).abs().max(), tolerance=1e-10, why="float64",
    )  # fmt: skip
    assert divergence_per_feature(q, p) is None


@pytest.mark.parametrize("name", MADE)
def test_kl_equals_monte_carlo(name, ledger):
    q, _ = MADE[name]()
    p = DiagonalNormal(randn(4, seed=5), randn(4, seed=6).exp())
    z = q.rsample((50_000,), generator=noise())
    values = (q.log_prob(z) - p.log_prob(z))[:, 0]
    ledger(
        f"KL({name}, DiagonalNormal)", "nats, one item", oracle="Monte Carlo, 50,000 draws", truth=values.mean(),
        measured=divergence(q, p)[0], tolerance=4 * values.std() / math.sqrt(len(z)), why="4 standard errors",
    )  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_draws_have_the_covariance(name, ledger):
    q, theirs = MADE[name]()
    n = 100_000
    z = q.sample((n,), generator=noise())[:, 0]
    found, covariance = torch.cov(z.T), theirs.covariance_matrix[0]
    # The standard error of a sample covariance of normals: sqrt((S_ij^2 + S_ii S_jj) / n).
    error = ((covariance.square() + covariance.diagonal()[:, None] * covariance.diagonal()) / n).sqrt()
    worst = ((found - covariance) / error).abs().max()
    ledger(
        name, "worst covariance of draws, standard errors", oracle="closed form", truth=0, measured=worst,
        tolerance=4.5, why="16 normal quantiles at 4.5",
    )  # fmt: skip
    assert torch.equal(z, q.sample((n,), generator=noise())[:, 0])


def test_the_gradient_of_an_expectation_by_draws_is_the_closed_ones(ledger):
    # E (a.z)^2 = (a.loc)^2 + |L^T a|^2, so d/dL = 2 a (L^T a)^T and d/dloc = 2 (a.loc) a.
    q, _ = full()
    loc, factor = q.loc[0].clone().requires_grad_(), q.factor[0].clone().requires_grad_()
    a, n = randn(4, seed=7), 200_000
    z = FullNormal(loc, factor).rsample((n,), generator=noise())
    by_loc, by_factor = torch.autograd.grad((z @ a).square().mean(), (loc, factor))
    with torch.no_grad():
        along, tilted = z @ a, factor.T @ a
        eps = torch.linalg.solve_triangular(factor, (z - loc).T, upper=False).T
        errors = (2 * along[:, None] * eps).std(0) / math.sqrt(n)
    for name, truth, found, error in (
        ("loc", 2 * (a @ loc) * a, by_loc, 2 * a.abs() * along.std() / math.sqrt(n)),
        ("L", 2 * a[:, None] * tilted, by_factor, a.abs()[:, None] * errors),
    ):
        worst = ((found - truth) / error).abs().max()
        ledger(
            "FullNormal.rsample", f"d E (a.z)^2 / d {name}, standard errors", oracle="closed form", truth=0,
            measured=worst, tolerance=4.5, why="20 normal quantiles at 4.5",
        )  # fmt: skip


@pytest.mark.parametrize("strength", [1.0, 1e3, 1e5])
def test_low_rank_densities_survive_float32(strength):
    # Woodbury's identity as a difference would lose all digits here.
    scale, factor = torch.full((1, 6), 0.01), torch.full((1, 6, 1), 0.01 * strength)
    q = LowRankNormal(torch.zeros(1, 6), scale, factor)
    z = q.rsample((100,), generator=noise())
    exact = LowRankNormal(torch.zeros(1, 6).double(), scale.double(), factor.double()).log_prob(z.double())
    assert torch.allclose(q.log_prob(z).double(), exact, rtol=1e-3, atol=0.05 * max(1.0, strength / 1e4))


def test_encoders_reach_any_covariance_and_start_diagonal():
    head = posteriors.FullNormal()
    assert head.parameter_shape(4) == (14,)
    q = head(torch.zeros(2, 14))
    assert torch.equal(q.factor, torch.eye(4).expand(2, 4, 4))
    parameters = torch.zeros(1, 14)
    parameters[0, 4:8] = 10 * torch.atanh(torch.tensor([0.0, 0.1, -0.1, 0.2]))
    parameters[0, 8:] = 10 * torch.atanh(torch.arange(1, 7) / 10)
    scale = torch.exp(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    below = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [2, 3, 1, 0], [4, 5, 6, 1]])
    assert torch.allclose(head(parameters).factor[0], scale[:, None] * below, rtol=1e-4)
    q = posteriors.LowRankNormal(2)(torch.zeros(3, 16))
    assert torch.equal(q.stddev, torch.ones(3, 4))


def test_what_features_share_is_in_units_of_their_own_spread():
    parameters = torch.zeros(1, 6)
    parameters[0, 2:] = 10 * torch.atanh(torch.tensor([0.1, -0.2, 0.3, 0.4]))
    q = posteriors.LowRankNormal(1)(parameters)
    scale = torch.exp(torch.tensor([1.0, -2.0]))
    assert torch.allclose(q.factor[0, :, 0], scale * torch.tensor([3.0, 4.0]), rtol=1e-4)


@pytest.mark.parametrize("head", [posteriors.FullNormal(), posteriors.LowRankNormal(3)], ids=["full", "low rank"])
@pytest.mark.parametrize("latent", [1, 2, 7])
def test_any_number_of_features(head, latent):
    q = head(torch.randn(2, *head.parameter_shape(latent)))
    assert q.event_shape == (latent,)
    assert q.log_prob(q.rsample((3,))).isfinite().all()
