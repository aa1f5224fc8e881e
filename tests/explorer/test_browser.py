"""The exported file in a real browser, opened from disk without a network: what it decodes, says and draws is true."""

import csv
import io
from itertools import pairwise
from pathlib import Path

import browsing
import numpy as np
import pytest
from browsing import Visit, close_to, draw, settled

pytestmark = pytest.mark.skipif(bool(browsing.chromium()[1]), reason=browsing.chromium()[1])
ALPHA = """(sheet, [x, y, reach]) => { const kept = document.createElement('canvas'), side = 2 * reach + 1;
  kept.width = kept.height = side;
  const pen = kept.getContext('2d'), ratio = sheet.width / sheet.clientWidth;
  pen.drawImage(sheet, x * ratio - reach, y * ratio - reach, side, side, 0, 0, side, side);
  return pen.getImageData(0, 0, side, side).data.filter((one, k) => k % 4 === 3 && one > 0).length }"""
MEASURES = ("smoothness", "evenness", "cliff_free", "data_like", "coverage", "identification", "explained_variance")


def test_the_file_opens_from_disk_and_asks_for_nothing(digits, visit):
    one = visit(digits)
    one.hover(2, 0.4, -0.6)
    assert one.asked[0] == digits.address
    assert {address for address in one.asked if not address.startswith(("blob:", "data:"))} == {digits.address}
    assert [panel["rung"] for panel in one.state()["panels"]] == ["onnx"] * 3
    assert not one.breaches()
    assert not one.complaints


def test_a_breach_and_a_request_would_be_seen(digits, browser):
    one = Visit(browser, digits.address)
    one.page.evaluate("() => fetch('http://example.org/x').catch(() => 0)")
    one.page.wait_for_timeout(100)
    assert one.breaches() == ["connect-src http://example.org/x"]
    assert one.complaints
    one.context.close()


def test_every_movement_decodes_what_the_model_decodes(digits, visit):
    one, seen = visit(digits), []
    for a, b in ((-1.2, 0.7), (0.0, 0.0), (1.3, -0.8), (2.4, 2.4)):
        panel = one.hover(2, a, b)
        half_a_pixel = 0.6 / (one.map(2).bounding_box()["height"] / (2 * panel["view"]["half"]))
        np.testing.assert_allclose(panel["z"], [a, b], atol=half_a_pixel)
        for k, each in enumerate(one.state()["panels"]):
            close_to(digits, k, each)
        seen.append(panel["decoded"])
    assert all(np.abs(np.subtract(x, y)).max() > 0.05 for x, y in pairwise(seen))


def test_what_is_painted_is_what_was_decoded(digits, visit):
    one = visit(digits)
    decoded = np.array(one.hover(2, 1.0, 0.4)["decoded"]).reshape(8, 8)
    read = """(canvas) => { const p = canvas.getContext('2d'), {width: w, height: h} = canvas;
      const all = p.getImageData(0, 0, w, h).data, at = (i, side) => Math.floor((i + 0.5) * side / 8);
      return Array.from({length: 64}, (_, i) => all[4 * (at(Math.floor(i / 8), h) * w + at(i % 8, w))]) }"""
    painted = np.array(one.page.locator(".decode-picture canvas").nth(2).evaluate(read)).reshape(8, 8)
    np.testing.assert_allclose(painted, np.clip(decoded, 0, 1) * 255, atol=1.01)


def test_the_place_is_said_in_words(digits, visit):
    one = visit(digits)
    for a, b in ((0.3, 0.5), (3.2, 3.2)):
        panel = one.hover(2, a, b)
        reading, z = panel["reading"], np.array(panel["z"])
        assert reading["logPrior"] == pytest.approx(-np.log(2 * np.pi) - z @ z / 2, abs=1e-5)
        words, shown = (
            reading["words"].replace("\xa0", " "),
            one.page.locator("#read-2").inner_text().replace("\xa0", " "),
        )
        assert words in shown
        assert f"{reading['logPrior']:.1f} nats".replace("-", "−") in shown
        far = reading["gap"] > 1
        assert ("no data within" in words, "unlike any data" in shown) == (far, far)
        law = digits.scene.document["panels"][2]["law"]
        codes = np.stack([digits.loc(2, i) for i in range(600)])
        nearest = np.linalg.norm((codes - z) @ np.array(law["whiten"]).T, axis=1)
        assert reading["item"] == nearest.argmin()
        assert reading["sigma"] == pytest.approx(nearest.min(), rel=1e-3, abs=1e-4)
        one.page.wait_for_function(
            "(words) => document.getElementById('live').textContent.includes(words)", arg=reading["words"]
        )
        assert "a picture of mean brightness" in one.page.locator("#live").inner_text()
    assert one.page.locator("#live").get_attribute("aria-live") == "polite"


