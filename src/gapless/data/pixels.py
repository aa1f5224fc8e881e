"""One image file to numbers: its header first, then its pixels, by an allow-list of formats."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapless.data.raw import printable

__all__ = ["Head", "Unreadable", "read_head", "read_pixels"]

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
_MAX_PIXELS = 89_478_485  # Pillow's own limit, kept where a program has switched Pillow's off
_GREY = ("1", "L", "LA", "La")
_GREY16 = ("I;16", "I;16B", "I;16L", "I;16N")
_ALPHA = ("LA", "La", "RGBA", "RGBa", "PA")
_COLOUR = ("P", "RGB", "CMYK", "YCbCr", "RGBX", "LAB", "HSV", "RGBA", "RGBa", "PA")


class Unreadable(Exception):  # noqa: N818 - it is caught, and told as a DataError or a note
    """An image file that cannot be read, and why."""


@dataclass(frozen=True)
class Head:
    """What the header of an image file tells.

    Args:
        size: (height, width) in pixels.
        kind: "grey", "grey16" or "colour".
        alpha: whether it has transparency.
        mode: Pillow's word for its pixels.
        animated: whether it has more than one frame.
    """

    size: tuple[int, int]
    kind: str
    alpha: bool
    mode: str
    animated: bool


def read_head(content: bytes) -> Head:
    """The header of an image file, without decoding its pixels.

    Raises:
        Unreadable: if it is no image of an allowed format, or too large.
    """
    with _opened(content) as image:
        alpha = image.mode in _ALPHA or "transparency" in image.info
        animated = bool(getattr(image, "is_animated", False))
        return Head((image.height, image.width), _kind(image), alpha, image.mode, animated)


def read_pixels(content: bytes, *, kind: str, resize: tuple[int, int] | None) -> np.ndarray:
    """The pixels of an image file, over white where it is transparent.

    Args:
        content: the file.
        kind: "grey", "grey16" or "colour": what to make of it.
        resize: (height, width) to bring it to, bilinear over the area of a pixel.

    Returns:
        (channels, height, width) uint8, or uint16 for "grey16".

    Raises:
        Unreadable: if the file is damaged.
    """
    with _opened(content) as image:
        if _kind(image) == "grey16":
            return _sixteen_bit(image, kind, resize)
        mode = "RGB" if kind == "colour" else "L"
        image = _over_white(image).convert(mode)
        if resize and image.size != resize[::-1]:
            image = image.resize((resize[1], resize[0]), _bilinear())
        pixels = np.asarray(image, dtype=np.uint8)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise Unreadable(f"{image.width} x {image.height} pixels; the limit is {_MAX_PIXELS} in all")
                yield image
    except Unreadable:
        raise
    except Exception as error:  # a damaged file makes Pillow raise errors of many kinds
        raise Unreadable(_reason(error, content)) from error


def _reason(error: Exception, content: bytes) -> str:
    if not content:
        return "the file is empty"
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image of a known format"
    return printable(str(error)[:200]) or type(error).__name__


def _kind(image: Any) -> str:
    if image.mode in _GREY:
        return "grey"
    if image.mode in _GREY16 or (image.mode == "I" and image.format == "PNG"):
        return "grey16"
    if image.mode in _COLOUR:
        return "colour"
    raise Unreadable(f"pixels of mode {image.mode} are not read; save the values as .npy")


def _over_white(image: Any) -> Any:
    from PIL import Image

    if image.mode not in _ALPHA and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return flat.convert("L" if image.mode in _GREY else "RGB")


def _sixteen_bit(image: Any, kind: str, resize: tuple[int, int] | None) -> np.ndarray:
    from PIL import Image

    pixels = np.asarray(image).astype(np.uint16)
    if resize and pixels.shape != resize:
        smooth = Image.fromarray(pixels.astype(np.float32)).resize((resize[1], resize[0]), _bilinear())
        pixels = np.clip(np.rint(np.asarray(smooth)), 0, 65535).astype(np.uint16)
    if kind == "grey16":
        return pixels[None]
    grey = (pixels >> 8).astype(np.uint8)
    return np.repeat(grey[None], 3 if kind == "colour" else 1, axis=0)


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR
