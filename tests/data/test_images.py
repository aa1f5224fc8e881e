"""Folders and zips of images: every mode, every odd name, every damaged file."""

import os
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from gapless.data import read
from gapless.errors import DataError, UsageError

RNG = np.random.default_rng(2)


def rgb(seed=0, size=(6, 5)):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)


def grey(seed=0, size=(6, 5)):
    return rgb(seed, size)[..., 0].copy()


def saved(folder, pictures):
    for name, pixels in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path)
    return folder


def zipped(folder, target, prefix=""):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(folder).as_posix())
    return target


def rows(data):
    """All items in the order of the source."""
    return data.train.values


def notes(data):
    return " | ".join(data.inspection.notes)


@pytest.mark.parametrize("suffix", ["png", "BMP", "tiff", "tif", "webp"])
def test_round_trip_of_folder_and_zip(suffix, tmp_path):
    pictures = [rgb(i) for i in range(4)]
    folder = tmp_path / "in"
    for i, pixels in enumerate(pictures):
        folder.mkdir(exist_ok=True)
        options = {"lossless": True} if suffix == "webp" else {}
        Image.fromarray(pixels).save(folder / f"{i}.{suffix}", **options)
    for source in (folder, zipped(folder, tmp_path / "in.zip")):
        data = read(source)
        assert (data.event_shape, data.kind, data.label_names) == ((3, 6, 5), "image", ())
        assert rows(data).dtype == np.uint8
        assert np.array_equal(rows(data).transpose(0, 2, 3, 1), pictures)
        assert data.scaling.scale == (255.0,)


@pytest.mark.parametrize("prefix", ["", "top/", "top/inner/"])
def test_one_folder_a_class(prefix, tmp_path):
    pictures = {f"{prefix}{kind}/{i}.png": grey(i) for kind in ("b dog", "a고양이") for i in range(3)}
    folder = saved(tmp_path / "in", pictures)
    (folder / "readme.txt").write_text("no image")
    for source in (folder, zipped(folder, tmp_path / "in.zip")):
        data = read(source)
        assert data.label_names == ("a고양이", "b dog")
        assert data.inspection.class_counts == {"a고양이": 3, "b dog": 3}
        assert [data.label_names[c] for c in data.train.labels] == [
            ("a고양이", "b dog")[i // 3] for i in data.train.index
        ]


def test_images_beside_folders_have_no_labels(tmp_path):
    data = read(saved(tmp_path, {"a/0.png": grey(), "b/0.png": grey(1), "c.png": grey(2)}))
    assert data.label_names == ()
    assert "no labels" in notes(data)


def test_odd_names(tmp_path):
    names = ["-rf.png", "a b.png", "고양이.png", "line\nbreak.png", "tab\t.png", "x" * 200 + ".png", "UP.PNG"]
    data = read(saved(tmp_path, {name: grey(i) for i, name in enumerate(names)}))
    order = [names.index(name) for name in sorted(names)]
    assert np.array_equal(rows(data)[:, 0], [grey(i) for i in order])


def test_a_name_that_is_not_utf8_is_printable(tmp_path):
    saved(tmp_path, {"a.png": grey(), "b.png": grey()})
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.png", "wb") as stream:
        stream.write(b"junk")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    str(caught.value).encode()
    notes(read(tmp_path, on_error="skip")).encode()


def test_what_is_left_alone(tmp_path):
    folder = saved(
        tmp_path / "in", {"a.png": grey(0), "b.png": grey(1), ".hidden.png": grey(2), "__MACOSX/a.png": grey(3)}
    )
    outside = saved(tmp_path / "out", {"secret.png": grey(4), "more/d.png": grey(5)})
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "linked").symlink_to(outside / "more")
    (folder / "loop").symlink_to(folder)
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "inside.png").symlink_to(folder / "a.png")
    data = read(folder)
    assert np.array_equal(rows(data)[:, 0], [grey(0), grey(1), grey(0)])
    assert "5 links or special files" in notes(data)


