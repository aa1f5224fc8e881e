"""Nothing that was saved is lost: what a new run replaces, what somebody else put there, what was deleted by hand."""

import contextlib
import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch

import gapless
from gapless import aside, files, study, workplaces
from gapless.errors import DataError, GaplessError, Interrupted, StorageError, UsageError
from gapless.settings import Settings
from gapless.training import Callback
from gapless.training.checkpoints import Checkpoints, Snapshot
from gapless.verification import verify
from gapless.workplaces import claimed

PLAIN = {"latent": 2, "epochs": 3, "hidden": (8,), "batch_size": 32}


class Stop(Callback):
    """Ends the process's share of the run after some steps, as a kill would; remembers the step it began at."""

    def __init__(self, steps):
        self.left, self.began = steps, None

    def on_step(self, step, terms):
        self.began = self.began or step
        self.left -= 1
        if not self.left:
            raise Interrupted("killed")


@pytest.fixture(scope="module")
def data():
    return gapless.read(np.random.default_rng(0).normal(size=(120, 4)))


@pytest.fixture(scope="module")
def whole(data):
    return study.train(data, settings=Settings(**PLAIN))


def train(data, folder, *, steps=10**6, every=0, fresh=False, force=False, **settings):
    """Train in a folder until the end or a kill; the step it began at."""
    stop = Stop(steps)
    chosen = Settings(**{**PLAIN, **settings})
    with contextlib.suppress(Interrupted):
        study.train(
            data,
            settings=chosen,
            folder=folder,
            callbacks=[stop],
            checkpoint_every=every,
            fresh=fresh,
            force=force,
        )
    return stop.began


def same(folder, run):
    again = gapless.load_run(folder).model.state_dict()
    return all(torch.equal(value, again[name]) for name, value in run.model.state_dict().items())


def precious(folder):
    folder.mkdir()
    (folder / "precious.txt").write_text("years")


# What somebody else put there.


def test_a_folder_that_only_looks_replaced_is_never_removed(data, whole, tmp_path):
    precious(tmp_path / "run.old")
    train(data, tmp_path / "run")
    precious(tmp_path / "saved.old")
    whole.save(tmp_path / "saved")
    for name in ("run", "saved"):
        assert (tmp_path / f"{name}.old" / "precious.txt").read_text() == "years"
    with pytest.raises(UsageError, match=r"something stands there that this run did not put there(.|\n)*run\.old"):
        train(data, tmp_path / "run", force=True)
    with pytest.raises(UsageError, match=r"something stands there(.|\n)*saved\.old"):
        whole.save(tmp_path / "saved", force=True)
    assert same(tmp_path / "run", whole)
    assert same(tmp_path / "saved", whole)
    assert (tmp_path / "run.old" / "precious.txt").read_text() == "years"


def test_a_run_that_its_owner_moved_away_stays(data, whole, tmp_path):
    train(data, tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "run.old")
    train(data, tmp_path / "run", seed=1)
    assert same(tmp_path / "run.old", whole)


def test_a_run_that_its_owner_put_where_the_replaced_one_stood_stays(data, tmp_path):
    train(data, tmp_path / "run")
    train(data, tmp_path / "run", steps=2, force=True, seed=1)
    shutil.rmtree(tmp_path / "run.old")
    precious(tmp_path / "run.old")
    train(data, tmp_path / "run", seed=1)
    assert (tmp_path / "run.old" / "precious.txt").read_text() == "years"


def fail_in(folder, error=DataError, left=None, **options):
    with pytest.raises(error), claimed(folder, **options):
        fail(folder, left)


def fail(folder, left):
    if left:
        (folder / left).write_text("years")
    raise DataError("the data is not there")


def test_a_call_that_fails_removes_nothing_but_what_it_made(tmp_path):
    precious(tmp_path / "downloads")
    (tmp_path / "downloads" / "precious.txt").rename(tmp_path / "downloads" / "film.mp4.partial")
    fail_in(tmp_path / "downloads", UsageError)
    assert os.listdir(tmp_path / "downloads") == ["film.mp4.partial"]
    (tmp_path / "empty").mkdir()
    fail_in(tmp_path / "empty")
    assert os.listdir(tmp_path / "empty") == []
    fail_in(tmp_path / "new")
    fail_in(tmp_path / "shared", left="thesis.txt")
    assert (tmp_path / "shared" / "thesis.txt").read_text() == "years"
    assert sorted(os.listdir(tmp_path)) == ["downloads", "empty", "shared"]


