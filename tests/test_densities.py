"""Densities fitted to codes, and what becomes of a model that has one for its prior."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

import gapless
from gapless import adapters, densities, distributions, priors, recipes, study
from gapless.audit import laws
from gapless.data import Feed
from gapless.distributions import DiagonalNormal
from gapless.errors import UsageError
from gapless.explorer.scene import build as build_scene
from gapless.model import Model
from gapless.settings import Settings
from test_cli import gapless as command

FACTOR = torch.tensor([[[1.0, 0.0], [0.5, 0.3]], [[0.5, 0.0], [-1.0, 1.0]]]).double()
TRUE = torch.distributions.MixtureSameFamily(
    torch.distributions.Categorical(torch.tensor([0.3, 0.7]).double()),
    torch.distributions.MultivariateNormal(torch.tensor([[-3.0, 0.0], [2.0, 5.0]]).double(), scale_tril=FACTOR),
)
NORMAL = torch.distributions.MultivariateNormal(torch.tensor([100.0, -1.0]).double(), scale_tril=1e-2 * FACTOR[1])


def gap(prior, truth, n=20_000):
    """E log p(z) - log truth(z) over draws of the truth, and its standard error."""
    z = truth.sample((n,))
    with torch.no_grad():
        each = prior().log_prob(z.float()).double() - truth.log_prob(z)
    return float(each.mean()), float(each.std()) / math.sqrt(n)


@pytest.mark.parametrize(("truth", "components", "free"), [(NORMAL, 1, 5), (TRUE, 2, 11)], ids=["normal", "mixture"])
def test_a_mixture_of_the_right_size_loses_what_its_parameters_cost(truth, components, free, ledger):
    n = 4000
    prior = densities.fit_prior(truth.sample((n,)), "mixture", components=components)
    lost, error = gap(prior, truth)
    # 2 n times the KL from the truth to the maximum-likelihood fit is chi-squared with one degree a free parameter.
    most = stats.chi2(free).ppf(0.9999) / (2 * n)
    ledger(
        "densities.fit, mixture", f"nats lost on fresh codes, {components} components", oracle="the true density",
        truth=-free / (2 * n), measured=lost, tolerance=most + 4 * error,
        why="quantile 0.9999 of chi-squared / 2n, and 4 standard errors",
    )  # fmt: skip


def test_bic_finds_the_number_of_components():
    assert densities.fit_prior(TRUE.sample((2000,)), "mixture").components == 2
    assert densities.fit_prior(NORMAL.sample((500,)), "mixture").components == 1


def lost_on_fresh_codes(kind, bijection="nsf"):
    """By a density of codes far from standard units: mean and its standard error, in nats; and draws of it."""
    prior = densities.fit_prior(TRUE.sample((3000,)) * 0.01 + 7, kind, bijection=bijection)
    z = TRUE.sample((3000,))
    with torch.no_grad():
        each = prior().log_prob((z * 0.01 + 7).float()).double() - TRUE.log_prob(z) + 2 * math.log(0.01)
    drawn = prior().sample((5000,), generator=torch.Generator().manual_seed(0)).double()
    return float(each.mean()), float(each.std()) / math.sqrt(len(z)), (drawn - 7) / 0.01


@pytest.mark.parametrize("kind", ["flow", "second-stage"])
def test_no_density_is_better_than_the_truth(kind, monkeypatch, ledger):
    monkeypatch.setattr(densities, "STEPS", 60)
    lost, error, _ = lost_on_fresh_codes(kind, "coupling")
    ledger(
        f"densities.fit, {kind}", "nats above the true density, 60 steps, at most", oracle="Gibbs' inequality",
        truth=0, measured=max(lost, 0), tolerance=4 * error, why="4 standard errors",
    )  # fmt: skip
    assert lost > -5


def first_stage(epochs):
    """A run of the recipe on four clusters of a plane in five dimensions, and its training items."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 2, (1500, 2)) * 6.0 - 3
    rows = (corners + 0.3 * rng.normal(size=(1500, 2))) @ rng.normal(size=(2, 5)) + 0.05 * rng.normal(size=(1500, 5))
    data = gapless.read(rows)
    settings = Settings(latent=2, epochs=epochs, hidden=(32,), batch_size=100, learning_rate=5e-3)
    return study.train(data, recipe="two-stage", settings=settings), Feed(data.train, data.scaling)


