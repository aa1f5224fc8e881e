import copy
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.decomposition import FactorAnalysis

import cases.likelihoods
import gapless
from gapless import distributions, likelihoods, recipes, study
from gapless.cli.commands import app
from gapless.errors import UsageError
from gapless.randomness import generator
from gapless.recipes import RECIPES
from gapless.settings import Settings
from gapless.study.training import Work
from gapless.training.course import Course
from gapless.training.execution import arranged
from oracles import ppca_log_likelihood


@pytest.mark.parametrize(
    "head",
    [
        likelihoods.Normal(0.2),
        likelihoods.NormalWithLearnedScale(),
        likelihoods.NormalWithOptimalScale(),
        likelihoods.Laplace(0.2),
        likelihoods.LaplaceWithLearnedScale(),
    ],
    ids=lambda h: type(h).__name__,
)
def test_densities_integrate_to_one(head, ledger):
    p = head.double().eval()(torch.tensor([[[0.4]]], dtype=torch.float64))
    ends = -40, 40  # exp(-40) is nothing
    total, _ = integrate.quad(
        lambda x: p.log_prob(torch.tensor([[x]], dtype=torch.float64)).exp().item(), *ends, points=[-5, 0.4, 5]
    )
    ledger(
        type(head).__name__, "integral of the density", oracle="scipy.integrate.quad", truth=1, measured=total,
        tolerance=1e-8, why="quadrature",
    )  # fmt: skip


def test_bernoulli_probabilities_sum_to_one():
    p = likelihoods.Bernoulli()(torch.tensor([[[0.3, -1.0]]], dtype=torch.float64))
    bits = [torch.tensor([[a, b]]).double() for a in (0, 1) for b in (0, 1)]
    assert sum(p.log_prob(x).exp().item() for x in bits) == pytest.approx(1, abs=1e-12)


def test_a_fixed_scale_must_be_positive():
    for scale in (0.0, -1.0, math.nan):
        for head in (likelihoods.Normal, likelihoods.Laplace):
            with pytest.raises(UsageError, match="scale above 0"):
                head(scale)


def test_a_learned_scale_is_learned_to_the_spread_of_the_errors():
    head = likelihoods.NormalWithLearnedScale((2,))
    x = torch.randn(4000, 2) * torch.tensor([0.5, 3.0])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        (-head(torch.zeros(4000, 1, 2)).log_prob(x).mean()).backward()
        optimizer.step()
    assert torch.allclose(head(torch.zeros(1, 1, 2)).stddev[0], x.square().mean(0).sqrt(), rtol=1e-2)


def test_the_optimal_scale_is_the_root_mean_square_error_of_the_batch():
    head = likelihoods.NormalWithOptimalScale().train()
    loc, x = torch.randn(50, 1, 6), torch.randn(50, 6) * 2
    p = head.calibrate(head(loc), x)
    rmse = (x - loc[:, 0]).square().mean().sqrt()
    assert torch.allclose(p.stddev.max(), rmse)
    # The loss is D/2 (log 2 pi MSE + 1), Rybkin et al. (2021), plus constants.
    assert torch.allclose(-p.log_prob(x).mean(), 3 * (torch.log(2 * math.pi * rmse**2) + 1), rtol=1e-5)
    # It is a minimum over the scale.
    for factor in (0.95, 1.05):
        other = likelihoods.Normal(float(rmse) * factor)(loc)
        assert other.log_prob(x).mean() < p.log_prob(x).mean()


def test_the_gradient_under_the_optimal_scale_is_that_of_the_logarithm_of_the_error(ledger):
    head = likelihoods.NormalWithOptimalScale().train()
    loc = torch.randn(20, 1, 6, dtype=torch.float64).requires_grad_()
    x = torch.randn(20, 6, dtype=torch.float64)
    ours = torch.autograd.grad(-head.double().calibrate(head(loc), x).log_prob(x).mean(), loc)[0]
    theirs = torch.autograd.grad(3 * torch.log((x - loc[:, 0]).square().mean()), loc)[0]
    ledger(
        "NormalWithOptimalScale", "gradient, worst of 120", oracle="gradient of D/2 log MSE", truth=0,
        measured=(ours - theirs).abs().max(), tolerance=1e-12, why="float64",
    )  # fmt: skip


