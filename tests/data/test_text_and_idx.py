"""Text tables and idx files: round trips, and one sentence for every malformed file."""

import gzip
import struct

import numpy as np
import pytest

from gapless.data import read
from gapless.errors import DataError, UsageError


def written(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "a,b\n1,2.5\n-3,4e2\n5,6\n"),
        ("t.csv", "\ufeffa;b\r\n1;2.5\r\n-3;4e2\r\n5;6"),
        ("t.csv", "a|b\n1|2.5\n\n-3|4e2\n5|6\n"),
        ("t.tsv", "a\tb\n1\t2.5\n-3\t4e2\n5\t6\n"),
        ("표 1.CSV", 'a,b\n"1","2.5"\n-3,4e2\n5,6\n'),
        ("t.csv", ",a,b\n0,1,2.5\n1,-3,4e2\n2,5,6\n"),
    ],
)
def test_round_trip(name, text, tmp_path):
    data = read(written(tmp_path, text, name))
    assert data.columns == ("a", "b")
    assert data.train.values.tolist() == [[1, 2.5], [-3, 400], [5, 6]]
    assert (data.kind, data.label_names) == ("table", ())


def test_without_a_header(tmp_path):
    data = read(written(tmp_path, "1,2\n3,4\n"))
    assert data.columns == ("x0", "x1")
    assert data.train.values.tolist() == [[1, 2], [3, 4]]


def test_labels_by_name_and_by_themselves(tmp_path):
    path = written(tmp_path, "a,kind,b\n1,10,2\n3,9,4\n5,10,6\n")
    data = read(path, label="kind")
    assert (data.columns, data.label_names) == (("a", "b"), ("9", "10"))
    assert data.inspection.class_counts == {"9": 1, "10": 2}
    data = read(written(tmp_path, "a,kind\n1,red\n3,2\n5,red\n"))
    assert data.label_names == ("2", "red")
    assert any("'kind'" in note for note in data.inspection.notes)


def test_drop(tmp_path):
    path = written(tmp_path, "a,name,note\n1,x,NA\n3,y,u\n5,1_000,w\n")
    with pytest.raises(DataError, match="2 columns are not numbers") as caught:
        read(path)
    assert "--drop 'name'" in caught.value.fix
    assert read(path, drop=("name", "note")).columns == ("a",)
    data = read(path, drop=("note",))
    assert data.label_names == ("1_000", "x", "y")
    with pytest.raises(UsageError, match="no column 'z'"):
        read(path, drop=("z",))
    with pytest.raises(DataError, match="no column is left"):
        read(path, drop=("a", "name", "note"))
    assert read(written(tmp_path, "a,code\n1,1_0\n3,2_0\n", "u.csv")).label_names == ("1_0", "2_0")