def test_the_two_stages_make_one_model(monkeypatch):
    """Codes come from the second VAE, items from the first one's decoder and scale."""
    monkeypatch.setattr(densities, "STEPS", 10)
    run, feed = first_stage(2)
    both = densities.fit(run.model, densities.codes_of(run.model, feed), "second-stage")
    assert isinstance(both.prior, priors.SecondStage)
    again = Model.from_description(both.describe())
    again.load_state_dict(both.state_dict())
    z = again.sample_codes(5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(z, both.prior_distribution().sample((5,), generator=torch.Generator().manual_seed(1)))
    first, second = run.model.eval().decode(z), again.eval().decode(z)
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.stddev, second.stddev)
    assert torch.equal(again.sample(5, generator=torch.Generator().manual_seed(1)), second.mean)


@pytest.mark.slow
def test_the_second_stage_finds_the_aggregate_posterior_that_the_first_leaves(ledger):
    """Dai & Wipf (2019): codes of the first VAE are not N(0, I), and the second VAE learns their law.

    The law is known: q(z) is the mixture of the posteriors of the training items.
    """
    run, feed = first_stage(30)
    both, count = densities.fit(run.model, densities.codes_of(run.model, feed), "second-stage"), 1000
    with torch.no_grad():
        q = run.model.encode(torch.cat(list(feed.batches(512))))
        chosen = torch.randint(len(q.mean), (count,))
        z = q.mean[chosen] + q.stddev[chosen] * torch.randn(count, 2)  # draws that the fit has not seen
        single = stats.norm.logpdf(z[:, None].double(), q.mean.double(), q.stddev.double()).sum(-1)
        law = special.logsumexp(single, axis=1) - math.log(len(q.mean))
        first, second = (law - m.prior_distribution().log_prob(z).double().numpy() for m in (run.model, both))
    for name, lost in (("N(0, I)", first), ("the second stage", second)):
        ledger(
            "two-stage", f"KL(q(z), {name}) in nats where it is below 0", oracle="Gibbs' inequality; q(z) by SciPy",
            truth=0, measured=min(lost.mean(), 0.0), tolerance=4 * lost.std() / math.sqrt(count),
            why="4 standard errors",
        )  # fmt: skip
    gain = first - second
    ledger(
        "two-stage", "share of KL(q(z), N(0, I)) that the second stage closes, four clusters", truth=1,
        oracle="q(z), the mixture of all posteriors, by SciPy", measured=gain.mean() / first.mean(), tolerance=0.5,
        why="at least half; 1 is the law itself",
    )  # fmt: skip
    assert gain.mean() > 4 * gain.std() / math.sqrt(count)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "worst"), [("flow", 0.08), ("second-stage", 0.4)])
def test_trained_densities_come_near_the_truth(kind, worst):
    lost, error, drawn = lost_on_fresh_codes(kind)
    assert -worst < lost < 4 * error
    assert torch.allclose(drawn.mean(0), TRUE.mean, atol=0.4)
    assert ((drawn.std(0) / TRUE.stddev).log().abs() < 0.2).all()


def test_the_same_seed_gives_the_same_density(monkeypatch):
    monkeypatch.setattr(densities, "STEPS", 10)
    codes = TRUE.sample((100,))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for kind in densities.KINDS:
        one, two, other = (
            densities.fit_prior(codes, kind, bijection="coupling", seed=seed).state_dict() for seed in (0, 0, 1)
        )
        assert all(torch.equal(one[name], two[name]) for name in one)
        assert kind == "mixture" or any(not torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())


def test_the_model_itself_is_left_alone():
    model, _ = recipes.build("ae", (5,), latent=2, hidden=(4,))
    codes = TRUE.sample((200,)).float()
    fitted = densities.fit(model, codes, components=3)
    assert isinstance(model.prior, priors.StandardNormal)
    assert isinstance(fitted.prior, priors.Mixture)
    x = torch.randn(3, 5)
    assert torch.equal(fitted.reconstruct(x), model.reconstruct(x))
    z = fitted.sample_codes(4000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(z.mean(0), codes.mean(0), atol=5 * float(codes.std()) / math.sqrt(4000))
    assert fitted.sample(3).shape == (3, 5)


def test_codes_are_draws_of_the_posteriors_and_of_an_autoencoder_the_codes():
    model, _ = recipes.build("vae", (5,), latent=2, hidden=(4,))
    data = gapless.read(np.random.default_rng(0).normal(size=(40, 5)), likelihood="NormalWithOptimalScale")
    feed = Feed(data.train, data.scaling)
    codes = densities.codes_of(model, feed)
    x = torch.cat(list(feed.batches(512)))
    with torch.no_grad():
        standardized = (codes - model.encode(x).mean) / model.encode(x).stddev
    n = standardized.numel()
    assert float(standardized.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / n))
    assert torch.equal(codes, densities.codes_of(model, feed))
    assert not torch.equal(codes, densities.codes_of(model, feed, seed=1))
    auto, _ = recipes.build("ae", (5,), latent=2, hidden=(4,))
    with torch.no_grad():
        assert torch.equal(densities.codes_of(auto, feed), auto.embed(x))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"kind": "kde"}, "no density 'kde'"),
        ({"codes": torch.zeros(5, 2)}, "at least 20"),
        ({"codes": torch.full((50, 2), math.nan)}, "finite"),
        ({"components": 51}, "half the codes"),
        ({"components": 2, "kind": "flow"}, "those of a mixture"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, match):
    with pytest.raises(UsageError, match=match):
        densities.fit_prior(**{"codes": torch.randn(100, 2), **arguments})


