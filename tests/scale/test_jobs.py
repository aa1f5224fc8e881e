"""Several processes on this machine train as one does: same gradients, exact resumption, nothing left behind."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import gapless
from gapless import runs, study
from gapless.data import Feed
from gapless.settings import Settings
from gapless.training import evaluate

SOURCE = Path(gapless.__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(SOURCE)}
SIZES = {"latent": 2, "hidden": (8,), "batch_size": 31, "epochs": 4}


def launched(count, *words):
    """The command line of a job; --standalone takes a free port."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *words]


def accelerated(*how):
    """The same by accelerate's launcher; port 0 is a free one."""
    options = ["--num_machines", "1", "--main_process_port", "0", *how]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *options]
    return lambda count, *words: [*launcher, "--num_processes", str(count), *words]


def training(output, count=2, by=launched):
    words = ["-m", "gapless", "train", "rows.npy", "-o", output, "--recipe", "free-bits", "--checkpoint-every", "0"]
    sizes = [word for name, value in SIZES.items() for word in (f"--{name.replace('_', '-')}", str(value).strip("(,)"))]
    return by(count, *words, *sizes) if count > 1 else [sys.executable, *words, *sizes]


def run(line, cwd, **more):
    environment = {**ENVIRONMENT, **more}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


def digest(folder):
    """The weights and everything measured but the seconds."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in ("seconds", "items_per_second")} for line in lines]
    return hashlib.sha256((folder / "model.safetensors").read_bytes() + json.dumps(kept).encode()).hexdigest()


def gradients_agree(count, ledger):
    done = run(launched(count, str(Path(__file__).with_name("gradients_of_a_job.py"))), Path(__file__).parent)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["float64"].keys() == found["float32"].keys()
    assert {name.split()[0] for name in found["float64"]} >= set(gapless.recipes.RECIPES) - {"hvae"}
    for dtype, tolerance in (("float64", 1e-10), ("float32", 5e-5)):
        worst = max(found[dtype], key=found[dtype].get)
        ledger(
            "several processes", f"gradients and buffers of {count} against 1, {dtype}; worst of all recipes: {worst}",
            oracle="the objective called on the whole batch", truth=0, measured=found[dtype][worst],
            tolerance=tolerance, why="sums in another order; the deepest network is within 2e-5 of float64",
        )  # fmt: skip
    for drawn in ("local", "flipout"):
        ledger(
            "several processes", f"gradients of {count} against 1, share of the weights' KL with it, drawn {drawn}",
            oracle="the objective called on the whole batch, weights without spread", truth=0, tolerance=1e-10,
            measured=found["float64"][f"bayesian-vae drawn {drawn}, without spread"], why="sums in another order",
        )  # fmt: skip


def test_two_processes_have_the_gradients_of_one_for_every_recipe_and_likelihood(ledger):
    gradients_agree(2, ledger)


@pytest.mark.slow
def test_three_processes_with_uneven_and_empty_shares_have_the_gradients_of_one(ledger):
    gradients_agree(3, ledger)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, and a run of two processes that nothing disturbed."""
    folder = tmp_path_factory.mktemp("jobs")
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(size=(140, 5)))
    done = run(training("clean"), folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("run: clean") == 1
    return folder


def started(folder, output, **more):
    """A job in its first steps, with its workers by rank."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen(training(output), cwd=folder, env={**ENVIRONMENT, **more}, **pipes)
    until(lambda: len(list((folder / output / "checkpoints").glob("step-*"))) == 2, job)
    workers = sorted(psutil.Process(job.pid).children(), key=lambda worker: int(worker.environ()["RANK"]))
    assert len(workers) == 2
    return job, workers


def until(true, job, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert job.poll() is None, job.stderr.read()[-3000:]
        assert time.monotonic() < end
        time.sleep(0.02)


def ends(job, workers, within):
    """Launcher and workers all gone in time; the seconds it took."""
    start = time.monotonic()
    job.communicate(timeout=within)
    _, alive = psutil.wait_procs(workers, timeout=max(0.1, within - (time.monotonic() - start)))
    assert alive == []
    assert job.returncode != 0
    return time.monotonic() - start


def goes_on_to_the_same_bits(folder, output):
    assert not (folder / output / "model.safetensors").exists()
    assert run(training(output), folder).returncode == 0
    assert digest(folder / output) == digest(folder / "clean")


def test_a_killed_worker_ends_the_job_and_the_same_command_goes_on_to_the_same_bits(place, ledger):
    job, workers = started(place, "killed")
    workers[1].kill()
    seconds = ends(job, workers, within=90)
    ledger(
        "several processes", "seconds from SIGKILL of one worker to the end of all", oracle="a limit of 90",
        truth=0, measured=seconds, tolerance=90, why="the limit",
    )  # fmt: skip
    goes_on_to_the_same_bits(place, "killed")


def test_two_processes_end_where_one_does_and_measure_what_was_saved(place):
    data = gapless.read(str(place / "rows.npy"))
    alone = study.train(data, recipe="free-bits", settings=Settings(**SIZES))
    both = runs.load_run(place / "clean")
    for mine, theirs in zip(alone.model.parameters(), both.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    assert [line["step"] for line in both.history] == [line["step"] for line in alone.history]
    assert both.history[-1]["train"]["loss"] == pytest.approx(alone.history[-1]["train"]["loss"], rel=1e-5)
    best = min(both.history, key=lambda line: line["held_out"]["loss"])["held_out"]
    both.objective.plan(alone.history[-1]["step"])
    again = evaluate(both.model, both.objective, Feed(data.held_out, data.scaling), step=alone.history[-1]["step"])
    assert again.to_dict() == best  # shared among the processes, to the bit
    assert json.loads((place / "clean" / "environment.json").read_text())["processes"] == 2


def test_accelerates_launcher_ends_in_the_bits_of_torchrun(place):
    unconfigured = {"HF_HOME": str(place)}  # nobody's own configuration of accelerate
    done = run(training("accelerated", by=accelerated("--multi_gpu")), place, **unconfigured)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("run: accelerated") == 1
    assert digest(place / "accelerated") == digest(place / "clean")
    assert json.loads((place / "accelerated" / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1, "launcher"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whoever_is_signalled_nothing_is_left_behind_and_the_run_goes_on(place, who, how):
    output = f"{how.name}-{who}"
    job, workers = started(place, output)
    (job if who == "launcher" else workers[who]).send_signal(how)
    assert ends(job, workers, within=90) < 90
    goes_on_to_the_same_bits(place, output)


@pytest.mark.slow
def test_a_worker_that_hangs_ends_the_job_too(place):
    job, workers = started(place, "hung")
    workers[1].suspend()
    assert ends(job, workers, within=90) < 90
    goes_on_to_the_same_bits(place, "hung")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(place):
    job, workers = started(place, "fewer")
    workers[0].terminate()
    ends(job, workers, within=90)
    done = run(training("fewer", count=1), place)
    assert done.returncode == 0, done.stderr
    assert "processes 2 -> 1" in done.stderr
    one, other = (runs.load_run(place / name).model for name in ("fewer", "clean"))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)


FSDP = {"ACCELERATE_USE_FSDP": "true"}
"""What `accelerate launch --use_fsdp` sets."""


@pytest.mark.slow
def test_sharded_weights_end_where_whole_ones_do_and_go_on_to_the_same_bits(place):
    assert run(training("sharded"), place, **FSDP).returncode == 0
    one, other = (runs.load_run(place / name) for name in ("sharded", "clean"))
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    job, workers = started(place, "sharded-killed", **FSDP)
    workers[0].kill()
    ends(job, workers, within=90)
    assert run(training("sharded-killed"), place, **FSDP).returncode == 0
    assert digest(place / "sharded-killed") == digest(place / "sharded")


@pytest.mark.slow
def test_accelerates_launcher_shards_as_the_environment_does(place):
    assert run(training("sharded-there"), place, **FSDP).returncode == 0
    flags = ("--use_fsdp", "--fsdp_version", "2")
    done = run(training("sharded-here", by=accelerated(*flags)), place, HF_HOME=str(place))
    assert done.returncode == 0, done.stderr[-3000:]
    assert digest(place / "sharded-here") == digest(place / "sharded-there")


@pytest.mark.slow
@pytest.mark.parametrize("option", [("--ema", "0.9"), ("--optimizer", "muon")])
def test_sharded_weights_refuse_what_needs_them_whole(place, option):
    done = run([*training("refused"), *option], place, **FSDP)
    assert done.returncode != 0
    assert f"error: {' '.join(option[:1])}" in done.stderr
    assert "leave --use_fsdp out" in done.stderr
    assert not (place / "refused").exists()


AGAIN = """
import numpy as np
import gapless
from gapless import processes, study
from gapless.errors import Diverged
from gapless.settings import Settings
data = gapless.read(np.random.default_rng(0).normal(size=(140, 5)))
sizes = {"latent": 2, "hidden": (8,), "epochs": 2}
try:
    study.train(data, settings=Settings(**sizes, learning_rate=1e30))
except Diverged:
    assert processes.size() == 1
    losses = [study.train(data, settings=Settings(**sizes)).held_out["loss"] for _ in range(2)]
    assert losses[0] == losses[1]
    print(f"again {losses[0]} ", flush=True)  # lines of two processes may meet
"""


def test_a_job_that_failed_is_followed_by_another_one(tmp_path):
    (tmp_path / "again.py").write_text(AGAIN)
    alone = run([sys.executable, "again.py"], tmp_path)
    done = run(launched(2, "again.py"), tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [float(loss) for loss in re.findall(r"again (\S+) ", alone.stdout + done.stdout)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
