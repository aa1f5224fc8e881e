"""The command line through its real entry point."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

COMMANDS = (
    "audit", "compare", "decode", "demo", "doctor", "encode", "evaluate", "explore", "inspect", "interpolate",
    "recipes", "reconstruct", "sample", "shards", "train", "verify",
)  # fmt: skip
GAPLESS = Path(sys.executable).with_name("gapless")


def gapless(*arguments, cwd, env=None, timeout=240):
    command = [str(GAPLESS), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **(env or {})}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=timeout
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with spaces and Korean letters, a table with classes, and a run trained on it."""
    folder = tmp_path_factory.mktemp("그릇 a b")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 3)) * [1, 10, 100] + [5, 0, -7]
    with (folder / "표.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["가", "b", "c", "kind"])
        writer.writerows([*row, "xy"[i % 2]] for i, row in enumerate(rows))
    np.save(folder / "rows.npy", rows)
    done = gapless(
        "train",
        "표.csv",
        "-o",
        "run",
        "--latent",
        2,
        "--epochs",
        40,
        "--batch-size",
        6,
        "--hidden",
        16,
        "--json",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    folder.joinpath("train.json").write_text(done.stdout, encoding="utf-8")
    return folder


def test_help_is_fast_and_loads_no_torch(tmp_path):
    done = gapless("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in done.stdout
    code = "import sys; from gapless.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'numpy', 'sklearn', 'matplotlib', 'pandas', 'pydantic') if m in sys.modules])"
    for words in (["--help"], ["train", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stdout.rstrip().endswith("[]"), (words, done.stdout[-200:])


@pytest.mark.slow
def test_help_takes_less_than_a_third_of_a_second(tmp_path):
    took = []
    for _ in range(7):
        start = time.perf_counter()
        gapless("--help", cwd=tmp_path)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.3


def test_every_command_explains_itself(tmp_path):
    for command in COMMANDS:
        done = gapless(command, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert "--json" in done.stdout
        assert done.stderr == ""


def test_train_prints_json_on_stdout_and_everything_else_on_stderr(place):
    printed = json.loads((place / "train.json").read_text("utf-8"))
    assert printed["run"] == "run"
    held = printed["held_out"]
    assert held["elbo"] == pytest.approx(-(held["reconstruction"] + held["kl"]))
    assert printed["data"]["columns"] == ["가", "b", "c"]
    assert sorted(os.listdir(place / "run")) == [
        ".lock", "config.json", "environment.json", "manifest.json", "metrics.jsonl", "model.safetensors", "plan.json"
    ]  # fmt: skip
    assert len((place / "run" / "metrics.jsonl").read_text().splitlines()) == 40


def test_encode_decode_and_reconstruct_agree(place):
    done = gapless("encode", "run", "-o", "codes.csv", cwd=place)
    assert (done.returncode, done.stdout) == (0, "codes.csv\n"), done.stderr
    with (place / "codes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["z_0", "z_1", "scale_0", "scale_1", "label", "part"]
    assert [row["part"] for row in rows].count("held-out") == 6
    config = json.loads((place / "run" / "config.json").read_text("utf-8"))
    assert config["data"]["items"] == [54, 6]
    assert [row["label"] for row in rows[:3]] == ["x", "y", "x"]
    assert len(rows) == 60
    by_code = gapless("decode", "run", "codes.csv", cwd=place)
    by_item = gapless("reconstruct", "run", "표.csv", cwd=place)
    assert by_code.returncode == by_item.returncode == 0, by_code.stderr + by_item.stderr
    first, second = (np.loadtxt(io.StringIO(d.stdout), delimiter=",", skiprows=1) for d in (by_code, by_item))
    assert by_item.stdout.splitlines()[0] == "가,b,c"
    assert np.allclose(first, second, atol=1e-3)
    # in the units of the table (the first column lies around 5 with deviation 1), not of the model
    assert (np.abs(second[:, 0] - 5) < 2.5).all()


def test_sample_is_seeded_and_writes_what_the_ending_says(place):
    one, two, other = (gapless("sample", "run", "-n", 5, "--seed", s, "--json", cwd=place) for s in (1, 1, 2))
    assert one.stdout == two.stdout != other.stdout
    assert json.loads(one.stdout)["shape"] == [5, 3]
    for ending in ("npy", "npz", "csv", "png"):
        done = gapless("sample", "run", "-n", 4, "-o", f"s.{ending}", "--json", cwd=place)
        assert json.loads(done.stdout) == {"path": f"s.{ending}", "shape": [4, 3]}, done.stderr
    assert np.load(place / "s.npy").shape == (4, 3)
    assert np.load(place / "s.npz")["values"].shape == (4, 3)
    assert (place / "s.png").read_bytes().startswith(b"\x89PNG")
    done = gapless("sample", "run", "-o", "s.xlsx", cwd=place)
    assert done.returncode == 2
    assert "cannot write a .xlsx" in done.stderr


def test_interpolate_takes_two_items_of_other_data(place):
    done = gapless("interpolate", "run", "rows.npy", "--from", 3, "--to", 9, "--steps", 4, "--json", cwd=place)
    # rows.npy has no column names of its own: they differ from the table's
    assert done.returncode == 3
    assert "missing: 가" in done.stderr
    done = gapless("interpolate", "run", "--from", 3, "--to", 9, "--steps", 4, "--json", cwd=place)
    assert json.loads(done.stdout)["shape"] == [4, 3], done.stderr
    done = gapless("interpolate", "run", "--to", 60, cwd=place)
    assert done.returncode == 2
    assert "--to takes 0 to 59; got 60" in done.stderr


def test_inspect_tells_of_data_and_of_runs(place):
    done = gapless("inspect", "표.csv", "--json", cwd=place)
    told = json.loads(done.stdout)
    assert told["inspection"]["classes"] == 2
    assert told["likelihood"] == "NormalWithOptimalScale"
    done = gapless("inspect", "run", cwd=place)
    assert "recipe" in done.stdout
    assert "vae" in done.stdout
    assert "40 epochs" in done.stdout


def test_recipes_are_listed_with_their_papers(tmp_path):
    done = gapless("recipes", "--json", cwd=tmp_path)
    listed = json.loads(done.stdout)["recipes"]
    assert {"ae", "kl-only", "vae", "beta-vae"} <= set(listed)
    assert all(recipe["paper"] for recipe in listed.values())


def test_compare_gives_the_three_and_one_report(tmp_path):
    words = ["--epochs", 2, "--hidden", 16, "--audit", "quick", "--json"]
    done = gapless("compare", "digits", "-o", "r", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["models"]) == {"ae", "kl-only", "vae"}
    assert {"reconstruction", "kl", "elbo"} <= set(told["models"]["vae"])
    assert set(told["audit"]["cards"]) == {"ae", "kl-only", "vae", "ppca", "collapsed"}
    assert told["report"] == os.path.join("r", "report.html")
    assert (tmp_path / "r" / "report.html").stat().st_size > 50_000
    assert sorted(os.listdir(tmp_path / "r")) == [
        ".lock", "ae", "kl-only", "manifest.json", "plan.json", "report.html", "study.json", "vae"
    ]  # fmt: skip
    assert json.loads((tmp_path / "r" / "study.json").read_text())["models"] == told["models"]
    assert sorted(os.listdir(tmp_path)) == ["r"]
    assert json.loads((tmp_path / "r" / "plan.json").read_text())["settings"]["latent"] == 2  # whatever else was asked
    again = gapless("compare", "digits", "-o", "r", *words, cwd=tmp_path)
    assert again.returncode == 0
    assert "a finished study is here" in again.stderr
    assert json.loads(again.stdout) == told
    again = gapless("compare", "digits", "-o", "r", "--epochs", 3, cwd=tmp_path)
    assert again.returncode == 2
    assert "settings.epochs was 2, is now 3" in again.stderr
    assert "--force" in again.stderr
    verified = gapless("verify", "r", "--json", cwd=tmp_path)
    assert json.loads(verified.stdout)["found"] == {"r": [], "r/ae": [], "r/kl-only": [], "r/vae": []}
    study = gapless("sample", "r", cwd=tmp_path)
    assert study.returncode == 3
    assert f"give one of its runs: {os.path.join('r', 'vae')}" in study.stderr
    table = gapless("inspect", "r/vae", cwd=tmp_path)
    assert "VAE" in table.stdout


FAULTS = {
    "no command": (["trian"], 2, 'Did you mean "train"'),
    "an unknown option": (["train", "digits", "--epoch", "3"], 2, "Did you mean --epochs"),
    "a word for a number": (["train", "digits", "--latent", "two"], 2, "--latent"),
    "a number that cannot be": (["train", "digits", "--latent", "0"], 2, "fix: give 1 or more"),
    "a layer without units": (["train", "digits", "--hidden", "0"], 2, "fix: give the units of each layer"),
    "an unknown recipe": (["train", "digits", "--recipe", "gan"], 2, "use one of ae, kl-only, vae"),
    "an unknown network": (["train", "digits", "--network", "big"], 2, "use one of auto, affine"),
    "an unknown likelihood": (["train", "digits", "--likelihood", "Poison"], 2, "use one of Bernoulli"),
    "a likelihood before the data": (["train", "gone.npy", "--likelihood", "Poison"], 2, "use one of Bernoulli"),
    "a network before the data": (["train", "gone.npy", "--network", "big"], 2, "use one of auto, affine"),
    "a file that is not there": (["train", "gone.npy"], 3, "there is no such file"),
    "an empty file": (["train", "empty.npy"], 3, "empty.npy"),
    "one row": (["train", "one.npy"], 3, "one.npy"),
    "not a number": (["train", "nan.npy"], 3, "row 3"),
    "objects": (["train", "object.npy"], 3, "object.npy"),
    "an impossible pair": (
        ["train", "spread.npy", "--likelihood", "Bernoulli"],
        2,
        "--likelihood NormalWithOptimalScale",
    ),
    "divergence": (["train", "spread.npy", "--learning-rate", "1e30", "--epochs", "3"], 5, "lower --learning-rate"),
    "no run": (["sample", "."], 3, "no run here"),
    "a bad size": (["train", "digits", "--resize", "wide"], 2, "--resize takes 32 or HEIGHTxWIDTH"),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "empty.npy").touch()
    np.save(folder / "one.npy", np.ones((1, 3)))
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.save(folder / "spread.npy", rows)
    rows[3, 1] = np.nan
    np.save(folder / "nan.npy", rows)
    np.save(folder / "object.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_errors_say_what_where_and_the_fix_and_leave_nothing_behind(faulty, fault):
    arguments, code, match = FAULTS[fault]
    before = sorted(os.listdir(faulty))
    extra = ["-o", "out"] if arguments[0] == "train" else []
    done = gapless(*arguments, *extra, cwd=faulty)
    assert done.returncode == code, done.stderr
    assert match in done.stderr
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    left = [name for name in sorted(os.listdir(faulty)) if name not in before]
    assert left == ([] if fault != "divergence" else left)
    assert not (faulty / "out").exists()


def test_debug_shows_the_traceback(faulty):
    done = gapless("train", "gone.npy", "--debug", cwd=faulty)
    assert "Traceback" in done.stderr
    assert "there is no such file" in done.stderr
    assert done.returncode == 3


def test_a_run_whose_data_is_elsewhere_says_what_to_do(place, tmp_path):
    done = gapless("encode", place / "run", cwd=tmp_path)
    assert done.returncode == 3
    assert "give the data as the second argument" in done.stderr
    assert gapless("encode", place / "run", place / "표.csv", cwd=tmp_path).returncode == 0


def test_the_plain_c_locale_and_a_closed_pipe_are_survived(place):
    done = gapless("inspect", "표.csv", cwd=place, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert done.returncode == 0, done.stderr
    pipe = subprocess.run(
        f'"{GAPLESS}" sample run -n 20000 | head -n 1',
        shell=True,
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert pipe.stdout.strip() == "가,b,c"
    assert pipe.stderr == ""


def test_a_study_that_was_stopped_goes_on_where_it_was(tmp_path):
    import signal

    words = ["compare", "digits", "-o", "r", "--epochs", "4", "--hidden", "16", "--audit", "none"]
    child = subprocess.Popen(
        [str(GAPLESS), *words, "--checkpoint-every", "0"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background is born deaf to it
    )
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "r" / "kl-only" / "checkpoints" / "latest").is_file():
            assert time.monotonic() < end
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        _, rest = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "Traceback" not in rest
    assert f"resume: gapless {' '.join(words)}" in rest
    before = (tmp_path / "r" / "ae" / "manifest.json").stat().st_mtime_ns
    done = gapless(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "ae" / "manifest.json").stat().st_mtime_ns == before
    assert sorted(os.listdir(tmp_path / "r")) == [
        ".lock", "ae", "kl-only", "manifest.json", "plan.json", "report.html", "study.json", "vae"
    ]  # fmt: skip