def test_panels_are_linked_by_item_by_place_or_not(digits, visit):
    one = visit(digits)
    item = one.hover(2, 0.8, 0.3)["reading"]["item"]
    for k in (0, 1):
        np.testing.assert_allclose(one.panel(k)["z"], digits.loc(k, item), atol=1e-6)
    link = one.page.get_by_label("Panels follow")
    link.select_option("place")
    z = one.hover(2, -0.8, 0.3)["z"]
    assert [panel["z"] for panel in one.state()["panels"]] == [z] * 3
    link.select_option("off")
    one.hover(2, 0.1, 1.1)
    assert [panel["z"] == z for panel in one.state()["panels"]] == [True, True, False]


def test_a_click_opens_an_item_and_arrows_walk_on(digits, visit):
    one = visit(digits)
    one.page.mouse.click(*one.at(2, *digits.loc(2, 17)))
    one.wait("s.item !== null && s.tab === 'item'")
    item = one.state()["item"]
    assert np.linalg.norm(digits.loc(2, item) - digits.loc(2, 17)) < 0.15
    assert one.page.locator("#dock-body h3").inner_text() == f"Item {item}"
    for k, panel in enumerate(one.state()["panels"]):
        np.testing.assert_allclose(panel["z"], digits.loc(k, item), atol=1e-6)
    for label, count in (("input", 1), ("reconstruction", 3), ("difference", 3)):
        assert one.page.locator(f'#dock-body canvas[aria-label="{label}"]').count() == count
    one.picture("item")
    one.map(2).focus()
    one.page.keyboard.press("ArrowRight")
    one.wait("s.item !== item", item=item)
    assert digits.loc(2, one.state()["item"])[0] > digits.loc(2, item)[0]
    before = one.state()["item"]
    one.page.get_by_role("button", name="Next item").click()
    assert one.state()["item"] == (before + 1) % 600


def test_the_costs_and_locs_of_an_item_are_those_of_the_model(digits, visit):
    one = visit(digits, hash="#v=1&tab=item&item=5")
    text = one.page.locator(".coded").nth(2).inner_text()
    cost = np.frombuffer(digits.scene.blobs["vae.error"], "<f4")[5]
    assert f"cost {cost:.1f} nats" in text
    assert all(f"{value:.2f}".replace("-", "−") in text for value in digits.loc(2, 5))


def test_a_path_has_its_film_its_chart_and_its_codes(digits, visit):
    one = visit(digits, accept_downloads=True)
    draw(one, (-1.0, 0.6), (1.0, 0.5), (3.2, 3.2))
    codes = np.array(one.panel(2)["walk"]["codes"])
    assert codes.shape == (15, 2)
    walked = one.page.locator(".walked").nth(2)
    assert walked.locator(".film button").count() == 15
    assert walked.locator(".chart svg").count() == 3
    assert "Leaves the data" in walked.inner_text()  # (3.2, 3.2) is far from everything
    one.picture("path")
    with one.page.expect_download() as started:
        walked.get_by_role("button", name="CSV of z").click()
    text = Path(started.value.path()).read_text()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["step", "z0", "z1"]
    np.testing.assert_allclose(np.array(rows[1:], float)[:, 1:], codes, atol=1e-6)
    walked.locator(".film button").nth(7).click()
    one.wait("s.panels[2].z.every((one, i) => Math.abs(one - z[i]) < 1e-5)", z=codes[7].tolist())
    one.wait("!s.panels[2].stale")
    close_to(digits, 2, one.panel(2))


def test_the_change_along_a_path_is_that_of_the_model(digits, visit):
    one = visit(digits)
    draw(one, (-1.0, 0.6), (1.2, -0.5))
    outputs = digits.decode(2, one.panel(2)["walk"]["codes"]).reshape(15, -1)
    steps = np.linalg.norm(np.diff(outputs, axis=0), axis=1)
    said = one.page.locator(".walked").nth(2).locator("svg").first.get_attribute("aria-label")
    assert said.endswith(f"largest step {steps.max() / steps.mean():.1f} times the mean")


@pytest.mark.parametrize(("kind", "head"), [("PNG strip", b"\x89PNG"), ("GIF", b"GIF89a")])
def test_films_are_saved(digits, visit, kind, head):
    from PIL import Image

    one = visit(digits, accept_downloads=True)
    draw(one, (-1.0, 0.6), (1.0, 0.5))
    with one.page.expect_download() as started:
        one.page.locator(".walked").nth(2).get_by_role("button", name=kind).click()
    content = Path(started.value.path()).read_bytes()
    assert content.startswith(head)
    with Image.open(io.BytesIO(content)) as picture:
        assert getattr(picture, "n_frames", 1) == (28 if kind == "GIF" else 1)  # there and back


