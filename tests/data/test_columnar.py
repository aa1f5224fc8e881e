"""Arrow, Feather, Parquet and saved datasets: round trips, and one sentence for everything that is wrong."""

import contextlib
import io
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gapless.data import Feed, OnDisk, arrow_files, columnar, parquet_files, read, read_items
from gapless.data.disk import FileRows
from gapless.data.parquet_files import ParquetRows
from gapless.errors import DataError, MissingExtra, UsageError

pa = pytest.importorskip("pyarrow")
pf = pytest.importorskip("pyarrow.feather")
pq = pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(5)
COUNT = 60
TABLE = {
    "a": RNG.normal(size=COUNT),
    "b": RNG.integers(0, 9, COUNT).astype(np.int16),
    "kind": [f"k{i % 3}" for i in range(COUNT)],
}
VALUES = np.stack([TABLE["a"], TABLE["b"]], axis=1)
IMAGES = RNG.integers(0, 255, (COUNT, 6, 5), dtype=np.uint8)


def write(table, path, **options):
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=options.pop("group", 7), **options)
    elif path.suffix == ".feather":
        pf.write_feather(table, path, **options)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    return path


def tensors(values, shape=None, name="x"):
    flat = pa.array(values.reshape(-1))
    kind = pa.fixed_shape_tensor(flat.type, shape or list(values.shape[1:]))
    lists = pa.FixedSizeListArray.from_arrays(flat, type=kind.storage_type)
    return pa.table({name: pa.ExtensionArray.from_storage(kind, lists)})


def encoded(pixels, kind="png"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def by_groups(monkeypatch):
    monkeypatch.setattr(columnar, "MEMORY_BYTES", 0)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("t.arrow", FileRows, {}),
        ("t.feather", np.ndarray, {"compression": "lz4"}),
        ("t.feather", np.ndarray, {"compression": "zstd"}),
        ("t.feather", FileRows, {"compression": "uncompressed"}),
        ("t.parquet", np.ndarray, {}),
        ("t.parquet", np.ndarray, {"compression": "gzip"}),
    ],
)
def test_tables(name, kind, options, tmp_path):
    data = read(write(pa.table(TABLE), tmp_path / name, **options))
    assert isinstance(data.train.values, kind)
    assert (data.kind, data.columns, data.label_names) == ("table", ("a", "b"), ("k0", "k1", "k2"))
    assert np.array_equal(data.train.values[np.arange(COUNT)], VALUES)
    assert data.train.labels.tolist() == (data.train.index % 3).tolist()
    assert "labels from column 'kind'" in data.inspection.notes
    plain = read((VALUES, TABLE["kind"]))
    assert (data.scaling, data.likelihood, data.fingerprint()) == (
        plain.scaling, plain.likelihood, plain.fingerprint()
    )  # fmt: skip


def test_row_groups(by_groups, tmp_path):
    write(pa.table(TABLE), tmp_path / "t.parquet")
    data, plain = read(tmp_path / "t.parquet"), read((VALUES, TABLE["kind"]))
    assert isinstance(data.train.values, ParquetRows)
    assert data.train.values.edges.tolist() == [*range(0, 60, 7), 60]
    assert data.scaling == plain.scaling
    assert data.fingerprint() == plain.fingerprint()
    feed, memory = (Feed(d.train, d.scaling) for d in (data, plain))
    for positions, x in feed.stream(0, 3, 8):
        assert (x == memory.batch(positions)).all()
    assert sorted(feed.order(0, 3).tolist()) == list(range(54))


