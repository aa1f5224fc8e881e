"""Memory that runs out: what is said can be done, and the same run goes on."""

import importlib

import numpy as np
import pytest
import torch

import gapless
from gapless import networks, processes, recipes, study
from gapless.errors import OutOfMemory
from gapless.objectives import ELBO
from gapless.settings import Settings
from gapless.training import Checkpoints
from gapless.training.memory import explained

SMALL = {"latent": 2, "hidden": (8,), "epochs": 4, "batch_size": 32}
FULL = "CUDA out of memory. Tried to allocate 20.00 MiB"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(200, 5))
    return gapless.read(rows, held_out=0.4)


def close(first, second):
    weights = [run.model.state_dict() for run in (first, second)]
    assert all(torch.allclose(value, weights[1][name], atol=1e-4) for name, value in weights[0].items())
    assert first.held_out["elbo"] == pytest.approx(second.held_out["elbo"], rel=1e-4)


def test_a_step_that_does_not_fit_goes_on_in_the_same_folder_in_parts(data, tmp_path, monkeypatch, capsys):
    whole, plain = study.train(data, settings=Settings(**SMALL)), ELBO.forward

    def full(self, model, x, *, step=0, generator=None):
        if step == 6:
            raise torch.OutOfMemoryError(FULL)
        return plain(self, model, x, step=step, generator=generator)

    said = (
        r"for a batch\nwhere: step 6 .*, 32 items\nfix: .* --accumulate 2 goes on with this run(.|\n)*--batch-size 16"
    )
    with monkeypatch.context() as patch:
        patch.setattr(ELBO, "forward", full)
        with pytest.raises(OutOfMemory, match=said):
            study.train(data, settings=Settings(**SMALL), folder=tmp_path / "run", checkpoint_every=0)
    assert Checkpoints(tmp_path / "run" / "checkpoints").newest().step == 6
    capsys.readouterr()
    run = study.train(data, settings=Settings(**SMALL, accumulate=2), folder=tmp_path / "run")
    assert capsys.readouterr().err == "note: going on with --accumulate 2 after 1: the last bits may differ\n"
    assert [line["step"] for line in run.history] == [4, 8, 12, 16]
    close(whole, run)


def test_a_validation_that_does_not_fit_goes_on_with_networks_that_take_fewer_rows(data, tmp_path, monkeypatch):
    whole, plain, began = study.train(data, settings=Settings(**SMALL)), networks.MLP.forward, []

    def full(self, x):
        began.extend([True] * torch.is_grad_enabled())
        if not torch.is_grad_enabled() and began and len(x) > 16:
            raise torch.OutOfMemoryError(FULL)
        return plain(self, x)

    monkeypatch.setattr(networks.MLP, "forward", full)
    said = (
        r"for the held-out items\nwhere: validation after epoch 1, 512 items at a time\nfix: .*--accumulate 2 goes on"
    )
    with pytest.raises(OutOfMemory, match=said):
        study.train(data, settings=Settings(**SMALL), folder=tmp_path / "run", checkpoint_every=0)
    assert Checkpoints(tmp_path / "run" / "checkpoints").newest().step == 3
    close(whole, study.train(data, settings=Settings(**SMALL, accumulate=2), folder=tmp_path / "run"))


def advice(model, **settings):
    error = explained(RuntimeError(FULL), "a batch", "step 3", model=model, settings=Settings(**settings), items=128)
    return error.fix


def test_the_advice_is_of_the_whole_batch_on_several_processes_and_only_of_what_can_be_done(monkeypatch):
    model = recipes.build("vae", (5,), latent=2, hidden=(8,))[0]
    assert advice(model) == (
        "the same command with --accumulate 2 goes on with this run, each step in 2 parts; "
        "or begin another one with --batch-size 64"
    )
    assert "--accumulate 128 goes on" in advice(model, accumulate=64)
    assert advice(model, accumulate=128) == "begin another run (another -o) with --batch-size 64"
    monkeypatch.setattr(processes, "_groups", {"size": 4, "rank": 1})  # 32 rows a process
    assert advice(model, accumulate=16).endswith("with --batch-size 64")
    assert "--accumulate 32 goes on" in advice(model, accumulate=16)
    assert advice(model, accumulate=32) == "begin another run (another -o) with --batch-size 64"
    drawn = recipes.build("bayesian-vae", (5,), latent=2, hidden=(8,))[0]
    assert "--accumulate" not in advice(drawn)


def test_any_other_error_is_itself(data):
    model, error = recipes.build("vae", (5,), latent=2, hidden=(8,))[0], RuntimeError("shapes do not match")
    assert explained(error, "a batch", "step 3", model=model, settings=Settings(), items=8) is error


@pytest.mark.parametrize("error", [
    MemoryError(), torch.OutOfMemoryError(FULL),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 4000 bytes"),
])  # fmt: skip
def test_wherever_memory_runs_out_the_command_says_so_in_a_sentence_and_exits_with_8(monkeypatch, capsys, error):
    def full(arguments):
        raise error

    front = importlib.import_module("gapless.cli.main")
    monkeypatch.setattr(front, "_run", full)
    with pytest.raises(SystemExit) as ended:
        front.main(["inspect", "digits"])
    assert ended.value.code == 8
    assert capsys.readouterr().err.startswith("error: there is not enough memory\n  fix: ")
