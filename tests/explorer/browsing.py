"""The explorer's page in the system's Chromium: its requests, console and breaches of its policy are watched."""

import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from gapless.explorer import export

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "src/gapless/explorer/static"
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
LOCAL = ("file", "blob", "data", "about")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
WATCH = """
window.breaches = [];
document.addEventListener('securitypolicyviolation', (e) =>
  window.breaches.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


def chromium():
    """The system's Chromium, or why there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return None, "Playwright for Python is not installed (the test extra)"
    if found is None:
        return None, "no Chromium on this machine"
    return found, "" if (STATIC / "explorer.html").is_file() else "the explorer's page is not built (make web)"


def static_file(name):
    """A file of the built page, whatever else the tests of Python put in its place."""
    return (STATIC / name).read_bytes()


@contextmanager
def browser():
    """Chromium, until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=chromium()[0], args=FLAGS)
        yield one
        one.close()


class Visit:
    """One visit of a page: what it shows, says and asks for.

    Attributes:
        page: Playwright's page.
        asked: addresses of every request.
        complaints: errors, warnings of the console, breaches of the policy.
    """

    def __init__(self, browser, address, *, hash="", network=False, width=1440, height=900, **context):
        self.context = browser.new_context(
            **{"locale": "en-US", "viewport": {"width": width, "height": height}, **context}
        )
        self.page, self.asked, self.complaints = self.context.new_page(), [], []
        if not network:  # Chromium tells of files too, and they alone may go on
            self.context.route(
                "**", lambda route: route.continue_() if self.local(route.request.url) else route.abort()
            )
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.add_init_script(WATCH)
        self.page.goto(address + hash)
        self.page.evaluate("() => gapless.ready")

    @staticmethod
    def local(address):
        return urlsplit(address).scheme in LOCAL

    def state(self):
        return self.page.evaluate("() => gapless.state()")

    def panel(self, k):
        return self.state()["panels"][k]

    def wait(self, condition, **names):
        """Until a JavaScript expression of s (the state) and the names given holds."""
        body = f"const s = gapless.state(), {{ {', '.join(names)} }} = given; return {condition}"
        self.page.wait_for_function(f"(given) => {{ {body} }}", arg=names, timeout=20_000, polling=30)

    def map(self, k):
        return self.page.locator(".map").nth(k)

    def at(self, k, a, b):
        """Where a place of the shown plane lies on the page, CSS pixels."""
        box, view = self.map(k).bounding_box(), self.panel(k)["view"]
        scale = min(box["width"], box["height"]) / (2 * view["half"])
        x = box["x"] + box["width"] / 2 + (float(a) - view["cx"]) * scale
        return x, box["y"] + box["height"] / 2 - (float(b) - view["cy"]) * scale

    def hover(self, k, a, b):
        """Move the cursor there and wait until all is decoded; returns the panel."""
        before, (x, y) = len(self.state()["moved_to_painted_ms"]), self.at(k, a, b)
        self.page.mouse.move(x, y)
        self.wait("s.moved_to_painted_ms.length > before && s.panels.every((one) => !one.stale)", before=before)
        self.wait("s.panels.every((one) => !one.reading || String(one.reading.z) === String(one.z))")
        return self.panel(k)

    def tab(self, name):
        self.page.locator(f"#tab-{name}").click()

    def press(self, k, *keys):
        self.map(k).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def breaches(self):
        return self.page.evaluate("() => window.breaches")

    def picture(self, name):
        """Kept where EXPLORER_PICTURES says, for people to look at."""
        if folder := os.environ.get("EXPLORER_PICTURES"):
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))

    def close(self):
        """Ends the visit; nothing may have gone wrong on the way."""
        breaches = self.breaches()
        self.context.close()
        assert not breaches, breaches
        assert not self.complaints, self.complaints

    def faults(self):
        """What axe-core finds serious or critical."""
        self.page.evaluate(AXE.read_text())  # past the page's policy, as an extension of the browser would be
        found = self.page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
        return [
            (
                one["id"],
                one["impact"],
                [node["html"][:160] + json.dumps(node["any"][:1])[:300] for node in one["nodes"]],
            )
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]


@dataclass
class Shown:
    """An exported file and what it was made of."""

    runs: dict[str, Any]
    data: Any
    scene: Any
    path: Path

    @property
    def address(self):
        return self.path.as_uri()

    @property
    def names(self):
        return list(self.runs)

    def decode(self, k, z):
        """What the model of panel k makes of codes."""
        with torch.no_grad():
            return self.runs[self.names[k]].model.eval().decode(torch.tensor(z, dtype=torch.float32)).mean.numpy()

    def loc(self, k, item):
        panel = self.scene.document["panels"][k]
        return np.frombuffer(self.scene.blobs[panel["loc"]], "<f4").reshape(-1, panel["latent"])[item]


def exported(view, runs, data, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "static_file", static_file)
        return Shown(runs, data, view.scene, view.save(path))


TOLERANCE = 1e-5  # what the page decodes against torch, model units


def close_to(shown, k, panel):
    decoded = shown.decode(k, [panel["z"]])
    np.testing.assert_allclose(panel["decoded"], decoded.ravel(), atol=TOLERANCE)
    return decoded


def draw(one, *places):
    one.page.get_by_text("path", exact=True).first.click()
    for place in places:
        one.page.mouse.click(*one.at(2, *place))
    one.wait("s.panels[2].walk && s.panels[2].walk.decoded && s.panels[2].walk.corners === count", count=len(places))


PIXELS = """(hosts) => { const kept = document.createElement('canvas'); let sum = 0;
  for (const sheet of hosts.flatMap((host) => [...host.querySelectorAll('canvas')])) {
    kept.width = sheet.width; kept.height = sheet.height;
    const pen = kept.getContext('2d', {willReadFrequently: true});
    pen.drawImage(sheet, 0, 0);
    for (const one of new Uint32Array(pen.getImageData(0, 0, kept.width, kept.height).data.buffer))
      sum = (Math.imul(sum, 31) + one) | 0; }
  return sum }"""


def settled(one):
    """A number for what the maps show, once they rest."""
    last = None
    for _ in range(40):
        one.page.wait_for_timeout(120)
        last, before = one.page.locator(".map").evaluate_all(PIXELS), last
        if last == before:
            return last
    raise AssertionError("the maps do not come to rest")