def test_row_groups_in_use_are_kept_and_no_more(by_groups, tmp_path, monkeypatch):
    decoded = []
    group = parquet_files.ParquetFile.group
    monkeypatch.setattr(
        parquet_files.ParquetFile, "group", lambda self, i, plan: (decoded.append(i), group(self, i, plan))[1]
    )
    monkeypatch.setattr(parquet_files, "WINDOW_BYTES", 2 * 7 * 16)
    monkeypatch.setattr("gapless.data.feed.WINDOW_BYTES", 2 * 7 * 16)
    monkeypatch.setattr("gapless.data.feed._GROUPED_BYTES", 1)
    data = read(write(pa.table(TABLE), tmp_path / "t.parquet"))
    decoded.clear()
    for _ in Feed(data.train, data.scaling).stream(0, 0, 3):
        assert len(data.train.values._kept) <= 4
    assert len(decoded) <= 9 + 4  # each group about once: those kept from before may go first


@pytest.mark.parametrize("name", ["i.arrow", "i.parquet"])
def test_images_as_tensors(name, tmp_path, by_groups):
    for shape, event in [((6, 5), (1, 6, 5)), ((6, 5, 3), (3, 6, 5)), ((3, 6, 5), (3, 6, 5)), ((4,), (4,))]:
        values = RNG.integers(0, 255, (COUNT, *shape), dtype=np.uint8)
        data = read(write(tensors(values), tmp_path / name))
        assert data.event_shape == event
        assert isinstance(data.train.values, OnDisk)
        assert np.array_equal(data.train.take([4, 0]), read(values).train.take([4, 0]))
        assert data.scaling == read(values).scaling


def test_bytes_with_a_shape_and_nested_lists(tmp_path):
    raw = pa.array([v.tobytes() for v in IMAGES], pa.binary(30))
    plain, shaped = (pa.schema([pa.field("x", pa.binary(30), metadata=m)]) for m in (None, {"shape": "[6, 5]"}))
    nested = pa.array(IMAGES.tolist(), pa.list_(pa.list_(pa.uint8(), 5), 6))
    for table, event in (
        (pa.table([raw], schema=plain), (30,)),
        (pa.table([raw], schema=shaped), (1, 6, 5)),
        (pa.table({"x": nested}), (1, 6, 5)),
    ):
        for name in ("b.arrow", "b.parquet"):
            data = read(write(table, tmp_path / name))
            assert data.event_shape == event
            assert data.train.values[slice(None)].reshape(COUNT, 6, 5).tolist() == IMAGES.tolist()


def test_labels_beside_images(tmp_path):
    table = tensors(IMAGES).append_column("label", pa.array([f"c{i % 2}" for i in range(COUNT)]).dictionary_encode())
    table = table.append_column("weight", pa.array(np.ones(COUNT)))
    data = read(write(table, tmp_path / "i.arrow"))
    assert data.label_names == ("c0", "c1")
    assert "columns left out: weight" in data.inspection.notes
    assert read(tmp_path / "i.arrow", drop=["label"]).label_names == ()
    assert read(tmp_path / "i.arrow", label="weight").label_names == ("1",)
    two = table.append_column("y", tensors(IMAGES).column(0))
    with pytest.raises(DataError, match="several columns hold items: 'x', 'y'") as caught:
        read(write(two, tmp_path / "i.arrow"))
    assert "--drop 'y'" in caught.value.fix
    assert read(tmp_path / "i.arrow", drop=["y"]).event_shape == (1, 6, 5)


def test_image_files_in_columns(tmp_path):
    cells = [{"bytes": encoded(i), "path": f"{n}.png"} for n, i in enumerate(IMAGES)]
    for column in (pa.array(cells), pa.array([c["bytes"] for c in cells])):
        table = pa.table({"image": column, "label": np.arange(COUNT) % 4})
        for name in ("i.parquet", "i.arrow"):
            data = read(write(table, tmp_path / name))
            assert np.array_equal(data.train.values[:, 0], IMAGES)
            assert (data.label_names, data.scaling.scale) == (("0", "1", "2", "3"), (255.0,))
            assert data.train.labels.tolist() == (data.train.index % 4).tolist()
            assert read(tmp_path / name, resize=(3, 4)).event_shape == (1, 3, 4)


