"""Tar files of images: read through, nothing put on disk, nothing followed, nothing trusted."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from gapless.data import read, records, write_shards
from gapless.errors import DataError

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 255, (12, 6, 5), dtype=np.uint8)


def encoded(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def members(labels=True, order=("cls", "png", "json")):
    for i, image in enumerate(IMAGES):
        files = {"png": encoded(image), "cls": f"{i % 3}\n".encode(), "json": b"{}"}
        for ending in order:
            if labels or ending != "cls":
                yield f"set/{i:04d}.{ending}", files[ending]


def tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if not isinstance(name, tarfile.TarInfo):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.TAR.xz", "w:xz")],
)
@pytest.mark.parametrize("order", [("cls", "png", "json"), ("json", "png", "cls")])
def test_round_trip(name, mode, order, tmp_path):
    data = read(tar(tmp_path / name, members(order=order), mode))
    assert np.array_equal(data.train.values[:, 0], IMAGES)
    assert data.label_names == ("0", "1", "2")
    assert data.train.labels.tolist() == (data.train.index % 3).tolist()
    assert read(tar(tmp_path / "b.tar", members(labels=False))).label_names == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "b.tar"])


def test_a_folder_of_tars_to_shards(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "w").mkdir()
    files = list(members())
    for i in range(3):
        tar(tmp_path / "w" / f"part-{i}.tar", files[12 * i : 12 * i + 12])
    write_shards(tmp_path / "w", tmp_path / "s", resize=(3, 4))
    plain, data = read(tmp_path / "w", resize=(3, 4)), read(tmp_path / "s")
    assert data.fingerprint() == plain.fingerprint()
    assert data.label_names == ("0", "1", "2")
    assert data.event_shape == (1, 3, 4)


def test_other_labels_and_odd_names(tmp_path):
    """Row: names with tabs, newlines, Korean, 200 characters, leading dashes, bytes that are not UTF-8."""
    names = ["-rf", "a b", "고양이", "line\nbreak", "tab\t", "x" * 200, "\udcff\udcfe", "../../up", "/abs"]
    files = []
    for i, name in enumerate(names):
        files += [(f"{name}.png", encoded(IMAGES[i])), (f"{name}.kind.txt", f"k{i % 2}".encode())]
    data = read(tar(tmp_path / "a.tar", files), label="kind.txt")
    assert np.array_equal(data.train.values[:, 0], IMAGES[: len(names)])
    assert data.label_names == ("k0", "k1")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]
    files[4] = (files[4][0], b"junk")
    with pytest.raises(DataError, match="고양이"):
        read(tar(tmp_path / "a.tar", files), label="kind.txt")
    assert len(read(tmp_path / "a.tar", label="kind.txt", on_error="skip").train) == 7
    "".join(read(tmp_path / "a.tar", on_error="skip").inspection.notes).encode()


def test_links_and_devices_are_left_alone(tmp_path):
    """Row: tar links, FIFO, link loops."""
    Image.fromarray(IMAGES[0]).save(tmp_path / "secret.png")
    kinds = [
        (special("l.png", tarfile.SYMTYPE, str(tmp_path / "secret.png")), b""),
        (special("loop.png", tarfile.SYMTYPE, "loop.png"), b""),
        (special("h.png", tarfile.LNKTYPE, "set/0000.png"), b""),
        (special("f.png", tarfile.FIFOTYPE), b""),
        (special("c.png", tarfile.CHRTYPE), b""),
        (special("d.png", tarfile.DIRTYPE), b""),
    ]
    data = read(tar(tmp_path / "a.tar", [*kinds, *members(), *kinds]))
    assert np.array_equal(data.train.values[:, 0], IMAGES)


def test_damaged_files(tmp_path):
    whole = tar(tmp_path / "a.tar.gz", members(), "w:gz").read_bytes()
    plain = tar(tmp_path / "a.tar", members()).read_bytes()
    for name, content in [
        ("a.tar.gz", whole[: len(whole) // 2]), ("a.tar.gz", whole[:40] + b"x" * 40 + whole[80:]),
        ("a.tar", plain[:700]), ("a.tar", b"junk" * 300), ("a.tar", bytes(2048)),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
        assert caught.value.fix
    with pytest.raises(DataError, match="no images"):
        read(tar(tmp_path / "a.tar", [("a.txt", b"x")]))
    with pytest.raises(DataError, match=r"labels|no label"):
        read(tar(tmp_path / "a.tar", [*members(), ("z.png", encoded(IMAGES[0]))]))
    with pytest.raises(DataError, match="has no label; others have"):
        read(tar(tmp_path / "a.tar", [("a.png", encoded(IMAGES[0])), *members()]))


def test_members_that_announce_too_much(tmp_path, monkeypatch):
    """Row: bombs; the size in a header is refused before anything is read."""
    monkeypatch.setattr("gapless.data.tars.MAX_FILE", 10_000)
    big = tarfile.TarInfo("big.png")
    big.size = 10_001
    with pytest.raises(DataError, match="announces 10001 bytes"):
        read(tar(tmp_path / "a.tar.gz", [*members(), (big, bytes(10_001))], "w:gz"))
    with pytest.raises(DataError, match="has 5000 bytes"):
        read(tar(tmp_path / "a.tar", [("a.cls", bytes(5000)), ("a.png", b"")]))
    monkeypatch.setattr("gapless.data.tars.MAX_FILE", 600)
    long = tarfile.TarInfo("n" * 900 + ".txt")  # its name is stored as a member that tarfile would read whole
    with pytest.raises(DataError, match="asks for"):
        read(tar(tmp_path / "a.tar", [(long, b"")]))
    monkeypatch.setattr(records, "MAX_FILE", 10)
    with pytest.raises(DataError, match="larger than"):
        read(tar(tmp_path / "a.tar", members()))


def test_every_image_that_was_skipped_is_recorded(tmp_path):
    broken = [(f"set/broken-{i:02d}.png", b"no image") for i in range(25)]
    data = read(tar(tmp_path / "a.tar", [*members(labels=False), *broken]), on_error="skip")
    (note,) = (note for note in data.inspection.notes if note.startswith("skipped"))
    assert note.startswith("skipped 25 unreadable files: ")
    assert all(name in note for name, _ in broken)