def test_evaluation_uses_the_running_scale_whatever_is_evaluated():
    head = likelihoods.NormalWithOptimalScale(memory=0.5).train()
    loc = torch.zeros(10, 1, 4)
    for spread in (2.0, 2.0, 2.0):
        head.calibrate(head(loc), torch.full((10, 4), spread))
    head.eval()
    for x in (torch.zeros(10, 4), torch.full((10, 4), 9.0)):
        p = head.calibrate(head(loc), x)
        assert torch.allclose(p.stddev, torch.full((10, 4), 2.0))


@pytest.mark.parametrize("name", ["Normal", "NormalWithLearnedScale", "NormalWithOptimalScale", "Laplace"])
def test_the_mean_of_real_values_is_what_the_decoder_puts_out(name, ledger):
    outputs = torch.tensor([[[-3.0, 0.5, 7.0]]], dtype=torch.float64)
    found = getattr(likelihoods, name)().double()(outputs).mean
    ledger(
        name, "mean of p(x|z) where the decoder puts out 7", oracle="a location, any real", truth=7,
        measured=found[0, 2], tolerance=0, why="exact",
        elsewhere=f"{torch.sigmoid(outputs[0, 0, 2]):.4g}: a decoder that ends in a sigmoid under every likelihood",
    )  # fmt: skip
    assert torch.equal(found, outputs[:, 0])


def test_a_scale_a_feature_can_be_asked_for_and_finds_the_factor_analysis(ledger):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(900, 1)) * [2.0, 1.0, -1.5, 0.7] + rng.normal(size=(900, 4)) * [0.3, 1.0, 0.6, 0.2]
    asked = {"likelihood": "NormalWithLearnedScale", "noise_scale": "feature"}
    data = gapless.read(values, **asked)
    settings = Settings(latent=1, epochs=120, batch_size=90, learning_rate=1e-2, schedule="cosine")
    run = study.train(data, recipe="linear-gaussian", settings=settings)
    assert run.model.likelihood.shape == (4,)
    assert run.data.options["noise_scale"] == "feature"
    x = gapless.batch(data.train, data.scaling).double().numpy()
    truth = FactorAnalysis(1, tol=1e-8, max_iter=5000).fit(x).score(x)
    decoder, q = run.model.double(), torch.zeros(2, 1, dtype=torch.float64)
    with torch.no_grad():
        q[1] = 1
        start, end = decoder.decode(q).mean
        noise = decoder.decode(q).variance[0]
        law = torch.distributions.MultivariateNormal(start, torch.outer(end - start, end - start) + noise.diag())
    measured = law.log_prob(torch.from_numpy(x)).mean()
    assert measured < truth + 1e-9
    ledger(
        "NormalWithLearnedScale, one a feature", "log p(x) of a linear-Gaussian VAE",
        oracle="factor analysis (scikit-learn)", truth=truth, measured=measured, tolerance=5e-3,
        why="1,080 steps; no model of this kind exceeds it",
    )  # fmt: skip
    assert ppca_log_likelihood(torch.from_numpy(x), 1) < truth - 0.3  # the best of one scale
    assert gapless.read(values, likelihood="NormalWithLearnedScale").arguments == {}
    for likelihood, scales in (("auto", "feature"), ("NormalWithLearnedScale", "column"), ("Normal", "feature")):
        with pytest.raises(UsageError, match=r"one a feature of(.|\n)*--noise-scale feature"):
            gapless.read(values, likelihood=likelihood, noise_scale=scales)


def test_a_scale_a_feature_is_asked_for_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "train digits --likelihood LaplaceWithLearnedScale --noise-scale feature --epochs 1 -o run"
    app(words.split(), exit_on_error=False, print_error=False, result_action="return_value")
    assert gapless.load_run("run").model.likelihood.shape == (1, 8, 8)


ONE_SCALE = [name for name, recipe in RECIPES.items() if recipe.likelihood is None and name != "m2"]