def test_image_files_that_cannot_be_read(tmp_path):
    """Rows: mixed sizes and modes, corrupt files, 3.6-gigapixel PNG; here inside of a column."""
    from test_images import png_header

    cells = [encoded(i) for i in IMAGES[:9]]
    for bad, say in [
        (b"junk", "not an image"), (b"", "empty"), (cells[0][:40], "cannot be read"), (None, "no bytes"),
        (png_header(60_000, 60_000), "'row 4'"),
    ]:  # fmt: skip
        path = write(pa.table({"image": [*cells[:4], bad, *cells[4:]], "label": range(10)}), tmp_path / "i.parquet")
        with pytest.raises(DataError, match=say) as caught:
            read(path)
        assert "row 4" in str(caught.value)
        data = read(path, on_error="skip")
        assert data.inspection.class_counts == {str(i): int(i != 4) for i in range(10)}
        assert "skipped 1" in " ".join(data.inspection.notes)
    odd = encoded(IMAGES[0, :3])
    with pytest.raises(DataError, match="9 of 10 are 6x5") as caught:
        read(write(pa.table({"image": [*cells, odd]}), tmp_path / "i.parquet"))
    assert "row 9 3x5" in caught.value.where
    colour = encoded(np.stack([IMAGES[0]] * 3, axis=2))
    data = read(write(pa.table({"image": [*cells, colour]}), tmp_path / "i.parquet"))
    assert data.event_shape == (3, 6, 5)


@pytest.mark.parametrize("name", ["t.arrow", "t.feather", "t.parquet"])
@pytest.mark.parametrize("groups", [False, True])
def test_missing_values_are_counted_and_placed(name, groups, tmp_path, monkeypatch):
    """Row: NaN / Inf in data, refused with row, column, count."""
    if groups:
        monkeypatch.setattr(columnar, "MEMORY_BYTES", 0)
    column = TABLE["a"].copy()
    for bad, say in ((None, "missing"), (np.nan, "not finite"), (-np.inf, "not finite")):
        cells = [*column[:31].tolist(), bad, *column[32:].tolist()]
        write(pa.table({"u": TABLE["b"], "v": cells}), tmp_path / name)
        with pytest.raises(DataError, match=say) as caught:
            read(tmp_path / name)
        assert "row 31" in caught.value.where
        assert "'v'" in caught.value.where
        assert "1 " in caught.value.what


@pytest.mark.parametrize("name", ["t.arrow", "t.parquet"])
@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([[1], [2, 3]] * 30, "list<"),
        ([{"q": 1.0}] * 60, "struct<"),
        ([f"name {i}" for i in range(60)], "spellings"),
        (np.arange(60).astype("M8[D]"), "date32|timestamp"),
        ([__import__("decimal").Decimal("1.5")] * 60, "decimal128"),
        ([None] * 60, "null"),
    ],
)
def test_other_types_are_refused_by_name(name, column, said, tmp_path):
    write(pa.table({"u": TABLE["b"], "odd one": pa.array(column)}), tmp_path / name)
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path / name)
    assert "'odd one'" in str(caught.value)
    assert "--drop" in caught.value.fix
    assert read(tmp_path / name, drop=["odd one"]).columns == ("u",)


