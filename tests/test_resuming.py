"""The line that says how to go on, with and without a launcher."""

import importlib
import shlex

import pytest

from gapless.cli.resuming import launched_by, resuming
from gapless.errors import Interrupted

WORDS = ["train", "my rows.npy", "-o", "run", "--fresh", "--force"]
KEPT = ["train", "my rows.npy", "-o", "run", "--force"]
LAUNCHERS = {
    "torchrun": (["python3", "/venv/bin/torchrun", "--nproc-per-node", "2", "-m", "gapless"], 1, "torchrun"),
    "its module": (["python3", "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "gapless"], 0, "python3"),
    "accelerate": (["python3", "/venv/bin/accelerate", "launch", "--multi_gpu", "-m", "gapless"], 1, "accelerate"),
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_command_is_the_launchers_without_the_word_that_would_refuse(monkeypatch, name):
    launcher, skipped, first = LAUNCHERS[name]
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = shlex.split(resuming(WORDS, [*launcher, *WORDS]))
    assert said == [first, *launcher[skipped + 1 :], *KEPT]


def test_without_its_words_a_sentence_says_what_to_do(monkeypatch):
    assert launched_by() == []
    assert shlex.split(resuming(WORDS)) == ["gapless", *KEPT]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for launcher in ([], ["slurmstepd: [1.0]"]):
        assert resuming(WORDS, launcher) == (
            "launch the same 2 processes again, each with: gapless train 'my rows.npy' -o run --force"
        )


@pytest.mark.parametrize(("rank", "said"), [(None, True), ("0", True), ("1", False)])
def test_one_process_of_a_job_says_it(monkeypatch, capsys, rank, said):
    def stop(arguments):
        raise Interrupted("stopped at step 3")

    front = importlib.import_module("gapless.cli.main")
    monkeypatch.setattr(front, "_run", stop)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit) as ended:
        front.main(WORDS)
    assert ended.value.code == 130
    expected = "stopped at step 3\nresume: gapless train 'my rows.npy' -o run --force\n"
    assert capsys.readouterr().err == (expected if said else "")