@pytest.mark.parametrize("name", ONE_SCALE)
def test_every_recipe_learns_the_optimal_scale_once_a_step(name, ledger, monkeypatch):
    """Of the plain reconstruction: turned images, or the same codes once more, have its scale and teach it nothing."""
    model, objective = recipes.build(
        name, (1, 8, 8), latent=16, hidden=(16,), likelihood="NormalWithOptimalScale",
        context=2 if RECIPES[name].conditional else 0,
    )  # fmt: skip
    model = model.given(torch.eye(2)[:1]) if model.context else model
    met, plain = [], likelihoods.NormalWithOptimalScale.calibrate

    def calibrate(head, distribution, x, **more):
        met.append((distribution.mean.detach(), x, plain(head, distribution, x, **more)))
        return met[-1][2]

    monkeypatch.setattr(likelihoods.NormalWithOptimalScale, "calibrate", calibrate)
    objective.plan(10, 100)
    objective(model.train(), torch.rand(7, 1, 8, 8))
    loc, x, _ = met[0]
    head = model.likelihood
    assert float(head.weight) == pytest.approx(1 - head.memory)
    ledger(
        "NormalWithOptimalScale", f"running variance after a step of {name}", oracle="mean squared error",
        truth=(x - loc).square().mean(), measured=head.variance / head.weight, tolerance=1e-4, why="float32",
    )  # fmt: skip
    assert all(torch.equal(p.scale, met[0][2].scale) for _, _, p in met)


def test_parts_and_masks_keep_the_scale_of_the_batch():
    optimal, x, y = likelihoods.NormalWithOptimalScale, torch.randn(50, 4), torch.randn(50, 4) * 3
    heads = (
        likelihoods.Mixed([optimal(), likelihoods.Normal(), optimal(0.9), optimal(0.9)]),
        likelihoods.Masked(optimal()),
    )
    for head in heads:
        p = head.train()(torch.zeros(50, *head.parameter_shape((4,))))
        first = head.calibrate(p, x)
        kept = {name: value.clone() for name, value in head.state_dict().items()}
        again = head.calibrate(p, y, like=first)
        assert torch.equal(first.stddev, again.stddev)
        assert all(torch.equal(value, kept[name]) for name, value in head.state_dict().items())
        assert not torch.equal(head.calibrate(p, y).stddev, first.stddev)


def test_a_perfect_fit_has_a_finite_density():
    head = likelihoods.NormalWithOptimalScale().train()
    p = head.calibrate(head(torch.zeros(3, 1, 4)), torch.zeros(3, 4))
    assert torch.isfinite(p.log_prob(torch.zeros(3, 4))).all()
    learned = likelihoods.NormalWithLearnedScale()
    torch.nn.init.constant_(learned.log_scale, -80.0)
    assert torch.isfinite(learned(torch.zeros(3, 1, 4)).log_prob(torch.zeros(3, 4))).all()


def test_the_bernoulli_offset_of_constant_pixels_is_finite():
    offset = likelihoods.Bernoulli().offset(torch.tensor([0.0, 0.5, 1.0]))
    assert torch.isfinite(offset).all()
    assert offset[0, 1] == 0


def test_laplace_equals_scipy():
    loc, scale = torch.tensor([[0.25, -2.0]]).double(), torch.tensor([0.5, 2.0]).double()
    q, theirs = distributions.Laplace(loc, scale), stats.laplace(loc.numpy(), scale.numpy())
    for x in (-7.0, 0.25, 2.5):
        ours = q.log_prob_per_feature(torch.full((1, 2), x).double()).numpy()
        assert np.allclose(ours, theirs.logpdf(x), atol=1e-12)
    assert np.allclose(q.variance.numpy(), theirs.var(), atol=1e-12)
    assert np.allclose(q.entropy().numpy(), theirs.entropy().sum(-1), atol=1e-12)
    expected = theirs.logpdf(1.0).sum(-1)
    assert np.allclose(q.log_prob(torch.ones(1, 2).double()).numpy(), expected, atol=1e-12)


def test_a_learned_laplace_scale_is_learned_to_the_mean_absolute_error():
    head = likelihoods.LaplaceWithLearnedScale((2,))
    x = torch.randn(4000, 2) * torch.tensor([0.5, 3.0])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        (-head(torch.zeros(4000, 1, 2)).log_prob(x).mean()).backward()
        optimizer.step()
    assert torch.allclose(head(torch.zeros(1, 1, 2)).scale, x.abs().mean(0), rtol=1e-2)


# Draws and density belong together: the score of a draw has mean 0, E[d log p(x) / d parameter] = 0.

