"""Every recipe trains from the command line: `gapless train digits --recipe NAME --epochs 2`."""

import pytest

from gapless import load_run
from gapless.cli.commands import app
from gapless.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_it_trains_on_digits_from_the_command_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits", "--recipe", name, "--epochs", "2", "-o", "run"]
    app(words, exit_on_error=False, print_error=False, result_action="return_value")
    run = load_run(tmp_path / "run")
    assert run.recipe == name
    assert run.complete
    assert all(line["held_out"]["loss"] < 1e6 for line in run.history)
