"""Laws that a model declares for its codes: a generator's, the sphere's, finitely many codes."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from gapless.audit.circles import balance, circles, far_circles, surprise
from gapless.audit.laws.normal import TWO_PI, Gaussian, Law
from gapless.errors import UsageError

__all__ = ["DiscreteCodes", "PushForward", "Sphere"]


class PushForward(Law):
    """`z = function(u)`, u ~ N(0, I): any generator of codes, a flow prior among them; loops are circles of u.

    Args:
        function: noise (n, noise) -> codes (n, d).
        noise: dimension of the noise.
        dimension: d.
        name: how the card calls it.
    """

    def __init__(
        self, function: Callable[[np.ndarray], np.ndarray], *, noise: int, dimension: int, name: str = "declared"
    ):
        self.function, self.noise, self.dimension, self.name = function, noise, dimension, name

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(self.function(rng.standard_normal((n, self.noise))), float)

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        return self._push(circles(n, points, self.noise, rng))

    def loops_and_tail(
        self, n: int, far: int, points: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        u = np.concatenate([circles(n, points, self.noise, rng), far_circles(far, points, self.noise, rng)])
        return self._push(u), np.zeros(n + far, dtype=int), balance(surprise(u), n, far)

    def _push(self, u: np.ndarray) -> np.ndarray:
        """Codes of circles (n, points, noise)."""
        codes = np.asarray(self.function(u.reshape(-1, self.noise)), float)
        return codes.reshape(*u.shape[:2], self.dimension)


class Sphere(Law):
    """Uniform on the unit sphere in `dimension` dimensions (at least 2); loops are great circles."""

    def __init__(self, dimension: int, *, name: str = "uniform on the sphere"):
        if dimension < 2:
            raise UsageError(f"a sphere needs at least 2 dimensions; got {dimension}", fix="use another law")
        self.dimension, self.name = dimension, name

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        u = rng.standard_normal((n, self.dimension))
        return u / np.linalg.norm(u, axis=1, keepdims=True)

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        a = self.sample(n, rng)
        b = rng.standard_normal(a.shape)
        b -= (a * b).sum(1, keepdims=True) * a
        b /= np.linalg.norm(b, axis=1, keepdims=True)
        t = (np.arange(points) * (TWO_PI / points))[None, :, None]
        return np.cos(t) * a[:, None] + np.sin(t) * b[:, None]

    def interpolate(self, start: np.ndarray, end: np.ndarray, points: int) -> np.ndarray:
        """Great circles at constant speed (Shoemake 1985); the lengths of codes off the sphere go over linearly.

        The angle is Kahan's 2 atan2(|a - b|, |a + b|), exact for near and for opposite codes; from exactly opposite
        codes the path is the straight one.
        """
        lengths = np.linalg.norm(start, axis=1, keepdims=True), np.linalg.norm(end, axis=1, keepdims=True)
        a, b = start / np.maximum(lengths[0], 1e-300), end / np.maximum(lengths[1], 1e-300)
        angle = 2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))[:, None, None]
        t = np.linspace(0, 1, points)[None, :, None]
        curved = (angle > 1e-9) & (angle < np.pi - 1e-9)
        safe = np.where(curved, np.sin(angle), 1)
        path = (np.sin((1 - t) * angle) * a[:, None] + np.sin(t * angle) * b[:, None]) / safe
        length = (1 - t) * lengths[0][:, None] + t * lengths[1][:, None]
        return np.where(curved, length * path, super().interpolate(start, end, points))

    @cached_property
    def _normal(self) -> Gaussian:
        return Gaussian(np.zeros(self.dimension), np.eye(self.dimension) / np.sqrt(self.dimension))


class DiscreteCodes(Law):
    """Independent positions, each one of `levels` values with given probabilities.

    A loop redraws one random position a step (Efron & Stein 1981): not a closed curve, but every point
    follows the law. A position is untouched after `lag` steps with probability (1 - 1/d)^lag, which is the correlation
    of an additive function of the positions; a product of k positions keeps (1 - k/d)^lag.

    Args:
        values: the code of each level, shape (levels,) or (positions, levels).
        probabilities: shape (positions, levels); rows sum to 1.
        name: how the card calls it.
    """

    closed = False

    def __init__(self, values: np.ndarray, probabilities: np.ndarray, *, name: str = "uniform on codes"):
        self.probabilities = np.asarray(probabilities, float)
        if self.probabilities.ndim != 2 or (self.probabilities < 0).any():
            raise UsageError("probabilities of discrete codes must be of shape (positions, levels), none negative")
        if np.abs(self.probabilities.sum(1) - 1).max() > 1e-6:
            raise UsageError("probabilities of discrete codes must sum to 1 at every position")
        self.probabilities = self.probabilities / self.probabilities.sum(1, keepdims=True)
        self.values = np.broadcast_to(np.asarray(values, float), self.probabilities.shape)
        self.dimension, self.name = len(self.probabilities), name

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        levels = np.arange(self.probabilities.shape[1])
        drawn = [rng.choice(levels, size=n, p=p) for p in self.probabilities]
        return np.stack([values[level] for values, level in zip(self.values, drawn, strict=True)], axis=1)

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        fresh = self.sample(n * points, rng).reshape(n, points, self.dimension)
        chosen = rng.integers(0, self.dimension, (n, points))
        redrawn = chosen[..., None] == np.arange(self.dimension)
        last = np.maximum.accumulate(np.where(redrawn, np.arange(points)[None, :, None], 0), axis=1)
        return np.take_along_axis(fresh, last, axis=1)

    def correlation(self, lag: int, points: int) -> float:
        return (1 - 1 / self.dimension) ** lag

    @cached_property
    def _normal(self) -> Gaussian:
        mean = (self.probabilities * self.values).sum(1)
        spread = np.sqrt((self.probabilities * np.square(self.values - mean[:, None])).sum(1))
        return Gaussian(mean, np.diag(spread)[:, spread > 0])