# Laws of the audit.


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda: priors.LearnedNormal(2), laws.Gaussian),
        (lambda: priors.Mixture(2, 3), laws.Mixture),
        (lambda: priors.Mixture(2, 3, covariance="full"), laws.Mixture),
        (lambda: priors.Flow(2, "coupling"), laws.PushForward),
        (lambda: densities.fit_prior(TRUE.sample((200,)), "second-stage"), laws.PushForward),
    ],
    ids=["learned", "mixture", "full", "flow", "second stage"],
)
def test_the_law_of_a_prior_draws_what_the_prior_draws(made, kind, monkeypatch):
    monkeypatch.setattr(densities, "STEPS", 50)
    prior = made()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        law = adapters.law_of(prior(), "name")
        z = prior().sample((4000,), generator=torch.Generator().manual_seed(0)).double().numpy()
    assert isinstance(law, kind)
    assert law.name == "name"
    for drawn in (law.sample(4000, np.random.default_rng(0)), law.loops(2000, 8, np.random.default_rng(1))[:, 3]):
        assert all(stats.ks_2samp(drawn[:, j], z[:, j]).pvalue > 1e-4 for j in range(2))


def test_the_law_of_the_standard_normal_keeps_its_name_and_others_are_refused():
    assert adapters.law_of(priors.StandardNormal(3)(), "x").name == "N(0, I)"
    with pytest.raises(UsageError, match="the prior x, of Normal, has no reference law"):
        adapters.law_of(torch.distributions.Normal(0.0, 1.0), "x")
    bent = distributions.Flowed(torch.zeros(3, 2), torch.ones(3, 2), torch.distributions.ExpTransform())
    with pytest.raises(UsageError, match="has no reference law"):
        adapters.law_of(distributions.Mixture(torch.zeros(3), bent), "x")
    normal = priors.LearnedNormal(2)
    with torch.no_grad():
        normal.loc.fill_(2.0)
    assert adapters.law_of(normal(), "x").sample(1000, np.random.default_rng(0)).mean() == pytest.approx(2, abs=0.2)
    auto, _ = recipes.build("ae", (5,), latent=2)
    assert adapters.subject(auto).prior is None


# From end to end.


RECIPES = ("vampprior", "learned-prior", "flow-prior", "iaf", "planar-flow", "full-covariance")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_runs_with_any_prior_and_posterior_are_saved_audited_and_shown(name, tmp_path):
    settings = Settings(latent=2, epochs=2, hidden=(16,))
    run = study.train(gapless.read("digits"), recipe=name, settings=settings)
    folder = run.save(tmp_path / name)
    again = gapless.load_run(folder)
    assert all(torch.equal(value, again.model.state_dict()[key]) for key, value in run.model.state_dict().items())
    result = command("audit", folder, "--budget", "quick", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    scene = build_scene({name: again}, gapless.read("digits"), audit="none", items=200)
    assert scene


@pytest.mark.slow
@pytest.mark.parametrize("kind", densities.KINDS)
def test_the_command_writes_a_run_that_is_audited_and_shown(kind, tmp_path):
    settings = Settings(latent=2, epochs=2, hidden=(16,))
    study.train(gapless.read("digits"), recipe="vae", settings=settings).save(tmp_path / "run")
    made = command("density", "run", "--kind", kind, "-o", "new", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    run = gapless.load_run(tmp_path / "new")
    assert run.held_out["density"]["kind"] == kind
    assert not isinstance(run.model.prior_distribution(), DiagonalNormal)
    assert command("verify", "new", cwd=tmp_path).returncode == 0
    assert command("audit", "new", "--budget", "quick", cwd=tmp_path).returncode == 0
    assert build_scene({"new": run}, gapless.read("digits"), audit="none", items=200)
    assert command("density", "run", "--kind", kind, "-o", "new", cwd=tmp_path).returncode != 0
