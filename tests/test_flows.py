"""Flow posteriors and priors: densities against quadrature, autograd Jacobians and closed forms; estimators."""

import math

import pytest
import torch

from gapless import distributions, networks, objectives, posteriors, priors
from gapless.distributions import DiagonalNormal
from gapless.distributions.bijections import BIJECTIONS, PlanarTransform, stacked
from gapless.distributions.flowing import fixed_points
from gapless.errors import UsageError
from gapless.likelihoods import Normal
from gapless.model import Model
from gapless.objectives.importance import ESTIMATORS
from gapless.ownership import frozen, log_prob_of
from gapless.posteriors.flows import KINDS
from gapless.priors.flows import KINDS as PRIOR_KINDS


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=noise(seed), dtype=torch.float64)


def head(kind, latent=3, *, transforms=3, loud=True):
    made = posteriors.Flow(latent, kind, transforms=transforms, context=5, hidden=(8,)).double()
    if loud:  # far from the identity
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(3)
    return made


def parameters_of(made, batch=2, seed=3):
    return randn(batch, *made.parameter_shape(made.latent), seed=seed)


# Densities.


@pytest.mark.parametrize("latent", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_density_of_draws_is_the_change_of_variables(kind, latent, ledger):
    made = head(kind, latent)
    q = made(parameters_of(made, 1))
    u = randn(6, 1, latent, seed=5)
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: q.push(v[None])[0, 0], row)[:, 0] for row in u]
    )
    base = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1)[:, 0]
    expected = base - torch.linalg.slogdet(jacobians)[1]
    worst = (q.log_prob(q.push(u))[:, 0] - expected).abs().max()
    ledger(
        f"posteriors.Flow, {kind}", f"log-density, {latent} features", oracle="autograd Jacobian of the draw",
        truth=0, measured=worst, tolerance=1e-8, why="float64, inverted",
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_the_very_draws_is_the_inverted_one(kind, ledger):
    made = head(kind)
    q = made(parameters_of(made))
    z = q.rsample((50,), generator=noise())
    own, inverted = q.log_prob(z), q.log_prob(z.clone())
    assert own is q.log_prob(z)
    ledger(
        f"posteriors.Flow, {kind}", "log-density of own draws", oracle="by the inverse", truth=0,
        measured=(own - inverted).abs().max(), tolerance=1e-8, why="float64",
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_one_dimensional_densities_integrate_to_one(kind, ledger):
    made = head(kind, 1)
    q = made(torch.cat([torch.zeros(1, 2).double(), parameters_of(made, 1)[:, 2:]], 1))
    grid = torch.linspace(-200, 200, 100_001, dtype=torch.float64)
    total = torch.trapezoid(q.log_prob(grid[:, None, None])[:, 0].exp(), grid)
    ledger(
        f"posteriors.Flow, {kind}", "integral of the density", oracle="trapezoids", truth=1, measured=total,
        tolerance=1e-3, why="step 0.004",
    )  # fmt: skip


@pytest.mark.parametrize("kind", PRIOR_KINDS)
def test_prior_densities_integrate_to_one_in_the_plane(kind, ledger):
    prior = priors.Flow(2, kind, transforms=2, hidden=(8,)).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.mul_(4)
    prior.standardize(torch.tensor([[-1.0, 0.0], [1.0, 3.0], [2.0, 1.0]]).double())
    p = prior()
    n = 2000
    z = p.sample((n,), generator=noise())
    low, high = z.amin(0) - 4 * z.std(0), z.amax(0) + 4 * z.std(0)
    axes = [torch.linspace(float(a), float(b), 501, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    with torch.no_grad():
        log_density = p.log_prob(torch.cartesian_prod(*axes)).reshape(501, 501)
        own = p.log_prob(z.clone())
    total, mean = (
        torch.trapezoid(torch.trapezoid(values, axes[1]), axes[0])
        for values in (log_density.exp(), log_density.exp() * log_density)
    )
    ledger(
        f"priors.Flow, {kind}", "integral of the density in the plane", oracle="trapezoids", truth=1, measured=total,
        tolerance=5e-3, why="501 x 501 points",
    )  # fmt: skip
    ledger(
        f"priors.Flow, {kind}", "E log p, 2,000 draws", oracle="trapezoids", truth=mean, measured=own.mean(),
        tolerance=4 * own.std() / math.sqrt(n) + 5e-3, why="4 standard errors and the grid",
    )  # fmt: skip


def test_an_affine_flow_has_the_closed_form_normal(ledger):
    """Constant autoregressive nets: f(u) = A u + b, so q is a full normal."""
    made = head("iaf", 3, transforms=2)
    with torch.no_grad():
        for part in made.flow.transforms:
            last = list(part.hyper)[-1]
            last.weight.zero_()
            last.bias.copy_(randn(len(last.bias), seed=8))
    q = made(parameters_of(made))
    matrix = torch.autograd.functional.jacobian(lambda u: q.push(u.expand(1, 2, 3))[0], torch.zeros(3).double())
    center = q.push(torch.zeros(1, 2, 3).double())[0]
    expected = torch.distributions.MultivariateNormal(center, matrix @ matrix.mT)
    z = randn(9, 2, 3, seed=2)
    worst = (q.log_prob(z) - expected.log_prob(z)).abs().max()
    ledger("Flowed", "log-density, affine f", oracle="torch.distributions", truth=0, measured=worst, tolerance=1e-8,
           why="float64")  # fmt: skip
    worst = torch.maximum((q.mean - expected.mean).abs().max(), (q.stddev - expected.stddev).abs().max())
    ledger("Flowed", "mean and stddev, affine f", oracle="closed form", truth=0, measured=worst, tolerance=1e-8,
           why="the fixed points have mean 0 and covariance I")  # fmt: skip


@pytest.mark.parametrize("features", [1, 2, 16, 70])
def test_fixed_points_have_the_moments_of_the_noise(features):
    points = fixed_points(features)
    eye = torch.eye(features, dtype=torch.float64)
    assert torch.allclose(points.mean(0), torch.zeros(features).double(), atol=1e-12)
    assert torch.allclose(points.T @ points / len(points), eye, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_embedding_is_near_the_mean_and_the_same_at_every_call(kind, ledger):
    made = head(kind, 3, loud=False)
    parameters = parameters_of(made)
    q, again = made(parameters), made(parameters)
    assert torch.equal(q.mean, again.mean)
    assert torch.equal(q.stddev, again.stddev)
    z = q.sample((30_000,), generator=noise())
    worst = ((z.mean(0) - q.mean) / q.stddev).abs().max()
    ledger(
        f"posteriors.Flow, {kind}", "mean by fixed points, in stddevs", oracle="30,000 draws", truth=0,
        measured=worst, tolerance=0.1, why="128 points stand for all the noise",
    )  # fmt: skip
    assert ((q.stddev / z.std(0)).log().abs() < 0.15).all()


# Planar flows.


def test_planar_flows_keep_the_constraint_and_the_unconstrained_vector_where_it_may_stay():
    u, w, b = randn(500, 4) * 5, randn(500, 4, seed=1) * 5, randn(500, seed=2)
    f = PlanarTransform(u, w, b)
    along = (f.w * f.u).sum(-1)
    assert (along >= -1).all()
    assert torch.allclose(along, torch.log1p(torch.exp((w * u).sum(-1))) - 1 + 1e-3)
    # Only the part along w is changed.
    change = f.u - u
    across = change - (change * w).sum(-1, keepdim=True) / w.square().sum(-1, keepdim=True) * w
    assert across.abs().max() < 1e-10


def test_planar_flows_are_the_papers(ledger):
    u, w, b, x = randn(3), randn(3, seed=1), randn(1, seed=2)[0], randn(7, 3, seed=3)
    f = PlanarTransform(u, w, b)
    y, stretch = f.call_and_ladj(x)
    assert torch.allclose(y, x + f.u * torch.tanh(x @ w + b)[:, None])
    psi = (1 - torch.tanh(x @ w + b).square())[:, None] * w
    worst = (stretch - (1 + psi @ f.u).abs().log()).abs().max()
    ledger("PlanarTransform", "log |1 + u.psi(x)|", oracle="Rezende & Mohamed (2015), eq. 12", truth=0, measured=worst,
           tolerance=1e-12, why="float64")  # fmt: skip
    worst = (f.inv(y) - x).abs().max()
    ledger("PlanarTransform", "inverse", oracle="x itself", truth=0, measured=worst, tolerance=1e-10,
           why="float64")  # fmt: skip


@pytest.mark.parametrize("kind", BIJECTIONS)
def test_gradients_through_the_inverse_are_those_of_its_jacobian(kind):
    flow = stacked(kind, 3, context=2, transforms=2, hidden=(8,)).double()
    f = flow(randn(1, 2))
    x = randn(1, 3, seed=4)
    y = f(x)
    forward = torch.autograd.functional.jacobian(f, x)[0, :, 0]
    backward = torch.autograd.functional.jacobian(lambda v: f.inv(v), y.detach())[0, :, 0]
    assert torch.allclose(forward @ backward, torch.eye(3).double(), atol=1e-7)


# Estimators: any z, parameters held or not.


@pytest.mark.parametrize("kind", KINDS)
def test_the_frozen_density_has_the_right_gradient_in_z_and_none_in_the_parameters(kind):
    made = head(kind)
    parameters = parameters_of(made)
    z = made(parameters).rsample((1,), generator=noise()).detach().requires_grad_()
    value = frozen(log_prob_of(made))(z, parameters).sum()
    (gradient,) = torch.autograd.grad(value, z)
    step = 1e-5
    for feature in range(3):
        moved = [made(parameters).log_prob(z.detach() + sign * step * torch.eye(3)[feature]) for sign in (1, -1)]
        slope = (moved[0] - moved[1]) / (2 * step)
        assert torch.allclose(gradient[..., feature], slope, rtol=1e-4, atol=1e-5)
    leaf = z.detach()
    assert not frozen(log_prob_of(made))(leaf, parameters).requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_the_expected_score_is_zero_and_the_path_gradient_is_the_total_one(kind):
    """E d log q(z) / d parameters = 0 at held draws: the score of a density that integrates to 1."""
    made = head(kind, 2, transforms=2, loud=False)
    parameters = parameters_of(made, 1).requires_grad_()
    n = 4000
    with torch.no_grad():
        z = made(parameters).rsample((n,), generator=noise())
    copies = parameters.detach().expand(n, -1).clone().requires_grad_()
    scores = torch.autograd.grad(made(copies).log_prob(z[:, 0]).sum(), copies)[0]
    worst = (scores.mean(0) / (scores.std(0) / math.sqrt(n)).clamp_min(1e-12)).abs().max()
    assert worst < 4.5
    # Total derivative of log q(z(p), p) by the remembered density = by inverting the same draw.
    q = made(parameters)
    z = q.rsample((5,), generator=noise())
    remembered = torch.autograd.grad(q.log_prob(z).sum(), parameters, retain_graph=True)[0]
    inverted = torch.autograd.grad(q.log_prob(z.clone()).sum(), parameters)[0]
    assert torch.allclose(remembered, inverted, rtol=1e-6, atol=1e-8)


def test_the_remembered_density_is_not_used_where_its_gradient_would_be_missing():
    made = head("iaf")
    parameters = parameters_of(made).requires_grad_()
    q = made(parameters)
    with torch.no_grad():
        z = q.rsample((4,), generator=noise())
        assert q.log_prob(z) is q.log_prob(z)
    value = q.log_prob(z)
    assert value.requires_grad
    assert not torch.equal(torch.autograd.grad(value.sum(), parameters)[0], torch.zeros_like(parameters))


class Given(networks.Network):
    """An encoder that puts out what it was given."""

    def __init__(self, rows):
        super().__init__()
        self.inputs, self.outputs, self.rows = (5,), rows.shape[1:], rows

    def forward(self, x):
        return self.rows


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_estimator_serves_every_flow_and_agrees_on_the_gradient(kind, estimator):
    """The gradients of many copies of one item agree in mean; sticking the landing is unbiased for one draw alone."""
    n, samples = 1500, 1 if estimator == "sticking-the-landing" else 3
    torch.manual_seed(0)
    model = Model(
        encoder=networks.MLP((5,), (10,), hidden=()), posterior=posteriors.Flow(3, kind, context=4, hidden=(6,)),
        prior=priors.StandardNormal(3), decoder=networks.MLP((3,), (1, 5), hidden=(6,)), likelihood=Normal(0.5),
    ).double()  # fmt: skip
    x, found = randn(1, 5, seed=9).expand(n, 5), []
    for seed, each in ((0, estimator), (1, "reparameterized")):
        rows = randn(1, 10, seed=7).expand(n, -1).clone().requires_grad_()
        model.encoder = Given(rows)
        loss = objectives.IWAE(samples, estimator=each)(model, x, generator=noise(seed)).loss
        found.append(torch.autograd.grad(loss, rows)[0] * n)
    one, two = found
    error = ((one.var(0) + two.var(0)) / n).sqrt()
    assert ((one.mean(0) - two.mean(0)).abs() <= 4.5 * error + 1e-12).all()


def test_extreme_encoders_have_finite_draws_and_densities():
    for kind in KINDS:
        made = posteriors.Flow(3, kind, context=4, hidden=(8,))
        for extreme in (1e4, -1e4):
            q = made(torch.full((2, 10), extreme))
            z = q.rsample((20,), generator=noise())
            assert z.isfinite().all()
            assert q.log_prob(z).isfinite().all() if z.requires_grad else True
            assert q.mean.isfinite().all()
            assert q.stddev.isfinite().all()


# Front doors.


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: posteriors.Flow(3, "glow"), "no flow posterior 'glow'"),
        (lambda: posteriors.Flow(3, context=0), "at least 1 number"),
        (lambda: posteriors.Flow(3, transforms=0), "sizes of at least 1"),
        (lambda: posteriors.Flow(3).parameter_shape(4), "made for 3"),
        (lambda: posteriors.Flow(3, hidden=(100_000, 100_000)), "too large"),
        (lambda: posteriors.Flow(10**9), "too large"),
        (lambda: posteriors.LowRankNormal(0), "rank of at least 1"),
        (lambda: priors.Flow(3, "iaf"), "no flow prior 'iaf'"),
    ],
)
def test_flows_that_cannot_be_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_zuko_leaves_the_checks_of_torch_on():
    assert distributions.DiagonalNormal is DiagonalNormal
    with pytest.raises(ValueError, match="scale"):
        torch.distributions.Normal(0.0, -1.0)
