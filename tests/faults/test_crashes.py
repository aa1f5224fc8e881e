"""What must be survived while training: kills, full disks, damage, two writers; each row of the fault matrix."""

import ctypes
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gapless.training.checkpoints import Checkpoints
from gapless.verification import verify

PYTHON = sys.executable
GAPLESS = Path(sys.executable).with_name("gapless")
CALLS = {"rename": "/^rename", "fsync": "fsync", "openat": "openat", "write": "write"}

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed (Debian's package strace)"
)


def words(*more, epochs=4, output="run"):
    sizes = ["--latent", "2", "--hidden", "8", "--batch-size", "32"]
    return ["train", "rows.npy", "-o", output, "--epochs", str(epochs), *sizes, *more]


OFTEN = ("--checkpoint-every", "0")  # a checkpoint after every step
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def command(*more, wrapper=(), cwd, epochs=4, output="run", **options):
    """The command line's own entry, with its handlers."""
    line = [*wrapper, str(GAPLESS), *words(*more, epochs=epochs, output=output)]
    return subprocess.run(line, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=180, **options)


def digest(folder):
    """The weights and everything measured but the seconds."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in ("seconds", "items_per_second")} for line in lines]
    weights = (folder / "model.safetensors").read_bytes()
    return hashlib.sha256(weights + json.dumps(kept).encode()).hexdigest()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, and a clean run of the command: what every survivor must end in."""
    folder = tmp_path_factory.mktemp("faults")
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(size=(140, 5)))
    done = command(cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, digest(folder / "run")


@pytest.fixture
def data(place, tmp_path):
    """A fresh folder with the same data."""
    shutil.copy(place[0] / "rows.npy", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def windows(place, tmp_path_factory):
    """For each kind of call: the first that concerns the run's folder, and the last of all; between them to strike."""
    folder = tmp_path_factory.mktemp("traced")
    shutil.copy(place[0] / "rows.npy", folder)
    calls = f"trace={','.join(CALLS.values())}"
    done = command(*OFTEN, wrapper=["strace", "-f", "-qq", "-y", "-o", folder / "trace", "-e", calls], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert digest(folder / "run") == place[1]
    lines = (folder / "trace").read_text(errors="replace").splitlines()
    main = [line.split(maxsplit=1)[1] for line in lines if line.split()[0] == lines[0].split()[0]]
    return {call: window([line for line in main if line.startswith(call)]) for call in CALLS}


def window(lines):
    first = next(i for i, line in enumerate(lines) if "/run" in line or "run/" in line)
    return first + 1, len(lines)


def test_row_two_clean_runs_with_one_seed_end_in_the_same_bits(place, data):
    assert command(*OFTEN, cwd=data).returncode == 0
    assert digest(data / "run") == place[1]
    assert not (data / "run" / "checkpoints").exists()


def kill_at(folder, call, when):
    """Run with SIGKILL at the n-th call of a kind; whether it was killed."""
    inject = f"inject={CALLS[call]}:signal=SIGKILL:when={when}"
    done = command(*OFTEN, wrapper=["strace", "-f", "-qq", "-o", os.devnull, "-e", inject], cwd=folder)
    assert done.returncode in (0, 137, -9), done.stderr
    return done.returncode != 0


def survives_kills(folder, windows, strikes):
    """Killed again and again in one run, each time elsewhere; the newest checkpoint is whole each time."""
    kills = 0
    for call, share in strikes:
        first, last = windows[call]
        kills += kill_at(folder, call, first + round(share * (last - first)))
        checkpoints = Checkpoints(folder / "run" / "checkpoints")
        assert not any(checkpoints.folder.glob("step-*")) or checkpoints.newest() is not None
        assert checkpoints.remarks == []
    return kills


def ends_in_the_same_bits(place, folder):
    done = command(*OFTEN, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert digest(folder / "run") == place[1]


@needs_strace
def test_row_sigkill_at_any_kind_of_system_call_loses_nothing(place, data, windows):
    assert survives_kills(data, windows, [(call, 0.12) for call in CALLS]) == 4
    ends_in_the_same_bits(place, data)


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_row_sigkill_at_a_system_call_loses_nothing_many_times(place, data, windows, call):
    shares = (0.01, 0.02, 0.05, 0.07, 0.03, 0.09, 0.04, 0.06, 0.08, 0.03, 0.11, 0.02, 0.05, 0.01, 0.13)
    assert survives_kills(data, windows, [(call, share) for share in shares]) >= 10
    ends_in_the_same_bits(place, data)


@needs_strace
@pytest.mark.parametrize("call", CALLS)
def test_row_sigkill_at_the_end_of_a_run_loses_nothing(place, data, windows, call):
    """While it is written, sealed and tidied."""
    assert survives_kills(data, windows, [(call, 0.97)]) == 1
    assert not any(verify(data / "run").values())
    ends_in_the_same_bits(place, data)
    assert [name for name in os.listdir(data / "run") if "checkpoint" in name] == []


FAILURES = {
    "disk full": ("write", "ENOSPC", None),  # with every write refused, no message can be printed either
    "quota": ("write", "EDQUOT", None),
    "disk full, seen late": ("fsync", "ENOSPC", "No space left on device"),
    "quota, seen late": ("fsync", "EDQUOT", "Disk quota exceeded"),
    "I/O error": ("fsync", "EIO", "Input/output error"),
}


@needs_strace
@pytest.mark.parametrize("failure", FAILURES)
def test_row_disk_full_quota_io_error_is_one_sentence_and_the_rerun_finishes(place, data, windows, failure):
    call, error, sentence = FAILURES[failure]
    first, last = windows[call]
    inject = f"inject={CALLS[call]}:error={error}:when={first + (last - first) // 2}+"
    done = command(*OFTEN, wrapper=["strace", "-f", "-qq", "-o", os.devnull, "-e", inject], cwd=data)
    assert done.returncode != 0
    if sentence:
        assert done.returncode == 7
        assert re.search(rf"error: cannot write: {sentence}\n  where: .*run.*\n  fix: ", done.stderr)
        assert "Traceback" not in done.stderr
    whole = Checkpoints(data / "run" / "checkpoints").verify()
    assert whole
    assert not any(whole.values())
    ends_in_the_same_bits(place, data)


def test_row_quota_by_the_largest_size_of_a_file(place, data):
    """Works without strace: the weights are larger than a file may be."""
    done = command(
        *OFTEN, cwd=data, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    )
    assert done.returncode == 7
    assert re.search(r"error: cannot write: File too large\n  where: run/checkpoints\n  fix: ", done.stderr)
    assert done.stdout == ""
    assert command(*OFTEN, cwd=data).returncode == 0
    assert digest(data / "run") == place[1]


def without_privileges():
    """In a child: a superuser may then write and read no more than anybody, and still starts the same Python."""
    if os.geteuid() == 0:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="privileges are dropped as Linux does it")
@pytest.mark.parametrize("mode", [0o555, 0o000])
@pytest.mark.parametrize("output", ["place", "place/run"])
def test_row_target_not_writable_is_said_before_training(data, mode, output):
    (data / "place").mkdir(mode=mode)
    done = command(cwd=data, output=output, preexec_fn=without_privileges)
    assert done.returncode == 7
    assert "cannot write: Permission denied" in done.stderr
    assert "items of shape" not in done.stderr


def test_row_target_that_cannot_be_is_said_before_the_data_is_read(data):
    (data / "file").write_text("years")
    done = command(output="file/run", cwd=data)
    assert done.returncode == 7
    assert re.search(r"cannot write: Not a directory|File exists", done.stderr)
    assert "items of shape" not in done.stderr
    done = command(output="/proc/run", cwd=data)
    assert done.returncode == 7
    assert "cannot write: " in done.stderr
    assert "items of shape" not in done.stderr


def stopped(folder, step=9):
    """The run, stopped by SIGTERM once it has come to some step."""
    child = subprocess.Popen(
        [str(GAPLESS), *words(*OFTEN, epochs=400)],
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        pointer = folder / "run" / "checkpoints" / "latest"
        wait_for(lambda: pointer.is_file() and int(pointer.read_text().strip()[5:] or 0) >= step)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    return child.returncode, said


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_signal_ends_with_a_checkpoint_and_the_exact_command_to_go_on(data):
    code, said = stopped(data)
    assert code == 130
    place = re.search(r"stopped at step (\d+) \(epoch \d+ of 400\); all of it is saved in (\S+)\n", said)
    assert (data / place[2] / "manifest.json").is_file()
    assert said.rstrip().endswith(f"resume: gapless {' '.join(words(*OFTEN, epochs=400))}")
    assert Checkpoints(data / "run" / "checkpoints").newest().step == int(place[1])


def test_the_command_to_go_on_keeps_force_which_goes_on():
    from gapless.cli.resuming import resuming

    assert resuming(["train", "a", "--fresh", "--force"]) == "gapless train a --force"


def test_a_second_signal_ends_at_once_and_loses_nothing(data):
    child = subprocess.Popen(
        [PYTHON, "-c", "from gapless import interrupts; import time; interrupts.take()\n"
         "with interrupts.deferred():\n print('ready', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE, text=True, cwd=data,
    )  # fmt: skip
    try:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGTERM)  # at once: the same one, as `timeout` sends it
        time.sleep(0.8)
        assert child.poll() is None
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=20) == 130
    finally:
        child.kill()


def test_ctrl_c_while_torch_is_imported_is_heard(data):
    child = subprocess.Popen([str(GAPLESS), *words()], cwd=data, stderr=subprocess.PIPE, text=True,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    try:
        maps = Path(f"/proc/{child.pid}/maps")
        wait_for(lambda: "libtorch_cpu" in maps.read_text())
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert f"resume: gapless {' '.join(words())}" in said
    assert "Traceback" not in said
    assert not (data / "run").exists() or (data / "run" / "checkpoints").exists()


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "replaced": lambda path: path.write_bytes(path.with_name("manifest.json").read_bytes()),
}


@pytest.fixture(scope="module")
def halfway(place, tmp_path_factory):
    """A run killed in its second half, to be damaged."""
    folder = tmp_path_factory.mktemp("halfway")
    shutil.copy(place[0] / "rows.npy", folder)
    script = (
        "import sys, os; from gapless.training import loop; from gapless import cli\n"
        "save = loop._Session._save\n"
        "def die(self):\n"
        "    folder = save(self)\n"
        "    os._exit(9) if self.course.step == 11 else None\n"
        "    return folder\n"
        "loop._Session._save = die\n"
        f"cli.main({words(*OFTEN)})"
    )
    done = subprocess.run([PYTHON, "-c", script], cwd=folder, env=ENVIRONMENT, check=False)
    assert done.returncode == 9
    assert sorted(os.listdir(folder / "run" / "checkpoints")) == ["latest", "step-0000000010", "step-0000000011"]
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_row_a_damaged_checkpoint_is_named_and_the_older_one_used(place, halfway, tmp_path, damage, name):
    folder = shutil.copytree(halfway, tmp_path / "copy")
    broken = folder / "run" / "checkpoints" / "step-0000000011"
    DAMAGES[damage](broken / name)
    checkpoints = Checkpoints(folder / "run" / "checkpoints")
    assert checkpoints.newest().step == 10
    assert re.search(
        rf"the checkpoint step-0000000011 is damaged \({name}: .*\) and is not used", checkpoints.remarks[0]
    )
    assert checkpoints.verify()["step-0000000011"] != []
    if damage == "flipped":
        done = command(*OFTEN, cwd=folder)
        assert done.returncode == 0
        assert "note: the checkpoint step-0000000011 is damaged" in done.stderr
        assert digest(folder / "run") == place[1]


def test_row_with_every_checkpoint_damaged_it_refuses_and_never_starts_from_zero_in_silence(halfway, tmp_path):
    folder = shutil.copytree(halfway, tmp_path / "copy")
    for path in (folder / "run" / "checkpoints").glob("step-*/state.json"):
        path.write_text("{}")
    done = command(cwd=folder)
    assert done.returncode == 3
    assert "none of 2 checkpoints is whole" in done.stderr
    assert "--fresh --force" in done.stderr
    verified = subprocess.run([GAPLESS, "verify", "run"], cwd=folder, capture_output=True, text=True, check=False)
    assert verified.returncode == 3
    assert verified.stdout.count("state.json: 2 bytes") == 2


def test_a_checkpoint_of_another_run_is_refused(halfway, place, tmp_path):
    folder = shutil.copytree(halfway, tmp_path / "copy")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(place[0] / "rows.npy", other)
    stopped(other)
    shutil.rmtree(folder / "run" / "checkpoints")
    shutil.copytree(other / "run" / "checkpoints", folder / "run" / "checkpoints")
    done = command(cwd=folder)
    assert done.returncode == 3
    assert "the newest checkpoint belongs to another run" in done.stderr


def test_other_data_under_the_same_name_is_refused(halfway, tmp_path):
    folder = shutil.copytree(halfway, tmp_path / "copy")
    rows = np.load(folder / "rows.npy")
    rows[7, 2] += 1e-9
    np.save(folder / "rows.npy", rows)
    done = command(cwd=folder)
    assert done.returncode == 2
    assert "another run was begun here: data." in done.stderr


def test_fresh_refuses_and_force_replaces_only_when_the_new_one_is_whole(place, data):
    shutil.copytree(place[0] / "run", data / "run")
    before = digest(data / "run")
    done = command("--fresh", cwd=data)
    assert done.returncode == 2
    assert "--fresh replaces nothing" in done.stderr
    assert command("--force", "--learning-rate", "1e30", cwd=data).returncode == 5
    assert digest(data / "run") == before  # nothing was saved of the new one: the old one is back
    assert command("--force", "--seed", "1", "--max-time", "0.000001", *OFTEN, cwd=data).returncode == 0
    assert digest(data / "run.old") == before
    done = command("--force", cwd=data)
    assert done.returncode == 0
    assert re.search(
        r"unfinished run here \(its newest checkpoint is of step \d+\) is thrown away; run.old", done.stderr
    )
    assert digest(data / "run") == before
    assert sorted(os.listdir(data)) == ["rows.npy", "run"]


def test_time_that_runs_out_gives_a_whole_run_and_the_same_command_goes_on_to_the_same_bits(place, data):
    done = command("--max-time", "0.000001", *OFTEN, cwd=data)
    assert done.returncode == 0
    assert "time ran out after epoch 0 of 4: the same command goes on" in done.stdout
    assert subprocess.run([GAPLESS, "verify", "run"], cwd=data, check=False).returncode == 0
    assert subprocess.run([GAPLESS, "sample", "run"], cwd=data, check=False, capture_output=True).returncode == 0
    assert command(cwd=data).returncode == 0
    assert digest(data / "run") == place[1]


def test_row_two_runs_in_one_folder_the_second_exits_at_once(data):
    first = subprocess.Popen([str(GAPLESS), *words(epochs=100000)], cwd=data, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (data / "run" / "plan.json").is_file())
        done = command(cwd=data)
        assert done.returncode == 2
        assert f"somebody is writing here: process {first.pid} on " in done.stderr
        assert "train rows.npy -o run" in done.stderr
        assert "items of shape" not in done.stderr  # at once: before the data is read
        first.kill()  # SIGKILL: the lock file stays, the lock does not
        first.wait()
        assert (data / "run" / ".lock").is_file()
        again = command(cwd=data)
        assert again.returncode == 2
        assert "another run was begun here: settings.epochs was 100000, is now 4" in again.stderr
    finally:
        first.kill()


def test_row_clock_jumps_time_zones_and_locales_change_nothing(place, data):
    environment = {**ENVIRONMENT, "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONUTF8": "0"}
    script = f"import time; time.time = lambda: -1e9; from gapless import cli; cli.main({words(*OFTEN)})"
    done = subprocess.run(
        [PYTHON, "-c", script], cwd=data, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert digest(data / "run") == place[1]


def test_row_out_of_memory_names_a_batch_size_and_keeps_the_checkpoint(tmp_path):
    import torch

    import gapless
    from gapless import study
    from gapless.errors import OutOfMemory
    from gapless.objectives import ELBO
    from gapless.settings import Settings

    rows = gapless.read(np.random.default_rng(0).normal(size=(140, 5)))
    settings = Settings(latent=2, hidden=(8,), epochs=4, batch_size=32)
    plain = ELBO.forward

    def raises(self, model, x, *, step=0, generator=None):
        if step == 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return plain(self, model, x, step=step, generator=generator)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ELBO, "forward", raises)
        with pytest.raises(OutOfMemory, match=r"where: step 6 (.|\n)*--batch-size 16"):
            study.train(rows, settings=settings, folder=tmp_path / "run", checkpoint_every=0)
    assert Checkpoints(tmp_path / "run" / "checkpoints").newest().step == 6
    run = study.train(rows, settings=settings, folder=tmp_path / "run")
    clean = study.train(rows, settings=settings)
    assert all(torch.equal(v, clean.model.state_dict()[k]) for k, v in run.model.state_dict().items())


def test_row_non_finite_weights_never_become_a_checkpoint(tmp_path):
    import torch

    from gapless.errors import Diverged
    from gapless.training.checkpoints import Snapshot

    checkpoints = Checkpoints(tmp_path / "checkpoints", every=0)
    checkpoints.save(Snapshot({"w": torch.ones(2)}, {"step": 1}))
    with pytest.raises(Diverged, match=r"not finite after this step: w(.|\n)*where: step 2"):
        checkpoints.save(Snapshot({"w": torch.tensor([1.0, np.nan])}, {"step": 2}))
    assert checkpoints.newest().step == 1


def test_two_checkpoints_are_kept_and_a_leftover_of_a_crash_is_no_obstacle(tmp_path):
    import torch

    from gapless.training.checkpoints import Snapshot

    checkpoints = Checkpoints(tmp_path / "checkpoints", every=0)
    (tmp_path / "checkpoints" / ".step-0000000003.partial").mkdir(parents=True)
    for step in (1, 2, 3):
        checkpoints.save(Snapshot({"w": torch.full((2,), float(step))}, {"step": step}))
    assert sorted(os.listdir(checkpoints.folder)) == ["latest", "step-0000000002", "step-0000000003"]
    assert checkpoints.newest().tensors["w"].tolist() == [3, 3]
    (checkpoints.folder / "latest").unlink()  # a kill between the rename and the pointer
    assert checkpoints.newest().step == 3
    checkpoints.clear()
    assert not checkpoints.folder.exists()
