"""A scene of the digits, a page that stands for the built one, and a served explorer."""

import http.client
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import browsing
import numpy as np
import pytest
from browsing import Visit, exported

import gapless
from gapless import explorer
from gapless.settings import Settings

PAGE = (
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'"><title>gapless</title></head>\n'
    '<body><div id="app"></div><script>"</body>"</script>\n</body>\n</html>\n'
)
STATIC = {"explorer.html": PAGE.encode(), "runtime.wasm.lzma": b"\0asm\1\0\0\0"}


@pytest.fixture(scope="session")
def static():
    """Files of a built front end by name."""
    return STATIC


@pytest.fixture(scope="session", autouse=True)
def page_for_tests():
    """What the front end's build makes, small: the tests of Python need no Node."""
    with pytest.MonkeyPatch.context() as patch:
        from gapless.explorer import export, server

        for module in (export, server):
            patch.setattr(module, "static_file", STATIC.__getitem__)
        yield


@pytest.fixture(scope="session")
def scene(digits_study):
    """AE, KL-only and VAE on the digits, not audited."""
    from gapless.explorer.scene import build

    comparison, _ = digits_study
    return build(comparison.runs, comparison.data, audit="none", items=300)


@dataclass
class Served:
    """A running explorer."""

    scene: Any
    address: Any
    decoding: Any

    @property
    def port(self):
        return self.address.port

    @property
    def token(self):
        return self.address.token

    def connect(self, timeout=10):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path, *, headers=None, method="GET", body=None, timeout=10):
        """(status, headers, content) of one request."""
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def good(self):
        """The next good request is answered: the server lives."""
        status, _, content = self.get(f"/scene.json?token={self.token}")
        return status == 200 and content.startswith(b'{"version":1')

    @property
    def decode_url(self):
        return f"ws://127.0.0.1:{self.port}/decode?token={self.token}"


@contextmanager
def running(scene):
    """A scene on a free port of this machine, in a thread."""
    from gapless.explorer import server
    from gapless.explorer.address import taken
    from gapless.explorer.decoding import Decoding

    address, started, decoding = taken(0), threading.Event(), Decoding(scene.decoders)
    one = server._Server(server._config(server.application(scene, address, decoding=decoding)), started.set)
    thread = threading.Thread(target=one.run, kwargs={"sockets": [address.socket]}, daemon=True)
    thread.start()
    assert started.wait(20)
    yield Served(scene, address, decoding)
    one.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    decoding.close()
    address.socket.close()


@pytest.fixture(scope="module")
def served(scene):
    """The scene of the digits, served."""
    with running(scene) as found:
        yield found


@pytest.fixture
def serving():
    """Serves any scene until the test ends."""
    with ExitStack() as stack:
        yield lambda scene: stack.enter_context(running(scene))


@pytest.fixture(scope="session")
def digits(digits_study, tmp_path_factory):
    """AE, KL-only and VAE at latent 2, audited."""
    comparison, _ = digits_study
    view = explorer.explore(comparison, items=600)
    return exported(view, comparison.runs, comparison.data, tmp_path_factory.mktemp("pages") / "digits.html")


@pytest.fixture(scope="session")
def eight(tmp_path_factory):
    """A VAE at latent 8, not audited."""
    data = gapless.read("digits")
    run = gapless.train(data, settings=Settings(latent=8, epochs=6, hidden=(64, 32)))
    view = explorer.explore(run, data=data, items=400, audit="none")
    return exported(view, {"vae": run}, data, tmp_path_factory.mktemp("pages") / "eight.html")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A VAE of a small table."""
    folder = tmp_path_factory.mktemp("pages")
    draws = np.random.default_rng(3)
    factor = draws.normal(size=(400, 2))
    rows = factor @ draws.normal(size=(2, 5)) + 0.2 * draws.normal(size=(400, 5)) + np.arange(5) * 10
    source = folder / "rows.csv"
    np.savetxt(source, rows, delimiter=",", header="weight,height,age,width,depth", comments="")
    data = gapless.read(str(source))
    run = gapless.train(data, settings=Settings(latent=2, epochs=4, hidden=(16,)))
    return exported(explorer.explore(run, data=data, audit="none"), {"vae": run}, data, folder / "table.html")


@pytest.fixture(scope="module")
def browser():
    with browsing.browser() as one:
        yield one


@pytest.fixture
def visit(browser):
    """Opens pages; at the end none may have complained."""
    visits = []

    def open_page(shown, **options):
        visits.append(Visit(browser, shown.address, **options))
        return visits[-1]

    yield open_page
    for one in visits:
        one.close()