def test_the_audit_says_what_the_card_says(digits, visit):
    one = visit(digits)
    for k, panel in enumerate(digits.scene.document["panels"]):
        rows = one.page.locator(".audit > .row")
        assert panel["card"]["verdict"] in rows.nth(0).inner_text()
        for number, name in enumerate(MEASURES):
            cell, measure = rows.nth(number + 1).locator("[role=cell]").nth(k), panel["card"][name]
            value, low, high = (f"{measure[part]:.3f}" for part in ("value", "low", "high"))
            said = f"{value}, 95 % interval {low} to {high}, n = {measure['n']:,}"
            assert cell.locator(".interval").get_attribute("aria-label") == said
            assert cell.locator(".value").inner_text() == f"{measure['value']:.2f}"


def test_the_first_window_shows_every_item(digits, visit):
    one = visit(digits)
    for k, panel in enumerate(one.state()["panels"]):
        codes = np.stack([digits.loc(k, i) for i in range(600)])
        assert np.abs(codes).max() < panel["view"]["half"]
        assert panel["view"]["half"] == panel["plane"]["half"]  # and every item lies on the scored lattice
        assert one.map(k).locator("xpath=..").locator(".badge.low").count() == 0


def test_codes_that_are_one_point_are_said_to_be(digits, visit):
    one = visit(digits)
    told = [one.page.locator(f"#all-{k}").inner_text() for k in range(3)]
    assert told == ["", "all 600 items lie here", ""]
    assert "all-1" in one.map(1).get_attribute("aria-describedby")
    settled(one)
    middle = np.mean([digits.loc(1, item) for item in range(600)], 0)
    (x, y), box = one.at(1, *middle), one.map(1).bounding_box()
    sheets = [one.map(1).locator(f"canvas.{name}") for name in ("points", "over", "cursor")]
    points, over, cursor = (sheet.evaluate(ALPHA, [x - box["x"], y - box["y"], 3]) for sheet in sheets)
    assert points > 12
    assert (over, cursor) == (0, 0)  # no name, ring or cross lies on them


def test_a_window_wider_than_the_lattice_says_where_the_scores_end(digits, visit):
    one = visit(digits)
    box = one.map(2).bounding_box()
    outside = [6, box["height"] / 2 + 0.5, 3]
    assert one.map(2).locator("canvas.under").evaluate(ALPHA, [box["width"] / 2, 20, 3]) > 0  # hatched: a gap
    for _ in range(3):
        one.map(2).locator("xpath=..").get_by_role("button", name="Zoom out").click()
    settled(one)
    assert one.map(2).locator("canvas.under").evaluate(ALPHA, outside) == 49  # all of it veiled
    one.page.locator(".layers label", has_text="gaps").locator("input").uncheck()
    settled(one)
    assert one.map(2).locator("canvas.under").evaluate(ALPHA, outside) == 0


def test_all_of_the_audit_is_seen_at_once(digits, visit):
    one = visit(digits, width=1440, height=900)
    notes = one.page.locator(".findings .note")
    assert notes.count() == 3
    for k in range(3):
        box = notes.nth(k).bounding_box()
        assert box["y"] + box["height"] <= 900


def test_the_numbers_of_an_item_keep_together(eight, visit):
    one = visit(eight, hash="#v=1&tab=item&item=5")
    assert one.page.locator(".features").bounding_box()["width"] <= 400
    one.tab("plane")
    assert "Pick three items first" in one.page.locator(".planes .rail").inner_text()


def test_a_model_without_an_audit_opens_on_its_items(table, visit):
    one = visit(table)
    assert one.state()["tab"] == "item"
    assert "Click an item on a map" in one.page.locator("#dock-body").inner_text()


def test_a_finding_moves_the_camera(digits, visit):
    holes = digits.scene.document["panels"][0]["holes"]
    if not holes:
        pytest.skip("the audit found no hole in this AE")
    one = visit(digits)
    before = one.panel(0)["view"]
    one.page.locator(".findings").nth(0).get_by_role("button").first.click()
    one.wait("s.panels[0].view.half < half", half=before["half"])
    panel, place = one.panel(0), holes[0]["place"]
    np.testing.assert_allclose([panel["view"]["cx"], panel["view"]["cy"]], place, atol=1e-5)
    np.testing.assert_allclose(panel["z"], place, atol=1e-5)
    one.wait("!s.panels[0].stale")
    close_to(digits, 0, one.panel(0))


@pytest.mark.slow
def test_every_layer_can_be_shown_and_hidden(digits, visit):
    one = visit(digits)
    boxes = one.page.locator(".layers input")
    assert boxes.count() == 8
    for k in range(8):
        before, panel = settled(one), boxes.nth(k).is_checked()
        boxes.nth(k).set_checked(not panel)
        changed = settled(one)
        assert changed != before, one.page.locator(".layers label").nth(k).inner_text()
        boxes.nth(k).set_checked(panel)
        assert settled(one) == before


