"""The page as one file: the built template, the scene as JSON, every array packed in base64; nothing is fetched."""

import base64
import gzip
import html
import json
import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from gapless.errors import MissingExtra, UsageError
from gapless.explorer.scene import Scene
from gapless.files import write_atomic, writing

__all__ = ["LANGUAGES", "POLICY", "built", "frame", "page", "script_json", "static_file", "write_page"]

LANGUAGES = ("en", "ko")
LARGEST = 300 * 2**20
"""Bytes of arrays in one file; browsers hold no longer strings."""
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob: data:; worker-src blob: data:; "
    "connect-src blob: data:; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
TEMPLATE, RUNTIME = "explorer.html", "runtime.wasm.lzma"
SAMPLE = 1 << 18
"""Bytes of an array that are looked at to choose how it is packed."""
END = "</body>"


def page(scene: Scene, *, language: str | None = None) -> str:
    """The whole explorer as HTML that works from a file, without any network.

    Args:
        scene: what it shows; no panel may need the server.
        language: en or ko; None leaves it to the reader's browser.

    Raises:
        MissingExtra: the page's front end is not built.
        UsageError: too much data for one file.
    """
    total = sum(map(len, scene.blobs.values()))
    if total > LARGEST:
        raise UsageError(
            f"{total / 2**20:.0f} MiB of items are too many for one file; the limit is {LARGEST / 2**20:.0f} MiB",
            where="--export", fix="show fewer --items, or leave --export out and look at the served page",
        )  # fmt: skip
    document = scene.document if language is None else {**scene.document, "language": language}
    parts = [f'<script type="application/json" id="scene">{script_json(document)}</script>']
    parts += [_element(name, *_packed(content)) for name, content in scene.blobs.items()]
    if any(panel["decoder"]["rung"] == "onnx" for panel in document["panels"]):
        parts.append(_element(RUNTIME, "lzma", static_file(RUNTIME)))
    return filled(built(), "\n".join(parts), language)


def write_page(scene: Scene, path: Path, *, language: str | None = None) -> int:
    """Write `page` to a file, whole or not at all, and return its size in bytes.

    Raises:
        StorageError: it cannot be written.
    """
    content = page(scene, language=language).encode("utf-8")
    with writing(path):
        write_atomic(path, content)
    return len(content)


def frame(content: str, *, height: int = 720) -> str:
    """A page inside another one, a notebook for example: it runs, and reaches nothing of what surrounds it.

    Args:
        content: what `page` gave.
        height: in pixels.
    """
    return (
        f'<iframe srcdoc="{html.escape(content)}" sandbox="allow-scripts allow-downloads" allow="clipboard-write" '
        f'title="gapless explorer" style="width:100%;height:{height}px;border:0"></iframe>'
    )


def script_json(values: Any) -> str:
    """JSON that no HTML parser takes for markup; numbers that are not finite are null."""
    text = json.dumps(_finite(values), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def built() -> str:
    """The template that the front end's build made.

    Raises:
        MissingExtra: it was not built.
    """
    return static_file(TEMPLATE).decode("utf-8")


@cache
def static_file(name: str) -> bytes:
    """A file of the built front end.

    Raises:
        MissingExtra: it was not built.
    """
    place = resources.files("gapless.explorer").joinpath("static", name)
    if not place.is_file():
        raise MissingExtra(
            f"the explorer's page is not built: {name} is missing", fix="run `make web` in the checkout, or use a wheel"
        )
    return place.read_bytes()


def filled(template: str, parts: str, language: str | None) -> str:
    """The template with elements before the end of its body."""
    if language is not None:
        template = template.replace('<html lang="en"', f'<html lang="{language}"', 1)
    before, end, after = template.rpartition(END)
    return f"{before}{parts}\n{end}{after}" if end else f"{template}\n{parts}\n"


def _packed(content: bytes) -> tuple[str, bytes]:
    """The name of the packing, and the bytes: gzip, after sorting by the place in words of four where that helps.

    The exponents of floating-point numbers are much alike, their last bits are not.
    """
    head = content[:SAMPLE]
    sort = len(_gzip(_sorted(head))) < len(_gzip(head))
    return ("gzip4", _gzip(_sorted(content))) if sort else ("gzip", _gzip(content))


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)


def _sorted(content: bytes) -> bytes:
    whole = len(content) // 4 * 4
    return np.frombuffer(content[:whole], np.uint8).reshape(-1, 4).T.tobytes() + content[whole:]


def _element(name: str, encoding: str, packed: bytes) -> str:
    text = base64.b64encode(packed).decode("ascii")
    return (
        f'<script type="application/octet-stream" data-name="{html.escape(name)}" data-encoding="{encoding}">{text}'
        "</script>"
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
