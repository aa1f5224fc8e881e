import math
import re

import numpy as np
import pytest
import torch

import gapless
from gapless.report.maps import frame_of
from gapless.report.pictures import Pictures, reach, sameness
from gapless.report.thumbnails import labelled, png, sheet, thumbnails
from gapless.settings import Settings


def test_the_three_tell_the_story(digits_study):
    comparison, _ = digits_study
    held = {name: run.held_out for name, run in comparison.runs.items()}
    assert list(held) == ["ae", "kl-only", "vae"]
    assert held["ae"]["reconstruction"] < held["vae"]["reconstruction"] < held["kl-only"]["reconstruction"]
    assert held["kl-only"]["kl"] < 0.01 < 1 < held["vae"]["kl"]
    assert held["ae"]["kl"] is None
    assert held["ae"]["elbo"] is None
    assert held["vae"]["elbo"] > held["kl-only"]["elbo"]
    assert [held[name]["live_share"] for name in held] == [1, 0, 1]
    assert [held[name]["effective_beta"] for name in held] == [0, None, 1]
    for name in ("kl-only", "vae"):
        assert held[name]["elbo"] == pytest.approx(-(held[name]["reconstruction"] + held[name]["kl"]))


def test_codes_spread_collapse_and_fill(digits_study):
    comparison, _ = digits_study
    radius = {name: reach(s.loc)[0] for name, s in comparison.statistics.items()}
    # 95 % of N(0, I) in two dimensions lie within 2.45.
    assert radius["ae"] > 2 * 2.45
    assert radius["kl-only"] < 0.1
    assert 1.2 < radius["vae"] < 2.8


def test_kl_only_reconstructs_everything_alike_and_near_the_mean_of_the_data(digits_study):
    comparison, _ = digits_study
    pictures = Pictures(comparison)
    assert sameness(pictures, "kl-only") < 1e-3
    assert sameness(pictures, "vae") > 0.1
    x = pictures.items
    reconstruction = comparison.model("kl-only").reconstruct(x).mean(0)
    assert (reconstruction - x.mean(0)).abs().mean() < 0.1


def test_reach_of_the_standard_normal():
    loc = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    radius, outside = reach(loc)
    assert radius == pytest.approx(math.sqrt(-2 * math.log(0.05)), abs=0.02)
    assert outside == pytest.approx(math.exp(-4.5), abs=4 * math.sqrt(math.exp(-4.5) / 200_000))


def test_the_report_is_one_file_that_needs_nothing_else(digits_study, tmp_path):
    comparison, _ = digits_study
    path = gapless.write_report(comparison, tmp_path / "보고서.html")
    html = path.read_text("utf-8")
    assert "<script" not in html
    outside = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]{1,40})""", html)
    assert outside
    assert all(link.startswith("data:image/png;base64,") for link in outside)
    assert html.count("<img") == html.count('alt="')
    # maps, grids, samples, reconstructions, interpolations and traversals of three models, and three more figures
    assert html.count("<img") == 3 * 5 + 3 * 2 + 3
    for sentence in (
        "All codes sit on one point",
        "Every reconstruction is the same picture",
        "The codes fill the rings",
    ):
        assert sentence in html
    assert path.stat().st_size < 3_000_000


def test_hostile_names_are_escaped_in_the_report(tmp_path):
    values = np.random.default_rng(0).random((40, 3))
    path = tmp_path / "<script>alert(1)<" / "img src=x>.csv"
    path.parent.mkdir()
    labels = ["<b>one</b>", "<i>two</i>"]
    rows = "".join(f"{a},{b},{c},{labels[i % 2]}\n" for i, (a, b, c) in enumerate(values))
    path.write_text("<u>,b,c,kind\n" + rows)
    data = gapless.read(path, label="kind")
    comparison = gapless.compare(data, settings=Settings(latent=3, epochs=1, hidden=(8,)))
    html = gapless.report.render_report(comparison)
    for raw in ("<script>alert", "<img src=x", "<b>one", "<u>"):
        assert raw not in html


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_reports_of_tables_of_any_latent_size(latent):
    rng = np.random.default_rng(0)
    data = gapless.read(rng.normal(size=(60, 4)))
    comparison = gapless.compare(data, settings=Settings(latent=latent, epochs=1, hidden=(8,)))
    html = gapless.report.render_report(comparison)
    assert html.count('class="tag"') == 3 * min(latent, 8)


# Pictures.


def test_images_become_grey_levels():
    values = np.array([[[[0.0, 0.5], [1.0, 2.0]]]], dtype=np.float32)
    picture = thumbnails(values, kind="image")
    assert picture[0, :, :, 0].tolist() == [[0, 128], [255, 255]]
    colour = thumbnails(np.stack([np.full((2, 2), level) for level in (0.0, 0.5, 1.0)])[None], kind="image")
    assert colour[0, 0, 0].tolist() == [0, 128, 255]


def test_table_rows_become_bars_up_and_down():
    picture = thumbnails(np.array([[3.0, -3.0, 0.0]]), kind="table", low=-2.0, high=2.0)[0]
    width = picture.shape[1] // 3
    coloured = (picture != 255).any(-1) & (picture != 160).any(-1)
    up, down, flat = (coloured[:, i * width : (i + 1) * width].sum() / width for i in range(3))
    assert up == pytest.approx(23, abs=1)
    assert down == pytest.approx(23, abs=1)
    assert flat == 0
    assert coloured[:24, :width].any()
    assert coloured[25:, width : 2 * width].any()


def test_sheets_place_pictures_in_reading_order():
    pictures = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)
    page = sheet(pictures, 3, gap=1, target=8)
    assert page.shape == (5, 8, 3)
    assert [int(page[r, c, 0]) for r in (0, 3) for c in (0, 3, 6)] == [0, 1, 2, 3, 4, 5]
    assert page[2, 0, 0] == 235
    assert png(page).startswith(b"\x89PNG")


def test_the_frame_holds_the_rings_and_the_codes():
    assert frame_of(np.zeros((5, 2))) == 3.4
    assert frame_of(np.array([[40.0, 0.0]] * 5)) == pytest.approx(44.8)


def test_the_names_of_bars_stand_below_them():
    picture = np.full((40, 300, 3), 7, np.uint8)
    found = labelled(picture, ["length", "표", "width"])
    np.testing.assert_array_equal(found[:40, :300], picture)
    assert (found[40:] < 100).any(), "something is written"
    assert labelled(picture, [f"feature {i}" for i in range(40)]).shape[0] > found.shape[0], "over several lines"
    assert (found != labelled(picture, ["length", "표", "depth"])).any()