# What a new run replaces.


def test_what_force_replaces_comes_back_where_the_new_run_saved_nothing(data, whole, tmp_path):
    train(data, tmp_path / "run")
    fail_in(tmp_path / "run", force=True)  # before a plan: nothing is touched
    assert same(tmp_path / "run", whole)
    train(data, tmp_path / "run", steps=2, every=1e9, force=True, seed=1)
    assert os.listdir(tmp_path) == ["run"]
    assert same(tmp_path / "run", whole)
    train(data, tmp_path / "run", steps=2, force=True, seed=1)
    assert same(tmp_path / "run.old", whole)
    train(data, tmp_path / "run", seed=1)
    assert os.listdir(tmp_path) == ["run"]
    assert gapless.load_run(tmp_path / "run").settings.seed == 1


@pytest.mark.parametrize("left", [(), (".lock",), (".lock", ".replaces", ".plan.json.partial")])
def test_a_kill_while_something_is_set_aside_is_undone(whole, tmp_path, left):
    folder = whole.save(tmp_path / "run")
    aside.set_aside(folder, finished=True)
    with pytest.raises(DataError, match=r"was being replaced and stands in .*run\.old"):
        gapless.load_run(folder)
    for name in left:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("")
    with pytest.raises(UsageError, match="there is a run here"):
        whole.save(folder)
    assert os.listdir(tmp_path) == ["run"]
    assert same(folder, whole)
    whole.save(folder, force=True)
    assert sorted(os.listdir(folder)) == sorted([
        "config.json", "environment.json", "manifest.json", "metrics.jsonl", "model.safetensors"
    ])  # fmt: skip
    assert os.listdir(tmp_path) == ["run"]


def test_two_calls_with_force_do_not_undo_each_other(whole, tmp_path):
    folder = whole.save(tmp_path / "run")
    with files.locked(folder):
        aside.set_aside(folder, finished=True)
        with pytest.raises(UsageError, match="somebody is writing here"), claimed(folder):
            pass
    assert same(tmp_path / "run.old", whole)


def test_force_repeated_after_a_kill_goes_on(data, whole, tmp_path, capsys):
    folder = tmp_path / "run"
    train(data, folder, seed=1)
    assert [train(data, folder, steps=steps, force=True) for steps in (3, 2, 10**6)] == [1, 3, 4]
    assert capsys.readouterr().err.count("this run was begun here and goes on") == 2
    assert same(folder, whole)
    assert os.listdir(tmp_path) == ["run"]


def test_force_says_what_it_throws_away(data, whole, tmp_path, capsys):
    folder = tmp_path / "run"
    train(data, folder)
    train(data, folder, steps=4, force=True, seed=1)
    capsys.readouterr()
    assert train(data, folder, steps=2, force=True, seed=2) == 1
    said = capsys.readouterr().err
    assert "the unfinished run here (its newest checkpoint is of step 3) is thrown away; " in said
    assert same(tmp_path / "run.old", whole)
    other = tmp_path / "other"
    train(data, other, steps=4)
    assert train(data, other, steps=2, force=True, fresh=True) == 1
    assert f"(its newest checkpoint is of step 3) stays in {other}.old until" in capsys.readouterr().err
    assert Checkpoints(tmp_path / "other.old" / "checkpoints").newest().step == 3


def test_a_run_without_its_plan_is_not_taken_for_another(data, whole, tmp_path):
    whole.save(tmp_path / "run")
    with pytest.raises(UsageError, match=r"plan\.json is missing"):
        train(data, tmp_path / "run", seed=1)
    train(data, tmp_path / "run", seed=1, force=True)
    assert gapless.load_run(tmp_path / "run").settings.seed == 1


# What was deleted by hand, whole folders at a time.


