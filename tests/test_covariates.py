"""Numbers that encoder and decoder are given beside each item: what they explain needs no code."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import gapless
from gapless import conditions, networks, objectives, posteriors, priors, recipes, study
from gapless.adapters import check_auditable
from gapless.data import Feed
from gapless.errors import DataError, UsageError
from gapless.explorer.scene import labelled_runs
from gapless.imputation import fill
from gapless.model import Model
from gapless.settings import Settings
from oracles import LinearGaussian

EFFECT = np.array([[2.0, -1.0, 0.5], [0.0, 1.5, -3.0]])
NOISE = 0.1


def table(folder, items=600, name="doses.csv"):
    """x, y, z are dose and age but for noise; there is nothing else to know of a row."""
    rng = np.random.default_rng(0)
    given = np.stack([rng.normal(3, 2, items), rng.uniform(20, 80, items)], 1)
    known = (given - [3, 50]) / [2, 17]
    rows = np.concatenate([known @ EFFECT + NOISE * rng.normal(size=(items, 3)), given], 1)
    path = folder / name
    path.write_text("\n".join(["x,y,z,dose,age", *(",".join(map(str, row)) for row in rows)]))
    return path


def given_oracle(effect):
    """The linear-Gaussian model about a mean that moves with what is given: p(x|c) = N(m + A c, W W' + s^2)."""
    plain = LinearGaussian.make()
    given, (data, latent) = effect.shape[1], plain.weight.shape
    exact = plain.model()
    model = Model(
        encoder=networks.MLP((data + given,), (2 * latent,), hidden=()), posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(latent), decoder=networks.MLP((latent + given,), (1, data), hidden=()),
        likelihood=exact.likelihood, context=given,
    ).double()  # fmt: skip
    with torch.no_grad():
        project = exact.encoder.layers[-1].weight
        model.encoder.layers[-1].weight.copy_(torch.cat([project, -project @ effect], 1))
        model.encoder.layers[-1].bias.copy_(exact.encoder.layers[-1].bias)
        model.decoder.layers[-1].weight.copy_(torch.cat([plain.weight, effect], 1))
        model.decoder.layers[-1].bias.zero_()
        model.offset.copy_(exact.offset)
    return plain, model


def test_what_the_covariates_explain_is_removed_exactly(ledger):
    effect = torch.randn(6, 2, dtype=torch.float64)
    plain, model = given_oracle(effect)
    rest, c = plain.sample(50), torch.randn(50, 2, dtype=torch.float64) * 5
    terms = objectives.IWAE(7)(model.given(c), rest + c @ effect.T)
    ledger(
        "Model.given", "IWAE bound of x given covariates, exact posterior", oracle="log N(x - A c; m, W W' + s^2)",
        truth=plain.log_prob(rest).mean(), measured=-terms.loss.detach(), tolerance=1e-9, why="float64",
    )  # fmt: skip
    assert terms.regularization.mean().item() == pytest.approx(
        objectives.ELBO()(plain.model(), rest).regularization.mean().item(), abs=1e-9
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """From the command line: the run, its folder and what was said."""
    folder = tmp_path_factory.mktemp("covariates")
    table(folder)
    words = "--recipe linear-gaussian --covariates dose,age --latent 2 --epochs 150 --batch-size 100"
    done = command(folder, "train", str(folder / "doses.csv"), *words.split(), "--learning-rate", "1e-2", "-o", "run")
    assert done.returncode == 0, done.stderr
    return gapless.load_run(folder / "run"), folder, done.stderr


def command(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "gapless", *words], cwd=folder, capture_output=True, text=True, timeout=240
    )


def test_covariates_that_explain_the_data_leave_nothing_for_the_codes(trained, ledger):
    run, folder, said = trained
    assert "covariates, given to encoder and decoder" in said
    assert run.data.columns == ("x", "y", "z")
    assert run.data.covariates == ("dose", "age")
    data = run.data.read()
    parts = [(run.scaling(p.values[p.index]), p.covariates.astype(np.float64)) for p in (data.train, data.held_out)]
    (x, c), (new, given) = parts
    design, test = (np.concatenate([np.ones((len(v), 1)), v], 1) for v in (c, given))
    weights = np.linalg.lstsq(design, x, rcond=None)[0]
    spread = np.sqrt(np.square(x - design @ weights).mean())  # the recipe's one scale
    error = (new - test @ weights) / spread
    truth = (-0.5 * np.square(error).sum(1) - 3 * np.log(spread * np.sqrt(2 * np.pi))).mean()
    ledger(
        "linear-gaussian, covariates", "KL, all of the data explained", oracle="0: nothing is left to tell", truth=0,
        measured=run.held_out["kl"], tolerance=0.02, why="0.01 nats a latent feature: none is live",
    )  # fmt: skip
    ledger(
        "linear-gaussian, covariates", "held-out ELBO, all of the data explained", truth=truth,
        oracle="log-density under least squares on the covariates, NumPy", measured=run.held_out["elbo"],
        tolerance=0.05, why="900 steps; no ELBO of a trained regression exceeds its own by more than the noise",
    )  # fmt: skip
    plain = study.train(
        gapless.read(folder / "doses.csv", drop=["dose", "age"], likelihood="NormalWithLearnedScale"),
        recipe="linear-gaussian",
        settings=Settings(latent=2, epochs=150, batch_size=100, learning_rate=1e-2),
    )  # fmt: skip
    assert plain.held_out["kl"] > 3


def test_draws_follow_the_covariates_they_are_given(trained):
    _, folder, _ = trained
    for dose, age in ((5.0, 33.0), (1.0, 67.0)):
        words = ("--given", f"dose={dose}", "--given", f"age={age}", "-n", "300", "-o", "drawn.npy", "--seed", "1")
        done = command(folder, "sample", "run", *words)
        assert done.returncode == 0, done.stderr
        expected = np.array([(dose - 3) / 2, (age - 50) / 17]) @ EFFECT
        np.testing.assert_allclose(np.load(folder / "drawn.npy").mean(0), expected, atol=0.1)
    refused = command(folder, "sample", "run", "--given", "dose=5")
    assert refused.returncode == 2
    assert "needs a value of the covariate 'age'" in refused.stderr
    for wrong, match in ((("dose=5", "age=x"), "NAME=NUMBER"), (("dose=5", "age=3", "sex=1"), "knows no")):
        refused = command(folder, "sample", "run", *(w for text in wrong for w in ("--given", text)))
        assert refused.returncode == 2
        assert match in refused.stderr


def test_every_command_gives_each_item_its_own_covariates(trained):
    run, folder, _ = trained
    for name in ("encode", "reconstruct", "impute"):
        done = command(folder, name, "run", "-o", f"{name}.npy")
        assert done.returncode == 0, done.stderr
    done = command(folder, "evaluate", "run", "--samples", "50", "--items", "40", "--json")
    assert done.returncode == 0, done.stderr
    items, _ = run.data.read_items(folder / "doses.csv")
    x = items.take(range(len(items)))
    assert np.abs(np.load(folder / "reconstruct.npy") - x).mean() < 2 * NOISE


def test_missing_values_are_what_the_covariates_say(trained):
    run, folder, _ = trained
    items, _ = run.data.read_items(folder / "doses.csv")
    x = items.take(range(50))
    holes = np.where(np.arange(3) == 1, np.nan, x)
    context = conditions.context_of(run.model, items, range(50))
    filled = fill(run, holes, samples=50, context=context).values
    assert np.sqrt(np.square(filled - x)[:, 1].mean()) < 2 * NOISE
    with pytest.raises(UsageError, match="is conditional"):
        fill(run, holes, samples=5)


def test_an_audit_refuses_with_the_reason(trained):
    _, folder, _ = trained
    refused = command(folder, "audit", "run")
    assert refused.returncode == 2
    assert "one latent space; with covariates it is another one for every value of dose, age" in refused.stderr


def test_a_comparison_is_refused_before_it_trains(trained):
    run, folder, _ = trained
    with pytest.raises(UsageError, match="an audit judges one latent space"):
        check_auditable(gapless.read(folder / "doses.csv", covariates=["dose"]))
    with pytest.raises(UsageError, match="the explorer shows one latent space"):
        labelled_runs({"a": run}, run.data.read(), None)


def test_classes_and_covariates_stand_side_by_side(tmp_path):
    rng = np.random.default_rng(0)
    labels, dose = rng.integers(0, 2, 300), rng.normal(size=300)
    rows = [f"{d + 3 * k},{-d},{d},{'ab'[k]}" for d, k in zip(dose, labels, strict=True)]
    (tmp_path / "both.csv").write_text("\n".join(["x,y,dose,group", *rows]))
    data = gapless.read(tmp_path / "both.csv", label="group", covariates="dose")
    settings = Settings(latent=1, epochs=30, hidden=(16,), batch_size=50, learning_rate=1e-2, condition=True)
    run = study.train(data, recipe="vampprior", settings=settings)
    assert run.model.context == 3
    context = conditions.context_of(run.model, data.train, [0, 5])
    np.testing.assert_allclose(context[:, 2], (dose[data.train.index[[0, 5]]] - dose[data.train.index].mean())
                               / dose[data.train.index].std(), rtol=1e-5)  # fmt: skip
    assert context[:, :2].argmax(1).tolist() == data.train.labels[[0, 5]].tolist()
    model = conditions.given_values(run, "b", {"dose": 0.5})
    assert run.scaling.inverse(model.sample(400).detach()).mean(0).tolist() == pytest.approx([3.5, -0.5], abs=0.4)
    for label in (None, "c"):
        with pytest.raises(UsageError, match="one of a, b"):
            conditions.given_values(run, label, {"dose": 0.5})
    one = study.train(data, settings=Settings(latent=1, epochs=1, hidden=(8,)))
    assert one.model.context == 1  # the classes are not given
    with pytest.raises(UsageError, match="no use for a label"):
        conditions.given_values(one, "a", {"dose": 0.5})
    with pytest.raises(UsageError, match="m2 is given classes alone"):
        study.train(data, recipe="m2", settings=settings)


def test_pseudo_inputs_keep_covariates_within_what_was_seen_at_the_start():
    prior = priors.VampPrior(2, (3,), 4, context=2)
    context = torch.tensor([[-3.0, 1.0], [40.0, 0.0], [7.0, 0.5]])
    prior.start(torch.rand(3, 3), context)
    assert torch.equal(prior.contexts, context[[0, 1, 2, 0]])
    met = []
    with torch.no_grad():
        prior.contexts[:2] += torch.tensor([[-9.0, 0.0], [9.0, -2.0]])

    def encode(u, c):
        met.append(c)
        return gapless.distributions.DiagonalNormal(u[:, :2], torch.ones(4, 2))

    prior(encode)
    assert met[0][:2].tolist() == [[-3.0, 1.0], [40.0, 0.0]]


def test_training_that_was_cut_ends_in_the_same_bits_and_other_covariates_are_other_data(tmp_path):
    from gapless.errors import GaplessError, Interrupted

    data = gapless.read(table(tmp_path), covariates=["dose", "age"])
    settings = Settings(latent=1, epochs=3, hidden=(8,), batch_size=50)
    whole = study.train(data, settings=settings, folder=tmp_path / "whole")

    class Stop(gapless.training.Callback):
        def on_step(self, step, terms):
            if step == 15:
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        study.train(data, settings=settings, folder=tmp_path / "cut", callbacks=(Stop(),), checkpoint_every=0)
    cut = study.train(data, settings=settings, folder=tmp_path / "cut")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, cut.model.state_dict()[name]), name
    other = gapless.read(tmp_path / "doses.csv", covariates=["age", "dose"])
    with pytest.raises(GaplessError):
        study.train(other, settings=settings, folder=tmp_path / "whole")
    again = gapless.load_run(tmp_path / "whole")
    assert again.data == whole.data
    read = again.data.read_like(tmp_path / "doses.csv")
    assert np.array_equal(read.train.covariates, data.train.covariates)


