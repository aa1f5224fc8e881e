"""Sprites: small pictures drawn from known factors, to ask whether latent features find them."""

from collections.abc import Callable

import numpy as np

from gapless.data.arrays import from_array
from gapless.data.raw import Raw

__all__ = ["FACTORS", "SIZE", "draw_sprites", "read_sprites", "sprite_factors"]

SIZE = 32
"""Pixels a side."""
SHAPES = ("triangle", "heart", "hook")
RADII = (4.0, 5.2, 6.6, 8.2)  # pixels; at the largest a sprite still keeps inside the picture
ORIENTATIONS = 8
PLACES = 8
_MARGIN = 9.0

FACTORS: dict[str, int] = {
    "shape": len(SHAPES), "scale": len(RADII), "orientation": ORIENTATIONS, "x": PLACES, "y": PLACES,
}  # fmt: skip
"""The factors and how many values each takes; every combination is one item, the last factor running fastest."""


def sprite_factors() -> dict[str, np.ndarray]:
    """Codes of each factor of all items, in their order: (n,) int64, 0 to one less than its number of values.

    >>> {name: codes[-1].item() for name, codes in sprite_factors().items()}
    {'shape': 2, 'scale': 3, 'orientation': 7, 'x': 7, 'y': 7}
    """
    codes = np.indices(tuple(FACTORS.values())).reshape(len(FACTORS), -1)
    return {name: row.astype(np.int64) for name, row in zip(FACTORS, codes, strict=True)}


def draw_sprites() -> np.ndarray:
    """Every combination of the factors as a picture of bits, shape (n, 32, 32) uint8; the same bits everywhere.

    After dSprites (Matthey et al. 2017), with shapes that have no symmetry under rotation, so that every factor can be
    told from the picture: no two of them are equal.

    >>> draw_sprites().shape
    (6144, 32, 32)
    """
    places = np.linspace(_MARGIN, SIZE - 1 - _MARGIN, PLACES)
    rows, columns = np.indices((SIZE, SIZE), dtype=np.float64)
    down = rows - places[None, :, None, None]
    right = columns - places[:, None, None, None]
    drawn = [
        _inside(shape, right, down, radius=radius, turns=turn / ORIENTATIONS)
        for shape in _SHAPES.values()
        for radius in RADII
        for turn in range(ORIENTATIONS)
    ]
    return np.stack(drawn).reshape(-1, SIZE, SIZE).astype(np.uint8)


def read_sprites() -> Raw:
    """All sprites as data: pictures of bits, the shape as label."""
    shapes = np.array(SHAPES)[sprite_factors()["shape"]]
    return from_array(draw_sprites(), shapes, where="sprites")


def _inside(
    shape: Callable[[np.ndarray, np.ndarray], np.ndarray],
    right: np.ndarray,
    down: np.ndarray,
    *,
    radius: float,
    turns: float,
) -> np.ndarray:
    """Which pixels lie inside a shape, turned clockwise; the small shift keeps edges off the pixels' centres."""
    cosine, sine = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    u = (cosine * right + sine * down) / radius + 1e-3
    v = (cosine * down - sine * right) / radius + 2e-3
    return shape(u, v)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (v <= 0.7) & (v >= 3 * np.abs(u) - 1.1)


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = 1.25 * u, -1.25 * v + 0.1
    return np.square(x) + np.square(1.2 * y - np.sqrt(np.abs(x))) <= 1


def _hook(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bar = (np.abs(u + 0.4) <= 0.3) & (np.abs(v) <= 0.9)
    foot = (np.abs(v - 0.6) <= 0.3) & (u >= -0.7) & (u <= 0.7)
    return bar | foot


_SHAPES = dict(zip(SHAPES, (_triangle, _heart, _hook), strict=True))
