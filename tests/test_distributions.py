import math

import pytest
import torch
from scipy import integrate, stats

from gapless import distributions
from gapless.distributions import (
    Bernoulli,
    DiagonalNormal,
    Flowed,
    FullNormal,
    LowRankNormal,
    Mixture,
    PoincareNormal,
    PointMass,
    divergence,
    divergence_per_feature,
    reparameterize,
)
from gapless.distributions.bijections import PlanarTransform
from gapless.errors import UsageError

CASES = {
    "Bernoulli": Bernoulli(torch.tensor([[-1.3, 0.4, 2.0], [0.0, -5.0, 1.0]])),
    "DiagonalNormal": DiagonalNormal(torch.tensor([[0.3, -2.0], [1.0, 4.0]]), torch.tensor([[0.5, 2.0], [1.0, 0.1]])),
    # Its moments are those of the ball, tests/test_hyperbolic.py; those of the coordinates where it is narrow.
    "PoincareNormal": PoincareNormal(torch.tensor([[0.3, -0.2], [0.0, 0.6]]), torch.full((2, 2), 1e-3), 0.7),
    "PointMass": PointMass(torch.tensor([[0.3, -2.0], [1.0, 4.0]])),
    "Laplace": distributions.Laplace(torch.tensor([[0.3, -2.0]]), torch.tensor([[0.5, 2.0]])),
    "ContinuousBernoulli": distributions.ContinuousBernoulli(torch.tensor([[-9.0, -0.3, 0.0, 1e-6, 2.0, 40.0]])),
    "Categorical": distributions.Categorical(torch.tensor([[[0.0, 3.0], [1.0, -2.0], [-1.0, 0.5]]])),
    "DiscretisedLogistic": distributions.DiscretisedLogistic(
        torch.tensor([[-0.2, 0.1, 0.6, 1.3]]), torch.tensor([[0.1, 0.3, 0.05, 0.2]]), levels=64
    ),
    "DiscretisedLogisticMixture": distributions.DiscretisedLogisticMixture(
        torch.tensor([[[0.0, 2.0], [0.5, -1.0]]]),
        torch.tensor([[[0.2, 0.9], [0.7, 0.1]]]),
        torch.full((1, 2, 2), 0.05),
        levels=64,
    ),
    "Poisson": distributions.Poisson(torch.tensor([[-2.0, 0.0, 3.0]])),
    "NegativeBinomial": distributions.NegativeBinomial(torch.tensor([[-1.0, 1.0, 3.0]]), torch.tensor([1.0, 0.0, 5.0])),
    "ZeroInflatedNegativeBinomial": distributions.ZeroInflatedNegativeBinomial(
        torch.tensor([[-1.0, 1.0, 3.0]]), torch.tensor([1.0, 0.5, 5.0]), torch.tensor([[0.0, -1.0, 2.0]])
    ),
    "StructuralSimilarity": distributions.StructuralSimilarity(torch.rand(2, 1, 4, 4), weight=2.0),
    "FeatureDistance": distributions.FeatureDistance(torch.rand(2, 3), lambda x: 2 * x, event_dims=1),
    "FullNormal": FullNormal(torch.tensor([[0.3, -2.0]]), torch.tensor([[[0.5, 0.0], [1.5, 2.0]]])),
    "LowRankNormal": LowRankNormal(torch.ones(2, 2), torch.full((2, 2), 0.5), torch.tensor([[[1.0], [-2.0]]] * 2)),
    "Mixture": Mixture(torch.tensor([0.0, 1.0]), DiagonalNormal(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))),
    "Flowed": Flowed(
        torch.ones(2, 2), torch.full((2, 2), 0.5), PlanarTransform(torch.zeros(2), torch.ones(2), torch.tensor(9.0))
    ),
    "Mixed": distributions.Mixed(
        (Bernoulli(torch.tensor([[-0.3], [0.4]])), DiagonalNormal(torch.ones(2, 2), torch.tensor([0.5, 2.0]))),
        torch.tensor([1, 0, 2]),
    ),
    "Masked": distributions.Masked(DiagonalNormal(torch.tensor([[0.3, -2.0]]), torch.tensor([[0.5, 2.0]]))),
}


