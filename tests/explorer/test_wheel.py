"""What is installed from a wheel or a source archive exports a page without Node."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CARRIED = ("src", "README.md", "CHANGELOG.md", "LICENSE", "constraints.txt", "pyproject.toml")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, static):
    """A copy of the checkout in which the front end is built, or stood for."""
    place = tmp_path_factory.mktemp("checkout")
    for name in CARRIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place / name)
    folder = place / "src/gapless/explorer/static"
    folder.mkdir(exist_ok=True)
    for name, content in static.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
    (place / ".gitignore").write_text((ROOT / ".gitignore").read_text())  # what is built is ignored, and carried
    return place


def packed(checkout, kind, tmp_path):
    build = "import sys, hatchling.build as b; getattr(b, sys.argv[1])(sys.argv[2])"
    tools = tmp_path / "tools"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(tools)]
    subprocess.run([*pip, "hatchling"], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tools)}
    words = [sys.executable, "-c", build, f"build_{kind}", str(tmp_path)]
    subprocess.run(words, cwd=checkout, check=True, env=environment, capture_output=True)
    return next(path for path in tmp_path.iterdir() if path.suffix in (".whl", ".gz"))


@pytest.mark.slow
def test_the_wheel_exports_a_page_without_node(checkout, static, digits_study, tmp_path):
    wheel = packed(checkout, "wheel", tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert {f"gapless/explorer/static/{name}" for name in static} <= names
        place = bare(tmp_path / "bare")
        archive.extractall(place)
    run = digits_study[1] / "vae"
    environment = {"PATH": str(tmp_path / "empty"), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    python = tmp_path / "bare/bin/python"
    told = subprocess.run(
        [python, "-c", "import gapless; print(gapless.__file__)"], capture_output=True, text=True, env=environment
    )
    assert told.stdout.startswith(str(place)), told.stderr
    words = [python, "-m", "gapless", "explore", run, "--export", "latent.html", "--audit", "none", "--items", "50"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "latent.html").read_text("utf-8")
    assert 'id="scene"' in text
    assert 'data-name="runtime.wasm.lzma"' in text


@pytest.mark.slow
def test_the_source_archive_carries_the_built_page(checkout, static, tmp_path):
    with tarfile.open(packed(checkout, "sdist", tmp_path)) as archive:
        names = {re.sub(r"^[^/]*/", "", name) for name in archive.getnames()}
    assert {f"src/gapless/explorer/static/{name}" for name in static} <= names


def bare(folder):
    """An environment with the libraries of this one, but not its gapless; returns where packages go."""
    venv.create(folder, with_pip=False)
    place = next(folder.glob("lib/python*/site-packages"))
    libraries = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    (place / "libraries.pth").write_text("\n".join(libraries))
    return place
