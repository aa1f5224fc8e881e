"""Rows of the fault matrix on absurd numbers and on model folders that want to be executed."""

import json
import math
import os
import stat

import numpy as np
import pytest
import torch

import gapless
from gapless import distributions, posteriors, study
from gapless.errors import DataError, Diverged, UsageError
from gapless.objectives import ELBO
from gapless.settings import Settings
from gapless.verification import verify

SMALL = Settings(latent=2, epochs=3, hidden=(8,), batch_size=32)


def rows(count=120, columns=4):
    return np.random.default_rng(0).normal(size=(count, columns))


@pytest.mark.parametrize("rate", [1e3, 1e12, 1e30])
@pytest.mark.parametrize("recipe", ["ae", "kl-only", "vae"])
def test_row_an_absurd_learning_rate_is_a_clear_stop_or_finite(rate, recipe):
    settings = Settings(latent=2, epochs=3, hidden=(8,), batch_size=32, learning_rate=rate)
    said, run = "", None
    try:
        run = study.train(gapless.read(rows()), recipe=recipe, settings=settings)
    except Diverged as error:
        said = str(error)
    if run is None:
        assert "step " in said
        assert "lower --learning-rate" in said
    else:
        assert math.isfinite(run.held_out["reconstruction"])
        assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())


@pytest.mark.parametrize("size", [1e-30, 1e15, 1e30])
def test_row_huge_and_tiny_values_train_once_scaled(size):
    run = study.train(gapless.read(rows() * size), settings=SMALL)
    assert math.isfinite(run.held_out["elbo"])


def test_row_values_that_cannot_be_squared_are_refused_in_a_sentence():
    with pytest.raises(DataError, match=r"480 of 480 values are too large to compute with(.|\n)*first in row 0"):
        gapless.read(rows() * 1e300)


@pytest.mark.parametrize("raw", [-80.0, 80.0, -1e30, 1e30])
def test_row_an_exploding_scale_is_finite_by_construction(raw):
    parameters = torch.tensor([[0.5, raw]], requires_grad=True)
    posterior = posteriors.DiagonalNormal()(parameters)
    kl = distributions.divergence(posterior, distributions.DiagonalNormal(torch.zeros(1), torch.ones(1)))
    z = posterior.rsample((3,))
    (kl.sum() + z.sum()).backward()
    assert all(torch.isfinite(value).all() for value in (kl, z, posterior.scale, parameters.grad))


def test_row_a_term_that_is_not_finite_stops_at_its_step_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    plain = ELBO.forward

    def poisoned(self, model, x, *, step=0, generator=None):
        terms = plain(self, model, x, step=step, generator=generator)
        return terms._replace(loss=terms.loss * math.nan) if step == 5 else terms

    monkeypatch.setattr(ELBO, "forward", poisoned)
    data = gapless.read(rows())
    with pytest.raises(Diverged, match=r"the loss is not finite(.|\n)*where: step 6 \(epoch 2\)"):
        study.train(data, settings=SMALL, folder=tmp_path / "run", checkpoint_every=0)
    assert verify(tmp_path / "run") == {"run/step-0000000004": [], "run/step-0000000005": []}
    monkeypatch.undo()
    run = study.train(data, settings=SMALL, folder=tmp_path / "run")
    clean = study.train(data, settings=SMALL)
    assert all(torch.equal(value, clean.model.state_dict()[name]) for name, value in run.model.state_dict().items())


@pytest.fixture
def folder(tmp_path):
    study.train(gapless.read(rows()), settings=SMALL, folder=tmp_path / "run")
    return tmp_path / "run"


def load_and_go_on(folder):
    gapless.load_run(folder)
    study.train(gapless.read(rows()), settings=SMALL, folder=folder)


def executes(target):
    """A pickle (protocol 0, by hand) that makes a file when it is read."""
    return f"cos\nsystem\n(S'touch {target}'\ntR.".encode()


def test_row_pickles_under_any_name_are_never_executed(folder, tmp_path):
    struck = tmp_path / "struck"
    names = [
        "model.pkl",
        "pytorch_model.bin",
        "model.pt",
        "optimizer.pickle",
        "state.joblib",
        "data.npy",
        "config.yaml",
    ]
    for name in names:
        (folder / name).write_bytes(executes(struck))
    gapless.load_run(folder)
    verify(folder)
    for name in ("model.safetensors", "config.json", "manifest.json", "plan.json"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(executes(struck))
        with pytest.raises((DataError, UsageError)):
            load_and_go_on(folder)
        (folder / name).write_bytes(before)
    assert not struck.exists()


def test_row_a_checkpoint_with_a_pickle_for_weights_is_refused_and_never_executed(tmp_path):
    settings, struck = Settings(latent=2, epochs=50, hidden=(8,), batch_size=32), tmp_path / "struck"
    study.train(gapless.read(rows()), settings=settings, folder=tmp_path / "run", max_time=1e-9)
    for path in (tmp_path / "run" / "checkpoints").glob("step-*"):
        (path / "state.safetensors").write_bytes(executes(struck))
    with pytest.raises(DataError, match="checkpoints is whole"):
        study.train(gapless.read(rows()), settings=settings, folder=tmp_path / "run")
    assert not struck.exists()


def test_row_a_manifest_cannot_lead_out_of_its_folder(folder, tmp_path):
    outside = tmp_path / "secret"
    outside.write_text("years")
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("../secret", str(outside), "a/../../secret", "..", ""):
        hostile = {**manifest, "files": {**manifest["files"], name: manifest["files"]["config.json"]}}
        (folder / "manifest.json").write_text(json.dumps(hostile))
        with pytest.raises(DataError, match="no manifest of schema"):
            gapless.load_run(folder)


def test_row_links_for_the_files_of_a_run_are_refused(folder, tmp_path):
    for name in ("model.safetensors", "config.json", "plan.json", "manifest.json"):
        kept = (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(kept)
        with pytest.raises((DataError, UsageError)):
            load_and_go_on(folder)
        (folder / name).unlink()
        kept.rename(folder / name)
    gapless.load_run(folder)


def test_row_a_link_or_a_pipe_for_the_lock_is_refused_and_what_it_names_is_left_alone(folder, tmp_path):
    from gapless.errors import GaplessError

    target = tmp_path / "precious"
    target.write_text("years")
    (folder / ".lock").unlink()
    (folder / ".lock").symlink_to(target)
    with pytest.raises(GaplessError, match="cannot write"):
        study.train(gapless.read(rows()), settings=SMALL, folder=folder)
    assert target.read_text() == "years"
    assert stat.S_ISREG(os.stat(target).st_mode)
