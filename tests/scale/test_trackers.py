"""Trackers of other people: told of every epoch, refused with the command that installs them."""

import json
import math

import accelerate.tracking
import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, register_tracker_class

import gapless
from gapless import study
from gapless.errors import MissingExtra, UsageError
from gapless.settings import Settings
from gapless.training.trackers import tracker_names

SMALL = Settings(latent=2, epochs=3, hidden=(4,))


class Lines(GeneralTracker):
    """One JSON line a call."""

    name = "lines"
    requires_logging_directory = True

    def __init__(self, run_name, logging_dir, **kwargs):
        super().__init__()
        self.path = f"{logging_dir}/{run_name}.jsonl"

    @property
    def tracker(self):
        return self.path

    def store_init_configuration(self, values):
        self._write({"configuration": values})

    def log(self, values, step=None, **kwargs):
        self._write({"step": step, "values": values})

    def finish(self):
        self._write({"finished": True})

    def _write(self, line):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(accelerate.tracking, "LOGGER_TYPE_TO_CLASS", dict(LOGGER_TYPE_TO_CLASS))
    register_tracker_class(Lines)


@pytest.fixture
def data():
    return gapless.read(np.random.default_rng(0).normal(size=(80, 3)))


def test_a_tracker_hears_every_epoch_what_the_metrics_say(lines, data, tmp_path):
    run = study.train(data, settings=SMALL, folder=tmp_path / "run", log_with=["lines"])
    first, *epochs, last = map(json.loads, (tmp_path / "run/tracking/gapless.jsonl").read_text().splitlines())
    assert first["configuration"]["batch_size"] == 128
    assert [line["step"] for line in epochs] == [1, 2, 3]
    assert [line["values"]["held_out/elbo"] for line in epochs] == [e["held_out"]["elbo"] for e in run.history]
    assert all(isinstance(value, int | float) for line in epochs for value in line["values"].values())
    assert last == {"finished": True}
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 3


def test_what_is_infinite_is_left_out(lines, data, tmp_path):
    study.train(data, recipe="ae", settings=SMALL, folder=tmp_path / "run", log_with=["lines"])
    _, epoch, *_ = map(json.loads, (tmp_path / "run/tracking/gapless.jsonl").read_text().splitlines())
    assert "held_out/kl" not in epoch["values"]
    assert math.isfinite(epoch["values"]["held_out/reconstruction"])


def test_trackers_change_no_bit(lines, data, tmp_path):
    study.train(data, settings=SMALL, folder=tmp_path / "one")
    study.train(data, settings=SMALL, folder=tmp_path / "two", log_with=["lines"])
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [])
    for name, package in (("tensorboard", "tensorboard"), ("comet_ml", "comet-ml")):
        with pytest.raises(MissingExtra, match=f"fix: pip install {package}$"):
            tracker_names([name])
    with pytest.raises(MissingExtra, match="no tracker is installed"):
        tracker_names(["all"])


def test_all_means_all_that_are_installed(monkeypatch):
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", ["wandb", "mlflow"])
    assert tracker_names(["all"]) == ("wandb", "mlflow")
    assert tracker_names(["wandb", "wandb"]) == ("wandb",)


def test_what_cannot_be_is_refused(data):
    with pytest.raises(UsageError, match=r"no tracker 'tensorbord'(.|\n)*tensorboard"):
        tracker_names(["tensorbord"])
    with pytest.raises(UsageError, match="need a run folder"):
        study.train(data, settings=SMALL, log_with=["tensorboard"])
