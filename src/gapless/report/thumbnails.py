"""Small pictures of items: images as they are, table rows as bars; and sheets of them."""

import base64
import io
import textwrap
from collections.abc import Sequence

import numpy as np

__all__ = ["framed", "labelled", "png", "png_uri", "sheet", "thumbnails"]

PAPER, INK, BELOW = (255, 255, 255), (68, 119, 170), (204, 102, 119)
FRAME_RED, FRAME_GREY = np.array((204, 51, 68), np.uint8), np.array((200, 204, 210), np.uint8)
BAR_LIMIT = 3.0
"""A table row's bars are cut at this many standard deviations."""


def thumbnails(values: np.ndarray, *, kind: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Pictures of items, shape (n, height, width, 3), uint8.

    Args:
        values: items in model units, shape (n, *event).
        kind: "image" or "table".
        low: the value shown as black.
        high: the value shown as white.
    """
    values = np.nan_to_num(np.asarray(values, dtype=np.float32))
    return _images(values, low, high) if kind == "image" else _bars(values, low, high)


def _images(values: np.ndarray, low: float, high: float) -> np.ndarray:
    grey = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    channels = grey.shape[1]
    colour = grey[:, :3] if channels >= 3 else grey[:, :1].repeat(3, axis=1)
    return np.rint(colour.transpose(0, 2, 3, 1) * 255).astype(np.uint8)


def _bars(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """One bar a column around the column's mean, which is 0 in model units, or from 0 up for values in [0, 1]."""
    rows = values.reshape(len(values), -1)
    count, columns = rows.shape
    signed = low < 0
    width, height = max(1, -(-48 // columns)), 48
    scaled = np.clip(rows / BAR_LIMIT if signed else (rows - low) / max(high - low, 1e-12), -1, 1)
    base = height // 2 if signed else height
    top = np.rint(base - scaled * (base - 1)).astype(int)
    level = np.arange(height)[None, None, :]
    above = (level >= np.minimum(top, base)[..., None]) & (level < base) & (scaled >= 0)[..., None]
    below = (level < np.maximum(top, base)[..., None]) & (level >= base) & (scaled < 0)[..., None]
    picture = np.full((count, columns, height, 3), PAPER, dtype=np.uint8)
    picture[above], picture[below] = INK, BELOW
    if signed:
        picture[:, :, base] = (160, 160, 160)
    return picture.transpose(0, 2, 1, 3).repeat(width, axis=2)


def sheet(pictures: np.ndarray, columns: int, *, gap: int = 1, target: int = 900) -> np.ndarray:
    """Pictures in rows on one sheet, enlarged by a whole factor towards a width of `target` pixels.

    Args:
        pictures: shape (n, height, width, 3), uint8; n is a multiple of `columns`.
        columns: pictures a row.
        gap: pixels of paper between pictures, before enlarging.
        target: width to enlarge to, pixels.

    Returns:
        One picture, shape (height, width, 3), uint8.
    """
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    page = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 235, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        page[top : top + height, left : left + width] = picture
    factor = max(1, min(8, round(target / page.shape[1])))
    return page.repeat(factor, axis=0).repeat(factor, axis=1)


def framed(pictures: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Pictures with a frame: red where marked, grey where not; shape (n, height + 2 f, width + 2 f, 3)."""
    thick = max(1, pictures.shape[2] // 24)
    shape = (len(pictures), pictures.shape[1] + 2 * thick, pictures.shape[2] + 2 * thick, 3)
    page = np.empty(shape, dtype=np.uint8)
    page[:] = np.where(np.asarray(marked)[:, None], FRAME_RED, FRAME_GREY)[:, None, None]
    page[:, thick:-thick, thick:-thick] = pictures
    return page


def labelled(picture: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A sheet of table rows with the names of its bars written below, in their order.

    Args:
        picture: shape (height, width, 3), uint8.
        names: of the columns, from the left; what the font cannot write is given by its number.
    """
    from PIL import Image, ImageDraw, ImageFont

    shown = [name if name.isascii() else f"column {i}" for i, name in enumerate(names, start=1)]
    width = max(picture.shape[1], 240)
    lines = textwrap.wrap("bars from the left: " + ", ".join(shown), width=width // 8)
    page = np.full((picture.shape[0] + 18 * len(lines) + 8, width, 3), PAPER, dtype=np.uint8)
    page[: picture.shape[0], : picture.shape[1]] = picture
    image = Image.fromarray(page)
    for number, line in enumerate(lines):
        place = (4, picture.shape[0] + 4 + 18 * number)
        ImageDraw.Draw(image).text(place, line, fill=(0, 0, 0), font=ImageFont.load_default(13))
    return np.asarray(image)


def png(picture: np.ndarray) -> bytes:
    """A picture, shape (height, width, 3), uint8, as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def png_uri(content: bytes | np.ndarray) -> str:
    """A PNG file, or a picture, as a data URI."""
    content = content if isinstance(content, bytes) else png(content)
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def value_range(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """The lowest and highest value to show: the central 99.8 % of all given values."""
    flat = np.concatenate([np.asarray(part, dtype=np.float32).ravel() for part in values])
    low, high = np.nanquantile(flat, [0.001, 0.999])  # what is missing is shown as 0
    return float(low), float(max(high, low + 1e-6))
