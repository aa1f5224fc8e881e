"""`gapless explore` in a real browser: the printed address shows the models, any other gives nothing."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import browsing
import pytest
from browsing import Shown, Visit, close_to

pytestmark = pytest.mark.skipif(bool(browsing.chromium()[1]), reason=browsing.chromium()[1])


@pytest.fixture(scope="module")
def address(digits_study):
    """What the command prints, while it serves."""
    words = [sys.executable, "-m", "gapless", "explore", str(digits_study[1] / "vae"), "--no-open", "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*words, "--items", "200", "--audit", "none", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env=environment,
    )  # fmt: skip
    yield json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_the_printed_address_decodes_live(address, browser, digits_study):
    one = Visit(browser, address["url"], network=True)
    panel = one.hover(0, 0.7, -0.4)
    assert panel["rung"] == "onnx"
    close_to(Shown({"vae": digits_study[0].runs["vae"]}, None, None, None), 0, panel)
    origin = f"http://127.0.0.1:{address['port']}/"
    assert all(asked.startswith((origin, "blob:", "data:")) for asked in one.asked)
    one.close()


def test_a_wrong_token_is_refused(address, browser):
    origin = f"http://127.0.0.1:{address['port']}"
    for path in ("/", "/scene.json"):
        for token in ("", "?token=wrong"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(origin + path + token, timeout=10)
            assert refused.value.code == 403
    page = browser.new_page()
    answer = page.goto(f"{origin}/?token=wrong")
    assert answer.status == 403
    assert page.evaluate("() => typeof gapless") == "undefined"
    page.close()


def test_a_decoder_on_the_server_decodes_in_the_page(digits_study, browser, serving, monkeypatch):
    from gapless.explorer import export, ladder, scene, server

    comparison, _ = digits_study
    monkeypatch.setattr(ladder, "LARGEST", 100)  # too large for a page
    built = scene.build({"vae": comparison.runs["vae"]}, comparison.data, audit="none", items=200)
    for module in (export, server):
        monkeypatch.setattr(module, "static_file", browsing.static_file)
    one = Visit(browser, serving(built).address.url, network=True)
    panel = one.hover(0, 0.7, -0.4)
    assert panel["rung"] == "server"
    close_to(Shown({"vae": comparison.runs["vae"]}, None, None, None), 0, panel)
    assert one.page.locator(".decode-picture").first.get_attribute("title") == "by the local server"
    one.close()
