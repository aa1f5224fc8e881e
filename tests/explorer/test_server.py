"""What the server gives to whom: the page, its data, decodes; and where it listens."""

import gzip
import json
import os
import socket
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from websockets.sync.client import connect

from gapless.errors import UsageError
from gapless.explorer.address import Address, taken


def asked(number, panel, codes):
    codes = np.asarray(codes, "<f4")
    return struct.pack("<III", number, panel, len(codes)) + codes.tobytes()


def test_the_page_and_its_data_are_served(served, scene):
    status, headers, content = served.get(f"/?token={served.token}")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    text = content.decode()
    assert f'<script type="application/json" id="server">{{"token":"{served.token}"}}</script>' in text
    assert "http-equiv" not in text  # the policy of a file would not let it ask its own server
    status, _, content = served.get(f"/scene.json?token={served.token}")
    assert (status, json.loads(content)) == (200, scene.document)
    for name, wanted in scene.blobs.items():
        status, headers, content = served.get(f"/blob/{name}?token={served.token}")
        assert (status, content) == (200, wanted)
        status, headers, content = served.get(
            f"/blob/{name}?token={served.token}", headers={"Accept-Encoding": "gzip, deflate"}
        )
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(content) == wanted
    assert served.get("/runtime.wasm.lzma")[::2] == (200, b"\0asm\1\0\0\0")


def test_every_answer_has_the_headers(served):
    for path in (f"/?token={served.token}", "/", "/runtime.wasm.lzma", f"/nothing?token={served.token}", "/decode"):
        headers = served.get(path)[1]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob: data:;")
        assert "frame-ancestors 'none'" in policy
        assert f"connect-src 'self' ws://127.0.0.1:{served.port} ws://localhost:{served.port} blob: data:" in policy
        assert "server" not in headers


def test_decodes_are_those_of_the_models(served, digits_study):
    comparison, _ = digits_study
    z = torch.randn(100, 2)
    with connect(served.decode_url) as socket:
        for panel, name in enumerate(("ae", "kl-only", "vae")):
            with torch.no_grad():
                wanted = comparison.model(name).decode(z).mean.flatten(1).numpy()
            for count in (1, 16, 17, 65, 100):  # both lanes, one piece and two
                socket.send(asked(7000 + count, panel, z[:count].numpy()))
                answer = socket.recv()
                assert struct.unpack_from("<II", answer) == (7000 + count, count)
                found = np.frombuffer(answer, "<f4", offset=8).reshape(count, 64)
                assert np.abs(found - wanted[:count]).max() < 1e-5


def test_an_answer_does_not_wait_for_an_acknowledgement(served):
    connection, start = served.connect(), time.monotonic()
    for _ in range(40):
        connection.request("GET", "/runtime.wasm.lzma")
        connection.getresponse().read()
    connection.close()
    assert time.monotonic() - start < 40 * 0.03  # 40 ms each where the parts of an answer are held back


def test_a_request_is_bounded_in_answer_and_time():
    from gapless.explorer.ladder import Decoder

    def most(values, milliseconds):
        return Decoder({}, "", b"", 2, values, milliseconds).most

    assert most(64, 0.01) == 4096
    assert most(784, 0.01) == (4 << 20) // (4 * 784)
    assert most(64, 100.0) == 50
    assert most(64, 1e9) == 1
    assert most(1 << 30, 0.01) == 1


def test_a_port_is_taken_at_once_and_only_the_one_asked_for():
    first = taken(0)
    try:
        assert first.port > 0
        assert first.socket.getsockname()[0] == "127.0.0.1"
        assert first.socket.proto == socket.IPPROTO_TCP  # or asyncio leaves Nagle's delay on
        with pytest.raises(UsageError, match=f"port {first.port} is taken") as error:
            taken(first.port)
        assert "--port" in str(error.value)
        assert len(first.token) >= 43
        assert first.token != taken(0).token
    finally:
        port = first.port
        first.socket.close()
    taken(port).socket.close()  # free again at once
    for wrong in (-1, 65536):
        with pytest.raises(UsageError, match="--port takes"):
            taken(wrong)
    with pytest.raises(UsageError, match="cannot listen"):
        taken(0, "192.0.2.1")  # an address that is nobody's (RFC 5737)


