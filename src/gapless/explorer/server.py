"""The explorer on this machine: the page, its data and a decoder behind a token; nothing else is reachable."""

import asyncio
import gzip
import hmac
import json
import struct
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gapless.explorer.address import Address
from gapless.explorer.decoding import Busy, Decoding
from gapless.explorer.export import POLICY, RUNTIME, built, filled, script_json, static_file
from gapless.explorer.patience import PatientHTTP, PatientWebSocket
from gapless.explorer.scene import Scene

__all__ = ["application", "serve"]

FRAME = 1 << 20
"""Bytes of one message to the decoder."""
WALKERS, CONNECTIONS = 96, 256
"""Decoder connections, and connections of any kind, at once; more are answered 503."""
PACKED = 16 << 20
"""Arrays up to this size are sent compressed to who accepts it."""
CHUNK = 1 << 16
ASKED = 1 << 15
"""Bytes of a request: headers and query."""
HEAD = struct.Struct("<III")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def serve(
    scene: Scene, address: Address, *, language: str | None = None, ready: Callable[[], None] = lambda: None
) -> None:
    """Answer until SIGINT or SIGTERM, which then goes on to whoever handled it before.

    Args:
        scene: what is shown.
        address: a port that was taken.
        language: en, ko or None.
        ready: called once requests are answered.
    """
    decoding = Decoding(scene.decoders)
    server = _Server(_config(application(scene, address, decoding=decoding, language=language)), ready)
    try:
        server.run(sockets=[address.socket])
    finally:
        decoding.close()
        address.socket.close()


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app, http=PatientHTTP, ws=PatientWebSocket, loop="asyncio", lifespan="off", log_config=None,
        log_level="critical", access_log=False, proxy_headers=False, server_header=False, date_header=False,
        limit_concurrency=CONNECTIONS, timeout_keep_alive=10, timeout_graceful_shutdown=2, ws_max_size=FRAME,
        ws_per_message_deflate=False, h11_max_incomplete_event_size=1 << 14,
    )  # fmt: skip


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]):
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready()


def application(scene: Scene, address: Address, *, decoding: Decoding, language: str | None = None) -> Any:
    """The ASGI application.

    Args:
        scene: what is shown.
        address: its token, and the names it answers to.
        decoding: the decoders.
        language: en, ko or None.
    """
    page = _Page(scene, address, language)
    walk = _Walk(decoding)
    routes = [
        Route("/", page.page),
        Route("/scene.json", page.scene),
        Route(f"/{RUNTIME}", page.runtime),
        Route("/blob/{name}", page.blob),
        WebSocketRoute("/decode", walk.connected),
    ]
    plain: Any = {HTTPException: _refused, Exception: _broken}
    inner = Starlette(routes=routes, exception_handlers=plain)
    inner.router.redirect_slashes = False
    return _Guard(inner, address, page.policy)


class _Guard:
    """Looks at every request before anything else does, and puts the same headers on every answer."""

    def __init__(self, inner: Any, address: Address, policy: str):
        self.inner, self.address = inner, address
        self.headers = [*HEADERS, (b"content-security-policy", policy.encode())]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sealed(message: Any) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message = {**message, "headers": [*message.get("headers", []), *self.headers]}
            await send(message)

        found = self._objection(scope)
        if found is None:
            return await self.inner(scope, receive, sealed)
        response = PlainTextResponse(found[1] + "\n", found[0], {"connection": "close"})
        if scope["type"] == "websocket":
            return await WebSocket(scope, receive, sealed).send_denial_response(response)
        return await response(scope, receive, sealed)

    def _objection(self, scope: Any) -> tuple[int, str] | None:
        headers = scope["headers"]
        hosts, origins = ([v.decode("latin-1") for k, v in headers if k == name] for name in (b"host", b"origin"))
        if len(hosts) != 1 or not self.address.answers_to(_host_name(hosts[0])):
            return 403, "this host name is not mine"
        if any(origin not in (f"http://{hosts[0]}", f"https://{hosts[0]}") for origin in origins):
            return 403, "other origins may not ask here"
        if len(scope["query_string"]) + sum(len(k) + len(v) for k, v in headers) > ASKED:
            return 431, "that is too much of a request"
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            return 405, "only GET is answered"
        if any(k == b"transfer-encoding" or (k == b"content-length" and v.strip() != b"0") for k, v in headers):
            return 413, "no body is taken"
        if scope["path"] != f"/{RUNTIME}" and not self._known(scope["query_string"]):
            return 403, "the token is wrong or missing: use the address that was printed"
        return None

    def _known(self, query: bytes) -> bool:
        try:
            given = parse_qs(query.decode("ascii"), max_num_fields=8, errors="strict").get("token", [])
        except ValueError:
            return False
        token = given[0] if len(given) == 1 else ""
        return hmac.compare_digest(token.encode("utf-8"), self.address.token.encode())