def test_columns_that_are_not_there(tmp_path):
    path = write(pa.table(TABLE), tmp_path / "t.parquet")
    for wrong in ({"label": "z"}, {"drop": ["z"]}):
        with pytest.raises(UsageError, match="no column 'z'") as caught:
            read(path, **wrong)
        assert "a, b, kind" in caught.value.fix
    with pytest.raises(DataError, match="no column is left"):
        read(path, drop=["a", "b"])
    with pytest.raises(UsageError, match="resize"):
        read(path, resize=(4, 4))
    with pytest.raises(DataError, match=r"at least 1 items|none"):
        read(write(pa.table(TABLE).slice(0, 0), tmp_path / "e.parquet"))
    with pytest.raises(DataError, match="at least 2"):
        read(write(pa.table(TABLE).slice(0, 1), tmp_path / "e.arrow"))
    assert len(read_items(tmp_path / "e.arrow").items) == 1


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_folders_of_files(suffix, tmp_path):
    table = pa.table(TABLE)
    for i, start in enumerate(range(0, COUNT, 20)):
        write(table.slice(start, 20), tmp_path / f"part-{i}.{suffix}")
    (tmp_path / f".hidden.{suffix}").write_bytes(b"x")
    (tmp_path / f"link.{suffix}").symlink_to(tmp_path / f"part-0.{suffix}")
    data = read(tmp_path)
    assert np.array_equal(data.train.values[np.arange(COUNT)], VALUES)
    write(table.rename_columns(["a", "c", "kind"]), tmp_path / f"part-9.{suffix}")
    with pytest.raises(DataError, match=r"part-9.*other"):
        read(tmp_path)
    (tmp_path / f"part-9.{suffix}").rename(tmp_path / "part-9.parquet" if suffix == "arrow" else tmp_path / "p.arrow")
    with pytest.raises(DataError, match="side by side"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["t.arrow", "t.feather", "t.parquet"])
