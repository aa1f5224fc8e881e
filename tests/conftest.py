"""Shapes written in the annotations are checked while the tests run, and every test has one seed of its own."""

import zlib
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("gapless", "checker.check")


def pytest_addoption(parser):
    parser.addoption("--write-ledger", action="store_true", help="write docs/ledger.md from the rows that passed")


ROWS: list = []


@pytest.fixture
def ledger():
    """Asserts that a measured value meets its oracle and records the row."""
    from ledger import Ledger

    return Ledger(ROWS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Rows of a process that ran some of the tests."""
    from ledger import Row

    ROWS.extend(Row(**values) for values in getattr(node, "workeroutput", {}).get("ledger", ()))


def pytest_sessionfinish(session, exitstatus):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["ledger"] = [vars(row) for row in ROWS]
    elif session.config.getoption("--write-ledger") and exitstatus == 0:
        from ledger import write

        write(ROWS, whole=not session.config.option.markexpr)


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def seeded(request):
    import torch

    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real data sets are not beside this checkout (../shared/data)")
    return SHARED


@pytest.fixture(scope="session")
def digits_study(tmp_path_factory):
    """A short comparison on digits, trained once for all tests: (comparison, folder of the runs)."""
    import gapless
    from gapless.settings import Settings

    comparison = gapless.compare(gapless.read("digits"), settings=Settings(latent=2, epochs=25, hidden=(64, 32)))
    folder = tmp_path_factory.mktemp("study")
    for name, run in comparison.runs.items():
        run.save(folder / name)
    return comparison, folder


@pytest.fixture
def small_model():
    """A VAE on 4 x 4 images with 3 latent features."""
    from gapless import recipes

    model, _ = recipes.build("vae", (1, 4, 4), latent=3, hidden=(16,), seed=1)
    return model