def test_the_address_restores_the_view(digits, visit):
    one = visit(digits)
    one.page.get_by_label("Panels follow").select_option("place")
    one.page.locator(".layers input").nth(1).check()
    draw(one, (-1.0, 0.6), (1.0, 0.5))
    one.page.mouse.move(*one.at(1, 0.5, 0.5))
    one.page.mouse.wheel(0, -300)
    one.page.get_by_role("button", name="한국어").click()
    one.page.wait_for_timeout(700)
    hash, first = one.page.evaluate("() => location.hash"), one.state()
    two = visit(digits, hash=hash)
    second = two.state()
    for key in ("language", "tab", "link"):
        assert second[key] == first[key]
    assert two.page.locator(".layers input").nth(1).is_checked()
    for old, new in zip(first["panels"], second["panels"], strict=True):
        np.testing.assert_allclose(new["z"], old["z"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(list(new["view"].values()), list(old["view"].values()), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(new["walk"]["codes"], old["walk"]["codes"], rtol=1e-3, atol=1e-3)


def test_a_hostile_address_is_left_out(digits, visit):
    one = visit(
        digits, hash="#v=1&lang=xx&tab=%3Cb%3E&item=99999999&at=77&p0=x9.9~NaN~0,0,-1~1,2,3~%3Cscript%3E&layers=zzz"
    )
    assert (one.state()["language"], one.state()["item"]) == ("en", None)
    close_to(digits, 2, one.hover(2, 0.1, 0.2))


def test_planes_and_sliders_reach_every_latent_feature(eight, visit):
    one = visit(eight)
    assert one.state()["tab"] == "plane"
    one.picture("planes")
    order = eight.scene.document["panels"][0]["order"]
    chooser = one.page.locator(".chooser select").first
    assert one.page.locator(".slider").count() == 6
    assert "slice" in one.page.locator(".badge.slice").inner_text()
    one.hover(0, 0.5, 0.5)
    slider = one.page.locator(".slider input[type=number]").nth(0)
    feature = order[2]
    assert f"feature {feature}" in one.page.locator(".slider .name").nth(0).inner_text()
    shown = one.page.evaluate("() => String(gapless.state().panels[0].decoded)")
    slider.fill("1.5")
    slider.press("Tab")
    one.wait("s.panels[0].z[k] === 1.5 && String(s.panels[0].decoded) !== shown", k=feature, shown=shown)
    close_to(eight, 0, one.panel(0))
    chooser.select_option(label="principal axes (PCA)")
    assert "PCA" in one.page.locator(".badge.slice").inner_text()
    panel = one.hover(0, 1.0, -1.0)
    plane = panel["plane"]
    np.testing.assert_allclose(np.dot(plane["u"], plane["v"]), 0, atol=1e-6)
    want = np.array(plane["origin"]) + np.array(plane["u"]) - np.array(plane["v"])
    np.testing.assert_allclose(panel["z"], want, atol=0.05)
    close_to(eight, 0, panel)


def test_any_two_features_and_three_items_make_a_plane(eight, visit):
    one = visit(eight)
    across, up = one.page.get_by_label("across"), one.page.get_by_label("up")
    order = eight.scene.document["panels"][0]["order"]
    across.select_option(str(order[5]))
    up.select_option(str(order[3]))
    assert one.panel(0)["plane"]["axes"] == [order[5], order[3]]
    close_to(eight, 0, one.hover(0, 0.3, 0.9))
    for item in (3, 40, 77):
        one.page.evaluate("(item) => gapless.api.chooseItem(item)", item)
        one.page.get_by_role("button", name="Pick for a plane").click()
    one.tab("plane")
    one.page.locator(".chooser select").first.select_option("items")
    plane = one.panel(0)["plane"]
    basis = np.stack([plane["u"], plane["v"]])
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-6)
    for item in (3, 40, 77):
        off = eight.loc(0, item) - np.array(plane["origin"])
        np.testing.assert_allclose(off, basis.T @ (basis @ off), atol=1e-5)


def test_rows_of_a_table_are_bars_in_their_own_units(table, visit):
    one = visit(table)
    panel = one.hover(0, 0.5, -0.5)
    close_to(table, 0, panel)
    one.picture("table")
    one.page.wait_for_timeout(700)
    live = one.page.locator("#live").inner_text()
    assert any(name in live for name in ("weight", "height", "age", "width", "depth"))
    one.page.get_by_label("Colour by").select_option(label="height")
    one.page.mouse.click(*one.at(0, *table.loc(0, 9)))
    one.wait("s.item !== null")
    assert one.page.locator('#dock-body canvas[aria-label="input"]').count() == 1
