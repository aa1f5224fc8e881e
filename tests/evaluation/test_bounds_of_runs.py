"""The ELBO by terms and the importance-weighted bound, on the linear-Gaussian model whose log p(x) is known."""

import math

import numpy as np
import pytest
import torch

from gapless import likelihoods, networks, posteriors, priors, recipes
from gapless.data import Feed, Items, Scaling
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.evaluation.bits import counting_of
from gapless.evaluation.bounds import _Weights, chosen_items, measured_bounds
from gapless.evaluation.codes import posterior_means
from gapless.evaluation.reconstructions import reconstruction_errors
from gapless.likelihoods import Bernoulli, Normal
from gapless.model import Model
from oracles import LinearGaussian, linear_elbo

ORACLE = LinearGaussian.make()


class Fed(Feed):
    """A feed of float64: the oracles are exact."""

    def __init__(self, x):
        super().__init__(Items(x.numpy(), None, np.arange(len(x))), Scaling())
        self.x = x

    def batch(self, positions):
        return self.x[positions].clone()


def off_by(amount):
    """The oracle with a posterior that is too wide and beside the point."""
    model = ORACLE.model()
    with torch.no_grad():
        model.encoder.layers[-1].bias += amount
    return model


def measured(model, x, **options):
    return measured_bounds(model, Fed(x), torch.arange(len(x)), **options)


@pytest.mark.parametrize("samples", [1, 2, 37])
def test_with_the_exact_posterior_the_bound_is_log_p_whatever_the_draws(samples, ledger):
    x = ORACLE.sample(70)
    found = measured(ORACLE.model(), x, samples=samples, memory=40_000)
    error = (found.evidence.per_item - ORACLE.log_prob(x)).abs().max()
    ledger(
        "evaluation.bounds", f"log p(x), {samples} draws, worst of 70 items", truth=0, measured=error, tolerance=1e-9,
        oracle="linear-Gaussian VAE with the exact posterior: every weight is p(x)", why="float64",
    )  # fmt: skip
    assert found.evidence.dominated == 0
    if samples > 1:
        assert found.evidence.looseness < 1e-12
        assert torch.allclose(found.evidence.effective, torch.full((70,), float(samples), dtype=torch.float64))


def test_many_draws_find_log_p_within_the_stated_errors(ledger):
    x, model = ORACLE.sample(40), off_by(0.3)
    truth = ORACLE.log_prob(x)
    found = measured(model, x, samples=5000, memory=400_000).evidence  # in pieces
    one = draw(model, x, samples=1, generator=torch.Generator().manual_seed(0)).log_weights().mean()
    ledger(
        "evaluation.bounds", "mean log p(x) of 40 items by 5,000 draws of a wrong posterior",
        oracle="log p(x) of the linear-Gaussian VAE", truth=truth.mean(), measured=found.value + found.looseness,
        tolerance=4 * found.monte_carlo_error, why="4 of the Monte-Carlo standard errors it states itself",
        elsewhere=f"{one:.4g}: the number of samples ignored, one draw an item",
    )  # fmt: skip
    standardized = (found.per_item - truth + found.variance / 2) / found.variance.sqrt()
    ledger(
        "evaluation.bounds", "mean square of (bound - log p) / stated error, 40 items", oracle="1", truth=1,
        measured=standardized.square().mean(), tolerance=4 * math.sqrt(2 / 40), why="4 standard errors of chi square",
    )  # fmt: skip
    second, third, fourth = ORACLE.weight_moments(model, x)
    spread = ((fourth - second.square()) / 5000).sqrt()  # standard error of a variance
    ledger(
        "evaluation.bounds", "Monte-Carlo variance of a bound times the draws, 5,000 in pieces, mean of 40 items",
        oracle="Var[w] / p(x)^2 in closed form", truth=second.mean(), measured=5000 * found.variance.mean(),
        tolerance=4 * spread.square().sum().sqrt() / 40 + (3 * second.square() + 2 * third.abs()).mean() / 5000,
        why="4 standard errors, and the bias of a ratio to the first order",
    )  # fmt: skip
    elbo = float(linear_elbo(model, x).mean().detach())
    assert elbo < found.value < float(truth.mean()) + 4 * found.monte_carlo_error


def test_more_draws_are_a_tighter_bound_for_the_same_items():
    x, model = ORACLE.sample(60), off_by(0.4)
    truth = float(ORACLE.log_prob(x).mean())
    gaps = {k: truth - measured(model, x, samples=k, seed=2).evidence.value for k in (1, 10, 100, 2000)}
    assert gaps[1] > 2 * gaps[10] > 4 * gaps[100] > 0
    assert abs(gaps[2000]) < gaps[100]
    one = measured(model, x, samples=1).evidence
    assert (one.monte_carlo_error, one.looseness, one.dominated) == (None, None, 0)