def test_damaged_files(name, tmp_path):
    """Row: checkpoint truncated, flipped, emptied; the same for what is read: an error, or other numbers, no crash."""
    path = write(pa.table(TABLE), tmp_path / name)
    whole = path.read_bytes()
    for content in (b"", b"junk", whole[:8], whole[: len(whole) // 2], whole[:-3], bytes(300), whole[:8] + bytes(900)):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read(path)
        assert name in str(caught.value)
        assert caught.value.fix
    for at in range(0, len(whole), 37):
        flipped = bytearray(whole)
        flipped[at] ^= 0xFF
        path.write_bytes(flipped)
        with contextlib.suppress(DataError, UsageError):
            read(path)


def test_compressed_batches_are_counted_before_they_are_decompressed(tmp_path, monkeypatch):
    """Row: bombs; a column that claims a huge size."""
    path = write(pa.table({"a": np.zeros(100_000)}), tmp_path / "z.feather", compression="zstd", chunksize=100_000)
    whole = path.read_bytes()
    at = whole.index(struct.pack("<q", 100_000 * 8))
    for claim in (1 << 60, 1 << 33, -5):
        path.write_bytes(whole[:at] + struct.pack("<q", claim) + whole[at + 8 :])
        with pytest.raises(DataError, match=r"announces|readable"):
            read(path)
    path.write_bytes(whole)
    monkeypatch.setattr(arrow_files, "_BUFFER_CAP", 100_000 * 8 - 1)
    with pytest.raises(DataError, match="announces 800000 bytes"):
        read(path)


def test_parquet_that_stands_for_too_much(tmp_path, monkeypatch, by_groups):
    """Row: bombs; few bytes that stand for very many rows."""
    path = write(pa.table({"a": np.zeros(1_000_000)}), tmp_path / "z.parquet", group=1_000_000)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(parquet_files, "_GROUP_CAP", 7_999_999)
    with pytest.raises(DataError, match="row group takes") as caught:
        read(path)
    assert "gapless shards" in caught.value.fix
    monkeypatch.setattr(parquet_files, "_RATIO_CAP", 100)
    with pytest.raises(DataError, match="footer announces 1000000 rows"):
        read(path)
    monkeypatch.setattr("gapless.data.bounded.CAP_BYTES", 7_999_999)
    monkeypatch.setattr(parquet_files, "_RATIO_CAP", 1 << 20)
    monkeypatch.setattr(columnar, "MEMORY_BYTES", 1 << 30)
    with pytest.raises(DataError, match="cap is") as caught:
        read(path)
    assert "gapless shards" in caught.value.fix


def saved(folder, table, features=None, files=2):
    """What `Dataset.save_to_disk` of Hugging Face's datasets 5.2 writes: streams of record batches, two JSON files."""
    folder.mkdir(parents=True)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    names = [f"data-{i:05d}-of-{files:05d}.arrow" for i in range(files)]
    step = -(-len(table) // files)
    for i, name in enumerate(names):
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table.slice(i * step, step), max_chunksize=7)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


CLASSES = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}


def test_saved_datasets(tmp_path):
    cells = [{"bytes": encoded(i), "path": None} for i in IMAGES]
    pictures = pa.table({"image": cells, "label": np.arange(COUNT) % 2})
    data = read(saved(tmp_path / "one", pictures, CLASSES))
    assert data.label_names == ("cat", "dog")
    assert np.array_equal(data.train.values[:, 0], IMAGES)
    for part, count in (("train", 40), ("test", 15), ("more", 5)):
        saved(tmp_path / "all" / part, pictures.slice(0, count), CLASSES)
    (tmp_path / "all" / "dataset_dict.json").write_text("{}")
    data = read(tmp_path / "all")
    assert (len(data.train), len(data.held_out)) == (40, 15)
    assert "parts left out: more" in data.inspection.notes
    numbers = pa.table({"v": pa.array(VALUES.tolist(), pa.list_(pa.float32(), 2)), "label": [0, 1] * 30})
    data = read(saved(tmp_path / "numbers", numbers, CLASSES))
    assert isinstance(data.train.values, FileRows)
    assert np.array_equal(data.train.values[np.arange(COUNT)], VALUES.astype(np.float32))
    wrong = numbers.set_column(1, "label", pa.array([0, 2] * 30))
    with pytest.raises(DataError, match=r"names for 0\.\.1"):
        read(saved(tmp_path / "wrong", wrong, CLASSES))


@pytest.mark.parametrize(
    "state",
    [
        "{", "[]", "{}", '{"_data_files": 3}', '{"_data_files": [{"filename": "../x.arrow"}]}', "[" * 100_000,
        '{"_data_files": [{"filename": "/etc/passwd"}]}', '{"_data_files": [{"filename": "gone.arrow"}]}',
        '{"_data_files": [{"filename": "link.arrow"}]}',
    ],
)  # fmt: skip
def test_a_saved_folder_cannot_lead_out_of_itself(state, tmp_path):
    """Row: zip-slip, links: never leaves its folder."""
    saved(tmp_path / "d", pa.table(TABLE))
    write(pa.table(TABLE), tmp_path / "x.arrow")
    (tmp_path / "d" / "link.arrow").symlink_to(tmp_path / "x.arrow")
    (tmp_path / "d" / "state.json").write_text(state)
    with pytest.raises(DataError):
        read(tmp_path / "d")


def test_a_path_in_a_row_is_never_opened(tmp_path):
    path = tmp_path / "secret.png"
    Image.fromarray(IMAGES[0]).save(path)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    folder = saved(tmp_path / "d", pa.table({"image": pa.array([{"bytes": None, "path": str(path)}] * 4, kind)}))
    with pytest.raises(DataError, match="holds no bytes"):
        read(folder)


def test_against_datasets_itself(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [Image.fromarray(i) for i in IMAGES], "label": [i % 2 for i in range(COUNT)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "d")
    data = read(tmp_path / "d")
    assert data.label_names == ("cat", "dog")
    assert np.array_equal(data.train.values[:, 0], IMAGES)


def test_without_pyarrow(tmp_path):
    write(pa.table(TABLE), tmp_path / "t.parquet")
    code = (
        "import sys; sys.modules['pyarrow'] = sys.modules['pyarrow.parquet'] = sys.modules['pyarrow.ipc'] = None\n"
        "import gapless.data as d\nfrom gapless.errors import MissingExtra\n"
        "for act in (lambda: d.read(sys.argv[1]), lambda: d.write_shards('digits', sys.argv[1] + '.shards')):\n"
        "    try: act()\n    except MissingExtra as e: print(e.exit_code, e.fix)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.parquet")], capture_output=True, text=True)
    assert done.stdout == '6 pip install "gapless[tables]"\n' * 2, done.stderr
    assert issubclass(MissingExtra, ImportError)
