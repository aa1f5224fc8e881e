"""Connections that end when the other side stalls: headers that never come, answers that are never read."""

import asyncio
from typing import Any

from h11 import IDLE
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["PatientHTTP", "PatientWebSocket"]

HEADER_SECONDS = 10.0
READ_SECONDS = 30.0


class _Deadline:
    """One timer that aborts a connection."""

    def __init__(self, seconds: float):
        self.seconds, self.timer = seconds, None

    def start(self, transport: Any) -> None:
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(self.seconds, transport.abort)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _ReadInTime(asyncio.Protocol):
    """A connection whose answers are read on within 30 s."""

    transport: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.reading_due = _Deadline(READ_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.reading_due.start(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.reading_due.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reading_due.stop()
        super().connection_lost(exc)


class PatientHTTP(_ReadInTime, H11Protocol):
    """HTTP whose request line and headers come within 10 s, and whose answer is read on within 30 s."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.headers_due = _Deadline(HEADER_SECONDS)
        self.headers_due.start(transport)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is IDLE:  # a request has begun and is not whole
            self.headers_due.start(self.transport)
        else:
            self.headers_due.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self.headers_due.stop()
        super().connection_lost(exc)


class PatientWebSocket(_ReadInTime, WebSocketsSansIOProtocol):
    """A WebSocket whose answers are read on within 30 s."""