@pytest.fixture(scope="module")
def halfway(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("halfway") / "run"
    train(data, folder, steps=6)
    assert sorted(os.listdir(folder / "checkpoints")) == ["latest", "step-0000000004", "step-0000000005"]
    assert (folder / "metrics.jsonl").read_text().count("\n") == 1
    return folder


def test_row_the_newest_checkpoint_deleted_is_named_and_the_older_one_used(data, whole, halfway, tmp_path, capsys):
    folder = shutil.copytree(halfway, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "step-0000000005")
    assert verify(folder) == {"run/step-0000000004": [], "run/step-0000000005": ["missing"]}
    assert train(data, folder) == 5
    assert "note: the checkpoint step-0000000005, the newest, is missing" in capsys.readouterr().err
    assert same(folder, whole)


DELETED = {
    "every checkpoint": lambda folder: [shutil.rmtree(path) for path in (folder / "checkpoints").glob("step-*")],
    "and the pointer": lambda folder: [DELETED["every checkpoint"](folder), (folder / "checkpoints/latest").unlink()],
    "the folder of checkpoints": lambda folder: shutil.rmtree(folder / "checkpoints"),
}


@pytest.mark.parametrize("deleted", DELETED)
def test_row_all_checkpoints_deleted_is_refused_and_never_starts_from_zero(data, halfway, tmp_path, deleted):
    folder = shutil.copytree(halfway, tmp_path / "run")
    DELETED[deleted](folder)
    assert [damage for found in verify(folder).values() for damage in found if "missing" in damage]
    for force in (False, True):
        with pytest.raises(DataError, match=r"none is left(.|\n)*--fresh --force"):
            train(data, folder, force=force)
    assert train(data, folder, force=True, fresh=True) == 1


def test_row_the_manifest_of_a_finished_run_deleted_is_refused(data, whole, tmp_path):
    folder = tmp_path / "run"
    train(data, folder)
    (folder / "manifest.json").unlink()
    assert verify(folder) == {"run": ["manifest.json: missing"]}
    with pytest.raises(DataError, match=r"manifest\.json is gone(.|\n)*--fresh --force"):
        train(data, folder)
    assert (folder / "model.safetensors").is_file()
    train(data, folder, force=True)
    assert same(folder, whole)


def test_a_kill_before_the_first_checkpoint_begins_again_and_says_so(data, whole, tmp_path, capsys):
    folder = tmp_path / "run"
    train(data, folder, steps=6, every=1e9)
    assert (folder / "metrics.jsonl").read_text()
    assert train(data, folder) == 1
    assert "there is no checkpoint of them yet: it begins at step 1" in capsys.readouterr().err
    assert same(folder, whole)


def test_kills_while_a_run_is_taken_up_again_or_written_lose_nothing(data, whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    study.train(data, settings=Settings(**PLAIN), folder=folder, max_time=1e-9, checkpoint_every=0)
    assert (folder / "manifest.json").is_file()
    assert train(data, folder, steps=2, every=1e9) == 2
    assert not (folder / "manifest.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(gapless.Run, "write_into", lambda self, folder: write_half(folder))
        with pytest.raises(KeyboardInterrupt):
            train(data, folder)
    assert train(data, folder) is None
    assert same(folder, whole)
    assert verify(folder) == {"run": []}


def write_half(folder):
    (folder / "config.json").write_text("{")
    raise KeyboardInterrupt


def test_a_folder_of_an_earlier_version_goes_on(data, whole, halfway, tmp_path):
    folder = shutil.copytree(halfway, tmp_path / "run")
    (folder / ".checkpointed").unlink()
    assert train(data, folder) == 6
    assert same(folder, whole)
    assert sorted(name for name in os.listdir(folder) if name.startswith(".")) == [".lock"]


# Checkpoints, and what a kill leaves of them.


def snapshot(step):
    return Snapshot({"w": torch.full((2,), float(step))}, {"step": step})


def test_a_damaged_checkpoint_is_not_kept_in_place_of_a_whole_one(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=0)
    for step in (1, 2):
        checkpoints.save(snapshot(step))
    (checkpoints.folder / "step-0000000002" / "state.json").write_text("{}")
    checkpoints.save(snapshot(4))
    assert checkpoints.verify() == {"step-0000000004": [], "step-0000000001": []}


def test_a_kill_while_a_finished_run_is_tidied_leaves_nothing_to_complain_of(data, whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(workplaces.Workplace, "tidy", lambda self: None)
        train(data, folder)
    (folder / "checkpoints" / "step-0000000012" / "state.json").unlink()  # as an earlier version left it
    assert train(data, folder) is None
    assert verify(folder) == {"run": []}
    assert sorted(os.listdir(folder)) == sorted([
        ".lock", "config.json", "environment.json", "manifest.json", "metrics.jsonl", "model.safetensors", "plan.json"
    ])  # fmt: skip


def test_a_checkpoint_is_removed_at_once_or_not_at_all(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=0)
    checkpoints.save(snapshot(1))
    real = shutil.rmtree

    def half(path, **options):
        if os.path.isdir(path):
            os.unlink(os.path.join(path, "state.json"))
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.clear()
    assert not any(checkpoints.folder.glob("step-*"))
    checkpoints.clear()
    assert os.listdir(tmp_path) == []
    assert shutil.rmtree is real


def test_new_folders_are_durable_up_to_the_one_that_was_there(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    assert files.make_folder(tmp_path / "a" / "b" / "c")
    assert not files.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    synced.clear()
    with claimed(tmp_path / "d" / "run") as place:
        assert synced[:2] == [tmp_path, tmp_path / "d"]
        place.checkpoints.save(snapshot(1))
    assert tmp_path / "d" / "run" in synced


# Folders that want to harm.


DEEP = "[" * 300_000


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "plan.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", [DEEP, "[" * 300 + "]" * 300], ids=["endless", "deep"])
def test_row_json_nested_without_end_is_refused_by_name(data, tmp_path, name, content):
    folder = tmp_path / "run"
    train(data, folder)
    (folder / name).write_text(content)
    if name in ("config.json", "metrics.jsonl"):
        manifest = json.loads((folder / "manifest.json").read_text())
        entry = {"sha256": files.sha256(folder / name), "bytes": len(content)}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "files": {**manifest["files"], name: entry}}))
    with pytest.raises(GaplessError, match="nested too deeply"):
        train(data, folder)
    if name != "plan.json":  # no checksum of a run is of its plan
        assert "nested too deeply" in str(verify(folder))


def test_row_a_checkpoint_of_deep_json_or_a_link_is_named_and_not_used(data, whole, halfway, tmp_path, capsys):
    folder = shutil.copytree(halfway, tmp_path / "run")
    newest = folder / "checkpoints" / "step-0000000005"
    newest.rename(tmp_path / "elsewhere")
    newest.symlink_to(tmp_path / "elsewhere")
    assert verify(folder)["run/step-0000000005"] == ["a link"]
    assert train(data, folder, steps=1) == 5
    assert "the checkpoint step-0000000005 is damaged (a link) and is not used" in capsys.readouterr().err
    assert train(data, folder) == 5
    assert same(folder, whole)
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["manifest.json", "state.json", "state.safetensors"]
    other = shutil.copytree(halfway, tmp_path / "other")
    for path in (other / "checkpoints").glob("step-*/manifest.json"):
        path.write_text(DEEP)
    with pytest.raises(DataError, match=r"none of 2 checkpoints is whole(.|\n)*nested too deeply"):
        train(data, other)
    linked = shutil.copytree(halfway, tmp_path / "linked")
    (linked / "checkpoints").rename(tmp_path / "away")
    (linked / "checkpoints").symlink_to(tmp_path / "away")
    with pytest.raises(DataError, match="the checkpoints are a link"):
        train(data, linked)


# What cannot be written.


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_row_disk_full_while_watching_is_one_sentence(data, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    train(data, folder, steps=2)
    (folder / "watch.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"cannot write: No space left on device(.|\n)*watch\.jsonl"):
        study.train(data, settings=Settings(**PLAIN), folder=folder, watch=True)


def test_a_name_that_is_too_long_is_said(data, tmp_path):
    with pytest.raises(StorageError, match=r"cannot write: File name too long(.|\n)*choose a shorter -o"):
        train(data, tmp_path / ("n" * 300))


def test_a_file_system_without_locks_is_said(data, tmp_path, monkeypatch):
    import fcntl

    def refuses(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(StorageError, match=r"cannot write: No locks available(.|\n)*one run has one writer"):
        train(data, tmp_path / "run")
