"""Decoding for many clients: a bounded number of requests at once, in pieces, with a lane of its own for small ones."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np

from gapless.explorer.decoders import INPUT, OUTPUT, session
from gapless.explorer.ladder import Decoder

__all__ = ["Busy", "Decoding"]

ADMITTED, SMALL, PIECE = 8, 16, 64


class Busy(Exception):  # noqa: N818 - it says what happened
    """As many requests are being decoded as are admitted at once."""


class Decoding:
    """The decoders of the panels, in threads.

    A request is decoded in pieces of 64 codes, so that others come between; up to 16 codes have a thread of their own,
    so that a move of the mouse never waits for a grid.

    Args:
        decoders: one a panel.
    """

    def __init__(self, decoders: Sequence[Decoder]):
        self.decoders = decoders
        self._sessions: dict[int, Any] = {}
        self._making = Lock()
        self._large = ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 2) - 1)), "decode")
        self._small = ThreadPoolExecutor(1, "decode-small")
        self.admitted = 0

    def __len__(self) -> int:
        return len(self.decoders)

    async def decode(self, panel: int, codes: np.ndarray) -> np.ndarray:
        """Means of p(x|z), shape (count, values), float32.

        Args:
            panel: which decoder.
            codes: float32, shape (count, d).

        Raises:
            Busy: too many are being decoded.
        """
        if len(codes) <= SMALL:
            return await self._in(self._small, panel, codes)
        if self.admitted >= ADMITTED:
            raise Busy
        self.admitted += 1
        try:
            starts = range(0, len(codes), PIECE)
            return np.concatenate([await self._in(self._large, panel, codes[s : s + PIECE]) for s in starts])
        finally:
            self.admitted -= 1

    def close(self) -> None:
        """Decode nothing more."""
        for pool in (self._large, self._small):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _in(self, pool: ThreadPoolExecutor, panel: int, codes: np.ndarray) -> np.ndarray:
        return await asyncio.get_running_loop().run_in_executor(pool, self._run, panel, codes)

    def _run(self, panel: int, codes: np.ndarray) -> np.ndarray:
        found = self._session(panel).run([OUTPUT], {INPUT: codes})[0]
        return np.ascontiguousarray(found, "<f4").reshape(len(codes), -1)

    def _session(self, panel: int) -> Any:
        with self._making:
            if panel not in self._sessions:
                self._sessions[panel] = session(self.decoders[panel].onnx)
            return self._sessions[panel]
