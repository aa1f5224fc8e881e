"""Models that are given the class of each item."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import gapless
from gapless import adapters, conditions, recipes, study
from gapless.data import Feed, Items
from gapless.errors import DataError, UsageError
from gapless.randomness import generator
from gapless.settings import Settings
from gapless.training import evaluate, latent_statistics
from gapless.training.execution import arranged

MEANS = {"a": [3.0, 0.0, -2.0], "b": [-3.0, 1.0, 2.0]}


def classes(items=400):
    """Two classes that differ in their means alone."""
    rng = np.random.default_rng(0)
    labels = np.array(list(MEANS))[rng.integers(0, 2, items)]
    rows = np.stack([MEANS[name] for name in labels]) + rng.normal(size=(items, 1)) * [0.5, 1.0, 0.2]
    rows += 0.1 * rng.normal(size=rows.shape)
    lines = ["x,y,z,class", *(",".join([*map(str, row), label]) for row, label in zip(rows, labels, strict=True))]
    path = Path(tempfile.mkdtemp()) / "classes.csv"
    path.write_text("\n".join(lines))
    return gapless.read(path, label="class", scaling="none")


@pytest.fixture(scope="module")
def run():
    settings = Settings(latent=1, epochs=60, hidden=(16,), batch_size=50, learning_rate=1e-2)
    return study.train(classes(), recipe="conditional-vae", settings=settings)


def test_each_class_is_drawn_around_its_own_mean(run):
    for name, mean in MEANS.items():
        model = conditions.given_label(run.model, run.data.label_names, name)
        drawn = model.sample(2000, generator=generator(0, "sample")).mean(0)
        assert torch.allclose(drawn, torch.tensor(mean), atol=0.35), name


def test_the_class_needs_no_code(run):
    """What the context says the code does not, and has room for the rest."""
    data = classes()
    settings = Settings(latent=1, epochs=60, hidden=(16,), batch_size=50, learning_rate=1e-2)
    plain = study.train(data, settings=settings)
    assert run.held_out["elbo"] > plain.held_out["elbo"] + 0.3
    codes = latent_statistics(run.model, Feed(data.train, data.scaling)).loc[:, 0]
    labels = torch.from_numpy(data.train.labels).double()
    assert abs(torch.corrcoef(torch.stack([codes.double(), labels]))[0, 1]) < 0.3


def test_a_conditional_run_is_saved_loaded_and_used(run, tmp_path):
    run.save(tmp_path / "run")
    again = gapless.load_run(tmp_path / "run")
    data = classes()
    feed = Feed(data.held_out, data.scaling)
    values = [evaluate(r.model, r.objective, feed).elbo for r in (run, again)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)
    with pytest.raises(UsageError, match="is conditional"):
        again.model.sample(3)
    with pytest.raises(UsageError, match="--label NAME"):
        adapters.subject(again.model)
    adapters.subject(conditions.given_label(again.model, again.data.label_names, "a"))


@pytest.mark.parametrize(("label", "match"), [(None, "needs a label"), ("c", "does not know the label 'c'")])
def test_a_wrong_label_is_refused(run, label, match):
    with pytest.raises(UsageError, match=rf"{match}(.|\n)*one of a, b"):
        conditions.given_label(run.model, run.data.label_names, label)


def test_a_class_beyond_the_known_ones_is_refused(run):
    items = classes().train
    with pytest.raises(DataError, match=r"knows 2 classes, 0 to 1;.* label number 7\nwhere: item 3\nfix: "):
        conditions.given(run.model, Items(items.values, np.array([0, 1, -1, 7]), items.index[:4]), range(4))
    with pytest.raises(DataError, match=r"classes a, b; here is one called 'c'\nfix: "):
        conditions.labelled(run, items, ("c", "b"))
    with pytest.raises(DataError, match="here is one called ''"):  # no class is a class, too, that it does not know
        conditions.labelled(run, Items(items.values, -np.ones_like(items.labels), items.index), ("a", "b"))
    assert (conditions.labelled(run, items, ("b", "a")).labels == 1 - items.labels).all()


def test_labels_have_no_use_without_a_condition():
    model, _ = recipes.build("vae", (3,), latent=1)
    assert conditions.given_label(model, ("a",), None) is model
    with pytest.raises(UsageError, match="not conditional"):
        conditions.given_label(model, ("a",), "a")


def test_data_without_classes_is_refused():
    data = gapless.read(np.random.default_rng(0).normal(size=(100, 3)))
    with pytest.raises(UsageError, match="needs the class of every item"):
        study.train(data, recipe="conditional-vae", settings=Settings(latent=1, epochs=1))
    model = recipes.build("conditional-vae", (3,), latent=1, context=2)[0]
    with pytest.raises(DataError, match="needs the label of every item"):
        conditions.given(model, data.train, [0])


def test_any_recipe_can_be_conditional():
    settings = Settings(latent=1, epochs=1, hidden=(8,), condition=True)
    for recipe in ("iwae", "vampprior"):
        assert study.train(classes(100), recipe=recipe, settings=settings).model.context == 2


def test_accumulated_parts_are_given_their_own_rows():
    made = recipes.build("conditional-vae", (1, 4, 4), latent=3, hidden=(9,), context=3)
    model, objective = (part.double() for part in made)
    x, context = torch.rand(8, 1, 4, 4, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[torch.arange(8) % 3]
    whole = objective(model.given(context), x, generator=generator(0, "noise", 0))
    parts = arranged(model, objective, Settings(accumulate=3))(x, 8, 0, context)
    assert torch.allclose(parts.loss, whole.loss, rtol=1e-12)
    assert not torch.allclose(
        whole.loss, objective(model.given(context.roll(1, 0)), x, generator=generator(0, "noise", 0)).loss
    )


def test_training_that_was_cut_ends_in_the_same_bits(tmp_path):
    settings = Settings(latent=1, epochs=3, hidden=(8,), batch_size=50, condition=True)
    whole = study.train(classes(), settings=settings, folder=tmp_path / "whole")
    from gapless.errors import Interrupted

    class Stop(gapless.training.Callback):
        def on_step(self, step, terms):
            if step == 11:
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        study.train(classes(), settings=settings, folder=tmp_path / "cut", callbacks=(Stop(),), checkpoint_every=0)
    cut = study.train(classes(), settings=settings, folder=tmp_path / "cut")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, cut.model.state_dict()[name]), name


def test_the_command_line_draws_and_audits_one_class(tmp_path):
    def gapless_(*words):
        return subprocess.run(
            [sys.executable, "-m", "gapless", *words], cwd=tmp_path, capture_output=True, text=True, timeout=240
        )

    sizes = ("--latent", "2", "--hidden", "32", "--epochs", "4")
    done = gapless_("train", "digits", "--recipe", "conditional-vae", "-o", "run", *sizes)
    assert done.returncode == 0, done.stderr
    assert gapless_("sample", "run", "-n", "5", "--label", "7", "-o", "sevens.npy").returncode == 0
    assert np.load(tmp_path / "sevens.npy").shape[0] == 5
    refused = gapless_("sample", "run", "-n", "5")
    assert refused.returncode == 2
    assert "give --label" in refused.stderr
    for command in (("encode",), ("reconstruct",), ("interpolate", "--from", "0", "--to", "1")):
        done = gapless_(command[0], "run", *command[1:], "-o", f"{command[0]}.npy")
        assert done.returncode == 0, done.stderr
    done = gapless_("audit", "run", "--label", "3", "--budget", "quick", "--json")
    assert done.returncode == 0, done.stderr
