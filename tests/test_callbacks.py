"""What a training run says and records while it goes: progress, metrics, watching; and who hears of its end."""

import json
import math
import re

import numpy as np
import pytest
import torch

import gapless
from gapless import processes, recipes, study
from gapless.errors import Diverged
from gapless.settings import Settings
from gapless.training import Callback, Epoch, Evaluation, Progress, Watch

SMALL = {"latent": 2, "hidden": (8,), "batch_size": 32}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return gapless.read(rng.normal(size=(140, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(140, 5)))


def trained(data, recipe="vae", epochs=4, callbacks=(), **more):
    places = {name: more.pop(name) for name in ("folder", "max_time", "watch", "checkpoint_every") if name in more}
    settings = Settings(**{**SMALL, "epochs": epochs, **more})
    return study.train(data, recipe=recipe, settings=settings, callbacks=callbacks, **places)


BETAS = {
    "an autoencoder": ("ae", {}, [0, 0, 0, 0]),
    "the KL alone": ("kl-only", {}, [None] * 4),  # infinite, and JSON has no such number
    "a plain bound": ("vae", {}, [1, 1, 1, 1]),
    "a fixed weight": ("beta-vae", {"beta": 4.0}, [4, 4, 4, 4]),
    "a weight that rises": (
        "beta-vae",
        {"beta": 4.0, "kl_schedule": "linear", "kl_warmup": 1.0},
        [0.75, 1.75, 2.75, 3.75],
    ),
    "a capacity that rises": ("capacity-vae", {}, [1000] * 4),
    "importance weights": ("iwae", {}, [1, 1, 1, 1]),
}


@pytest.mark.parametrize("case", BETAS)
def test_every_record_has_the_effective_beta_of_its_last_step(data, tmp_path, case):
    recipe, more, truth = BETAS[case]  # 4 steps an epoch, 16 in all: the last of epoch e has seen 4 e - 1
    run = trained(data, recipe, folder=tmp_path / "run", learning_rate=1e-5, **more)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    betas = [line["effective_beta"] for line in lines]
    assert betas == (truth if None in truth else pytest.approx(truth))
    assert run.history == lines


def test_a_learned_weight_is_recorded_as_it_stands_and_an_objective_without_one_has_none(data):
    geco = trained(data, "geco", target=5.0)
    assert geco.history[-1]["effective_beta"] == geco.effective_beta != 1
    for name in recipes.RECIPES:
        options, classes = {"target": 1.0} if name == "geco" else {}, 2 if recipes.RECIPES[name].conditional else 0
        objective = recipes.build(name, (1, 16, 16), latent=64, hidden=(8,), options=options, context=classes)[1]
        assert objective.beta_at(0) is not None, name
    assert "effective_beta" not in epoch(effective_beta=None).to_dict()


def test_the_kl_of_every_latent_feature_is_recorded_every_epoch(data):
    run = trained(data)
    for line in run.history:
        assert len(line["kl_per_feature"]) == 2
        assert sum(line["kl_per_feature"]) == pytest.approx(line["held_out"]["kl"], rel=1e-4)
    assert trained(data, "ae", epochs=1).history[0]["kl_per_feature"] is None  # a point has no density


def epoch(number=1, **more):
    terms = Evaluation(3.0, 2.0, 1.0, 10)
    values = {"effective_beta": 1.0, "kl_per_feature": (0.7, 0.3), **more}
    return Epoch(number, 5 * number, 2.0 * number, 1234.5, 2, terms, terms, **values)


@pytest.mark.parametrize(
    "more", [{}, {"effective_beta": None}, {"effective_beta": math.inf}, {"kl_per_feature": None},
             {"kl_per_feature": (0.1, math.inf)}]
)  # fmt: skip
def test_a_record_comes_back_as_it_was(more):
    record = epoch(**more)
    assert Epoch.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False))) == record


def test_a_record_written_before_there_were_these_numbers_can_be_read():
    values = epoch().to_dict()
    del values["effective_beta"], values["kl_per_feature"]
    assert Epoch.from_dict(values) == epoch(effective_beta=None, kl_per_feature=None)


def test_plain_lines_say_terms_live_features_beta_throughput_and_the_time_left(data, capsys):
    trained(data, "beta-vae", epochs=10, beta=0.5, callbacks=[Progress("beta-vae")])
    lines = capsys.readouterr().err.splitlines()
    assert [re.match(r"beta-vae: epoch (\d+)/10 ", line)[1] for line in lines] == ["1", "2", "4", "6", "8", "10"]
    said = r"held out: reconstruction -?[\d.]+, KL [\d.]+ nats, \d live, β 0\.5, [\d,]+ items/s  \(\d+ s"
    assert all(re.search(said + r", \d+ s left\)$", line) for line in lines[:-1])
    assert re.search(said + r"\)$", lines[-1])


