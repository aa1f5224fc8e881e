"""Shards: what is written is what is read, whole or not at all, and every change is found."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gapless.data import Feed, OnDisk, read, read_items, shards, verify_shards, write_shards
from gapless.errors import DataError, UsageError

pa = pytest.importorskip("pyarrow")

RNG = np.random.default_rng(6)


def same(folder, source, **options):
    data, plain = read(folder), read(source, **options)
    assert isinstance(data.train.values, OnDisk)
    assert data.fingerprint() == plain.fingerprint()
    assert (data.kind, data.event_shape, data.columns, data.label_names, data.scaling, data.likelihood) == (
        plain.kind, plain.event_shape, plain.columns, plain.label_names, plain.scaling, plain.likelihood
    )  # fmt: skip
    for part in ("train", "held_out"):
        a, b = getattr(data, part), getattr(plain, part)
        assert np.array_equal(a.index, b.index)
        assert (a.labels is None and b.labels is None) or np.array_equal(a.labels, b.labels)
    return data


@pytest.mark.parametrize(
    "values",
    [
        RNG.integers(0, 255, (50, 6, 5), dtype=np.uint8),
        RNG.integers(0, 255, (50, 6, 5, 3), dtype=np.uint8),
        RNG.integers(0, 255, (50, 3, 5, 4), dtype=np.uint8),
        RNG.normal(size=(50, 4)),
        RNG.normal(size=(50, 4)).astype(">f4"),
        RNG.normal(size=(50, 4)).astype("f2"),
        RNG.integers(0, 2, (50, 4)).astype(bool),
        RNG.integers(0, 60_000, (50, 6, 5)).astype(np.uint16),
        np.asfortranarray(RNG.normal(size=(50, 4))),
    ],
)
@pytest.mark.parametrize("labels", [None, np.arange(50) % 11, ["b", "a"] * 25])
def test_round_trip(values, labels, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_BATCH_BYTES", values[:7].nbytes)
    monkeypatch.setattr(shards, "SHARD_BYTES", values[:20].nbytes)
    source = values if labels is None else (values, labels)
    manifest = write_shards(source, tmp_path / "s")
    assert len(manifest["shards"]) > 1
    assert sum(entry["items"] for entry in manifest["shards"]) == 50
    assert verify_shards(tmp_path / "s") == len(manifest["shards"])
    same(tmp_path / "s", source)


def test_of_every_kind_of_source(tmp_path):
    same_options = {"digits": ("digits", {})}
    table = tmp_path / "t.csv"
    table.write_text("a,b,c\n" + "\n".join(f"{i},{i * i},k{i % 2}" for i in range(20)))
    for i in range(6):
        (tmp_path / "im" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 255, (9, 8, 3), dtype=np.uint8)).save(
            tmp_path / "im" / "ab"[i % 2] / f"{i}.png"
        )
    same_options |= {"csv": (table, {"drop": ["b"]}), "images": (tmp_path / "im", {"resize": (4, 5)})}
    for name, (source, options) in same_options.items():
        write_shards(source, tmp_path / name, **options)
        data = same(tmp_path / name, source, **options)
        assert any(note.startswith("shards of") for note in data.inspection.notes)
    everything = read_items(tmp_path / "csv")
    assert (everything.columns, everything.label_names, len(everything.items)) == (("a",), ("k0", "k1"), 20)


def test_the_held_out_part_of_a_source_is_kept(tmp_path):
    from test_text_and_idx import idx, images

    (tmp_path / "i").mkdir()
    for name, count in (("train", 8), ("t10k", 5)):
        (tmp_path / "i" / f"{name}-images-idx3-ubyte").write_bytes(idx(images(count)))
    write_shards(tmp_path / "i", tmp_path / "s")
    data = same(tmp_path / "s", tmp_path / "i")
    assert (len(data.train), len(data.held_out)) == (8, 5)


def test_feeding_from_shards_gives_the_same_bits(tmp_path):
    values = RNG.integers(0, 255, (300, 6, 5), dtype=np.uint8)
    write_shards(values, tmp_path / "s")
    one, two = (read(source) for source in (tmp_path / "s", values))
    batches = zip(*(Feed(d.train, d.scaling).stream(1, 2, 32) for d in (one, two)), strict=True)
    assert all((p == q).all() and (x == y).all() for (p, x), (q, y) in batches)


def test_a_shard_is_plain_arrow_for_others(tmp_path):
    values = RNG.integers(0, 255, (20, 6, 5), dtype=np.uint8)
    write_shards((values, np.arange(20) % 3), tmp_path / "s")
    with pa.ipc.open_file(tmp_path / "s" / "shard-00000.arrow") as reader:
        table = reader.read_all()
    assert table.schema.field("values").type.shape == [1, 6, 5]
    assert np.array_equal(table.column("values").combine_chunks().to_numpy_ndarray()[:, 0], values)
    assert table.column("label").to_pylist() == [i % 3 for i in range(20)]
    assert np.array_equal(read(tmp_path / "s" / "shard-00000.arrow").train.values[[0, 19]][:, 0], values[[0, 19]])


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine").write_text("x")
    with pytest.raises(UsageError, match="there already"):
        write_shards("digits", tmp_path / "s")
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["mine"]
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="there already"):
        write_shards("digits", tmp_path / "link")


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    """Row: disk full, I/O error; nothing is there half."""
    (tmp_path / "im").mkdir()
    for i in range(4):
        Image.fromarray(RNG.integers(0, 255, (40, 40), dtype=np.uint8)).save(tmp_path / "im" / f"{i}.png")
    (tmp_path / "im" / "3.png").write_bytes((tmp_path / "im" / "3.png").read_bytes()[:500])
    with pytest.raises(DataError):
        write_shards(tmp_path / "im", tmp_path / "s")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="cannot be written"):
        write_shards("digits", "/proc/none/s")
    monkeypatch.setattr(shards.os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write_shards("digits", tmp_path / "s")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["im"]


def test_a_writing_that_was_killed_starts_again(tmp_path):
    code = (
        "import os, sys\nfrom gapless.data import shards, write_shards\n"
        "shards._sha256 = lambda path: os.kill(os.getpid(), 9)\nwrite_shards('digits', sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")])
    assert done.returncode == -9
    assert [p.name for p in tmp_path.iterdir()] == [".s.partial"]
    write_shards("digits", tmp_path / "s")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    same(tmp_path / "s", "digits")


def test_every_change_is_found(tmp_path):
    """Row: truncated, flipped, emptied, deleted, replaced; here of shards."""
    write_shards("digits", tmp_path / "s")
    path = tmp_path / "s" / "shard-00000.arrow"
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"x"):
        path.write_bytes(content)
        for look in (read, verify_shards):
            with pytest.raises(DataError, match="shard-00000") as caught:
                look(tmp_path / "s")
            assert caught.value.fix
    for at in range(len(whole) // 2, len(whole) // 2 + 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError, match="was changed"):
            verify_shards(tmp_path / "s")
    write_shards(np.zeros((1797, 8, 8)), tmp_path / "other")
    path.write_bytes((tmp_path / "other" / "shard-00000.arrow").read_bytes())
    with pytest.raises(DataError, match="shard-00000"):
        read(tmp_path / "s")
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        read(tmp_path / "s")
    os.symlink(tmp_path / "other" / "shard-00000.arrow", path)
    with pytest.raises(DataError, match="is missing"):
        read(tmp_path / "s")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2), ("items", 10), ("items", "many"), ("event_shape", [8, 8]),
        ("event_shape", [10**9, 10**9, 10**9]),
        ("dtype", "O"), ("dtype", "<f8"), ("dtype", "nonsense"), ("label_codes", [0]), ("label_names", [1] * 10),
        ("train_items", 9999), ("columns", [3]), ("shards", []), ("shards", [{"file": "../x.arrow", "items": 1797}]),
        ("full_scale", "big"), ("source", 3), ("notes", 7),
    ],
)  # fmt: skip
def test_a_manifest_that_lies_is_refused(key, value, tmp_path):
    write_shards("digits", tmp_path / "s")
    path = tmp_path / "s" / shards.MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(DataError) as caught:
        read(tmp_path / "s")
    assert caught.value.fix
    path.write_text(json.dumps({k: v for k, v in manifest.items() if k != key}))
    with pytest.raises(DataError):
        read(tmp_path / "s")