SCORED = {
    "Laplace": (lambda a, b: distributions.Laplace(a, b.exp()), 2),
    "ContinuousBernoulli": (lambda a: distributions.ContinuousBernoulli(3 * a), 1),
    "Categorical": (lambda a: distributions.Categorical(a.reshape(1, 4, 2)), 1),
    "DiscretisedLogistic": (lambda a, b: distributions.DiscretisedLogistic(a.sigmoid(), (b - 2).exp(), levels=9), 2),
    "DiscretisedLogisticMixture": (
        lambda a, b, c: distributions.DiscretisedLogisticMixture(
            *(v.reshape(1, 4, 2) for v in (a, b.sigmoid(), (c - 2).exp())), levels=9
        ),
        3,
    ),
    "Poisson": (lambda a: distributions.Poisson(2 * a), 1),
    "NegativeBinomial": (lambda a, b: distributions.NegativeBinomial(2 * a, b), 2),
    "ZeroInflatedNegativeBinomial": (lambda a, b, c: distributions.ZeroInflatedNegativeBinomial(2 * a, b, c), 3),
}


@pytest.mark.parametrize("name", SCORED)
def test_the_score_of_a_draw_has_mean_zero(name, ledger):
    make, count = SCORED[name]
    draws = 50_000
    parameters = [torch.randn(1, 8, dtype=torch.float64) for _ in range(count)]
    x = make(*parameters).sample((draws,), generator=torch.Generator().manual_seed(1))
    each = [p.expand(draws, -1).clone().requires_grad_() for p in parameters]
    scored = torch.func.vmap(torch.func.grad(lambda p, v: make(*p.split(1)).log_prob(v).sum()))
    scores = scored(torch.cat([p[:, None] for p in each], 1).detach(), x)
    error = scores.std(0) / math.sqrt(draws)
    worst = (scores.mean(0).abs() / error.clamp_min(1e-12)).max()
    ledger(
        name, "mean score of 50,000 draws, standard errors, worst parameter", oracle="0 in expectation", truth=0,
        measured=worst, tolerance=4.5, why="4.5 standard errors, up to 24 parameters",
    )  # fmt: skip


# One density: what is trained is what is evaluated.

SINGLE = set(cases.likelihoods.CASES) - {"Mixed", "Masked"}  # those made of others: test_mixed_tables.py and the like


@pytest.mark.parametrize("name", sorted(SINGLE - {"NormalWithOptimalScale"}))
def test_training_and_evaluation_have_one_density(name):
    head, event = cases.likelihoods.CASES[name](), (2, 3, 4)
    head.offset(torch.rand(event) + 0.1)
    parameters = torch.randn(6, *head.parameter_shape(event))
    x = head(parameters).sample(generator=torch.Generator().manual_seed(3))
    scores = [head.train(mode).calibrate(head(parameters), x).log_prob(x) for mode in (True, False)]
    assert torch.equal(*scores)


def test_a_mean_is_not_squeezed_into_the_unit_interval_unless_the_data_is():
    for name in sorted(SINGLE):
        head = cases.likelihoods.CASES[name]()
        raw = torch.full((1, *head.parameter_shape((2, 3, 4))), 9.0)
        means = torch.cat([head(sign * raw).mean for sign in (-1, 1)])
        low, high = head.support
        unit = (low, high) == (0.0, 1.0)
        assert unit or name in ("Categorical", "Poisson", "ZeroInflatedNegativeBinomial") or means.max() >= 9
        assert not unit or (means.min() >= 0 and means.max() <= 1)
        assert low == 0 or means.min() <= -9


# What a likelihood cannot explain is refused by name.

SMALL = Settings(latent=2, epochs=1, hidden=(8,))
COUNTS = np.random.default_rng(0).poisson(3.0, (60, 4))
WRONG = {
    "Bernoulli": COUNTS / 1.0, "ContinuousBernoulli": COUNTS + 0.5, "DiscretisedLogistic": COUNTS - 0.25,
    "DiscretisedLogisticMixture": -0.5 - COUNTS, "MSSSIM": COUNTS.reshape(60, 1, 2, 2) * 1.0,
    "Perceptual": COUNTS * 2.0,
    "Poisson": COUNTS - 1.0, "NegativeBinomial": COUNTS + 0.5, "ZeroInflatedNegativeBinomial": COUNTS / 3,
    "Categorical": COUNTS / 2,
}  # fmt: skip


