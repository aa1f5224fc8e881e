import json
import os
import re

import numpy as np
import pytest
import torch

import gapless
from gapless import files, runs, study, workplaces
from gapless.errors import DataError, StorageError, UsageError
from gapless.settings import Settings
from gapless.verification import verify


@pytest.fixture
def run():
    rng = np.random.default_rng(0)
    data = gapless.read(rng.normal(size=(60, 4)), likelihood="NormalWithOptimalScale")
    return study.train(data, settings=Settings(latent=2, epochs=2, hidden=(8,)))


@pytest.fixture
def folder(run, tmp_path):
    return run.save(tmp_path / "실험 1" / "run")


def test_a_run_folder_gives_the_model_back_bit_for_bit(run, folder):
    assert sorted(os.listdir(folder)) == [
        "config.json", "environment.json", "manifest.json", "metrics.jsonl", "model.safetensors"
    ]  # fmt: skip
    model = gapless.load(folder)
    assert not model.training
    again = model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in run.model.state_dict().items())
    x = torch.randn(5, 4)
    assert torch.equal(model.reconstruct(x), run.model.reconstruct(x))
    assert torch.equal(model.decode(torch.zeros(1, 2)).stddev, run.model.decode(torch.zeros(1, 2)).stddev)


def test_everything_else_of_a_run_comes_back_too(run, folder):
    again = gapless.load_run(folder)
    assert again.to_dict() == run.to_dict()
    assert again.history == run.history
    assert again.settings == run.settings
    raw = np.random.default_rng(1).normal(size=(3, 4))
    assert np.array_equal(again.scaling(raw), run.scaling(raw))
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["torch"] == torch.__version__


def test_the_data_of_a_run_is_read_and_split_again_alike(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(60, 4)))
    data = gapless.read(tmp_path / "a.npy", seed=3, held_out=0.2)
    card = runs.DataCard.from_dict(json.loads(json.dumps(runs.DataCard.of(data).to_dict())))
    again = card.read()
    assert np.array_equal(again.held_out.index, data.held_out.index)
    assert again.scaling == data.scaling == card.scaling
    np.save(tmp_path / "a.npy", np.zeros((60, 5)))
    with pytest.raises(DataError, match=r"trained on items of shape \(4,\); these have \(5,\)"):
        card.read()