OF_THEIR_OWN = {
    "VonMisesFisher", "UniformOnSphere",  # test_spheres.py
    "Codebook", "Codes", "OneHotCategorical", "RelaxedCategorical", "Product",  # test_discrete_codes.py
    "Quantized",  # test_quantized.py
}  # fmt: skip
"""Distributions whose mean is no mean in space, or that are no continuous ones: they have tests of their own."""


def test_every_distribution_has_a_case():
    kinds = {n for n in distributions.__all__ if isinstance(getattr(distributions, n), type)}
    assert kinds - {"Factorized"} - OF_THEIR_OWN == set(CASES)


# The lecture's facts about the trick.


def test_reparameterization_gradients_are_exactly_one_and_eps(ledger):
    loc, scale, eps = (torch.randn(7, 3, dtype=torch.float64).requires_grad_() for _ in range(3))
    z = reparameterize(loc, scale, eps)
    by_loc, by_scale, by_eps = torch.autograd.grad(z.sum(), (loc, scale, eps), allow_unused=True)
    for name, error in (("dz/dloc = 1", by_loc - 1), ("dz/dscale = eps", by_scale - eps)):
        worst = error.abs().max()
        ledger("reparameterize", name, oracle="autograd", truth=0, measured=worst, tolerance=0, why="exact")
    assert by_eps is None, "eps is a constant to the derivative"


def test_draws_go_through_the_trick_with_the_generators_noise():
    loc, scale = torch.randn(4, 3).requires_grad_(), torch.rand(4, 3).requires_grad_()
    z = DiagonalNormal(loc, scale).rsample((5,), generator=torch.Generator().manual_seed(9))
    eps = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(9))
    assert torch.equal(z, loc + scale * eps)
    by_loc, by_scale = torch.autograd.grad(z.sum(), (loc, scale))
    assert torch.equal(by_loc, torch.full_like(loc, 5.0))
    assert torch.allclose(by_scale, eps.sum(0))


def test_pathwise_gradient_of_an_expectation_is_its_derivative(ledger):
    # E[z^2] = loc^2 + scale^2, so the derivatives are 2 loc and 2 scale.
    loc, scale = torch.tensor([0.7], dtype=torch.float64), torch.tensor([1.3], dtype=torch.float64)
    loc.requires_grad_(), scale.requires_grad_()
    draws = 200_000
    z = DiagonalNormal(loc, scale, event_dims=0).rsample((draws,), generator=torch.Generator().manual_seed(0))
    by_loc, by_scale = torch.autograd.grad(z.square().mean(), (loc, scale))
    # One draw's gradients are 2 z and 2 z eps; their variances are 4 s^2 and 4 (m^2 + 2 s^2).
    errors = {"loc": math.sqrt(4 * 1.69 / draws), "scale": math.sqrt(4 * (0.49 + 2 * 1.69) / draws)}
    for name, truth, measured in (("loc", 1.4, by_loc), ("scale", 2.6, by_scale)):
        ledger(
            "DiagonalNormal.rsample", f"d E[z^2] / d {name}", oracle="closed form", truth=truth, measured=measured,
            tolerance=4 * errors[name], why="4 standard errors",
        )  # fmt: skip


# Densities against SciPy and against 1.


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (-3.0, 0.01), (2.5, 40.0)])
def test_normal_density_integrates_to_one_and_equals_scipy(loc, scale, ledger):
    q = DiagonalNormal(torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64), event_dims=0)
    density = lambda x: q.log_prob(torch.tensor(x, dtype=torch.float64)).exp().item()  # noqa: E731
    total, _ = integrate.quad(density, loc - 12 * scale, loc + 12 * scale, points=[loc])
    ledger(
        "DiagonalNormal", f"integral of the density, scale {scale:g}", oracle="scipy.integrate.quad", truth=1,
        measured=total, tolerance=1e-8, why="quadrature",
    )  # fmt: skip
    for x in (loc, loc + scale, loc - 3 * scale):
        assert math.log(density(x)) == pytest.approx(stats.norm(loc, scale).logpdf(x), abs=1e-10)
    assert q.entropy().item() == pytest.approx(stats.norm(loc, scale).entropy(), abs=1e-10)