def test_every_likelihood_with_a_support_has_a_wrong_value():
    bounded = {n for n, make in cases.likelihoods.CASES.items() if make().support != (-math.inf, math.inf)}
    assert bounded == set(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_values_outside_the_support_are_refused_by_name(name):
    data = gapless.read(WRONG[name], likelihood=name, scaling="none")
    with pytest.raises(UsageError, match=rf"a {name} likelihood explains (.|\n)*fix: (.|\n)*--scaling (unit|none)"):
        study.train(data, settings=SMALL)


def test_the_message_names_what_arrived():
    data = gapless.read(WRONG["NegativeBinomial"], likelihood="NegativeBinomial", scaling="none")
    with pytest.raises(
        UsageError, match=r"whole numbers; among the training items in column 'x0' there is \d+\.5 \(scaling: none\)"
    ):
        study.check_support(data)
    data = gapless.read(COUNTS.astype(np.uint8).reshape(60, 1, 2, 2), likelihood="Bernoulli", scaling="none")
    with pytest.raises(UsageError, match=r"values in \[0, 1\]; the training items lie in \[0, \d+\]"):
        study.check_support(data)


def test_a_broken_value_is_found_wherever_it_lies():
    counts = np.vstack([np.ones((5000, 2)), np.full((1, 2), 0.5)])
    for held_out in ((counts, np.ones((10, 2))), (np.ones((10, 2)), counts)):
        data = gapless.read(np.vstack(held_out), likelihood="Poisson", scaling="none")
        with pytest.raises(UsageError, match=r"there is 0\.5"):
            study.check_support(data)


def test_whole_numbers_are_accepted_in_floating_point():
    study.check_support(gapless.read(COUNTS.astype(np.float32), likelihood="Poisson", scaling="none"))


# Recipes about a likelihood.

ABOUT = {name: r.likelihood for name, r in recipes.RECIPES.items() if r.likelihood and r.likelihood in WRONG}


def test_a_recipe_refuses_data_that_was_read_for_another_likelihood():
    data = gapless.read(COUNTS)
    with pytest.raises(UsageError, match=r"'scvi' is about the likelihood ZeroInflated(.|\n)*likelihood='ZeroInflated"):
        study.train(data, recipe="scvi", settings=SMALL)
    asked = gapless.read(COUNTS, likelihood="Poisson", scaling="none")
    study.train(asked, recipe="scvi", settings=SMALL)  # it was asked for


@pytest.mark.parametrize("name", ABOUT)
def test_recipes_train_on_what_they_are_about(name, tmp_path):
    head = ABOUT[name]
    values = COUNTS.reshape(60, 1, 2, 2) if head == "MSSSIM" else COUNTS
    whole = getattr(likelihoods, head).whole
    data = gapless.read(values, likelihood=head, scaling="none" if whole else "unit")
    run = study.train(data, recipe=name, settings=SMALL, folder=tmp_path / "run")
    assert type(run.model.likelihood).__name__ == head
    assert math.isfinite(run.held_out["elbo"])
    again = gapless.load(tmp_path / "run")
    z = torch.randn(3, 2)
    assert torch.equal(again.decode(z).mean, run.model.decode(z).mean)


def test_heads_are_made_for_the_data():
    def built(head, **known):
        known = likelihoods.Known((4,), **known)
        return recipes.build("vae", (4,), likelihood=head, known=known)[0].likelihood

    assert built("Categorical", largest=6.0).classes == 7
    assert built("Categorical", largest=0.0).classes == 2
    assert built("DiscretisedLogistic", step=1 / 16).levels == 17
    assert built("DiscretisedLogisticMixture", step=1 / 255).levels == 256
    assert built("DiscretisedLogistic").levels == 256
    assert built("NegativeBinomial").log_inverse_dispersion.shape == (4,)
    assert built("ZeroInflatedNegativeBinomial").log_inverse_dispersion.shape == (4,)
    data = gapless.read("digits", likelihood="DiscretisedLogistic")
    model, _ = Work(data, "vae", SMALL, (), False)._built()
    assert model.likelihood.levels == 17
    data = gapless.read(COUNTS, likelihood="Categorical", scaling="none")
    model, _ = Work(data, "vae", SMALL, (), False)._built()
    assert model.likelihood.classes == COUNTS.max() + 1


# Categories.


def test_categories_equal_torch(ledger):
    logits = torch.randn(3, 5, 2, 4, dtype=torch.float64)
    q, theirs = (
        distributions.Categorical(logits, event_dims=2),
        torch.distributions.Categorical(logits=logits.movedim(1, -1)),
    )
    x = torch.randint(5, (6, 3, 2, 4))
    worst = (q.log_prob(x.double()) - theirs.log_prob(x).sum((-1, -2))).abs().max()
    ledger(
        "Categorical", "log-probability, worst of 18", oracle="torch.distributions", truth=0, measured=worst,
        tolerance=1e-12, why="float64",
    )  # fmt: skip
    assert torch.allclose(q.entropy(), theirs.entropy().sum((-1, -2)))
    assert torch.equal(q.mode, logits.argmax(1).double())
    numbers = torch.arange(5).double()
    assert torch.allclose(q.mean, (theirs.probs * numbers).sum(-1))
    assert torch.allclose(q.variance, (theirs.probs * numbers**2).sum(-1) - q.mean**2)


def test_categories_start_equally_likely_and_are_shown_one_hot():
    head = likelihoods.Categorical(3)
    started = head(head.offset(torch.rand(2, 4))[None])
    assert torch.allclose(started.probabilities, torch.full((1, 3, 2, 4), 1 / 3))
    shown = head.view(torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
    assert torch.equal(shown, torch.tensor([[1.0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0]]))
    image = torch.randint(3, (5, 2, 4, 4)).float()
    codes = head.view(image).unflatten(1, (2, 3))
    assert torch.equal(codes.argmax(2).float(), image)
    seen = head.seen(torch.tensor([[True, False]]))
    assert torch.equal(seen, torch.tensor([[True] * 3 + [False] * 3]))


def test_impossible_arguments_are_refused():
    for make, match in (
        (lambda: likelihoods.Categorical(1), "at least 2 classes"),
        (lambda: likelihoods.DiscretisedLogistic(1), "levels is a whole number of at least 2"),
        (lambda: likelihoods.DiscretisedLogisticMixture(0), "components is a whole number of at least 1"),
        (lambda: likelihoods.MSSSIM(0.0), "weight above 0"),
        (lambda: likelihoods.MSSSIM().parameter_shape((7,)), "compares images"),
    ):
        with pytest.raises(UsageError, match=match):
            make()


@pytest.mark.parametrize("name", sorted(SINGLE - {"Normal", "Laplace"}))
def test_accumulation_has_the_gradients_of_the_whole_batch(name):
    known = likelihoods.Known((1, 4, 4), 3.0)
    model, objective = recipes.build("vae", (1, 4, 4), latent=2, likelihood=name, hidden=(8,), known=known)
    x = torch.randint(0, 4, (9, 1, 4, 4)).double() / (1 if model.likelihood.whole else 3)
    model.double().center(x.mean(0))
    other = copy.deepcopy(model)
    terms = arranged(model, objective, Settings(accumulate=3))(x, 9, 0)
    expected = objective(other, x, generator=generator(0, "noise", 0))
    terms.loss.backward(), expected.loss.backward()
    assert torch.allclose(terms.loss, expected.loss, rtol=1e-12)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert mine.requires_grad == theirs.requires_grad
        assert not mine.requires_grad or torch.allclose(mine.grad, theirs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(SINGLE - {"Bernoulli", "Normal"}))
def test_played_steps_end_in_the_bits_of_plain_ones(name):
    known = likelihoods.Known((1, 4, 4), 3.0)
    ends = []
    for plain in (False, True):
        model, objective = recipes.build("vae", (1, 4, 4), latent=2, likelihood=name, hidden=(8,), known=known)
        unit = 1 if model.likelihood.whole else 3
        batches = [torch.randint(0, 4, (8, 1, 4, 4), generator=generator(1, "picture", n)) / unit for n in range(12)]
        model.center(batches[0].mean(0))
        course = Course(model.train(), objective.train(), Settings(epochs=1), epochs=1, per_epoch=12, items=96)
        if plain:
            course.replay = None
        for x in batches:
            course.advance(x.clone())
        course.look()
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