@pytest.mark.parametrize(
    ("host", "ours", "foreign"),
    [
        ("127.0.0.1", ["127.0.0.1", "localhost", "LOCALHOST", "127.9.9.9", "::1"], ["evil.example", "192.0.2.7", ""]),
        ("192.0.2.7", ["192.0.2.7", "localhost"], ["evil.example", "192.0.2.8", "localhost.evil.example"]),
        ("0.0.0.0", ["192.0.2.7", "::1", "2001:db8::1"], ["evil.example", "127.0.0.1.evil.example"]),
    ],
)
def test_names_it_answers_to(host, ours, foreign):
    with socket.socket() as any_socket:
        address = Address(any_socket, host, "t")
        assert all(address.answers_to(name) for name in ours)
        assert not any(address.answers_to(name) for name in foreign)


SCRIPT = """
import sys
from gapless.explorer import export
static = {"explorer.html": b"<html lang=\\"en\\"><body></body></html>", "runtime.wasm.lzma": b"wasm"}
export.static_file = static.__getitem__
from gapless.cli import main
main(sys.argv[1:])
"""


def command(*words):
    return [sys.executable, "-c", SCRIPT, "explore", *map(str, words)]


def started(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_the_command_serves_and_ctrl_c_ends_it(digits_study):
    import http.client
    import signal

    _, folder = digits_study
    process = started(folder / "vae", "--no-open", "--audit", "none", "--json", "--lang", "ko")
    try:
        told = json.loads(process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", told["port"], timeout=20)
        connection.request("GET", told["url"].split(str(told["port"]))[1])
        text = connection.getresponse().read().decode()
        assert '"language":"ko"' in text
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        said = process.stderr.read()
        assert "decoded in the page" in said
        assert said.endswith("the explorer has ended\n")
    finally:
        process.kill()


def test_a_taken_port_is_an_error_before_anything_is_loaded(digits_study, tmp_path):
    _, folder = digits_study
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        code = "import sys\nfrom gapless.cli import main\n"
        code += "try: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
        words = [sys.executable, "-c", code, "explore", str(folder / "vae"), "--port", str(port)]
        done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr
    assert "--port" in done.stderr
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_the_command_writes_one_file(digits_study, tmp_path):
    _, folder = digits_study
    path = tmp_path / "latent.html"
    done = subprocess.run(
        command(folder / "vae", "--export", path, "--audit", "none", "--items", 50), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"explorer: {path} ({path.stat().st_size / 1e6:.1f} MB)\n"
    assert 'id="scene"' in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"language": "fr"}, "--lang takes en, ko; got 'fr'"),
        ({"audit": "deep"}, "--audit takes none, quick, default; got 'deep'"),
        ({"items": 0}, "--items takes 1 to 1,000,000; got 0"),
        ({"port": 65536}, "--port takes"),
    ],
)
def test_wrong_options_are_told_at_once(wrong, said, tmp_path):
    from gapless.cli.exploring import explore

    usual = {"source": None, "port": 0, "host": "127.0.0.1", "opened": False, "language": None, "export": None,
             "items": 10, "audit": "none", "json": False}  # fmt: skip
    with pytest.raises(UsageError, match=said):
        explore((tmp_path,), **{**usual, **wrong})


def test_the_package_is_light_until_it_is_used():
    heavy = ("torch", "onnx", "onnxruntime", "onnxscript", "starlette", "uvicorn", "websockets")
    code = "import sys, gapless, gapless.explorer, gapless.cli.exploring; "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_finished_study_tells_how_it_is_opened(capsys):
    from gapless.cli.work import _show_study

    _show_study({"models": {}, "folder": "runs/my demo"}, None)
    assert "explore: gapless explore 'runs/my demo'\n" in capsys.readouterr().out