@pytest.mark.parametrize("cell", ["", "NA", "nan", " NaN ", "n/a", "?", "null"])
def test_missing_cells_are_counted_and_placed(cell, tmp_path):
    path = written(tmp_path, f"a,b\n\n1,2\n3,{cell}\n{cell},6\n")
    with pytest.raises(DataError, match="2 cells are missing") as caught:
        read(path)
    assert "data row 2, line 4, column 'b'" in caught.value.where


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_that_are_empty_are_a_class_without_a_name(kind, tmp_path):
    labels = ["10", "", "9", "", "10", "2"]
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        path.write_text("x,y\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        numbers = pyarrow.array([int(label) if label else None for label in labels], pyarrow.int8())
        parquet.write_table(pyarrow.table({"x": [float(i) for i in range(6)], "y": numbers}), path)
    data = read(path, label="y")
    assert data.label_names == ("", "2", "9", "10")
    for part in (data.train, data.held_out):
        assert [data.label_names[code] for code in part.labels] == [labels[row] for row in part.index]


@pytest.mark.parametrize(
    ("text", "say"),
    [
        ("a,b\n1,2\n3\n5,6\n", "line 3 has 1 cells"),
        ("a,b\n", "no rows|none"),
        ("a,b\n1,2\n", "at least 2"),
        ("a,b\n1,2\n3,inf\n", "not finite"),
        ("a;b\n1,5;2,5\n3,5;4,5\n", "not numbers"),
        ("a,b\n1,2\n3,4\n".encode("utf-16"), "UTF-8|binary"),
        ("größe,b\n1,2\n3,4\n".encode("latin-1"), "UTF-8"),
        (bytes(range(256)) * 4, "binary|UTF-8"),
        (b"a,b\n1,2\n\0\0\0,3\n", "binary"),
        ('a,b\n1,2\n"3,4\n', "readable table"),
        ("a\n" + "1" * 140000 + "x\n2\n", "field larger"),
        ("a,b\n1,2\n" + "1," * (1 << 24) + "\n", "longer than"),
        ("\n\n", "no rows"),
        ("", "empty"),
        ("a,y\n" + "\n".join(f"{i},name{i}" for i in range(100)), "not numbers"),
    ],
)
def test_malformed_tables(text, say, tmp_path):
    with pytest.raises(DataError, match=say) as caught:
        read(written(tmp_path, text))
    assert "t.csv" in str(caught.value)
    assert caught.value.fix


def idx(values, code=0x08, dims=None):
    dims = values.shape if dims is None else dims
    return struct.pack(f">BBBB{len(dims)}I", 0, 0, code, len(dims), *dims) + values.tobytes()


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, 5, 4)).astype(np.uint8)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_file_with_labels_beside_it(pack, tmp_path):
    suffix = ".gz" if pack is gzip.compress else ""
    values, labels = images(12), np.arange(12, dtype=np.uint8) % 3
    (tmp_path / f"my-images-idx3-ubyte{suffix}").write_bytes(pack(idx(values)))
    (tmp_path / f"my-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    for source in (tmp_path, tmp_path / f"my-images-idx3-ubyte{suffix}"):
        data = read(source)
        assert np.array_equal(data.train.values[:, 0], values)
        assert data.train.labels.tolist() == labels[data.train.index].tolist()
        assert data.likelihood == "NormalWithOptimalScale"


@pytest.mark.parametrize(("code", "dtype"), [(0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_idx_types(code, dtype, tmp_path):
    values = (np.arange(24).reshape(6, 4) - 9).astype(dtype)
    (tmp_path / "t.idx").write_bytes(idx(values, code))
    assert read(tmp_path / "t.idx").train.values.tolist() == values.tolist()


def test_idx_folder_with_its_own_held_out_part(tmp_path):
    train, test = images(8, 1), images(5, 2)
    for name, values in (("train", train), ("t10k", test)):
        (tmp_path / f"{name}-images.idx3-ubyte").write_bytes(idx(values))
        (tmp_path / f"{name}-labels.idx1-ubyte").write_bytes(idx(np.full(len(values), len(values), dtype=np.uint8)))
    data = read(tmp_path, held_out=0.5)
    assert np.array_equal(data.train.take(np.arange(8))[:, 0], train)
    assert np.array_equal(data.held_out.take(np.arange(5))[:, 0], test)
    assert data.inspection.class_counts == {"5": 5, "8": 8}
    assert set(data.held_out.labels) == {0}
    assert any("its own held-out part" in note for note in data.inspection.notes)


@pytest.mark.parametrize(
    "content",
    [
        idx(images(4))[:-1],
        idx(images(4)) + b"\0",
        idx(images(4))[:9],
        b"\x01\0\x08\x03" + bytes(30),
        idx(images(4), code=0x07),
        idx(images(4), dims=(2**31, 2**31, 2**31)),
        idx(images(4), dims=(2**10, 2**10, 2**10)),
        idx(images(0)),
        idx(images(1)),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_malformed_idx(content, pack, tmp_path):
    path = tmp_path / ("a-images-idx3-ubyte" + (".gz" if pack is gzip.compress else ""))
    path.write_bytes(pack(content))
    with pytest.raises(DataError) as caught:
        read(path)
    assert path.name in str(caught.value)


def test_truncated_gzip_and_wrong_labels(tmp_path):
    path = tmp_path / "a-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(images(400)))[:-200])
    with pytest.raises(DataError, match="damaged"):
        read(path)
    path.write_bytes(gzip.compress(idx(images(6))))
    (tmp_path / "a-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(5, dtype=np.uint8))))
    with pytest.raises(DataError, match="6 items"):
        read(path)
