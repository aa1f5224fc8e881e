"""A scene of the digits, a page that stands for the built one, and a served explorer."""

import http.client
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

PAGE = (
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'"><title>gapless</title></head>\n'
    '<body><div id="app"></div><script>"</body>"</script>\n</body>\n</html>\n'
)
STATIC = {"explorer.html": PAGE.encode(), "runtime.wasm": b"\0asm\1\0\0\0"}


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
