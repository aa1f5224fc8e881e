"""Every block of the README runs as it stands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def environment():
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


def test_the_commands_run_as_they_stand(tmp_path, environment):
    (block,) = blocks("sh")
    for line in block.splitlines():
        command = shlex.split(line, comments=True)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
    assert {"run", "samples.png", "codes.csv", "strip.png", "study"} <= {path.name for path in tmp_path.iterdir()}


def test_the_python_runs_as_it_stands(tmp_path, environment):
    block, _ = blocks("python")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reconstruction, kl, elbo = map(float, done.stdout.split())
    assert elbo == pytest.approx(-(reconstruction + kl))
    assert (tmp_path / "report.html").exists()


def test_the_audit_of_somebody_elses_model_runs_as_it_stands(tmp_path, environment):
    _, block = blocks("python")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("regular and informative")


def test_the_make_targets_and_links_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"make ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
