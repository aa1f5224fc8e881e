"""`gapless.evaluate` and `gapless evaluate`: on a trained run, other data, factors by name, features of any kind."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import gapless
from gapless.cli.commands import app
from gapless.data import Feed
from gapless.errors import DataError, GaplessError, UsageError
from gapless.evaluation.codes import posterior_means
from gapless.evaluation.known import known_factors
from gapless.settings import Settings


def table(folder, n=120, seed=0):
    """A table of three columns made from two factors and noise; `kind` is text, `level` whole, `angle` real."""
    rng = np.random.default_rng(seed)
    kind, level, angle = rng.integers(0, 2, n), rng.integers(0, 4, n), rng.uniform(0, 1, n)
    values = np.stack([kind * 3.0, level * 1.0, angle], 1) + 0.1 * rng.standard_normal((n, 3))
    path = folder / "made.csv"
    rows = [f"{a:.4f},{b:.4f},{c:.4f},{['no', 'yes'][k]},{v},{w:.4f}" for (a, b, c), k, v, w in
            zip(values, kind, level, angle, strict=True)]  # fmt: skip
    path.write_text("\n".join(["a,b,c,kind,level,angle", *rows]), encoding="utf-8")
    return path, {"kind": kind, "level": level, "angle": angle}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    path, factors = table(folder)
    data = gapless.read(path, drop=["kind", "level", "angle"], held_out=0.4)
    settings = Settings(latent=2, hidden=(16,), epochs=60, batch_size=36, learning_rate=1e-2)
    gapless.train(data, settings=settings, folder=folder / "run")
    return folder, factors


def printed(capsys, *words):
    app(["evaluate", *map(str, words)], exit_on_error=False, result_action="return_value")
    return capsys.readouterr().out


def test_the_numbers_agree_with_each_other_and_with_the_run(place):
    found = gapless.evaluate(place[0] / "run", samples=200)
    run = gapless.load_run(place[0] / "run")
    told = found.to_dict()
    assert told["elbo"]["elbo"] == pytest.approx(-(told["elbo"]["reconstruction"] + told["elbo"]["kl"]))
    assert told["elbo"]["kl"] == pytest.approx(sum(told["elbo"]["kl_per_feature"]), rel=1e-5)
    assert told["elbo"]["elbo"] == pytest.approx(run.held_out["elbo"], abs=0.3)
    assert told["elbo"]["loss"] == pytest.approx(-told["elbo"]["elbo"], abs=0.5)
    assert told["elbo"]["effective_beta"] == 1
    assert told["evidence"]["log_prob_at_least"] > told["elbo"]["elbo"]
    assert told["evidence"]["items"] == 48
    assert found.said == "48 held-out items"
    assert set(found.reconstruction_by_column) == {"a", "b", "c"}
    assert list(found.kl_by_feature.values()) == sorted(told["elbo"]["kl_per_feature"], reverse=True)
    assert told["bits_per_dim"]["value"] is None
    scale = np.array(run.scaling.scale)
    assert found.errors.raw_mse == pytest.approx((found.errors.squared * scale**2).mean())
    assert told["factors"] is None
    assert told["likeness"] == []


def test_the_command_takes_the_number_of_samples_items_and_the_seed(place, capsys):
    words = ("--items", 9, "--json")
    few, many, other = (
        json.loads(printed(capsys, place[0] / "run", *words, "--samples", s, "--seed", seed))
        for s, seed in ((1, 0), (300, 0), (300, 1))
    )
    assert few["evidence"]["samples"] == 1
    assert few["evidence"]["monte_carlo_error"] is None
    assert many["evidence"]["log_prob_at_least"] > many["elbo"]["elbo"]
    assert many["items"] == "9 of 48 held-out items, chosen at random"
    assert many != other
    assert many == json.loads(printed(capsys, place[0] / "run", *words, "--samples", 300))


def test_the_table_says_what_each_number_is(place, capsys):
    text = printed(capsys, place[0] / "run", "--samples", 50, "--features", "pca", "--factors", "level")
    for words in (
        "VAE on", "48 held-out items", "-E log p(x|z)", "log p(x), at least", "50 importance samples",
        "bits per dimension", "no known bin width", "active latent features", "variance of E[z|x]",
        "most expensive columns",
        "in the units of the data", "MIG", "factors: level", "Fréchet", "principal components", "draws x ~ p(x|z)",
    ):  # fmt: skip
        assert words in text, words


def test_factors_by_name_are_columns_classes_and_files(place, tmp_path):
    folder, truth = place
    run = gapless.load_run(folder / "run")
    found = known_factors(run.data, run.data.source, ("kind", "level", "angle"))
    assert np.array_equal(found["kind"], np.array(["no", "yes"])[truth["kind"]])
    assert np.array_equal(found["level"], truth["level"])
    assert found["level"].dtype.kind == "i"
    assert np.allclose(found["angle"], truth["angle"], atol=1e-4)
    np.savez(tmp_path / "f.npz", one=truth["kind"], two=truth["angle"])
    (tmp_path / "f.csv").write_text("k,n\n" + "\n".join(f"{k},{k}x" for k in truth["kind"]), encoding="utf-8")
    files = known_factors(run.data, run.data.source, (str(tmp_path / "f.npz"), str(tmp_path / "f.csv")))
    assert np.array_equal(files["one"], truth["kind"])
    assert np.array_equal(files["two"], truth["angle"])
    assert np.array_equal(files["k"], truth["kind"])
    assert files["n"][0] == f"{truth['kind'][0]}x"


def test_factors_follow_the_split(place):
    run = gapless.load_run(place[0] / "run")
    items, _ = run.data.read_items(run.data.source)
    codes = run.model.embed(Feed(items, run.scaling).batch(torch.arange(120)))[:, 0].detach().numpy()
    scores = gapless.evaluate(run, samples=1, factors={"sign": (codes > np.median(codes)).astype(int)}).factors
    assert scores.informativeness > 0.9  # in another order of the items it would be a half
    assert scores.items == (120, 120)


def test_sprites_bring_their_factors_and_digits_their_classes():
    card = gapless.data_card.DataCard.of(gapless.read("digits"))
    classes = known_factors(card, "digits", ("label",))["label"]
    assert np.bincount(classes).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    card = gapless.data_card.DataCard.of(gapless.read("sprites"))
    assert known_factors(card, "sprites", ("x", "label")).keys() == {"x", "label"}


def test_features_are_named_given_as_files_or_as_callables(place, tmp_path):
    run = gapless.load_run(place[0] / "run")
    found = gapless.evaluate(run, samples=1, features=["pixels", "pca", "embedding"]).likeness
    assert [one.features for one in found] == ["pixels", "pca", "embedding"]
    pixels, pca = found[:2]
    # all three components: a rotation about one centre, which changes no distance
    assert pca.generated.frechet == pytest.approx(pixels.generated.frechet, rel=1e-3)
    assert pca.generated.coverage == pytest.approx(pixels.generated.coverage)
    assert pixels.generated.items == (48, 48)
    assert pixels.training is not None
    assert pixels.drawn
    mine = gapless.evaluate(run, samples=1, features={"first": lambda x: x[:, :1]}).likeness[0]
    assert (mine.features, mine.generated.dimensions) == ("first", 1)
    rng = np.random.default_rng(0)
    for name in ("r", "g"):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((30, 4)))
    pair = gapless.evaluate(run, samples=1, features=f"{tmp_path / 'r.npy'},{tmp_path / 'g.npy'}").likeness[0]
    assert pair.generated.dimensions == 4
    assert pair.training is None


def test_other_data_is_evaluated_whole_and_scaled_as_the_training_data(place, tmp_path):
    path, _ = table(tmp_path, n=30, seed=5)
    found = gapless.evaluate(place[0] / "run", path, samples=3)
    assert found.said == "30 items"
    assert math.isfinite(found.bounds.elbo)


def test_an_autoencoder_is_evaluated_without_bounds(tmp_path, capsys):
    gapless.train(gapless.read("digits"), recipe="ae", settings=Settings(latent=2, epochs=1, hidden=(8,)),
                  folder=tmp_path / "ae")  # fmt: skip
    found = gapless.evaluate(tmp_path / "ae", samples=5)
    assert found.bounds.evidence is None
    assert found.bits.value is None
    told = json.loads(printed(capsys, tmp_path / "ae", "--json"))
    assert told["evidence"] is None
    assert told["elbo"]["elbo"] is None
    text = printed(capsys, tmp_path / "ae")
    assert "points have no density" in text
    assert "∞" in text


def test_grey_pictures_under_a_bernoulli_are_no_density():
    data = gapless.read("digits")
    run = gapless.train(data, settings=Settings(latent=2, epochs=1, hidden=(8,)))
    found = gapless.evaluate(run, samples=5, items=20)
    assert found.bits.value is None
    assert any("cross-entropy" in line for line in found.warnings)


def test_whole_values_under_a_normal_have_dequantised_bits():
    data = gapless.read("digits", likelihood="NormalWithOptimalScale")
    run = gapless.train(data, settings=Settings(latent=8, epochs=12, hidden=(64,)))
    found = gapless.evaluate(run, samples=20, items=100)
    assert 0.5 < found.bits.value < math.log2(17)  # of 17 values: what it would be without a model
    at_the_values = -(found.bounds.evidence.value - 64 * math.log(16)) / 64 / math.log(2)
    assert found.bits.value == pytest.approx(at_the_values, abs=0.3)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--samples", 0), 2, "--samples takes 1 or more"),
        (("--items", 0), 2, "--items takes 1 or more"),
        (("--factors", "a"), 2, "trained on the column 'a'"),
        (("--factors", "nothing.npz"), 3, "no such file"),
        (("--factors", "nothing"), 2, "no column 'nothing'"),
        (("--factors", "label"), 3, "no classes"),
        (("--features", "inception", "--samples", 1), 2, "no features called 'inception'"),
        (("--features", "a.npy,b.npy", "--samples", 1), 3, "no features can be read"),
    ],
)
def test_what_cannot_be_is_refused(place, capsys, words, code, said):
    with pytest.raises(GaplessError, match=said) as error:
        printed(capsys, place[0] / "run", *words)
    assert error.value.exit_code == code


def test_what_cannot_be_is_refused_before_anything_dear_is_done(place):
    def told(done, of):
        raise AssertionError("the bound is under way")

    for wrong in ({"features": ["inception"]}, {"features": ["a.npy,b.npy"]}, {"factors": {"f": np.arange(7)}}):
        with pytest.raises(GaplessError):
            gapless.evaluate(place[0] / "run", samples=1, progress=told, **wrong)


def test_a_conditional_model_is_given_the_labels_of_the_items_everywhere():
    run = gapless.train(gapless.read("digits"), recipe="conditional-vae", settings=Settings(latent=3, epochs=4))
    found = gapless.evaluate(
        run, samples=3, features=["pca"], factors={"label": gapless.read("digits").train.values[:, 0, 3, 3] > 8}
    )
    assert found.bounds.elbo == pytest.approx(run.held_out["elbo"], abs=0.5)
    assert found.factors.items[0] == 1797
    assert found.likeness[0].generated.items == (180, 180)
    wrong = dataclasses.replace(run.data.read().held_out, labels=None)
    with pytest.raises(DataError, match="conditional"):
        posterior_means(run.model, Feed(wrong, run.scaling), torch.arange(3))


def test_factors_of_another_length_are_refused(place):
    with pytest.raises(UsageError, match="has 7 values"):
        gapless.evaluate(place[0] / "run", samples=1, factors={"f": np.arange(7)})
    with pytest.raises(UsageError, match=r"need the shape \(48, D\)"):
        gapless.evaluate(place[0] / "run", samples=1, features={"f": lambda x: x[:3]})
    with pytest.raises(DataError, match=r"no such file"):
        gapless.evaluate(place[0] / "run", "nowhere.csv", samples=1)
