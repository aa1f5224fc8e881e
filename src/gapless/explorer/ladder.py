"""Where the page decodes: in the browser, on the server, or from pictures made beforehand; chosen by measuring."""

from dataclasses import dataclass, field
from typing import Any

import torch

from gapless.explorer.decoders import INPUT, OUTPUT, milliseconds_per_point, onnx_decoder, session
from gapless.explorer.items import quantised
from gapless.explorer.planes import Plane
from gapless.model import Model

__all__ = ["LARGEST", "SLOWEST", "Decoder", "decoder_of", "rung"]

LARGEST = 25_000_000
"""Bytes of a decoder that a page can carry."""
SLOWEST = 40.0
"""Milliseconds a point up to which a page decodes itself."""
MOST, ANSWER_BYTES, ANSWER_SECONDS = 4096, 4 << 20, 5.0
SIDE = 24
"""Places a side of a lattice of decodes made beforehand."""


@dataclass
class Decoder:
    """The decoder of one panel.

    Attributes:
        document: how the page decodes, plain data.
        said: that in words, with what was measured.
        onnx: the file, for the server; empty where nothing decodes but the page.
        latent: d.
        values: values of one output.
        milliseconds: of one decode of one code, measured.
        blobs: arrays of the page.
    """

    document: dict[str, Any]
    said: str
    onnx: bytes
    latent: int
    values: int
    milliseconds: float
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """Codes a request to the server: few enough that the answer is small and comes within 5 s."""
        by_time = int(ANSWER_SECONDS * 1000 / max(self.milliseconds, 1e-3))
        return max(1, min(MOST, ANSWER_BYTES // (4 * self.values), by_time))


def rung(size: int, milliseconds: float, *, static: bool) -> str:
    """onnx where the page can decode by itself, else server, or lattice where there is none.

    Args:
        size: of the ONNX file, bytes.
        milliseconds: of one decode of one code.
        static: whether the page must do without a server.
    """
    if size <= LARGEST and milliseconds <= SLOWEST:
        return "onnx"
    return "lattice" if static else "server"


def decoder_of(
    name: str, model: Model, plane: Plane, *, display: tuple[float, float], kind: str, static: bool
) -> Decoder:
    """Export the decoder, measure it, and choose.

    Args:
        name: of the panel.
        model: the model.
        plane: the first plane of its map: where a lattice lies.
        display: model-unit values shown as black and white.
        kind: "image" or "table".
        static: whether the page must do without a server.
    """
    content = onnx_decoder(model)
    spent = milliseconds_per_point(session(content), model.latent)
    chosen = rung(len(content), spent, static=static)
    where = {"onnx": "decoded in the page", "server": "decoded by the server", "lattice": "decoded beforehand"}[chosen]
    said = f"{where} ({len(content) / 1e6:.2f} MB, {spent:.2g} ms a point)"
    values = int(torch.Size(model.event_shape).numel())
    made = Decoder({"rung": chosen}, said, content, model.latent, values, spent)
    if chosen == "onnx":
        made.document |= {"onnx": f"{name}.onnx", "milliseconds": round(spent, 3), "input": INPUT, "output": OUTPUT}
        made.blobs[f"{name}.onnx"] = content
    if chosen == "server":
        made.document["most"] = made.most
    if chosen == "lattice":
        made.document |= {"plane": 0, "side": SIDE, "values": f"{name}.lattice"}
        made.blobs[f"{name}.lattice"] = _lattice(model, plane, display=display, kind=kind)
    return made


@torch.no_grad()
def _lattice(model: Model, plane: Plane, *, display: tuple[float, float], kind: str) -> bytes:
    """Decodes of SIDE x SIDE places of the plane, quantised as the items are."""
    codes = torch.as_tensor(plane.lattice(SIDE), dtype=torch.float32)
    values = torch.cat([model.decode(part).mean for part in codes.split(64)]).numpy()
    return quantised(values, *display).tobytes() if kind == "image" else values.astype("<f4").tobytes()
