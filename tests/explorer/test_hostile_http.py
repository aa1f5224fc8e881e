"""Whatever is sent to the server, it answers 4xx without a trace or a path, and the next good request as ever."""

import json
import re
import socket
import struct
import time
from contextlib import closing, suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

LEAKS = re.compile(rb"Traceback|File \"|/home|/root|/tmp|\.py|site-packages|\.safetensors")
FINE = struct.pack("<III", 1, 0, 1) + np.zeros(2, "<f4").tobytes()


@pytest.fixture(autouse=True)
def survived(served):
    """After every test the next good request is answered, and the next good decode."""
    yield
    assert served.good()
    with connect(served.decode_url) as walker:
        walker.send(FINE)
        assert struct.unpack_from("<II", walker.recv(timeout=10)) == (1, 1)


def raw(served, content, *, timeout=15, pause=0.0):
    """What comes back for these bytes, up to the end of the connection or the first silence."""
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout)) as sock:
        try:
            for part in content if isinstance(content, list) else [content]:
                sock.sendall(part)
                time.sleep(pause)
            sock.settimeout(timeout)
            found = b""
            while part := sock.recv(65536):
                found += part
                if b"\r\n\r\n" in found and b"connection: close" not in found.lower():
                    break
        except (TimeoutError, ConnectionError):
            pass
    return found


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def request(served, target="/", *, method="GET", headers=(), host=None, body=b"", token=True):
    mark = "&" if "?" in target else "?"
    target = f"{target}{mark}token={served.token}" if token else target
    host = f"127.0.0.1:{served.port}" if host is None else host
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


TRAVERSALS = [
    "/blob/../scene.json", "/blob/..%2f..%2fetc%2fpasswd", "/blob/%2e%2e/%2e%2e/etc/passwd",
    "/blob/%252e%252e%252fetc%252fpasswd", "/blob/..%5c..%5cwindows", "/blob/%c0%ae%c0%ae%c0%afetc", "/blob/....//etc",
    "/blob//etc/passwd", "//etc/passwd", "/../../etc/passwd", "/blob/vae.loc%00.html", "/blob/%00", "/blob/",
    "/blob/%uff0e%uff0e", "/blob/\u00e9", "/static/explorer.html", "/blob/explorer.html", "/blob/runtime.wasm.lzma/..",
    "/.%2e/.%2e/etc/passwd", "/blob/file:%2f%2f%2fetc%2fpasswd", "/blob/scene.json", "/blob/VAE.LOC", "/blob/vae.loc/",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_anywhere_else(served, path):
    answer = raw(served, request(served, path))
    assert status(answer) in (400, 404), answer[:200]
    assert not LEAKS.search(answer)


FOREIGN_HOSTS = [
    "evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "a b", "localhost@evil.example",
    "169.254.169.254", "127.0.0.1@evil.example:80", "evil.example#127.0.0.1", "0.0.0.0", "0177.0.0.1",
]  # fmt: skip
FOREIGN_ORIGINS = [
    "http://evil.example", "null", "file://", "http://127.0.0.1:1", "https://localhost.evil", "", "http://localhost:80",
]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_is_refused(served, host):
    for path in ("/", "/scene.json", "/blob/vae.loc", "/runtime.wasm.lzma"):
        assert status(raw(served, request(served, path, host=host))) in (400, 403)


def test_two_hosts_or_none_are_refused(served):
    assert status(raw(served, request(served, headers=["Host: evil.example"]))) in (400, 403)
    assert status(raw(served, f"GET /?token={served.token} HTTP/1.1\r\n\r\n".encode())) in (400, 403)
    assert status(raw(served, f"GET /?token={served.token} HTTP/1.0\r\n\r\n".encode())) in (400, 403)


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_foreign_origin_is_refused(served, origin):
    answer = raw(served, request(served, "/scene.json", headers=[f"Origin: {origin}"]))
    assert status(answer) == 403
    with pytest.raises(InvalidStatus) as refusal, connect(served.decode_url, origin=origin or "null"):
        pass
    assert refusal.value.response.status_code == 403


def test_the_own_origin_is_taken(served):
    for name in ("127.0.0.1", "localhost"):
        own = f"{name}:{served.port}"
        assert status(raw(served, request(served, "/", host=own, headers=[f"Origin: http://{own}"]))) == 200
    with connect(served.decode_url, origin=f"http://127.0.0.1:{served.port}") as walker:
        walker.send(FINE)
        assert isinstance(walker.recv(), bytes)


@pytest.mark.parametrize("path", ["/", "/scene.json", "/blob/vae.loc", "/blob/nothing", "/nothing"])
def test_without_the_token_nothing_is_told(served, path):
    token = served.token
    wrong = ["", "?token=", f"?token={token[:-1]}", f"?token={token}x", f"?token={token.swapcase()}", "?token=%ff",
             f"?token={token}&token={token}", "?" + "a=1&" * 50 + f"token={token}", "?token=%ED%A0%80",
             "?token=\u00e9"]  # fmt: skip
    for query in wrong:
        content = request(served, "", token=False).replace(b"GET  ", f"GET {path}{query} ".encode())
        assert status(raw(served, content)) in (400, 403), query
    with pytest.raises(InvalidStatus) as refusal, connect(served.decode_url[:-1]):
        pass
    assert refusal.value.response.status_code == 403


def test_only_get_is_answered(served):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "X" * 300):
        assert status(raw(served, request(served, method=method))) == 405
    assert served.get(f"/?token={served.token}", method="HEAD")[::2] == (200, b"")


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 1000000000000"],
        ["Content-Length: 5"],
        ["Content-Length: -1"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: five"],
        ["Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 4"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Expect: 100-continue", "Content-Length: 10"],
    ],
)
def test_bodies_true_or_lying_are_refused(served, headers):
    for body in (b"", b"x" * 100_000, b"ffffffffff\r\n"):
        answer = raw(served, request(served, headers=headers, body=body), timeout=3)
        assert status(answer) in (400, 413, 501)
        assert not LEAKS.search(answer)