def test_cmyk_and_palette_become_rgb(tmp_path):
    flat = np.zeros((6, 5, 3), dtype=np.uint8)
    flat[..., 0] = 200
    cmyk = Image.fromarray(flat).convert("CMYK")
    data = read(saved(tmp_path, {"a.tif": cmyk, "b.png": Image.fromarray(flat).quantize(4), "c.jpg": cmyk}))
    assert data.event_shape == (3, 6, 5)
    assert np.abs(rows(data).astype(int) - flat.transpose(2, 0, 1)).max() < 6
    assert "CMYK" in notes(data)


def test_alpha_is_composited_over_white(tmp_path):
    rgba = np.zeros((6, 5, 4), dtype=np.uint8)
    rgba[:3, :, 3] = 255
    palette = Image.new("P", (5, 6), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.info["transparency"] = 0
    data = read(saved(tmp_path, {"a.png": rgba, "b.png": palette}))
    assert rows(data)[0, :, 0].tolist() == [[0] * 5] * 3
    assert rows(data)[0, :, 5].tolist() == [[255] * 5] * 3
    assert (rows(data)[1] == 255).all()
    assert "alpha composited over white in 2 of 2" in notes(data)
    folder = saved(tmp_path / "la", {f"{i}.png": Image.fromarray(rgba).convert("LA") for i in range(2)})
    assert read(folder).event_shape == (1, 6, 5)
    assert (rows(read(folder))[:, 0, 3:] == 255).all()


def test_sixteen_bits_are_kept(tmp_path):
    deep = [RNG.integers(0, 65535, (6, 5)).astype(np.uint16) for _ in range(3)]
    saved(tmp_path, {"0.png": deep[0], "1.tif": deep[1], "2.png": deep[2]})
    data = read(tmp_path)
    assert rows(data).dtype == np.uint16
    assert np.array_equal(rows(data)[:, 0], deep)
    assert data.scaling.scale == (65535.0,)
    assert rows(read(tmp_path, resize=(3, 4))).dtype == np.uint16
    saved(tmp_path, {"3.png": grey()})
    mixed = read(tmp_path)
    assert rows(mixed).dtype == np.uint8
    assert np.array_equal(rows(mixed)[0, 0], deep[0] >> 8)
    assert "16 bits" in notes(mixed)


def test_one_bit_and_mixed_colour(tmp_path):
    saved(tmp_path, {"a.png": grey() > 100, "b.png": grey(1)})
    data = read(tmp_path)
    assert data.event_shape == (1, 6, 5)
    assert set(rows(data)[0].ravel().tolist()) == {0, 255}
    saved(tmp_path, {"c.png": rgb()})
    mixed = read(tmp_path)
    assert mixed.event_shape == (3, 6, 5)
    assert "1 of 3 images are in colour" in notes(mixed)
    assert np.array_equal(rows(mixed)[1], np.repeat(grey(1)[None], 3, axis=0))


def test_mixed_sizes_name_the_odd_ones_and_the_fix(tmp_path):
    saved(
        tmp_path, {**{f"{i}.png": grey(i) for i in range(5)}, "odd.png": grey(9, (7, 8)), "tall.png": grey(9, (9, 5))}
    )
    with pytest.raises(DataError, match="5 of 7 are 6x5") as caught:
        read(tmp_path)
    assert "odd.png 7x8" in caught.value.where
    assert caught.value.fix == "--resize 6x5"
    data = read(tmp_path, resize=(4, 3))
    assert data.event_shape == (1, 4, 3)
    assert "resized to 4x3" in notes(data)
    assert np.array_equal(rows(read(tmp_path, resize=(6, 5)))[2, 0], grey(2))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(30), None])
def test_damaged_files_stop_or_are_skipped(content, tmp_path):
    folder = saved(tmp_path / "in", {f"{i}.png": rgb(i, (40, 40)) for i in range(4)})
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    for source in (folder, zipped(folder, tmp_path / "in.zip")):
        with pytest.raises(DataError, match=r"'1\.png'") as caught:
            read(source)
        assert "--on-error skip" in caught.value.fix
        data = read(source, on_error="skip")
        assert np.array_equal(rows(data).transpose(0, 2, 3, 1), [rgb(i, (40, 40)) for i in (0, 2, 3)])
        assert "skipped 1 unreadable files: 1.png" in notes(data)


