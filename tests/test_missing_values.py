"""Values that were not observed: the likelihood of the others, what a model expects in their place, readers."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

import gapless
from gapless import likelihoods, networks, posteriors, priors, study
from gapless.adapters import audited_items
from gapless.cli import use
from gapless.cli.commands import app
from gapless.data import Feed, Scaling, batch, read, read_items, write_shards
from gapless.data.inspection import moments, survey
from gapless.data_card import DataCard
from gapless.draws import draw
from gapless.errors import DataError, UsageError
from gapless.imputation import expectation, fill, masked
from gapless.model import Model
from gapless.objectives import ELBO, IWAE
from gapless.runs import Run
from gapless.settings import Settings
from oracles import LinearGaussian

NAN = math.nan


def table(rows=200, share=0.2, columns=5, seed=0):
    """Two factors behind five columns, and the same with a share of the values missing."""
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, columns)) * 3 + 0.3 * rng.normal(size=(rows, columns)) + 7
    return whole, np.where(rng.random(whole.shape) < share, NAN, whole)


# The likelihood of what was observed.


def test_a_masked_density_is_that_of_the_observed_features(ledger):
    loc, x = torch.randn(4, 1, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    missing = torch.rand(4, 6) < 0.4
    p = likelihoods.Masked(likelihoods.Normal(0.7))(loc)
    theirs = (stats.norm.logpdf(x.numpy(), loc[:, 0].numpy(), 0.7) * ~missing.numpy()).sum(1)
    worst = np.abs(p.log_prob(x.masked_fill(missing, NAN)).numpy() - theirs).max()
    ledger(
        "Masked", "log-density, worst of 4 items", oracle="scipy.stats.norm over the observed", truth=0,
        measured=worst, tolerance=1e-12, why="float64",
    )  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [
        likelihoods.Bernoulli(), likelihoods.Normal(), likelihoods.NormalWithLearnedScale(),
        likelihoods.NormalWithOptimalScale(), likelihoods.Mixed((likelihoods.Bernoulli(), likelihoods.Normal())),
    ],
    ids=lambda head: type(head).__name__,
)  # fmt: skip
def test_no_nan_leaks_into_values_or_gradients(head):
    head = likelihoods.Masked(head).train()
    parameters = torch.randn(3, *head.parameter_shape((2,)), requires_grad=True)
    x = torch.tensor([[1.0, NAN], [NAN, NAN], [0.0, 1.0]])
    density = head.calibrate(head(parameters), x).log_prob(x)
    assert torch.isfinite(density).all()
    assert density[1] == 0
    gradient = torch.autograd.grad(density.sum(), parameters)[0].reshape(3, -1)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).tolist() == [[True, False], [False, False], [True, True]]


def test_whole_items_have_the_density_they_had():
    loc, x = torch.randn(4, 1, 6), torch.randn(4, 6)
    head = likelihoods.Normal(0.7)
    assert torch.allclose(likelihoods.Masked(head)(loc).log_prob(x), head(loc).log_prob(x), atol=1e-5)


def test_the_optimal_scale_is_that_of_the_observed_errors():
    head = likelihoods.Masked(likelihoods.NormalWithOptimalScale()).train()
    loc, x = torch.randn(50, 1, 6), torch.randn(50, 6) * 2
    x[torch.rand(50, 6) < 0.5] = NAN
    p = head.calibrate(head(loc), x)
    errors = (x - loc[:, 0])[~x.isnan()]
    assert torch.allclose(p.stddev.max(), errors.square().mean().sqrt())
    before = head.likelihood.scale.clone()
    head.calibrate(head(loc), torch.full_like(x, NAN))
    assert torch.allclose(head.likelihood.scale, before), "a batch without observations tells nothing of the scale"


def test_an_item_is_shown_to_the_encoder_with_the_mean_for_what_is_missing():
    model = linear(LinearGaussian.make()).double()
    model.center(torch.randn(6).double(), 1.7)
    x = torch.randn(5, 6, dtype=torch.float64)
    x[:, 2], filled = NAN, x.clone()
    filled[:, 2] = model.shift[2]
    x[:, 2] = NAN
    assert torch.equal(model.embed(x), model.embed(filled))
    assert torch.isfinite(model.embed(x)).all()


def linear(oracle, observed=None):
    """The exact model with a masked likelihood; with one latent feature and a pattern, with its exact posterior."""
    data, latent = oracle.weight.shape
    model = Model(
        encoder=networks.MLP((data,), (2 * latent,), hidden=()), posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(latent), decoder=networks.MLP((latent,), (1, data), hidden=()),
        likelihood=likelihoods.Masked(likelihoods.Normal(oracle.scale)),
    ).double()  # fmt: skip
    weight = oracle.weight if observed is None else oracle.weight[observed]
    variance = oracle.scale**2 / (weight.square().sum(0) + oracle.scale**2)
    project = oracle.weight.T * (variance / oracle.scale**2)[:, None]
    bound = model.posterior.bound
    encode, decode = model.encoder.layers[-1], model.decoder.layers[-1]
    with torch.no_grad():
        encode.weight.copy_(torch.cat([project, torch.zeros_like(project)]))
        encode.bias.copy_(torch.cat([0 * variance, bound * torch.atanh(0.5 * variance.log() / bound)]))
        decode.weight.copy_(oracle.weight)
        decode.bias.zero_()
        model.offset.copy_(oracle.mean[None])
        model.shift.copy_(oracle.mean)
    return model.eval()


def marginal(oracle, x, observed):
    covariance = oracle.covariance()[observed][:, observed]
    return torch.distributions.MultivariateNormal(oracle.mean[observed], covariance).log_prob(x[:, observed])


def conditional(oracle, x, observed):
    """E[x_mis | x_obs] of a normal: m_mis + C_mo C_oo^-1 (x_obs - m_obs)."""
    cov = oracle.covariance()
    gain = torch.linalg.solve(cov[observed][:, observed], cov[observed][:, ~observed]).T
    return oracle.mean[~observed] + (x[:, observed] - oracle.mean[observed]) @ gain.T


def test_with_the_exact_posterior_of_the_observed_part_every_bound_is_the_marginal(ledger):
    oracle = LinearGaussian.make(strengths=(1.5,))
    observed = torch.tensor([True, False, True, True, False, True])
    x = oracle.sample(20)
    truth = marginal(oracle, x, observed)
    x[:, ~observed] = NAN
    model = linear(oracle, observed)
    weights = draw(model, x, samples=3, generator=torch.Generator().manual_seed(1)).log_weights()
    ledger(
        "Masked", "log weight of every draw, worst of 60", oracle="marginal normal of the observed part", truth=0,
        measured=(weights - truth).abs().max(), tolerance=1e-10, why="float64, the posterior is exact",
    )  # fmt: skip
    loss = IWAE(4)(model, x, generator=torch.Generator().manual_seed(1)).loss
    assert torch.allclose(loss, -truth.mean(), atol=1e-10)


def test_with_another_posterior_the_mean_weight_is_the_marginal(ledger):
    oracle = LinearGaussian.make()
    observed = torch.tensor([True, False, True, True, True, False])
    x = oracle.sample(1)
    truth = marginal(oracle, x, observed)
    x[:, ~observed] = NAN
    draws = draw(linear(oracle), x, samples=20_000, generator=torch.Generator().manual_seed(2))
    ratio = (draws.log_weights()[:, 0] - truth).exp()
    ledger(
        "Masked", "mean of p(x_obs, z) / q(z|x) / p(x_obs)", oracle="marginal normal of the observed part", truth=1,
        measured=ratio.mean(), tolerance=4 * ratio.std() / math.sqrt(len(ratio)), why="4 standard errors",
    )  # fmt: skip


def test_parts_that_begin_at_the_data_begin_at_whole_items(monkeypatch):
    model, seen = linear(LinearGaussian.make()), []
    monkeypatch.setattr(model.prior, "start", lambda x, context: seen.append(x))
    x = torch.randn(5, 6, dtype=torch.float64)
    x[1, 2], x[:, 4] = NAN, NAN
    model.start(x)
    assert torch.allclose(seen[0][1, 2], x[[0, 2, 3, 4], 2].mean())
    assert (seen[0][:, 4] == 0).all()
    assert torch.equal(seen[0][0, :4], x[0, :4])


# What the model expects in the place of what is missing.


def run_of(model, **card):
    known = {"source": "x", "kind": "table", "event_shape": (6,), "likelihood": "Normal", "scaling": Scaling()}
    return Run(model, ELBO(), "vae", DataCard(**{**known, "options": {}, **card}), Settings())


def test_the_expectation_is_the_conditional_mean(ledger):
    oracle = LinearGaussian.make()
    observed = torch.tensor([True, False, True, True, True, False])
    x = oracle.sample(3)
    truth = conditional(oracle, x, observed)
    x[:, ~observed] = NAN
    model = linear(oracle)
    repeats = torch.stack(
        [
            expectation(model, x, samples=2000, generator=torch.Generator().manual_seed(seed))[0][:, ~observed]
            for seed in range(24)
        ]
    )
    error = repeats.std(0) / math.sqrt(len(repeats))
    for item in range(3):
        ledger(
            "impute", f"E[x_mis | x_obs], item {item}, first missing feature", oracle="conditional normal",
            truth=truth[item, 0], measured=repeats.mean(0)[item, 0], tolerance=4 * error[item, 0],
            why="4 standard errors of 24 repeats of 2,000 draws",
        )  # fmt: skip
    assert ((repeats.mean(0) - truth).abs() <= 4.5 * error).all()


def test_what_was_observed_stays_exactly_what_it_was():
    oracle = LinearGaussian.make()
    values = oracle.sample(40).numpy() * 10 + 3
    values[np.random.default_rng(0).random(values.shape) < 0.3] = NAN
    run = run_of(linear(oracle).float(), scaling=Scaling((3.0,) * 6, (10.0,) * 6, "standard"))
    first, again, other = (gapless.impute(run, values, samples=200, seed=seed) for seed in (0, 0, 1))
    seen = ~np.isnan(values)
    assert first.dtype == np.float64
    assert (first[seen] == values[seen]).all()
    assert np.isfinite(first).all()
    assert (first == again).all()
    assert not (first == other).all()
    # Raw units: the conditional mean of one item, through the scaling.
    row = int(np.flatnonzero((~seen).any(1))[0])
    told = torch.from_numpy(seen[row])
    truth = conditional(oracle, torch.from_numpy((values[row : row + 1] - 3) / 10), told) * 10 + 3
    many = gapless.impute(run, values[row : row + 1], samples=20_000)[0][~seen[row]]
    assert np.allclose(many, truth[0], atol=0.15)
    assert not fill(run, np.ones((2, 6))).effective.size


def test_a_model_trained_on_whole_items_imputes_as_well():
    oracle = LinearGaussian.make()
    model = oracle.model()
    again = masked(model)
    x = oracle.sample(2)
    assert torch.equal(again.embed(x), model.embed(x))
    assert again.likelihood.missing
    assert not model.likelihood.missing
    assert masked(again) is again


def test_effective_draws_are_all_of_them_under_the_exact_posterior():
    oracle = LinearGaussian.make(strengths=(1.5,))
    observed = torch.tensor([True, False, True, True, False, True])
    x = oracle.sample(2)
    x[:, ~observed] = NAN
    _, effective = expectation(linear(oracle, observed), x, samples=50)
    assert torch.allclose(effective, torch.full((2,), 50.0, dtype=torch.float64))


def test_the_most_probable_category_is_filled_in():
    """Of three classes by two bits: a head of my own, for what matters is the average over draws before the choice."""
    head = likelihoods.Mixed((likelihoods.Normal(0.1), likelihoods.Bernoulli()))
    model = Model(
        encoder=networks.MLP((2,), (2,), hidden=()), posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(1), decoder=networks.MLP((1,), (2,), hidden=()),
        likelihood=likelihoods.Masked(head),
    )  # fmt: skip
    with torch.no_grad():
        model.encoder.layers[-1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        model.encoder.layers[-1].bias.copy_(torch.tensor([0.0, -3.0]))
        model.decoder.layers[-1].weight.copy_(torch.tensor([[1.0], [3.0]]))
        model.decoder.layers[-1].bias.zero_()
    x = torch.tensor([[0.8, NAN], [-0.8, NAN]])
    expected, _ = expectation(model, x, samples=100, categorical=(1,))
    assert expected[:, 1].tolist() == [1.0, 0.0]
    soft, _ = expectation(model, x, samples=100)
    assert 0.5 < soft[0, 1] < 1


def test_impute_refuses_what_cannot_be():
    run = run_of(linear(LinearGaussian.make()).float())
    with pytest.raises(UsageError, match="shape"):
        gapless.impute(run, np.zeros((2, 5)))
    with pytest.raises(UsageError, match="samples takes"):
        gapless.impute(run, np.zeros((2, 6)), samples=0)
    model = linear(LinearGaussian.make()).float()
    model.posterior = posteriors.PointMass()
    model.encoder = networks.MLP((6,), (3,))
    with pytest.raises(UsageError, match="no importance weights"):
        gapless.impute(run_of(model), np.full((1, 6), NAN))


# The data.


def test_surveys_and_moments_look_at_what_was_observed(monkeypatch):
    monkeypatch.setattr("gapless.data.inspection._CHUNK_VALUES", 35)  # 7 rows at a time
    _, values = table(share=0.5)
    values[:20, 3] = NAN  # chunks without any value of a column
    index = np.arange(len(values))
    found = survey(values, index)
    assert np.allclose(found.low, np.nanmin(values, axis=0))
    assert np.allclose(found.high, np.nanmax(values, axis=0))
    assert found.mean == pytest.approx(np.nanmean(values))
    assert found.missing == np.isnan(values).sum()
    mean, variance = moments(values, index)
    assert np.allclose(mean, np.nanmean(values, axis=0), atol=1e-12)
    assert np.allclose(variance, np.nanvar(values, axis=0), atol=1e-12)
    whole = np.round(values)
    whole[:, 1] += 0.5
    assert survey(whole, index).whole.tolist() == [True, False, True, True, True]


def sources(folder, values):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = [f"c{i}" for i in range(values.shape[1])]
    text = "\n".join(",".join("" if math.isnan(v) else repr(v) for v in row) for row in values.tolist())
    (folder / "t.csv").write_text(",".join(names) + "\n" + text + "\n")
    np.save(folder / "t.npy", values)
    columns = [[None if math.isnan(v) else v for v in column] for column in values.T.tolist()]
    nulls = pa.table(dict(zip(names, columns, strict=True)))
    parquet.write_table(nulls, folder / "t.parquet")
    with pa.ipc.new_file(str(folder / "t.arrow"), nulls.schema) as file:
        file.write_table(nulls)
    return [folder / name for name in ("t.csv", "t.npy", "t.parquet", "t.arrow")]


def test_every_reader_refuses_missing_values_and_keeps_them_when_told(tmp_path, monkeypatch):
    _, values = table(rows=60)
    prints = set()
    for path in sources(tmp_path, values):
        with pytest.raises(DataError, match=r"missing|not finite") as caught:
            read(path)
        assert "--missing keep" in caught.value.fix
        data = read(path, missing="keep")
        assert np.array_equal(np.asarray(data.train.values), values, equal_nan=True)
        assert data.missing
        assert data.head == {"kind": "Masked", "likelihood": {"kind": "NormalWithOptimalScale"}}
        assert data.inspection.missing == pytest.approx(np.isnan(values).mean())
        assert any("% of the values are missing" in note for note in data.inspection.notes)
        assert np.allclose(data.scaling.shift, np.nanmean(data.train.take(range(54)), axis=0))
        fed = Feed(data.train, data.scaling).batch(torch.arange(54))
        assert torch.equal(fed.isnan(), torch.from_numpy(np.isnan(data.train.take(range(54)))))
        assert torch.nanmean(fed).abs() < 1e-5
        assert np.array_equal(read_items(path, missing="keep").items.values[:], values, equal_nan=True)
        prints.add(data.fingerprint())
    assert len(prints) == 1
    monkeypatch.setattr("gapless.data.columnar.MEMORY_BYTES", 0)
    assert read(tmp_path / "t.parquet", missing="keep").fingerprint() in prints
    write_shards(tmp_path / "t.csv", tmp_path / "s", missing="keep")
    with pytest.raises(DataError, match="not finite"):
        read(tmp_path / "s")
    assert read(tmp_path / "s", missing="keep").fingerprint() in prints


def test_nulls_among_whole_numbers_and_truths(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"n": pa.array([1, None, 3, 4] * 5), "b": pa.array([True, False, None, True] * 5)}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    data = read(tmp_path / "t.parquet", missing="keep")
    wanted = [[1, 1], [NAN, 0], [3, NAN], [4, 1]] * 5
    assert np.array_equal(np.asarray(data.train.values), wanted, equal_nan=True)


def test_infinities_and_columns_without_any_value_are_refused_all_the_same():
    values = table()[1]
    values[:, 2] = NAN
    with pytest.raises(DataError, match="no value in any item") as caught:
        read(values, missing="keep")
    assert "x2" in caught.value.what
    values[:, 2] = np.inf
    with pytest.raises(DataError, match="infinite"):
        read(values, missing="keep")
    with pytest.raises(UsageError, match="missing needs one of refuse, keep"):
        read(values, missing="drop")


def test_images_may_have_missing_pixels():
    images = np.random.default_rng(0).random((30, 6, 6))
    images[0, 2, 3] = NAN
    data = read(images, missing="keep")
    assert data.kind == "image"
    assert data.missing
    binary = (images > 0.5).astype(float)
    binary[0, 2, 3] = NAN
    assert read(binary, missing="keep").inspection.binary


def test_a_run_with_missing_values_is_saved_loaded_and_fills_them_in(tmp_path, capsys):
    _, values = table(rows=150)
    np.save(tmp_path / "t.npy", values)
    data = read(str(tmp_path / "t.npy"), missing="keep")
    run = gapless.train(data, settings=Settings(latent=2, epochs=2, hidden=(16,)), folder=tmp_path / "run")
    assert isinstance(run.model.likelihood, likelihoods.Masked)
    again = gapless.load_run(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["missing"] is True
    x = batch(data.held_out, data.scaling)
    assert torch.equal(run.model.embed(x), again.model.embed(x))
    assert again.data.read().fingerprint() == data.fingerprint()
    use.impute(tmp_path / "run", None, samples=20, output=tmp_path / "f.npy", seed=0, json=False)
    filled = np.load(tmp_path / "f.npy")
    assert (filled[~np.isnan(values)] == values[~np.isnan(values)]).all()
    assert np.isfinite(filled).all()
    assert "effective draws" in capsys.readouterr().err
    use.encode(tmp_path / "run", None, output=tmp_path / "z.npy", json=False)
    assert np.isfinite(np.load(tmp_path / "z.npy")).all()


def test_an_audit_needs_whole_items():
    values = table(rows=30)[1]
    with pytest.raises(DataError, match="missing values: an audit compares whole items") as caught:
        audited_items(read(values, missing="keep"))
    assert "gapless impute" in caught.value.fix
    whole = np.nan_to_num(values, nan=1.0)
    assert len(audited_items(read(whole, missing="keep"))[0]) == 30


def test_a_comparison_that_could_not_be_audited_is_refused_before_it_is_trained(tmp_path, capsys):
    data, begun = read(table(rows=40)[1], missing="keep"), []
    for problem, settings in ((DataError, Settings(latent=1, epochs=1)), (UsageError, Settings(condition=True))):
        with pytest.raises(problem, match=r"compare"):
            study.compare(data, settings=settings, budget="quick", callbacks=lambda name: begun.append(name) or ())
    assert not begun
    np.save(tmp_path / "gaps.npy", table(rows=40)[1])
    for words, match in (
        (("--missing", "keep"), "--audit none"),
        (("--missing", "keep", "--condition"), "--label NAME"),
    ):
        with pytest.raises((DataError, UsageError), match=match):
            app(["compare", str(tmp_path / "gaps.npy"), "-o", str(tmp_path / "c"), *words], exit_on_error=False)
    assert not (tmp_path / "c" / "ae").exists()


@pytest.mark.slow
def test_imputation_learns_the_factors(tmp_path):
    """Two factors behind five columns: the best that can be done is the noise, the mean is the whole spread."""
    whole, values = table(rows=2000)
    data = read(values, missing="keep", likelihood="NormalWithLearnedScale")
    settings = Settings(latent=2, epochs=60, hidden=(64,), batch_size=64, learning_rate=3e-3)
    run = gapless.train(data, recipe="miwae-missing", settings=settings)
    filled, missing = gapless.impute(run, values, samples=500), np.isnan(values)
    error = np.sqrt(np.square(filled - whole)[missing].mean())
    spread = np.sqrt(np.square(np.nanmean(values, axis=0) - whole)[missing].mean())
    assert error < 0.5 * spread