def test_errors_of_the_mean_are_those_of_repetitions(ledger):
    x, model = ORACLE.sample(10), off_by(0.2)
    found = [measured(model, x, samples=64, seed=s).evidence for s in range(120)]
    spread = torch.stack([f.per_item for f in found]).std(0)
    stated = torch.stack([f.variance for f in found]).mean(0).sqrt()
    ledger(
        "evaluation.bounds", "Monte-Carlo error of the mean over 10 items, 64 draws", oracle="120 repetitions",
        truth=np.std([f.value for f in found], ddof=1), measured=np.mean([f.monte_carlo_error for f in found]),
        tolerance=4 * np.std([f.value for f in found]) / math.sqrt(240), why="4 standard errors of a deviation",
    )  # fmt: skip
    assert torch.allclose(spread, stated, rtol=0.35)
    values = found[0].per_item
    assert found[0].standard_error == pytest.approx(float(values.std() / math.sqrt(10)))


def test_weights_are_kept_as_running_sums():
    log_w = 5 * torch.randn(23, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 800
    log_w[3, 1] = -math.inf  # a draw that cannot be
    kept = _Weights(4)
    for part in log_w.split(5):
        kept.add(part)
    w = (log_w + 800).exp()
    bound, variance, effective, largest = kept.measured()
    assert torch.allclose(bound, w.mean(0).log() - 800)
    assert torch.allclose(effective, w.sum(0).square() / w.square().sum(0))
    assert torch.allclose(largest, w.amax(0) / w.sum(0))
    assert torch.allclose(variance, w.var(0) / 23 / w.mean(0).square())


def test_decodes_stay_within_the_memory_given(monkeypatch):
    model, x, sizes = ORACLE.model(), ORACLE.sample(50), []
    decode = type(model).decode

    def spy(self, z, **options):
        sizes.append(len(z))
        return decode(self, z, **options)

    monkeypatch.setattr(type(model), "decode", spy)
    measured(model, x, samples=100, memory=10_000)
    few = max(sizes)
    assert sum(sizes) == 50 * 100 + 1
    sizes.clear()
    measured(model, x, samples=100, memory=100_000)
    assert few < 70  # 10,000 bytes are 2,500 numbers: over 40 a decode
    assert 5 * few < max(sizes) < 700
    sizes.clear()
    measured(model, x, samples=7, memory=1)
    assert max(sizes) == 1


def test_terms_split_into_features_and_sum_to_the_whole(ledger):
    x, model = ORACLE.sample(300), ORACLE.model()
    found = measured(model, x, samples=400)
    mutual = ORACLE.mutual_information
    standard = float(found.kl.std() / math.sqrt(300))
    ledger(
        "evaluation.bounds", "mean KL = I(x; z), sum over latent features", oracle="linear-Gaussian VAE, closed form",
        truth=mutual, measured=found.kl_per_feature.sum(), tolerance=4 * standard, why="4 standard errors",
    )  # fmt: skip
    per_code = -0.5 * ORACLE.posterior_variance.log()
    assert torch.allclose(found.kl_per_feature, per_code, atol=4 * standard)
    assert float(found.kl.mean()) == pytest.approx(float(found.kl_per_feature.sum()))
    error = 4 * float(found.reconstruction.std()) / math.sqrt(300)
    assert float(found.reconstruction_per_feature.sum()) == pytest.approx(float(found.reconstruction.mean()), abs=error)
    assert found.elbo == pytest.approx(float(linear_elbo(model, x).mean().detach()), abs=0.02)
    # E (x_i - m_i - w_i z)^2 over the joint law is s^2 in every feature: -E log p(x_i|z) = log s + log(2 pi)/2 + 1/2
    each = math.log(0.5) + 0.5 * math.log(2 * math.pi) + 0.5
    tolerance = 4 * math.sqrt(0.5 / 300)
    assert (found.reconstruction_per_feature - each).abs().max() < tolerance


def test_an_autoencoder_has_no_bound_and_its_terms_are_told():
    model, _ = recipes.build("ae", (6,), latent=2, hidden=(8,), likelihood="Normal")
    x = ORACLE.sample(9).float()
    found = measured_bounds(model, Feed(Items(x.numpy(), None, np.arange(9)), Scaling()), torch.arange(9), samples=5)
    assert found.evidence is None
    assert math.isinf(found.elbo)
    assert found.kl_per_feature is None
    assert torch.isfinite(found.reconstruction).all()


def test_the_seed_decides_the_draws_and_the_subset_and_the_model_keeps_its_mode():
    x, model = ORACLE.sample(20), off_by(0.3).train()
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    one, two, other = (measured(model, x, samples=9, seed=s).evidence.value for s in (4, 4, 5))
    assert torch.equal(torch.rand(2), expected)
    assert one == two != other
    assert model.training
    picked = chosen_items(100, 10, seed=3)
    assert torch.equal(picked, chosen_items(100, 10, seed=3))
    assert not torch.equal(picked, chosen_items(100, 10, seed=4))
    assert len(picked.unique()) == 10
    assert torch.equal(chosen_items(7, None, seed=0), torch.arange(7))
    assert torch.equal(chosen_items(7, 9, seed=0), torch.arange(7))
    with pytest.raises(UsageError, match="at least 1 item"):
        chosen_items(7, 0, seed=0)
    with pytest.raises(UsageError, match="at least 1"):
        measured(model, x, samples=0)


# --- bits, reconstruction errors, active units


def items_of(values):
    return Items(np.asarray(values), None, np.arange(len(values)))


def test_bits_of_dequantised_normal_data_are_known(ledger):
    """Rounding adds 1/12 to the variance (Sheppard), the noise of dequantisation another 1/12."""
    model, _ = recipes.build("vae", (3,), latent=1, hidden=(), likelihood="Normal")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    scale, items = 1.5, 16_000
    raw = np.random.default_rng(1).normal(100, scale, (items, 3)).round().astype(np.int16)
    scaling = Scaling((100.0,) * 3, (scale,) * 3, "standard")
    counting = counting_of(model.likelihood, items_of(raw), scaling)
    feed = Feed(items_of(raw), scaling)
    found = measured_bounds(model, feed, torch.arange(items), samples=1, bin_width=counting.bin_width)
    bits = counting.bits(found.evidence.value, (3,))
    squares = 1 + 1 / (6 * scale**2)
    ledger(
        "evaluation.bits", "whole values of N(100, 1.5^2) under the same normal, dequantised",
        oracle="log2(s sqrt(2 pi)) + (1 + 1/(6 s^2)) / (2 ln 2)", measured=bits.value,
        truth=math.log2(scale * math.sqrt(2 * math.pi)) + squares / (2 * math.log(2)),
        tolerance=4 * squares * math.sqrt(0.5 / (3 * items)) / math.log(2), why="4 standard errors",
    )  # fmt: skip
    assert "dequantised" in bits.how


def test_bits_of_coins_are_one_and_grey_values_have_none():
    coins = items_of(np.random.default_rng(0).integers(0, 2, (50, 1, 4, 4)).astype(np.uint8))
    counting = counting_of(Bernoulli(), coins, Scaling())
    assert counting.bits(-16 * math.log(2), (1, 4, 4)).value == pytest.approx(1)
    assert counting.bin_width is None
    grey = counting_of(Bernoulli(), items_of(np.full((3, 4), 100, np.uint8)), Scaling((0.0,), (255.0,), "unit"))
    assert grey.bits(-3.0, (4,)).value is None
    assert "cross-entropy" in grey.how
    real = counting_of(Normal(), items_of(np.zeros((3, 4))), Scaling())
    assert real.bits(-3.0, (4,)).value is None
    assert "no known bin width" in real.how


def test_levels_of_grey_and_counts_are_probabilities_and_a_bounded_density_has_no_whole_bins():
    grey = items_of(np.zeros((3, 4), np.uint8))
    unit = Scaling((0.0,), (255.0,), "unit")
    for head in (likelihoods.DiscretisedLogistic(), likelihoods.DiscretisedLogisticMixture(2), likelihoods.Poisson()):
        assert counting_of(head, grey, unit).bits(-4 * math.log(256), (4,)).value == pytest.approx(8)
    for head in (likelihoods.ContinuousBernoulli(), likelihoods.MSSSIM()):
        assert counting_of(head, grey, unit).bits(-3.0, (4,)).value is None


def test_dequantised_bits_of_one_width_for_all_and_one_a_column_agree():
    values = items_of(np.zeros((3, 4), np.uint8))
    one = counting_of(Normal(), values, Scaling((0.0,), (255.0,), "unit")).bits(-3.0, (4,))
    each = counting_of(Normal(), values, Scaling((0.0,) * 4, (255.0,) * 4, "unit")).bits(-3.0, (4,))
    assert one.value == pytest.approx(each.value) == pytest.approx((3 + 4 * math.log(255)) / 4 / math.log(2))


def test_reconstruction_errors_in_both_units(ledger):
    model = ORACLE.model().float().eval()
    x = ORACLE.sample(30).float()
    feed = Feed(items_of(2 * x.numpy() + 1), Scaling((1.0,) * 6, (2.0,) * 6, "standard"))
    found = reconstruction_errors(model, feed, torch.arange(30))
    with torch.no_grad():
        difference = (model.reconstruct(x) - x).numpy()
    square, absolute = np.square(difference).mean(), np.abs(difference).mean()
    for name, truth, value in (
        ("mean squared error, model units", square, found.mse),
        ("mean absolute error, model units", absolute, found.mae),
        ("mean squared error, units of the data", 4 * square, found.raw_mse),
        ("mean absolute error, units of the data", 2 * absolute, found.raw_mae),
    ):
        ledger("reconstruction_errors", name, oracle="NumPy, columns in units of 2", truth=truth, measured=value,
               tolerance=1e-4 * truth, why="float32")  # fmt: skip
    assert found.squared == pytest.approx(np.square(difference).mean(0), rel=1e-4)


def test_active_units_are_the_variance_of_the_means(ledger):
    x = ORACLE.sample(20_000)
    model = ORACLE.model()
    found = posterior_means(model, Fed(x), torch.arange(len(x)))
    truth = 1 - ORACLE.posterior_variance  # Var E[z|x] = Var z - E Var[z|x]
    for j, value in enumerate(truth):
        ledger(
            "evaluation.codes", f"activity of latent feature {j}", oracle="1 - v, linear-Gaussian VAE", truth=value,
            measured=found.activity[j], tolerance=4 * math.sqrt(2 / 20_000) * value, why="4 standard errors",
        )  # fmt: skip
    assert truth[2] < 0.01 < truth[1]
    assert found.active.tolist() == [True, True, False]


@pytest.mark.parametrize("missing", [False, True])
def test_errors_of_mixed_columns_are_those_of_their_kind(missing):
    """Quantities by their means, categories by the most probable one; what is missing counts nowhere."""
    mixed = likelihoods.Mixed((likelihoods.Normal(), likelihoods.Categorical(3), likelihoods.Bernoulli()))
    head = likelihoods.Masked(mixed) if missing else mixed
    shown = head.view_shape((3,))
    torch.manual_seed(0)
    model = Model(
        encoder=networks.MLP(shown, (4,)), posterior=posteriors.DiagonalNormal(), prior=priors.StandardNormal(2),
        decoder=networks.MLP((2,), head.parameter_shape((3,))), likelihood=head, event_shape=(3,),
    ).eval()  # fmt: skip
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(size=40), rng.integers(0, 3, 40), rng.integers(0, 2, 40)], 1)
    if missing:
        rows[rng.random(rows.shape) < 0.2] = np.nan
    scaling = Scaling((5.0, 0.0, 0.0), (2.0, 1.0, 1.0), "standard")
    feed = Feed(Items(rows * [2, 1, 1] + [5, 0, 0], None, np.arange(40)), scaling)
    found = reconstruction_errors(model, feed, torch.arange(40))
    with torch.no_grad():
        p = model.decode(model.embed(torch.tensor(rows, dtype=torch.float32)))
    mean, mode = p.mean.numpy(), p.mode.numpy()
    squared, wrong = np.nanmean((rows - mean) ** 2, 0), np.nanmean(np.where(np.isnan(rows), np.nan, rows != mode), 0)
    assert found.squared[[0, 2]] == pytest.approx(squared[[0, 2]], rel=1e-5)
    assert np.isnan(found.squared[1])
    assert found.wrong[1] == pytest.approx(wrong[1])
    assert 0 < found.wrong[1] < 1
    assert np.isnan(found.wrong[[0, 2]]).all()
    assert found.mse == pytest.approx(squared[[0, 2]].mean(), rel=1e-5)
    assert found.raw_mse == pytest.approx((4 * squared[0] + squared[2]) / 2, rel=1e-5)
    told = found.to_dict()
    assert told["wrong_categories"] == pytest.approx(wrong[1])
    assert told["by_kind"]["Normal"]["raw_mse"] == pytest.approx(4 * squared[0], rel=1e-5)
    assert told["by_kind"]["Categorical"]["mse"] is None
    assert told["by_kind"]["Bernoulli"]["mse"] == pytest.approx(squared[2], rel=1e-5)


def test_a_table_of_categories_has_a_share_of_wrong_ones(ledger):
    model = recipes.build("vae", (3,), latent=2, likelihood={"kind": "Categorical", "classes": 4})[0].eval()
    rows = np.random.default_rng(0).integers(0, 4, (30, 3)).astype(np.float32)
    feed = Feed(Items(rows, None, np.arange(30)), Scaling((0.0,), (1.0,), "none"))
    found = reconstruction_errors(model, feed, torch.arange(30))
    with torch.no_grad():
        mode = model.decode(model.embed(torch.from_numpy(rows))).mode.numpy()
    ledger("reconstruction_errors", "share of wrong categories", oracle="NumPy", truth=(rows != mode).mean(),
           measured=found.wrong_share, tolerance=1e-12, why="counts")  # fmt: skip
    assert found.mse is None