class _Page:
    """The page and its data."""

    def __init__(self, scene: Scene, address: Address, language: str | None):
        self.scene_text = script_json(scene.document if language is None else {**scene.document, "language": language})
        self.blobs, self.packed = scene.blobs, {}
        self.policy = POLICY.replace("connect-src", f"connect-src 'self' {address.sockets}") + FRAMELESS
        known = {"token": address.token} if language is None else {"token": address.token, "language": language}
        element = f'<script type="application/json" id="server">{script_json(known)}</script>'
        self.text = filled(_served(built()), element, language)

    async def page(self, request: Request) -> Response:
        return Response(self.text, media_type="text/html; charset=utf-8")

    async def scene(self, request: Request) -> Response:
        return Response(self.scene_text, media_type="application/json")

    async def runtime(self, request: Request) -> Response:
        return _in_pieces(static_file(RUNTIME), "application/x-lzma", {})

    async def blob(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.blobs:
            raise HTTPException(404)
        content = self.blobs[name]
        if len(content) > PACKED or "gzip" not in request.headers.get("accept-encoding", ""):
            return _in_pieces(content, "application/octet-stream", {"vary": "accept-encoding"})
        if name not in self.packed:
            self.packed[name] = await asyncio.to_thread(gzip.compress, content, 1)
        encoded = {"content-encoding": "gzip", "vary": "accept-encoding"}
        return _in_pieces(self.packed[name], "application/octet-stream", encoded)


FRAMELESS = "; frame-ancestors 'none'"


def _served(template: str) -> str:
    """The template without the policy it carries for files: the header's policy lets it ask its own server."""
    start = template.find('<meta http-equiv="Content-Security-Policy"')
    return template if start < 0 else template[:start] + template[template.index(">", start) + 1 :]


def _in_pieces(content: bytes, media: str, headers: dict[str, str]) -> Response:
    """A slow reader holds 64 KiB of memory, not the array."""
    return StreamingResponse(
        _pieces(content), media_type=media, headers={"content-length": str(len(content)), **headers}
    )


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    view = memoryview(content)
    for start in range(0, len(view), CHUNK):
        yield bytes(view[start : start + CHUNK])


class _Malformed(Exception):  # noqa: N818 - it says what the message is
    """A message that asks for nothing that can be decoded."""


class _Walk:
    """The decoder's WebSocket: codes in, means of p(x|z) out, one message after another."""

    def __init__(self, decoding: Decoding):
        self.decoding, self.walkers = decoding, 0

    async def connected(self, socket: WebSocket) -> None:
        if self.walkers >= WALKERS:
            return await socket.send_denial_response(PlainTextResponse("too many are here\n", 503))
        self.walkers += 1
        try:
            await socket.accept()
            while True:
                await self._answer(socket, await socket.receive())
        except WebSocketDisconnect:
            return None
        finally:
            self.walkers -= 1

    async def _answer(self, socket: WebSocket, message: Any) -> None:
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        reply = await self._reply(message.get("bytes") or b"")
        await (socket.send_bytes(reply) if isinstance(reply, bytes) else socket.send_text(json.dumps(reply)))

    async def _reply(self, content: bytes) -> bytes | dict[str, Any]:
        number = HEAD.unpack_from(content)[0] if len(content) >= HEAD.size else None
        try:
            panel, codes = self._read(content)
            found = await self.decoding.decode(panel, codes)
            if not np.isfinite(found).all():
                raise _Malformed("the decode is not finite there")
        except _Malformed as error:
            return {"id": number, "error": str(error)}
        except Busy:
            return {"id": number, "error": "busy: ask again"}
        return struct.pack("<II", number or 0, len(codes)) + found.tobytes()

    def _read(self, content: bytes) -> tuple[int, np.ndarray]:
        """Panel and codes of a message.

        Raises:
            _Malformed: it is none.
        """
        if len(content) < HEAD.size:
            raise _Malformed("a message is three uint32 and the codes")
        _, panel, count = HEAD.unpack_from(content)
        if panel >= len(self.decoding):
            raise _Malformed("there is no such panel")
        latent, most = self.decoding.decoders[panel].latent, self.decoding.decoders[panel].most
        if not 1 <= count <= most:
            raise _Malformed(f"1 to {most} codes are decoded at once")
        if len(content) != HEAD.size + 4 * count * latent:
            raise _Malformed(f"the message does not hold {count} codes of {latent} numbers")
        codes = np.frombuffer(content, "<f4", offset=HEAD.size).reshape(count, latent)
        if not np.isfinite(codes).all():
            raise _Malformed("codes must be finite")
        return panel, codes


def _host_name(host: str) -> str:
    """The name of a Host header without its port; nothing of what is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _refused(request: Request, error: Any) -> Response:
    return PlainTextResponse(f"{HTTPStatus(error.status_code).phrase.lower()}\n", error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    return PlainTextResponse("internal error\n", 500)
