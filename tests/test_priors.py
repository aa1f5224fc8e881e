"""Priors with parameters: mixtures, VampPrior, the second stage; densities, draws, gradients, and their KL."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from gapless import distributions, networks, posteriors, priors, recipes
from gapless.distributions import DiagonalNormal, divergence
from gapless.errors import UsageError
from gapless.likelihoods import Normal
from gapless.model import Model
from gapless.objectives import ELBO
from oracles import LinearGaussian


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=noise(seed), dtype=torch.float64)


def mixture(covariance="diagonal", latent=2, components=3):
    prior = priors.Mixture(latent, components, covariance=covariance).double()
    with torch.no_grad():
        for number, parameter in enumerate(prior.parameters()):
            parameter.copy_(randn(*parameter.shape, seed=number) * 0.7)
    return prior


def torchs(prior):
    """The same mixture by torch.distributions."""
    p = prior()
    if prior.covariance == "full":
        parts = torch.distributions.MultivariateNormal(p.components.loc, scale_tril=p.components.factor)
    else:
        parts = torch.distributions.Independent(torch.distributions.Normal(p.components.loc, p.components.scale), 1)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=prior.logits), parts)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_mixtures_are_torchs(covariance, ledger):
    prior = mixture(covariance, 3, 4)
    z, p, theirs = randn(5, 6, 3, seed=9) * 3, prior(), torchs(prior)
    worst = (p.log_prob(z) - theirs.log_prob(z)).abs().max()
    ledger(f"priors.Mixture, {covariance}", "log-density", oracle="torch MixtureSameFamily", truth=0, measured=worst,
           tolerance=1e-10, why="float64")  # fmt: skip
    assert torch.allclose(p.mean, theirs.mean)
    assert torch.allclose(p.variance, theirs.variance)
    assert torch.allclose(p.weights.sum(), torch.ones(()).double())


def test_draws_choose_components_by_their_weights_in_random_order(ledger):
    components = DiagonalNormal(torch.arange(4.0).double()[:, None] * 100, torch.ones(4, 1).double())
    p = distributions.Mixture(torch.tensor([0.1, 0.2, 0.3, 0.4]).double().log(), components)
    n = 100_000
    z = p.sample((n,), generator=noise())[:, 0]
    chosen = (z / 100).round().long()
    worst = ((chosen.bincount() / n - p.weights) / (p.weights * (1 - p.weights) / n).sqrt()).abs().max()
    ledger("distributions.Mixture", "worst frequency of a component, standard errors", oracle="its weight", truth=0,
           measured=worst, tolerance=4, why="4 standard errors")  # fmt: skip
    within = z - 100 * chosen
    assert stats.kstest(within.numpy(), "norm").pvalue > 1e-4
    assert len(within.unique()) > 0.98 * n, "draws are points of their own"
    # Neighbours in the order are independent.
    both = ((chosen[1:] == 3) & (chosen[:-1] == 3)).double().mean()
    assert both == pytest.approx(0.16, abs=4 * math.sqrt(0.16 * 0.84 / n) * 2)
    assert p.sample((3, 5)).shape == (3, 5, 1)
    assert p.sample().shape == (1,)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_mixture_densities_integrate_to_one_in_the_plane(covariance, ledger):
    p = mixture(covariance)()
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    density = p.log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(601, 601)
    total = torch.trapezoid(torch.trapezoid(density, axis), axis)
    ledger(f"priors.Mixture, {covariance}", "integral of the density in the plane", oracle="trapezoids", truth=1,
           measured=total, tolerance=1e-6, why="601 x 601 points")  # fmt: skip


def test_the_kl_to_a_mixture_is_estimated_without_bias(ledger):
    prior = mixture(latent=1)
    p, q = prior(), DiagonalNormal(torch.tensor([[0.3]]).double(), torch.tensor([[0.5]]).double())
    own = stats.norm(0.3, 0.5)

    def difference(z):
        return own.logpdf(z) - p.log_prob(torch.tensor([[z]]).double()).item()

    truth, _ = integrate.quad(lambda z: own.pdf(z) * difference(z), -5, 6)
    n = 50_000
    z = q.rsample((n,), generator=noise())
    each = (q.log_prob(z) - p.log_prob(z))[:, 0]
    error = each.std() / math.sqrt(n)
    ledger("KL(DiagonalNormal, Mixture)", "nats, by 50,000 draws", oracle="quadrature", truth=truth,
           measured=divergence(q, p, z)[0], tolerance=4 * error, why="4 standard errors")  # fmt: skip


def test_a_mixture_takes_the_values_of_a_fitted_one():
    for covariance in ("diagonal", "full"):
        prior = priors.Mixture(2, 2, covariance=covariance).double()
        factor = torch.tensor([[[0.5, 0.0], [3.0, 2.0]], [[1.5, 0.0], [-0.2, 0.01]]]).double()
        factor = factor if covariance == "full" else torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1))
        prior.become([0.3, 0.7], [[1.0, 2.0], [-3.0, 4.0]], factor)
        p = prior()
        assert torch.allclose(p.weights, torch.tensor([0.3, 0.7]).double())
        assert torch.allclose(p.components.mean, torch.tensor([[1.0, 2.0], [-3.0, 4.0]]).double())
        assert torch.allclose(p.components.stddev, factor.square().sum(-1).sqrt(), rtol=1e-6)
        if covariance == "full":
            assert torch.allclose(p.components.factor, factor)


def test_a_learned_normal_starts_standard_and_its_best_is_the_aggregate_posteriors_moments(ledger):
    prior = priors.LearnedNormal(2).double()
    assert torch.equal(prior().loc, torch.zeros(2).double())
    q = DiagonalNormal(randn(50, 2) * 2 + 1, randn(50, 2, seed=1).exp())
    optimizer = torch.optim.LBFGS(
        prior.parameters(), max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        value = divergence(q, prior()).mean()
        value.backward()
        return value

    optimizer.step(loss)
    spread = (q.loc.var(0, unbiased=False) + q.variance.mean(0)).sqrt()
    for name, found, truth in (("loc", prior().loc, q.loc.mean(0)), ("scale", prior().scale, spread)):
        ledger(
            "LearnedNormal", f"{name} of least KL to 50 posteriors, worst of 2", oracle="moments of the aggregate",
            truth=0, measured=(found - truth).abs().max(), tolerance=1e-4, why="where LBFGS stops",
        )  # fmt: skip


@pytest.mark.parametrize("name", ["StandardNormal", "LearnedNormal"])
def test_normal_priors_are_torchs(name, ledger):
    prior = getattr(priors, name)(3).double()
    loc, scale = torch.zeros(3).double(), torch.ones(3).double()
    if name == "LearnedNormal":
        with torch.no_grad():
            prior.loc.copy_(randn(3)), prior.raw.copy_(randn(3, seed=1))
        loc, scale = randn(3), torch.exp(10 * torch.tanh(randn(3, seed=1) / 10))
    z = 3 * randn(20, 3, seed=2)
    theirs = torch.distributions.Normal(loc, scale).log_prob(z).sum(-1)
    ledger(
        f"priors.{name}", "log-density, worst of 20", oracle="torch.distributions", truth=0,
        measured=(prior().log_prob(z) - theirs).abs().max(), tolerance=1e-11, why="float64",
    )  # fmt: skip


# VampPrior.


def vamp_model(components=4, posterior=None, codes=4):
    return Model(
        encoder=networks.MLP((5,), (codes,), hidden=(6,)), posterior=posterior or posteriors.DiagonalNormal(),
        prior=priors.VampPrior(2, (5,), components), decoder=networks.MLP((2,), (1, 5), hidden=(6,)),
        likelihood=Normal(0.5),
    ).double()  # fmt: skip


def test_a_vampprior_is_the_mean_of_the_posteriors_of_its_inputs(ledger):
    model, x = vamp_model(), randn(7, 5)
    model.start(x)
    z = randn(9, 2, seed=3)
    q = model.encode(x[:4])
    expected = torch.stack([
        torch.distributions.Normal(q.loc[k], q.scale[k]).log_prob(z).sum(-1) for k in range(4)
    ]).logsumexp(0) - math.log(4)  # fmt: skip
    worst = (model.prior_distribution().log_prob(z) - expected).abs().max()
    ledger("priors.VampPrior", "log-density", oracle="mean of torch's normals", truth=0, measured=worst,
           tolerance=1e-12, why="float64")  # fmt: skip


def test_pseudo_inputs_start_at_items_and_stay_in_their_range():
    prior, x = priors.VampPrior(2, (2, 3, 1), 5), torch.rand(3, 2, 3, 1) * torch.tensor([1.0, 9.0])[:, None, None]
    prior.start(x)
    assert torch.equal(prior.inputs, x[[0, 1, 2, 0, 1]])
    assert prior.high.flatten().tolist() == [x[:, 0].max(), x[:, 1].max()]
    seen = []
    with torch.no_grad():
        prior.inputs.add_(100)
    prior(lambda u: seen.append(u) or DiagonalNormal(u[:, 0, :2, 0], u[:, 0, :2, 0]))
    assert torch.equal(seen[0].amax((0, 2, 3)), x.amax((0, 2, 3)))
    prior.start(torch.where(x > 0.5, x, torch.nan))
    assert prior.inputs.isfinite().all()


@pytest.mark.parametrize(
    ("posterior", "codes"),
    [(posteriors.DiagonalNormal(), 4), (posteriors.FullNormal(), 5), (posteriors.Flow(2, "planar", context=3), 7)],
    ids=["diagonal", "full", "planar"],
)
def test_the_kl_to_a_vampprior_moves_inputs_and_encoder(posterior, codes):
    model = vamp_model(posterior=posterior, codes=codes)
    x = randn(7, 5)
    model.start(x)
    ELBO(0.0, 1.0)(model, x, generator=noise()).loss.backward()
    assert model.prior.inputs.grad.abs().min() > 0
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    assert model.sample(6, generator=noise()).shape == (6, 1, 5) or model.sample(6).shape == (6, 5)


def test_pseudo_inputs_of_a_conditional_model_have_a_context_of_their_own():
    """q(z | u_k, c_k) whatever class is bound; contexts start at the items' own, are trained, stay in [0, 1]."""
    model, _ = recipes.build("vampprior", (5,), latent=2, hidden=(6,), context=3, options={"components": 4})
    model, x, classes = model.double(), randn(7, 5), torch.eye(3).double()[torch.arange(7) % 3]
    model.given(classes).start(x)
    assert torch.equal(model.prior.contexts, classes[:4])
    z, q = randn(9, 2, seed=3), model.given(classes[:4]).encode(x[:4])
    normals = [torch.distributions.Normal(q.loc[k], q.scale[k]).log_prob(z).sum(-1) for k in range(4)]
    expected = torch.stack(normals).logsumexp(0) - math.log(4)
    for bound in (classes, classes[[1]]):
        assert torch.allclose(model.given(bound).prior_distribution().log_prob(z), expected, atol=1e-12)
    ELBO(0.0, 1.0)(model.given(classes), x, generator=noise()).loss.backward()
    assert model.prior.contexts.grad.abs().min() > 0
    with torch.no_grad():
        model.prior.contexts.add_(5)
    ones = model.given(torch.ones(4, 3).double()).encode(x[:4])
    assert torch.equal(model.given(classes).prior_distribution().components.mean, ones.mean)
    again = Model.from_description(model.describe())
    again.load_state_dict(model.state_dict())
    with pytest.raises(UsageError, match=r"context of the items, 3 numbers; they have 0(.|\n)*context=3"):
        Model.from_description({**model.describe(), "prior": {**model.describe()["prior"], "context": 0}})