def test_monstrous_headers_are_refused(served):
    monsters = [
        request(served, headers=["X: " + "y" * 100_000]),
        request(served, headers=[f"X{i}: y" for i in range(20_000)]),
        request(served, "/" + "a" * 100_000),
        request(served, "/?" + "a=b&" * 30_000),
    ]
    for content in monsters:
        assert status(raw(served, content)) in (400, 403, 404, 414, 431, None)


NO_HTTP = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\0" * 5000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n X: folded\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET http://evil/ HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n",
    bytes(range(256)) * 40,
]


@pytest.mark.parametrize("content", NO_HTTP)
def test_what_is_no_http_is_refused(served, content):
    answer = raw(served, content, timeout=2)
    assert status(answer) in (400, 403, None)
    assert not LEAKS.search(answer)


def test_a_range_bomb_gives_the_whole_once(served, scene):
    wanted = scene.blobs["items.values"]
    for ranges in (
        "bytes=0-",
        "bytes=" + ",".join(["0-"] * 3000),
        "bytes=-1",
        "bytes=9999999999-",
        "lines=1",
        "bytes=5-1",
    ):
        code, headers, content = served.get(f"/blob/items.values?token={served.token}", headers={"Range": ranges})
        assert (code, content) == (200, wanted)
        assert "accept-ranges" not in headers