def test_new_items_need_the_same_columns_but_no_label_and_may_be_one(tmp_path):
    (tmp_path / "train.csv").write_text("a,b,kind\n" + "".join(f"{i},{i % 7},{'xy'[i % 2]}\n" for i in range(30)))
    card = runs.DataCard.of(gapless.read(tmp_path / "train.csv", label="kind"))
    (tmp_path / "new.csv").write_text("a,b\n1,2\n")
    items, _ = card.read_items(str(tmp_path / "new.csv"))
    assert items.take([0]).tolist() == [[1.0, 2.0]]
    assert items.labels is None
    items, names = card.read_items(str(tmp_path / "train.csv"))
    assert names == ("x", "y")
    assert items.labels[:3].tolist() == [0, 1, 0]
    (tmp_path / "other.csv").write_text("b,a\n1,2\n")
    with pytest.raises(DataError, match="their order differs"):
        card.read_items(str(tmp_path / "other.csv"))
    (tmp_path / "other.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match="missing: b"):
        card.read_items(str(tmp_path / "other.csv"))


def corrupt_config(change):
    def apply(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return apply


def drop_tensor(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "model.safetensors")


def poison(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors[sorted(tensors)[0]].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors")


def as_pickle(folder):
    torch.save({"a": torch.zeros(1)}, folder / "model.safetensors")


BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), "no run here"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "reads run folders of schema 1"),
    "another schema": (corrupt_config(lambda c: c.update(schema=99)), "schema 1; found 99"),
    "no model": (corrupt_config(lambda c: c.pop("model")), "does not describe a run"),
    "a callable": (corrupt_config(lambda c: c["model"]["prior"].update(kind="os.system")), "no prior called"),
    "absurd sizes": (corrupt_config(lambda c: c["model"]["encoder"].update(hidden=[10**9, 10**9])), "the budget is"),
    "another size": (corrupt_config(lambda c: c["model"]["encoder"].update(hidden=[9])), "do not belong"),
    "settings of another type": (corrupt_config(lambda c: c["settings"].update(latent="2")), "does not describe a run"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "weights cannot be read"),
    "truncated weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-7]),
        "weights cannot be read",
    ),
    "a missing tensor": (drop_tensor, "do not belong to this configuration: decoder"),
    "weights that are not finite": (poison, "weights are not finite: decoder"),
    "a pickle": (as_pickle, "weights cannot be read"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_hostile_run_folder_is_refused_by_name_also_where_its_checksums_agree(folder, fault):
    breaks, match = BROKEN[fault]
    breaks(folder)
    left = [name for name in os.listdir(folder) if name != "manifest.json"]
    files.write_manifest(folder, left, kind="run", facts={"complete": True})
    with pytest.raises(DataError, match=match):
        gapless.load_run(folder)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap_weights(folder):
    (folder / "model.safetensors").write_bytes((folder / "config.json").read_bytes())


DAMAGED = {
    "deleted weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: missing"),
    "emptied weights": (lambda f: (f / "model.safetensors").write_bytes(b""), r"model.safetensors: 0 bytes, \d+ were"),
    "a flipped bit": (lambda f: flip(f / "model.safetensors"), r"model.safetensors: its content changed \(SHA-256"),
    "a truncated history": (lambda f: (f / "metrics.jsonl").write_text("{"), "metrics.jsonl: 1 bytes"),
    "another file in its place": (swap_weights, "model.safetensors: "),
    "a link for weights": (lambda f: link_to_itself(f / "model.safetensors"), "model.safetensors: a link"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "did not finish"),
    "an emptied manifest": (lambda f: (f / "manifest.json").write_bytes(b""), "the manifest is not JSON"),
    "a manifest that climbs": (lambda f: climb(f), "manifest.json: no manifest of schema 1"),
}  # fmt: skip


def link_to_itself(path):
    kept = path.with_name("kept")
    path.rename(kept)
    path.symlink_to(kept)


def climb(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../outside"] = manifest["files"]["config.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("fault", DAMAGED)
def test_damage_is_found_by_checksum_and_named(folder, fault):
    breaks, match = DAMAGED[fault]
    assert verify(folder) == {"run": []}
    breaks(folder)
    with pytest.raises(DataError, match=match):
        gapless.load_run(folder)
    if fault != "no manifest":
        assert re.search(match, "; ".join(verify(folder)["run"]))


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_atomic(path, b"old")

    def fails(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def crash_after_writing(path):
    path.write_text("half")
    raise RuntimeError("crash")


def test_what_was_there_stays_until_the_new_one_is_whole(run, folder):
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    with pytest.raises(RuntimeError, match="crash"), workplaces.replacing(folder, force=True) as partial:
        crash_after_writing(partial / "config.json")
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before
    assert os.listdir(folder.parent) == ["run"]
    run.save(folder, force=True)
    assert os.listdir(folder.parent) == ["run"]
    gapless.load_run(folder)


def test_nothing_is_overwritten_that_was_not_asked_for(run, folder, tmp_path):
    with pytest.raises(UsageError, match=r"there is a run here(.|\n)*force=True"):
        run.save(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="did not write"):
        run.save(tmp_path / "mine", force=True)
    (tmp_path / "file").write_text("years")
    with pytest.raises(UsageError, match="did not write"):
        run.save(tmp_path / "file", force=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    (tmp_path / "empty").mkdir()
    run.save(tmp_path / "empty")
    with pytest.raises(StorageError, match=r"cannot write: (Not a directory|File exists)"):
        run.save(tmp_path / "file" / "below")


def test_no_pickle_in_the_source():
    from pathlib import Path

    source = Path(gapless.__file__).parent
    for path in source.rglob("*.py"):
        text = path.read_text("utf-8")
        assert "import pickle" not in text, path
        assert "torch.load(" not in text, path
        assert "allow_pickle=True" not in text, path
