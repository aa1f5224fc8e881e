"""Going on where a run stopped, inside one process: every kind of state comes back, to the bit."""

import math
import multiprocessing
import shutil

import numpy as np
import pytest
import torch

import gapless
from gapless import study
from gapless.errors import DataError, Interrupted, UsageError
from gapless.files import locked
from gapless.settings import Settings
from gapless.training import Callback
from gapless.training.checkpoints import Checkpoints

PLAIN = {"latent": 2, "epochs": 4, "hidden": (8,), "batch_size": 32}
VARIANTS = {
    "the defaults": ("vae", {}),
    "an autoencoder, whose KL is infinite": ("ae", {}),
    "averaged weights": ("vae", {"ema": 0.9}),
    "AdamW, decay and clipping": ("vae", {"optimizer": "adamw", "weight_decay": 0.01, "clip": 1.0}),
    "Muon": ("vae", {"optimizer": "muon"}),
    "a warm-up of rate and KL": ("beta-vae", {"warmup": 0.3, "schedule": "cosine", "kl_schedule": "linear"}),
    "cycles": ("cyclical-vae", {}),
    "a capacity": ("capacity-vae", {}),
    "free bits": ("free-bits", {}),
    "GECO, whose multiplier is learned": ("geco", {"target": 5.0}),
    "early stopping": ("vae", {"patience": 1, "learning_rate": 0.1}),
    "accumulation": ("vae", {"accumulate": 2}),
    "a critic of codes": ("factor-vae", {"option": ("units=8",)}),
    "a critic of items": ("vae-gan", {"option": ("units=8",)}),
    "a Jacobian, by noise": ("rae-gp", {}),
    "rejected proposals": ("hyperspherical", {}),
    "a codebook started at the data": ("vq-vae", {"option": ("codes=8", "learned=true")}),
    "relaxed classes": ("joint-vae", {"latent": 4}),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return gapless.read(rng.normal(size=(140, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(140, 5)))


class Stop(Callback):
    """Ends the process's share of the run after some steps, as a kill would: with what was saved before."""

    def __init__(self, steps):
        self.left = steps

    def on_step(self, step, terms):
        self.left -= 1
        if not self.left:
            raise Interrupted("killed")


def same(first, second):
    weights = [run._state() for run in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    lines = [
        [{k: v for k, v in line.items() if k not in ("seconds", "items_per_second")} for line in run.history]
        for run in (first, second)
    ]
    assert lines[0] == lines[1]


def in_pieces(data, folder, pieces, recipe="vae", **settings):
    """Train, killed after every few steps, until it is done."""
    for steps in (*pieces, 10**6):
        try:
            return study.train(
                data,
                recipe=recipe,
                settings=Settings(**{**PLAIN, **settings}),
                folder=folder,
                callbacks=[Stop(steps)],
                checkpoint_every=0,
            )
        except Interrupted:
            pass
    raise AssertionError("it never ended")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_in_pieces_ends_in_the_bits_of_the_whole(data, tmp_path, name):
    recipe, more = VARIANTS[name]
    whole = study.train(data, recipe=recipe, settings=Settings(**{**PLAIN, **more}))
    pieces = in_pieces(data, tmp_path / "run", (3, 2, 5, 1), recipe=recipe, **more)
    same(whole, pieces)
    same(whole, gapless.load_run(tmp_path / "run"))
    assert whole.effective_beta == gapless.load_run(tmp_path / "run").effective_beta


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False")


class Watched(Callback):
    """Keeps the terms of every step."""

    def __init__(self):
        self.terms = []

    def on_step(self, step, terms):
        self.terms.append(terms)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NO_GPU)])
def test_two_steps_on_a_device_are_finite_and_go_on_exactly(data, tmp_path, device):
    settings, seen = {"device": device, "epochs": 1, "batch_size": 64}, Watched()
    whole = study.train(data, settings=Settings(**{**PLAIN, **settings}), callbacks=[seen])
    assert [terms.loss.device.type for terms in seen.terms] == [device] * 2
    assert all(torch.isfinite(value).all() for terms in seen.terms for value in terms[:3])
    assert math.isfinite(whole.held_out["elbo"])
    same(whole, in_pieces(data, tmp_path / "run", (1,), **settings))


def test_a_checkpoint_between_two_epochs_and_the_best_weights_of_an_early_one(data, tmp_path):
    settings = {"learning_rate": 3.0, "schedule": "constant", "epochs": 6}
    whole = study.train(data, settings=Settings(**{**PLAIN, **settings}))
    assert whole.held_out["epoch"] < 6  # the best is not the last: it must come from a checkpoint
    same(whole, in_pieces(data, tmp_path / "run", (4, 4, 4, 4, 4), **settings))


def halfway(data, folder):
    with pytest.raises(Interrupted):
        study.train(data, settings=Settings(**PLAIN), folder=folder, callbacks=[Stop(7)], checkpoint_every=0)
    return Checkpoints(folder / "checkpoints")


def test_a_damaged_checkpoint_is_passed_over_and_none_left_is_refused(data, tmp_path, capsys):
    checkpoints = halfway(data, tmp_path / "run")
    newest, older = sorted(checkpoints.folder.glob("step-*"), reverse=True)
    whole = study.train(data, settings=Settings(**PLAIN))
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    state = bytearray((newest / "state.safetensors").read_bytes())
    state[-1] ^= 1
    (newest / "state.safetensors").write_bytes(state)
    same(whole, study.train(data, settings=Settings(**PLAIN), folder=tmp_path / "run"))
    assert f"the checkpoint {newest.name} is damaged" in capsys.readouterr().err
    for name in (newest.name, older.name):
        (tmp_path / "other" / "checkpoints" / name / "state.json").write_text("{}")
    with pytest.raises(DataError, match="none of 2 checkpoints is whole"):
        study.train(data, settings=Settings(**PLAIN), folder=tmp_path / "other")


def _hold(folder, held, release):
    with locked(folder):
        held.set()
        release.wait(60)


def test_one_folder_has_one_writer(data, tmp_path):
    halfway(data, tmp_path / "run")
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "run", held, release))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(UsageError, match=f"somebody is writing here: process {other.pid} on "):
            study.train(data, settings=Settings(**PLAIN), folder=tmp_path / "run")
    finally:
        release.set()
        other.join(60)
    assert math.isfinite(study.train(data, settings=Settings(**PLAIN), folder=tmp_path / "run").held_out["elbo"])


def test_other_settings_are_refused_with_what_differs(data, tmp_path):
    halfway(data, tmp_path / "run")
    with pytest.raises(UsageError, match=r"settings.latent was 2, is now 3; settings.seed was 0, is now 1"):
        study.train(data, settings=Settings(**{**PLAIN, "latent": 3, "seed": 1}), folder=tmp_path / "run")
    with pytest.raises(UsageError, match='recipe was "vae", is now "ae"'):
        study.train(data, recipe="ae", settings=Settings(**PLAIN), folder=tmp_path / "run")