def test_bernoulli_sums_to_one_and_equals_scipy(ledger):
    logits = torch.linspace(-30, 30, 41, dtype=torch.float64)
    q = Bernoulli(logits, event_dims=0)
    zero, one = (q.log_prob(torch.full_like(logits, bit)) for bit in (0.0, 1.0))
    worst = (zero.exp() + one.exp() - 1).abs().max()
    ledger(
        "Bernoulli",
        "p(0) + p(1) - 1",
        oracle="exact",
        truth=0,
        measured=worst,
        tolerance=2.1e-9,
        why="torch cuts softplus at 20",
    )
    # torch cuts softplus(l) to l above 20, an error of at most exp(-20) = 2.1e-9.
    assert torch.allclose(one, torch.nn.functional.logsigmoid(logits), atol=2.1e-9)
    reference = stats.bernoulli(torch.sigmoid(logits[15:25]).numpy()).entropy()
    assert torch.allclose(q.entropy()[15:25], torch.from_numpy(reference), atol=1e-10)


@pytest.mark.parametrize("event_dims", [1, 2, 3])
def test_log_densities_are_sums_over_the_event_alone(event_dims):
    x, loc, scale = torch.rand(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5) + 0.1
    axes = tuple(range(4 - event_dims, 4))
    ours = DiagonalNormal(loc, scale, event_dims=event_dims).log_prob(x)
    assert torch.allclose(ours, torch.distributions.Normal(loc, scale).log_prob(x).sum(axes), rtol=1e-5, atol=1e-3)
    ours = Bernoulli(loc, event_dims=event_dims).log_prob(x.round())
    theirs = torch.distributions.Bernoulli(logits=loc).log_prob(x.round()).sum(axes)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def test_a_shared_scale_counts_once_for_every_feature():
    loc, x = torch.randn(3, 8), torch.randn(3, 8)
    shared = DiagonalNormal(loc, torch.tensor(0.3)).log_prob(x)
    assert torch.allclose(shared, DiagonalNormal(loc, torch.full_like(loc, 0.3)).log_prob(x), atol=1e-5)


# KL in closed form against torch, quadrature and Monte Carlo.


def test_kl_of_normals_equals_torch_and_is_zero_at_equality(ledger):
    loc, scale = torch.randn(2, 5, 3, dtype=torch.float64), torch.rand(2, 5, 3, dtype=torch.float64) * 3 + 0.01
    q, p = DiagonalNormal(loc[0], scale[0]), DiagonalNormal(loc[1], scale[1])
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(loc[0], scale[0]), torch.distributions.Normal(loc[1], scale[1])
    )
    ledger(
        "divergence_per_feature", "nats of two normals, worst of 15", oracle="torch.distributions", truth=0,
        measured=(divergence_per_feature(q, p) - theirs).abs().max(), tolerance=1e-11, why="float64",
    )  # fmt: skip
    assert torch.allclose(divergence(q, p), theirs.sum(-1), atol=1e-12)
    assert torch.allclose(divergence(q, q), torch.zeros(5, dtype=torch.float64), atol=1e-12)


def test_kl_equals_quadrature_with_scipy_densities(ledger):
    q, p = stats.norm(0.7, 0.4), stats.norm(-0.2, 1.5)
    integral, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -6, 7)
    ours = divergence(
        DiagonalNormal(*torch.tensor([[0.7], [0.4]], dtype=torch.float64)),
        DiagonalNormal(*torch.tensor([[-0.2], [1.5]], dtype=torch.float64)),
    )
    ledger(
        "KL(DiagonalNormal, DiagonalNormal)", "nats", oracle="SciPy densities by quadrature", truth=integral,
        measured=ours, tolerance=1e-8, why="quadrature",
    )  # fmt: skip


def test_kl_equals_monte_carlo_within_its_standard_error(ledger):
    q = CASES["DiagonalNormal"]
    p = DiagonalNormal(torch.zeros(2), torch.ones(2))
    z = q.rsample((100_000,), generator=torch.Generator().manual_seed(4))
    differences = (q.log_prob(z) - p.log_prob(z)).double()
    error = differences.std(0) / math.sqrt(len(z))
    for item in range(2):
        ledger(
            "KL(DiagonalNormal, DiagonalNormal)", f"nats, item {item}", oracle="Monte Carlo, 100,000 draws",
            truth=differences.mean(0)[item], measured=divergence(q, p)[item], tolerance=4 * error[item],
            why="4 standard errors",
        )  # fmt: skip