def test_a_vampprior_needs_encode():
    with pytest.raises(UsageError, match="needs the model's encode"):
        priors.VampPrior(2, (5,), 3)()


# The second stage.


def second_stage(shift=0.0):
    """The second VAE that is exactly solvable, in units of its own: its bound is the density itself."""
    oracle = LinearGaussian.make(4, (2.0, 0.7, 0.5, 0.3), 0.5)
    model = oracle.model()
    prior = priors.SecondStage(
        4, networks.MLP((4,), (8,), hidden=()), networks.MLP((4,), (4,), hidden=())
    ).double()  # fmt: skip
    with torch.no_grad():
        prior.encoder.layers[-1].weight.copy_(model.encoder.layers[-1].weight)
        prior.encoder.layers[-1].bias.copy_(model.encoder.layers[-1].bias + shift)
        prior.decoder.layers[-1].weight.copy_(oracle.weight)
        prior.decoder.layers[-1].bias.copy_(oracle.mean)
    loc, spread = randn(4, seed=8), randn(4, seed=9).exp()
    prior.become(loc, spread, torch.full((4,), 0.5).double())
    covariance = spread[:, None] * oracle.covariance() * spread
    return prior, torch.distributions.MultivariateNormal(loc + spread * oracle.mean, covariance)


def test_with_the_exact_posterior_the_second_stages_bound_is_its_density(ledger):
    prior, exact = second_stage()
    z = exact.sample((20,))
    worst = (prior().log_prob(z.reshape(4, 5, 4)).flatten() - exact.log_prob(z)).abs().max()
    ledger("priors.SecondStage", "log-density, exact posterior", oracle="closed form", truth=0, measured=worst,
           tolerance=1e-9, why="float64")  # fmt: skip


