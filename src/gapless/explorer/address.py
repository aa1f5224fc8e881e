"""The place the explorer is served at: a port taken early, a token, and the names it may be called by."""

import errno
import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass

from gapless.errors import UsageError

__all__ = ["Address", "taken"]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """A listening socket and who may ask there.

    Attributes:
        socket: bound and listening.
        host: as it was asked for.
        token: what every request must carry.
    """

    socket: socket.socket
    host: str
    token: str

    @property
    def port(self) -> int:
        """The port that was taken."""
        return int(self.socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where to look, with the token."""
        shown = LOOPBACK if self._everywhere else self.host
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/?token={self.token}"

    @property
    def sockets(self) -> str:
        """WebSocket addresses for a content policy: some browsers do not count them under 'self'."""
        names = dict.fromkeys((LOOPBACK, "localhost", *(() if self._everywhere or ":" in self.host else (self.host,))))
        return " ".join(f"ws://{name}:{self.port}" for name in names)

    @property
    def _everywhere(self) -> bool:
        return self.host in ("0.0.0.0", "::")

    def answers_to(self, name: str) -> bool:
        """Whether a Host header, port left out, is one of ours: another name may point here by DNS rebinding.

        Bound to all addresses, every literal address is ours, for no name server makes one.
        """
        name = name.strip("[]").lower()
        if name in ("localhost", self.host.lower()) or _is_loopback(name):
            return True
        return self._everywhere and (_address(name) is not None or name == socket.gethostname().lower())


def taken(port: int, host: str = LOOPBACK) -> Address:
    """Take a port, before anything slow is done.

    Args:
        port: 0 for any free one.
        host: address to listen at; only this machine reaches the default.

    Raises:
        UsageError: it is not free, not allowed or not there; never another one is taken in its place.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port takes 0 (any free one) to 65535; got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named; else answers wait 40 ms for an acknowledgement
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # a port left a minute ago is free; elsewhere this would share one that is in use
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(512)
    except OSError as error:
        made.close()
        raise _refusal(error, port, host) from error
    return Address(made, host, secrets.token_urlsafe(32))


def _refusal(error: OSError, port: int, host: str) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"port {port} is taken", where="--port", fix="choose another --port, or --port 0 for any free one"
        )
    if error.errno == errno.EACCES:
        return UsageError(f"port {port} is not allowed", where="--port", fix="choose a --port from 1024, or 0")
    return UsageError(f"cannot listen at {host}: {error.strerror or error}", where="--host", fix=f"use {LOOPBACK}")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_loopback(name: str) -> bool:
    found = _address(name)
    return found is not None and found.is_loopback