def test_infinite_terms_are_said_as_such_and_a_weight_that_means_nothing_is_left_out(data, capsys):
    for recipe in ("ae", "kl-only"):
        trained(data, recipe, epochs=1, callbacks=[Progress(recipe)])
    first, second = capsys.readouterr().err.splitlines()
    assert "KL ∞ nats, " in first
    assert ", β 0, " in first
    assert ", β ∞, " in second
    progress = Progress("none")
    progress.on_start(2, 5, [])
    progress.on_epoch(epoch(effective_beta=None))
    assert "β" not in capsys.readouterr().err


def test_a_session_that_goes_on_says_so_and_counts_its_own_time(capsys):
    progress = Progress("vae")
    progress.on_start(100, 5, [epoch(1), epoch(2)])
    progress.began -= 60  # a minute for one epoch
    progress.on_epoch(epoch(3))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "vae: going on after epoch 2 of 100"
    assert re.search(r"\(6 s, 1 h 37 min left\)$", second)


def test_a_terminal_has_a_bar_with_the_same_words(data, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    trained(data, "beta-vae", epochs=2, beta=0.5, callbacks=[Progress("beta-vae")])
    said = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"beta-vae ━+.* epoch 2/2  held out: .* nats, \d live, β 0.5, [\d,]+ items/s.* 0:00:00", said)


class Failing(Callback):
    """Fails at the end, as a tracker without a network does."""

    def on_end(self):
        raise ConnectionError("the tracker is gone")


class Hearing(Callback):
    def __init__(self):
        self.ended = 0

    def on_end(self):
        self.ended += 1


def test_what_stopped_training_is_not_hidden_by_a_callback_that_fails_at_the_end(data, capsys):
    last = Hearing()
    with pytest.raises(Diverged):
        trained(data, learning_rate=1e30, callbacks=[Failing(), last])
    assert last.ended == 1
    assert "note: a callback failed at the end, too: ConnectionError: the tracker is gone" in capsys.readouterr().err


def test_a_callback_that_fails_at_the_end_of_a_good_run_is_heard_after_all_were_told(data):
    last = Hearing()
    with pytest.raises(ConnectionError):
        trained(data, epochs=1, callbacks=[Failing(), last])
    assert last.ended == 1


def test_callbacks_and_watch_see_the_averaged_weights_that_were_validated(data, tmp_path):
    run = trained(data, ema=0.99, watch=True, folder=tmp_path / "run", epochs=3)
    lines = [json.loads(line) for line in (tmp_path / "run" / "watch.jsonl").read_text().splitlines()]
    for line, record in zip(lines, run.history, strict=True):
        assert line["kl_per_feature"] == pytest.approx(record["kl_per_feature"], rel=1e-5)


def test_time_that_ends_before_the_first_epoch_keeps_the_averaged_weights(data):
    weights = []

    class Spy(Callback):
        def on_step(self, step, terms):
            weights.append(terms.loss)

    plain, averaged = (trained(data, max_time=1e-9, callbacks=[Spy()], learning_rate=0.1, ema=e) for e in (None, 0.9))
    assert len(weights) == 2
    assert plain.history == averaged.history == []
    start = trained(data, max_time=1e-9, learning_rate=1e-30)
    for name in ("encoder.layers.1.weight", "decoder.layers.1.weight"):
        began, went, mean = (run.model.state_dict()[name] for run in (start, plain, averaged))
        assert not torch.equal(went, mean)
        assert torch.allclose(mean, began + 0.9 * (went - began), atol=1e-6)  # the first update forgets 9 parts of 10


def test_a_collapse_that_was_announced_is_not_announced_again_after_going_on(data, tmp_path):
    said = []
    model = recipes.build("vae", (5,), latent=2, hidden=(8,))[0]
    held_out = gapless.data.Feed(data.held_out, data.scaling)
    dead = [epoch(n) for n in (1, 2, 3, 4)]
    dead = [
        Epoch(**{**vars(e), "live": live, "step": 200 * e.epoch}) for e, live in zip(dead, (1, 0, 0, 0), strict=True)
    ]
    path = tmp_path / "watch.jsonl"
    path.write_text("".join(json.dumps({"epoch": e.epoch, "live": e.live}) + "\n" for e in dead) + '{"epoch": 5, "li')
    watch = Watch(model, held_out, path, say=said.append)
    watch.on_start(9, 5, dead[:3])
    assert (watch.most_live, watch.announced, watch.dead_epochs) == (1, True, 2)
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2, 3]
    watch._judge({"live": 0}, dead[3], said.append)
    assert said == []
    fresh = Watch(model, held_out, None, say=said.append)
    fresh.on_start(9, 5, dead[:1])  # alive before: what now dies is announced at once
    fresh._judge({"live": 0}, dead[1], said.append)
    assert len(said) == 1
    assert "posterior collapse: none of 2 latent features is live" in said[0]


def test_a_job_that_failed_leaves_nothing_of_itself(monkeypatch):
    def begin(device):
        processes._groups.update(size=2, rank=1)
        return False

    def fails():
        with processes.job():
            assert processes.size() == 2
            raise KeyError("inside")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "_begin", begin)
    with pytest.raises(KeyError):
        fails()
    assert processes.size() == 1
