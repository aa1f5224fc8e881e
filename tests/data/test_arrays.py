"""Arrays, .npy and .npz: every accepted shape and dtype, every refusal in one sentence."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from gapless.data import read
from gapless.errors import DataError, UsageError

RNG = np.random.default_rng(0)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize(
    ("shape", "kind", "event"),
    [
        ((9,), "table", (1,)),
        ((9, 5), "table", (5,)),
        ((9, 6, 7), "image", (1, 6, 7)),
        ((9, 6, 7, 3), "image", (3, 6, 7)),
        ((9, 3, 6, 7), "image", (3, 6, 7)),
        ((9, 2, 7, 4), "image", (4, 2, 7)),
    ],
)
def test_shapes(shape, kind, event):
    values = RNG.integers(0, 255, shape).astype(np.uint8)
    data = read(values)
    assert (data.kind, data.event_shape) == (kind, event)
    assert np.shares_memory(data.train.values, values)
    assert data.train.values.dtype == np.uint8
    assert len(data.train) + len(data.held_out) == 9
    assert any("channels could be first" in note for note in data.inspection.notes) == (shape == (9, 2, 7, 4))


def test_channels_last_puts_each_pixel_in_its_place():
    values = RNG.random((5, 6, 7, 3))
    data = read(values)
    row = data.train.take([0])[0]
    assert row[2, 4, 5] == values[data.train.index[0], 4, 5, 2]


@pytest.mark.parametrize("dtype", [">f8", "<f4", ">i2", "f2", "u4", "i8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_byte_and_memory_order_do_not_matter(dtype, order, tmp_path):
    plain = RNG.integers(0, 2, (20, 3))
    np.save(tmp_path / "x.npy", np.array(plain, dtype=dtype, order=order))
    for source in (np.array(plain, dtype=dtype, order=order), tmp_path / "x.npy"):
        data = read(source)
        assert data.train.take(np.arange(len(data.train))).tolist() == plain[data.train.index].tolist()
        assert data.inspection.binary
        assert data.likelihood == "Bernoulli"


@pytest.mark.parametrize(
    ("values", "say"),
    [
        (np.zeros((4, 2), dtype=complex), "complex"),
        (np.array([["a", "b"], ["c", "d"]]), "real numbers"),
        (np.array([[1, None], [2, 3]], dtype=object), "object"),
        (np.zeros((4, 2), dtype="M8[D]"), "datetime"),
        (np.zeros((4, 2), dtype="m8[s]"), "timedelta"),
        (np.zeros(4, dtype=[("a", int), ("b", float)]), "real numbers"),
        (np.zeros((0, 3)), "none"),
        (np.zeros((1, 3)), "at least 2"),
        (np.zeros((5, 0)), "empty"),
        (np.zeros((2, 2, 2, 2, 2)), "1 to 4 dimensions"),
        (np.float64(3), "1 to 4 dimensions"),
        (np.zeros((3, 8, 8, 8)), "channels"),
        (np.ma.masked_array(np.zeros((3, 2)), mask=np.eye(3, 2)), "masked"),
        (np.array([[1e200, 0.0], [0.0, 1.0]]), "too large"),
    ],
)
def test_unusable_arrays_are_refused(values, say):
    with pytest.raises(DataError, match=say) as caught:
        read(values)
    assert caught.value.fix


@pytest.mark.parametrize("source", [None, {}, (1, 2, 3), torch.zeros(3, 2, requires_grad=True), object()])
def test_what_is_no_data_is_refused(source):
    with pytest.raises(UsageError):
        read(source)


def test_torch_tensors_are_arrays():
    assert read(torch.arange(12.0).reshape(6, 2)).event_shape == (2,)


def test_not_finite_values_are_counted_and_placed(monkeypatch):
    monkeypatch.setattr("gapless.data.inspection._CHUNK_VALUES", 12)
    table = np.zeros((50, 4))
    table[31, 2] = np.nan
    table[40, 0] = np.inf
    with pytest.raises(DataError, match="2 of 200 values") as caught:
        read(table)
    assert "row 31" in str(caught.value)
    assert "'x2'" in str(caught.value)
    images = np.zeros((5, 4, 4), dtype=np.float32)
    images[3, 1, 2] = -np.inf
    with pytest.raises(DataError, match="item 3, channel 0, pixel row 1, pixel column 2"):
        read(images)


def test_labels_of_any_kind():
    values = np.arange(24.0).reshape(6, 4)
    for labels, names in [
        ([10, 2, 10, 2, 2, 2], ("2", "10")),
        (["b", "a", "b", "a", "a", "b"], ("a", "b")),
        (["10", "9", "100", "9", "9", "10"], ("9", "10", "100")),
        ([1.0, 0.0, 1.0, 0.0, 0.0, 0.0], ("0", "1")),
        (np.array([[True], [False], [True], [False], [False], [True]]), ("False", "True")),
    ]:
        data = read((values, labels), held_out=0.4)
        assert data.label_names == names
        flat = np.asarray(labels).ravel()
        for part in (data.train, data.held_out):
            assert part.labels.dtype == np.int64
            assert [float(v) if v.isdigit() else v for v in (names[c] for c in part.labels)] == [
                float(v) if str(v).replace(".0", "").isdigit() else str(v) for v in flat[part.index].tolist()
            ]
        assert sum(data.inspection.class_counts.values()) == 6


@pytest.mark.parametrize("labels", [[1, 2], np.zeros((6, 2)), [None] * 6, [0, 1, 2, np.nan, 1, 1], [1j] * 6])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(DataError, match="label"):
        read((np.arange(12.0).reshape(6, 2), labels))


def test_npy_is_mapped_and_stays_mapped(tmp_path):
    path = tmp_path / "한글 이름 x.npy"
    np.save(path, RNG.integers(0, 255, (30, 4, 5, 3)).astype(np.uint8))
    data = read(path)
    assert isinstance(data.train.values, np.memmap)
    assert data.event_shape == (3, 4, 5)
    assert data.source == str(path)


def test_stored_npz_members_are_mapped_at_their_place(tmp_path):
    values, labels = RNG.random((40, 3)), RNG.integers(0, 3, 40)
    np.savez(tmp_path / "stored.npz", first=np.arange(5), X=np.asfortranarray(values), y=labels)
    np.savez_compressed(tmp_path / "packed.npz", first=np.arange(5), X=np.asfortranarray(values), y=labels)
    stored, packed = read(tmp_path / "stored.npz"), read(tmp_path / "packed.npz")
    assert isinstance(stored.train.values, np.memmap)
    assert not isinstance(packed.train.values, np.memmap)
    for data in (stored, packed):
        assert np.array_equal(data.train.values, values)
        assert [int(data.label_names[c]) for c in data.train.labels] == labels[data.train.index].tolist()


def test_npz_members_are_picked_or_asked_for(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros((5, 2)), b=np.ones((5, 3)), who=np.arange(5), y=np.linspace(0, 1, 5))
    with pytest.raises(DataError, match="not clear") as caught:
        read(tmp_path / "two.npz")
    assert "--array" in caught.value.fix
    data = read(tmp_path / "two.npz", array="b", label="who")
    assert data.event_shape == (3,)
    assert data.label_names == ("0", "1", "2", "3", "4")
    assert read(tmp_path / "two.npz", array="b").label_names == ()  # y is a measurement
    with pytest.raises(UsageError, match="no array 'c'"):
        read(tmp_path / "two.npz", array="c")


def test_sparse_npz_becomes_a_table(tmp_path):
    dense = RNG.integers(0, 40, (30, 8)) * (RNG.random((30, 8)) < 0.3)
    rows, columns = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=30))])
    parts = {"data": dense[rows, columns], "indices": columns, "indptr": indptr, "shape": np.array([30, 8])}
    np.savez_compressed(tmp_path / "s.npz", **parts, format=b"csr")
    data = read(tmp_path / "s.npz")
    assert np.array_equal(data.train.values, dense)
    notes = " ".join(data.inspection.notes)
    assert "sparse" in notes
    assert "counts" in notes
    for key, wrong in [("indices", columns + 8), ("indptr", indptr[:-1]), ("shape", np.array([10**9, 10**9]))]:
        np.savez(tmp_path / "bad.npz", **{**parts, key: wrong})
        with pytest.raises(DataError):
            read(tmp_path / "bad.npz")


def test_objects_are_refused_without_unpickling(tmp_path):
    np.save(tmp_path / "o.npy", np.array([[Bomb()], [Bomb()]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", X=np.array([[Bomb()], [Bomb()]], dtype=object))
    np.savez(tmp_path / "y.npz", X=np.zeros((2, 2)), y=np.array([Bomb(), Bomb()], dtype=object))
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("o.npy", "o.npz", "y.npz", "p.npy"):
        with pytest.raises(DataError):
            read(tmp_path / name)


def header_only(shape, dtype="<f8"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(10**9, 10**9), (2**62, 2**62), (100, 4), (-4, 2)])
def test_headers_that_announce_too_much(shape, tmp_path):
    content = header_only(shape) + bytes(64)
    (tmp_path / "x.npy").write_bytes(content)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / f"x{compression}.npz", "w", compression) as archive:
            archive.writestr("X.npy", content)
    for name in ("x.npy", "x0.npz", "x8.npz"):
        with pytest.raises(DataError):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.zip", "x-images-idx3-ubyte", "x-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n3,4\n", b"\x93NUMPY", b"PK\x03\x04" + bytes(40), bytes(9)])
def test_files_of_the_wrong_content(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert caught.value.fix


def test_a_damaged_compressed_npz_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", X=RNG.random((200, 5)))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|readable"):
        read(tmp_path / "x.npz")