def test_an_npz_has_them_beside_its_images(tmp_path):
    ages = np.arange(40.0)
    np.savez(tmp_path / "faces.npz", images=np.random.default_rng(0).random((40, 4, 4), np.float32), age=ages)
    data = gapless.read(tmp_path / "faces.npz", array="images", covariates=["age"])
    assert data.event_shape == (1, 4, 4)
    assert data.train.covariates.std() == pytest.approx(1, abs=1e-5)
    assert study.train(data, settings=Settings(latent=1, epochs=1, hidden=(8,))).model.context == 1
    table = gapless.read(np.random.default_rng(0).normal(size=(40, 3)), covariates="x1")
    assert table.columns == ("x0", "x2")


def test_wrong_covariates_are_refused(tmp_path, trained):
    run, _, _ = trained
    path = table(tmp_path, 40)
    for names, match in (
        ("height", "there is no column 'height'"),
        (["x", "y", "z", "dose", "age"], "no column is left"),
    ):
        with pytest.raises(UsageError, match=match):
            gapless.read(path, covariates=names)
    with pytest.raises(UsageError, match=r"arrays of an \.npz"):
        gapless.read("digits", covariates="age")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, "1,2,3,,40"]))
    with pytest.raises(DataError, match="every item needs its covariates; 1 of 41"):
        gapless.read(path, covariates="dose", missing="keep")
    path.write_text(
        "\n".join(
            [lines[0] + ",site,cup", *(f"{line},{'ab'[i % 2]},{'cd'[i % 2]}" for i, line in enumerate(lines[1:]))]
        )
    )
    with pytest.raises(DataError, match=r"the column 'site' holds text(.|\n)*--label 'site' --condition"):
        gapless.read(path, covariates="site")
    items = run.data.read().train
    with pytest.raises(DataError, match="given 2 covariates beside each item: dose, age"):
        conditions.labelled(run, gapless.data.Items(items.values, None, items.index), ())
    other = recipes.build("vae", (3,), latent=1)[0]
    assert conditions.context_of(other, items, [0]) is None
    assert len(Feed(items, run.scaling)) == len(items)
