"""The page for everyone: both languages, colours for day and night, the keyboard alone, and what axe-core finds."""

import browsing
import pytest
from browsing import draw, settled

pytestmark = pytest.mark.skipif(bool(browsing.chromium()[1]), reason=browsing.chromium()[1])
TEXTS = """() => { const all = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const one = walk.currentNode, box = one.parentElement;
    if (box.closest('script, style, noscript') || box.lang && box.lang !== document.documentElement.lang) continue;
    if (one.textContent.trim()) all.push(one.textContent.trim()) }
  for (const one of document.querySelectorAll('[aria-label], [title]')) for (const name of ['aria-label', 'title'])
    if (one.getAttribute(name)) all.push(one.getAttribute(name));
  return all }"""
WORDS = r"[A-Za-z]{3,}"
KEPT = {
    "nats",
    "CSV",
    "PNG",
    "GIF",
    "PCA",
    "Python",
    "loc",
    "scale",
    "only",
    "VAE",
    "digits",
    "Tab",
    "Shift",
    "Enter",
    "Space",
    "Esc",
    "dark",
}


def latin(texts):
    """English words that stand in a Korean page, names and units apart."""
    import re

    return {word for text in texts for word in re.findall(WORDS, text)} - KEPT


def test_every_text_changes_with_the_language(digits, visit):
    one = visit(digits)
    draw(one, (-1.0, 0.6), (1.0, 0.5))
    one.page.evaluate("() => gapless.api.chooseItem(5)")
    one.page.wait_for_timeout(700)
    for tab in ("audit", "item", "path"):
        one.tab(tab)
        assert latin(one.page.evaluate(TEXTS)) > {"Layers", "points", "item"}
    one.page.get_by_role("button", name="한국어").click()
    assert one.page.evaluate("() => document.documentElement.lang") == "ko"
    one.page.wait_for_timeout(700)
    for tab in ("audit", "item", "path"):
        one.tab(tab)
        one.picture(f"ko-{tab}")
        assert not latin(one.page.evaluate(TEXTS))
    one.page.get_by_role("button", name="English").click()
    assert one.page.evaluate("() => document.documentElement.lang") == "en"


def test_every_text_of_planes_changes_with_the_language(eight, visit):
    one = visit(eight, locale="ko-KR")
    assert one.state()["language"] == "ko"
    one.hover(0, 0.5, 0.5)
    one.page.wait_for_timeout(700)
    one.picture("ko-planes")
    assert not latin(one.page.evaluate(TEXTS))