def test_labels_stay_aligned_when_files_are_skipped(tmp_path):
    saved(tmp_path, {f"{kind}/{i}.png": rgb(i, (40, 40)) for kind in "ab" for i in range(4)})
    whole = (tmp_path / "a/1.png").read_bytes()
    (tmp_path / "a/1.png").write_bytes(whole[:300])
    (tmp_path / "b/0.png").write_bytes(b"")
    data = read(tmp_path, on_error="skip")
    assert data.inspection.class_counts == {"a": 3, "b": 3}
    assert rows(data)[3].tolist() == rgb(1, (40, 40)).transpose(2, 0, 1).tolist()


def test_all_damaged_or_none_or_one(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of 1"):
        read(tmp_path, on_error="skip")
    (tmp_path / "a.png").unlink()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no images were found; 1 other") as caught:
        read(tmp_path)
    assert ".png" in caught.value.fix
    saved(tmp_path, {"one.png": grey()})
    with pytest.raises(DataError, match="at least 2"):
        read(tmp_path)
    with pytest.raises(DataError, match="one image is one item"):
        read(tmp_path / "one.png")


def png_header(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 60_000])
@pytest.mark.parametrize("limit", ["kept", "switched off"])
def test_bombs_are_refused_from_the_header(side, limit, tmp_path, monkeypatch):
    before = Image.MAX_IMAGE_PIXELS
    if limit == "switched off":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    saved(tmp_path, {"a.png": grey(), "b.png": grey()})
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    filters = list(warnings.filters)
    with pytest.raises(DataError, match=r"bomb\.png"):
        read(tmp_path)
    assert len(read(tmp_path, on_error="skip").train) == 1
    assert (Image.MAX_IMAGE_PIXELS, warnings.filters) == (None if limit == "switched off" else before, filters)


def test_memory_is_counted_from_the_headers(tmp_path, monkeypatch):
    saved(tmp_path, {f"{i}.png": grey(i) for i in range(3)})
    monkeypatch.setattr("gapless.data.bounded.CAP_BYTES", 89)
    with pytest.raises(DataError, match="cap") as caught:
        read(tmp_path)
    assert "--resize" in caught.value.fix
    monkeypatch.setattr("gapless.data.bounded.CAP_BYTES", 90)
    assert len(read(tmp_path).train) == 2


def test_other_formats_under_an_image_suffix_are_refused(tmp_path):
    saved(tmp_path, {"a.png": grey(), "b.png": grey()})
    Image.fromarray(rgb()).save(tmp_path / "c.png", format="PPM")
    with pytest.raises(DataError, match="known format"):
        read(tmp_path)


def test_animations_give_their_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((6, 5), level, dtype=np.uint8)) for level in (0, 255)]
    for name in ("a.gif", "b.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    data = read(tmp_path)
    assert rows(data).max() == 0
    assert "first is used" in notes(data)


@pytest.mark.parametrize("name", ["nowhere.npy", "nowhere", "x\0y.npy", "", "a" * 5000])
def test_paths_that_are_not_there(name):
    with pytest.raises((DataError, UsageError)) as caught:
        read(name)
    assert caught.value.fix


def test_unknown_endings_and_special_files(tmp_path):
    (tmp_path / "x.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"'\.xlsx'") as caught:
        read(tmp_path / "x.xlsx")
    assert ".npy" in caught.value.fix
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(DataError, match="no regular file"):
        read(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.zip", "x.npz"])
def test_zips_with_broken_member_names(name, tmp_path):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("고.npy", b"x" * 50)
        archive.writestr("a.png", b"x")
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace("고".encode(), b"\xff\xff\xff", 1))
    with pytest.raises(DataError):
        read(tmp_path / name)
