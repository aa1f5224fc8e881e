"""The single file holds all of the scene, whatever its texts, and is there whole or not at all."""

import base64
import gzip
import html
import importlib.util
import json
import lzma
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from gapless import explorer
from gapless.errors import MissingExtra, StorageError, UsageError
from gapless.explorer import export
from gapless.explorer.scene import Scene

PACK = Path(__file__).resolve().parents[2] / "web/pack.py"


class Elements(HTMLParser):
    """Every script element as (attributes, text), and every other tag's name."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.tags, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append([dict(attrs), ""])
        self.tags.append(tag)

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1][1] += data


def in_words(content):
    """Undoes the sorting of bytes by their place in words of four."""
    plain, whole = gzip.decompress(content), len(gzip.decompress(content)) // 4
    words = (plain[k + place * whole : k + place * whole + 1] for k in range(whole) for place in range(4))
    return b"".join(words) + plain[4 * whole :]


PACKINGS = {"gzip": gzip.decompress, "gzip4": in_words, "lzma": bytes}


def unpacked(text):
    """(scene, arrays by name) of a page."""
    scripts = Elements(text).scripts
    (document,) = (content for attributes, content in scripts if attributes.get("id") == "scene")
    arrays = {
        attributes["data-name"]: PACKINGS[attributes["data-encoding"]](base64.b64decode(content))
        for attributes, content in scripts
        if attributes.get("type") == "application/octet-stream"
    }
    return json.loads(document), arrays


def test_the_page_holds_the_whole_scene(scene):
    document, arrays = unpacked(export.page(scene))
    assert document == scene.document
    assert arrays.pop("runtime.wasm.lzma") == b"\0asm\1\0\0\0"
    assert arrays == scene.blobs


@pytest.mark.parametrize("odd", [0, 1, 3])
def test_floats_are_sorted_by_bytes_where_that_helps(odd):
    rows = np.random.default_rng(5).normal(size=4000).astype("<f4").tobytes() + b"x" * odd
    name, packed = export._packed(rows)
    assert (name, in_words(packed)) == ("gzip4", rows)
    assert len(packed) < 0.98 * len(gzip.compress(rows))
    text = b"words and words again, " * 100
    assert export._packed(text) == ("gzip", gzip.compress(text, 6, mtime=0))
    assert export._packed(b"")[0] == "gzip"


@pytest.mark.skipif(not PACK.is_file(), reason="no sources of the page here")
def test_the_runtime_is_packed_with_its_size_told():
    pack = importlib.util.module_from_spec(importlib.util.spec_from_file_location("pack", PACK))
    pack.__spec__.loader.exec_module(pack)
    content = np.random.default_rng(6).integers(0, 7, 5000, dtype=np.uint8).tobytes()
    packed = pack.packed(content)
    assert lzma.decompress(packed) == content
    assert int.from_bytes(packed[5:13], "little") == len(content)


def test_the_elements_come_last_in_the_body(scene):
    text = export.page(scene)
    assert text.count("</body>") == 2  # the template's script holds one in a string
    assert text.rindex("</script>") < text.rindex("</body>")
    assert text.index('id="app"') < text.index('id="scene"')


def test_the_same_scene_gives_the_same_file(scene):
    assert export.page(scene) == export.page(scene)


def test_hostile_texts_stay_texts(scene):
    nasty = "</script ></script/><script><script>alert(1)</script><!-- <script> \u2028 \u2029 ]]> \ud800 & ' \""
    columns = [nasty, "가나다"]
    hostile = Scene({**scene.document, "title": nasty, "columns": columns, "label_names": [nasty]}, scene.blobs)
    text = export.page(hostile)
    text.encode("utf-8")
    document, arrays = unpacked(text)
    assert (document["title"], document["columns"]) == (nasty, columns)
    assert len(arrays) == len(scene.blobs) + 1
    assert Elements(text).tags == Elements(export.page(scene)).tags
    assert "\u2028" not in text
    assert text.count("<script") == export.page(scene).count("<script")


def test_numbers_that_are_not_finite_become_null(scene):
    odd = Scene({**scene.document, "display": {"low": float("nan"), "high": float("inf")}}, scene.blobs)
    assert unpacked(export.page(odd))[0]["display"] == {"low": None, "high": None}


def test_the_language_is_in_the_page(scene):
    text = export.page(scene, language="ko")
    assert '<html lang="ko">' in text
    assert unpacked(text)[0]["language"] == "ko"
    assert '<html lang="en">' in export.page(scene)


def test_the_runtime_stays_out_where_no_decoder_needs_it(scene):
    panels = [{**panel, "decoder": {"rung": "lattice"}} for panel in scene.document["panels"]]
    assert "runtime.wasm.lzma" not in unpacked(export.page(Scene({**scene.document, "panels": panels}, scene.blobs)))[1]


def test_an_unbuilt_page_says_how_to_build_it(scene, monkeypatch):
    def missing(name):
        raise MissingExtra("the explorer's page is not built", fix="run `make web`")

    monkeypatch.setattr(export, "static_file", missing)
    with pytest.raises(MissingExtra, match="make web"):
        export.page(scene)


def test_the_files_of_the_build_are_looked_for_in_the_package(tmp_path, monkeypatch):
    fresh = importlib.util.find_spec("gapless.explorer.export")
    module = importlib.util.module_from_spec(fresh)
    fresh.loader.exec_module(module)
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path)
    with pytest.raises(MissingExtra, match=r"explorer\.html is missing") as error:
        module.built()
    assert error.value.fix == "run `make web` in the checkout, or use a wheel"
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "explorer.html").write_text("x")
    assert module.built() == "x"


def test_too_much_for_one_file_is_refused(scene, monkeypatch):
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(UsageError, match="too many for one file") as error:
        export.page(scene)
    assert "--items" in error.value.fix


def test_a_file_is_written_whole_or_not_at_all(scene, tmp_path):
    path = tmp_path / "잠재.html"
    size = export.write_page(scene, path)
    assert path.stat().st_size == size
    assert path.read_text("utf-8") == export.page(scene)
    with pytest.raises(StorageError, match="cannot write"):
        export.write_page(scene, tmp_path / "missing" / "latent.html")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(scene):
    view = explorer.View(scene)
    shown = view._repr_html_()
    (inside,) = re.findall(r'srcdoc="([^"]*)"', shown)
    assert html.unescape(inside) == view.html() == export.page(scene)
    assert 'sandbox="allow-scripts allow-downloads"' in shown


def test_the_explorer_opens_what_python_has(digits_study, tmp_path):
    comparison, _ = digits_study
    run = comparison.runs["vae"]
    view = explorer.explore(run, data=comparison.data, items=20, audit="none", language="ko")
    path = view.save(tmp_path / "one.html")
    assert unpacked(path.read_text("utf-8"))[0]["panels"][0]["name"] == "vae"
    with pytest.raises(UsageError, match="en or ko"):
        explorer.explore(run, language="fr")


def test_data_of_its_own_counts_as_held_out(digits_study, tmp_path):
    comparison, _ = digits_study
    view = explorer.explore({"one": comparison.runs["vae"]}, data="digits", items=20, audit="none")
    assert set(view.scene.blobs["items.held_out"]) == {1}
    assert replace(view, language="en").html() != view.html()