HELD_TO = {
    ("DiagonalNormal", "DiagonalNormal"): "test_distributions.py: torch, quadrature, Monte Carlo",
    ("PointMass", "Distribution"): "test_distributions.py: infinite",
    ("Correlated", "DiagonalNormal"): "test_full_normals.py: torch, Monte Carlo, for FullNormal and LowRankNormal",
    ("VonMisesFisher", "UniformOnSphere"): "test_spheres.py: quadrature, Monte Carlo",
    ("_Categorical", "Codes"): "test_discrete_codes.py: SciPy, torch, Monte Carlo",
    ("Product", "Product"): "test_discrete_codes.py: torch, Monte Carlo",
    ("Quantized", "Codes"): "test_quantized.py: torch, log of the number of codes",
    ("Quantized", "Distribution"): "test_quantized.py: infinite",
}


def test_every_registered_kl_has_oracles():
    """A pair that is registered without a line above fails here: give it rows first."""
    registered = torch.distributions.kl._KL_REGISTRY
    ours = {(q.__name__, p.__name__) for q, p in registered if q.__module__.startswith("gapless")}
    assert ours == set(HELD_TO)


def test_divergence_falls_back_to_the_samples():
    q = DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2))
    p = torch.distributions.Independent(torch.distributions.Laplace(torch.zeros(2), torch.ones(2)), 1)
    z = q.rsample((1000,), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(divergence(q, p, z), (q.log_prob(z) - p.log_prob(z)).mean(0))
    with pytest.raises(UsageError, match="no samples were given"):
        divergence(q, p)


def test_a_point_mass_is_infinitely_far_from_a_density(ledger):
    q = CASES["PointMass"]
    for p in (DiagonalNormal(torch.zeros(2), torch.ones(2)), CASES["Laplace"]):
        ledger(
            f"KL(PointMass, {type(p).__name__})", "exp(-KL)", oracle="0: a point has no density", truth=0,
            measured=(-divergence(q, p)).exp().max(), tolerance=0, why="infinite",
        )  # fmt: skip
    assert torch.equal(q.rsample((3,)), q.loc.expand(3, 2, 2))
    assert torch.equal(divergence(q, DiagonalNormal(torch.zeros(2), torch.ones(2))), torch.full((2,), math.inf))
    assert q.variance.max() == 0
    assert divergence_per_feature(q, DiagonalNormal(torch.zeros(2), torch.ones(2))) is None


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_shape_the_moments_and_the_generators_noise(name):
    q = CASES[name]
    draws = [q.sample((20_000,), generator=torch.Generator().manual_seed(2)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].shape == (20_000, *q.batch_shape, *q.event_shape)
    assert not draws[0].requires_grad
    error = (q.variance / 20_000).sqrt()
    assert ((draws[0].mean(0) - q.mean).abs() <= 4 * error + 1e-6).all()
    # The standard error of a variance is sqrt((m4 - variance^2) / n), m4 the fourth central moment; the square of the
    # mean's error comes on top.
    fourth = (draws[0].double() - q.mean).pow(4).mean(0)
    error = ((fourth - q.variance.double().square()).clamp_min(0) / 20_000).sqrt()
    assert ((draws[0].var(0) - q.variance).abs() <= 4 * error + 16 * q.variance / 20_000 + 1e-6).all()


def test_modes():
    assert torch.equal(CASES["Bernoulli"].mode, torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]))
    assert torch.equal(CASES["DiagonalNormal"].mode, CASES["DiagonalNormal"].loc)
    assert torch.equal(CASES["PointMass"].mode, CASES["PointMass"].loc)
    assert torch.equal(CASES["FullNormal"].mode, CASES["FullNormal"].loc)
    assert torch.equal(CASES["Mixture"].mode, torch.tensor([1.0]))


def test_a_bernoulli_of_values_of_another_shape_or_type_is_torchs():
    logits, bits = torch.randn(3, 5), (torch.rand(4, 3, 5) < 0.5).float()
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(bits).sum(-1)
    assert torch.allclose(Bernoulli(logits).log_prob(bits), expected, atol=1e-5)
    expected = torch.distributions.Bernoulli(logits=logits.double()).log_prob(bits[0].double()).sum(-1)
    assert torch.allclose(Bernoulli(logits).log_prob(bits[0].double()), expected, atol=1e-5)