def test_a_reader_without_javascript_is_told_in_both_languages(digits, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(digits.address)
    text = page.locator("body").inner_text()
    assert "needs JavaScript" in text
    assert "자바스크립트" in text
    context.close()


@pytest.mark.parametrize("missing", ["DecompressionStream", "OffscreenCanvas"])
@pytest.mark.parametrize(("locale", "words"), [("en-US", "this browser is too old"), ("ko-KR", "브라우저가 오래")])
def test_a_browser_that_is_too_old_is_told_so(digits, browser, missing, locale, words):
    context = browser.new_context(locale=locale)
    page = context.new_page()
    page.add_init_script(f"delete window.{missing}")
    page.goto(digits.address)
    page.locator("[role=alert]").wait_for()
    assert words in page.locator("[role=alert]").inner_text()
    context.close()


def test_a_korean_reader_gets_korean(digits, visit):
    one = visit(digits, locale="ko-KR")
    assert one.page.evaluate("() => document.documentElement.lang") == "ko"
    assert "잠재 공간 탐색기" in one.page.locator("h1").inner_text()


GROUND = """() => getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g)
  .slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3"""


def test_dark_is_honoured_and_can_be_chosen(digits, visit):
    night = visit(digits, color_scheme="dark")
    assert night.state()["theme"] == "dark"
    assert night.page.evaluate(GROUND) < 60
    day = visit(digits, color_scheme="light")
    assert day.page.evaluate(GROUND) > 200
    before = settled(day)
    day.page.get_by_label("Colours").select_option("dark")
    assert day.page.evaluate(GROUND) < 60
    assert settled(day) != before  # the map too


def test_less_motion_is_honoured(digits, visit):
    calm = visit(digits, reduced_motion="reduce")
    assert calm.page.evaluate("() => [gapless.api.calm.value, document.documentElement.dataset.calm]") == [True, "true"]
    moving = """() => [...document.querySelectorAll('*')].filter((one) => { const s = getComputedStyle(one);
      return parseFloat(s.transitionDuration) > 0.01 || parseFloat(s.animationDuration) > 0.01 }).length"""
    assert calm.page.evaluate(moving) == 0


FOCUS = """() => {
  const one = document.activeElement, label = one.closest('label');
  const ringed = (element) => { const s = getComputedStyle(element);
    return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1) || s.boxShadow !== 'none' };
  return { html: one.outerHTML.slice(0, 120), stop: one.dataset.stop ?? null,
    ring: ringed(one) || (label !== null && ringed(label)) } }"""
NUMBER = """() => { let k = 0;
  for (const one of document.querySelectorAll('[data-stop]')) delete one.dataset.stop;
  for (const one of document.querySelectorAll(
      'a[href], button, input, select, textarea, summary, [tabindex]')) {
    const name = one.type === 'radio' ? one.name : null, box = one.getBoundingClientRect();
    if (one.disabled || one.tabIndex < 0 || box.width * box.height === 0 || !one.checkVisibility()) continue;
    if (name !== null) { if (!one.checked) continue; }
    one.dataset.stop = String(k++) }
  return k }"""


HTML = "(one) => one.outerHTML.slice(0, 120)"


def test_tab_reaches_everything_and_focus_is_seen(digits, visit):
    one = visit(digits)
    draw(one, (-1.0, 0.6), (1.0, 0.5))
    for tab in ("audit", "item", "path"):
        one.tab(tab)
        one.page.evaluate("() => document.querySelectorAll('details').forEach((one) => (one.open = true))")
        count, reached, bare = one.page.evaluate(NUMBER), set(), []
        one.page.evaluate("() => document.activeElement.blur()")
        for _ in range(count + 4):
            one.page.keyboard.press("Tab")
            focus = one.page.evaluate(FOCUS)
            reached.add(focus["stop"])
            if focus["stop"] is not None and not focus["ring"]:
                bare.append(focus)
        missed = [one.page.locator(f'[data-stop="{k}"]').evaluate(HTML) for k in range(count) if str(k) not in reached]
        assert not missed
        assert not bare


def test_the_keyboard_alone_does_it_all(digits, visit):
    one = visit(digits)
    one.page.keyboard.press("Tab")
    assert one.page.evaluate("() => document.activeElement.className") == "skip"
    one.page.keyboard.press("Enter")
    assert one.page.evaluate("() => document.activeElement === document.querySelector('.map')")
    z = one.panel(0)["z"]
    for _ in range(3):
        one.page.keyboard.press("ArrowRight")
    moved = one.panel(0)["z"]
    assert moved[0] > z[0]
    assert moved[1] == pytest.approx(z[1], abs=1e-6)
    half = one.panel(0)["view"]["half"]
    one.page.keyboard.press("+")
    assert one.panel(0)["view"]["half"] < half
    one.page.keyboard.press("Shift+ArrowRight")
    assert one.panel(0)["view"]["cx"] > 0
    one.page.keyboard.press("0")
    assert one.panel(0)["view"]["half"] == half
    one.page.keyboard.press("p")
    one.page.keyboard.press("Space")
    one.page.keyboard.press("ArrowUp")
    one.page.keyboard.press("ArrowUp")
    one.page.keyboard.press("Space")
    one.wait("s.panels[0].walk && s.panels[0].walk.corners === 2 && s.panels[0].walk.decoded")
    one.page.keyboard.press("p")
    one.page.keyboard.press("Enter")
    one.wait("s.item !== null && s.tab === 'item'")
    first = one.state()["item"]
    one.page.keyboard.press("ArrowLeft")
    one.page.keyboard.press("ArrowUp")
    one.wait("s.item !== first", first=first)
    one.page.keyboard.press("Escape")
    one.wait("s.item === null")


WALK = """() => gapless.api.setCorners(gapless.api.latents.value[2],
  [[-1, 0.6], [3, 3]].map((z) => ({ z: Float32Array.from(z), item: -1 })))"""


def opened(one, tab):
    one.page.evaluate("() => gapless.api.chooseItem(5)")
    one.tab(tab)
    one.page.wait_for_timeout(150)


@pytest.mark.skipif(not browsing.AXE.is_file(), reason="axe-core is not installed (make web)")
@pytest.mark.parametrize(
    "look",
    [
        pytest.param({}, id="light"),
        pytest.param({"color_scheme": "dark"}, id="dark", marks=pytest.mark.slow),
        pytest.param({"locale": "ko-KR"}, id="korean", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing_serious(digits, eight, visit, look):
    one = visit(digits, **look)
    one.page.evaluate(WALK)
    for tab in ("audit", "item", "path"):
        opened(one, tab)
        assert one.faults() == []
    two = visit(eight, **look)
    assert two.faults() == []