def test_with_another_posterior_it_stays_below_on_average():
    prior, exact = second_stage(shift=0.4)
    z = exact.sample((500,))
    gap = prior().log_prob(z) - exact.log_prob(z)
    assert -1 < gap.mean() < 0
    assert torch.equal(prior().log_prob(z), prior().log_prob(z))


def test_draws_of_the_second_stage_have_its_moments(ledger):
    prior, exact = second_stage()
    n = 50_000
    z = prior().sample((n,), generator=noise())
    covariance = exact.covariance_matrix
    error = ((covariance.square() + covariance.diagonal()[:, None] * covariance.diagonal()) / n).sqrt()
    worst = ((torch.cov(z.T) - covariance) / error).abs().max()
    ledger("priors.SecondStage", "worst covariance of draws, standard errors", oracle="closed form", truth=0,
           measured=worst, tolerance=4.5, why="16 normal quantiles at 4.5")  # fmt: skip
    assert torch.allclose(prior().mean, exact.mean, atol=1e-9)
    assert torch.allclose(prior().stddev, exact.stddev, rtol=1e-6)
    assert np.isfinite(prior().log_prob(z[:10]).detach().numpy()).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: priors.Mixture(2, 0), "at least 1 component"),
        (lambda: priors.Mixture(2, covariance="tied"), "covariance is one of"),
        (lambda: priors.VampPrior(2, (3,), 0), "at least 1 pseudo-input"),
    ],
)
def test_priors_that_cannot_be_are_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()