BAD_FRAMES = {
    "empty": b"",
    "short": b"\1\2\3",
    "no codes": struct.pack("<III", 1, 0, 0),
    "no such panel": struct.pack("<III", 1, 3, 1) + bytes(8),
    "panel of all ones": struct.pack("<III", 1, 0xFFFFFFFF, 1) + bytes(8),
    "more than it holds": struct.pack("<III", 1, 0, 4096) + bytes(8),
    "less than it holds": struct.pack("<III", 1, 0, 1) + bytes(800),
    "absurd count": struct.pack("<III", 1, 0, 0xFFFFFFFF) + bytes(8),
    "half a number": struct.pack("<III", 1, 0, 1) + bytes(7),
    "nan": struct.pack("<III", 1, 0, 1) + np.array([np.nan, 0], "<f4").tobytes(),
    "infinite": struct.pack("<III", 1, 0, 1) + np.array([0, -np.inf], "<f4").tobytes(),
    "too many": struct.pack("<III", 1, 0, 5000) + bytes(5000 * 8),
    "text": '{"id": 1, "z": [NaN, Infinity]}',
    "text that is no JSON": "\x00{" * 100,
    "a surrogate in JSON": '{"id": "\\ud800", "z": "\\udc00"}',
    "deep JSON": "[" * 100_000,
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_malformed_messages_are_answered_in_words_and_the_next_one_is_decoded(served, name):
    with connect(served.decode_url) as walker:
        walker.send(BAD_FRAMES[name])
        answer = walker.recv(timeout=10)
        assert isinstance(answer, str)
        told = json.loads(answer)
        assert set(told) == {"id", "error"}
        assert not LEAKS.search(answer.encode())
        walker.send(FINE)
        assert struct.unpack_from("<II", walker.recv(timeout=10)) == (1, 1)


def test_codes_far_away_are_decoded_or_refused_in_words(served):
    with connect(served.decode_url) as walker:
        for far in (1e3, 1e20, 3e38):
            walker.send(struct.pack("<III", 9, 0, 1) + np.array([far, -far], "<f4").tobytes())
            answer = walker.recv(timeout=10)
            if isinstance(answer, str):
                assert json.loads(answer)["id"] == 9
            else:
                assert np.isfinite(np.frombuffer(answer, "<f4", offset=8)).all()


def test_an_oversized_message_ends_its_connection_alone(served):
    with connect(served.decode_url) as walker:
        with suppress(ConnectionClosed):  # sending may see the end itself
            walker.send(bytes(2 << 20))
        with pytest.raises(ConnectionClosed):
            walker.recv(timeout=10)


def websocket(served):
    """A raw socket after the handshake."""
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    sock = socket.create_connection(("127.0.0.1", served.port), 10)
    sock.sendall(request(served, "/decode", headers=lines))
    assert sock.recv(4096).startswith(b"HTTP/1.1 101")
    return sock


@pytest.mark.parametrize(
    "frame",
    [
        b"\x82\x05hello",  # not masked
        b"\xf2\x80\0\0\0\0",  # reserved bits
        b"\x83\x80\0\0\0\0",  # unknown kind
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # 2**63 bytes announced
        b"\x81\x82\0\0\0\0\xc3\x28",  # text that is not UTF-8
        b"\x89\xfe\x01\x00\0\0\0\0" + bytes(256),  # a long ping
        b"\x00\x80\0\0\0\0",  # goes on with nothing
        b"\x88\x81\0\0\0\0\x01",  # a close of one byte
        bytes(range(256)) * 8,
    ],
)
def test_malformed_frames_end_their_connection_alone(served, frame):
    with closing(websocket(served)) as sock:
        sock.sendall(frame)
        sock.settimeout(10)
        try:
            found = sock.recv(4096)
        except ConnectionError:
            found = b""
        assert not found or found[0] & 0x0F == 8  # a close frame, or the end


HALF = ["Upgrade: websocket", "Connection: Upgrade"]
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
HALVES = [
    HALF[:1],
    HALF,
    [*HALF, "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"],
    [*HALF, KEY, "Sec-WebSocket-Version: 99"],
    ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"],
]


@pytest.mark.parametrize("headers", HALVES)
def test_half_a_handshake_is_refused(served, headers):
    assert status(raw(served, request(served, "/decode", headers=headers), timeout=3)) in (400, 403, 404, 426)
    assert status(raw(served, request(served, "/scene.json", headers=headers), timeout=3)) in (200, 400, 403, 426)


def test_clients_that_leave_in_the_middle_of_a_decode_cost_nothing(served):
    grid = struct.pack("<III", 1, 2, 4096) + bytes(4096 * 8)
    frame = b"\x82\xfe" + struct.pack(">H", len(grid)) + bytes(4) + grid
    for _ in range(30):
        with closing(websocket(served)) as sock:
            sock.sendall(frame)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a farewell
    end = time.monotonic() + 20
    while served.decoding.admitted and time.monotonic() < end:
        time.sleep(0.05)
    assert served.decoding.admitted == 0
