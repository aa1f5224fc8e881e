"""Reference laws: what a user would draw codes from, as objects that sample, walk in loops, interpolate and whiten."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

__all__ = ["DiscreteCodes", "Gaussian", "Law", "Mixture", "Mixup", "PushForward", "Sphere", "moments", "standard"]

TWO_PI = 2 * np.pi


class Law(ABC):
    """A distribution of codes.

    To add one: write `sample` and `loops`; every point of a loop follows the law, and neighbours on a loop of T points
    have the correlation cos(2 pi / T) in whatever noise the law is made of.
    """

    name: str
    dimension: int

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws, shape (n, dimension), float64."""

    @abstractmethod
    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        """n closed curves of equally spaced points, shape (n, points, dimension), float64."""

    def interpolate(self, start: np.ndarray, end: np.ndarray, points: int) -> np.ndarray:
        """Straight segments, both ends included: (n, d), (n, d) -> (n, points, d)."""
        t = np.linspace(0, 1, points)[None, :, None]
        return (1 - t) * start[:, None] + t * end[:, None]

    def whiten(self, z: np.ndarray) -> np.ndarray:
        """Codes in the units of the law (mean 0, covariance I where there is one), shape (n, d)."""
        return z


class Gaussian(Law):
    """`z = mean + L u`, u ~ N(0, I); loops are `u(t) = cos(t) a + sin(t) b`, a, b ~ N(0, I).

    Args:
        mean: shape (d,).
        factor: L, shape (d, rank); the covariance is L L^T, rank below d allowed.
        name: how the card calls it.
    """

    def __init__(self, mean: np.ndarray, factor: np.ndarray, *, name: str = "moments"):
        self.mean, self.factor, self.name = np.asarray(mean, float), np.asarray(factor, float), name
        self.dimension = len(self.mean)
        self._inverse = np.linalg.pinv(self.factor)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.mean + rng.standard_normal((n, self.factor.shape[1])) @ self.factor.T

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        return self.mean + circles(n, points, self.factor.shape[1], rng) @ self.factor.T

    def whiten(self, z: np.ndarray) -> np.ndarray:
        return (z - self.mean) @ self._inverse.T


def circles(n: int, points: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """`cos(t) a + sin(t) b` at equally spaced t, a, b ~ N(0, I): shape (n, points, dimension)."""
    a, b = rng.standard_normal((2, n, 1, dimension))
    t = (np.arange(points) * (TWO_PI / points))[None, :, None]
    return np.cos(t) * a + np.sin(t) * b


def standard(dimension: int) -> Gaussian:
    """N(0, I)."""
    return Gaussian(np.zeros(dimension), np.eye(dimension), name="N(0, I)")


def moments(loc: np.ndarray, scale: np.ndarray) -> Gaussian:
    """N(mean, covariance) of the encodings: covariance of loc plus the mean of scale^2 on the diagonal.

    Shrunk by Ledoit & Wolf (2004) when n < 10 d; rank deficiency is kept by the eigen square root.

    Args:
        loc: means of q(z|x), shape (n, d).
        scale: standard deviations, shape (n, d).
    """
    n, d = loc.shape
    if n < 10 * d:
        from sklearn.covariance import ledoit_wolf

        covariance = ledoit_wolf(loc)[0]
    else:
        covariance = np.cov(loc, rowvar=False, bias=True).reshape(d, d)
    covariance = covariance + np.diag(np.square(scale).mean(0))
    values, vectors = np.linalg.eigh(covariance)
    keep = values > values.max(initial=0) * 1e-12
    return Gaussian(loc.mean(0), vectors[:, keep] * np.sqrt(values[keep]), name="moments")


class PushForward(Law):
    """`z = function(u)`, u ~ N(0, I): any generator of codes, a flow prior among them.

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
        u = circles(n, points, self.noise, rng).reshape(-1, self.noise)
        return np.asarray(self.function(u), float).reshape(n, points, self.dimension)


class Sphere(Law):
    """Uniform on the unit sphere in `dimension` dimensions; loops are great circles."""

    def __init__(self, dimension: int, *, name: str = "uniform on the sphere"):
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
        cosine = np.clip((start * end).sum(1), -1, 1)[:, None, None]
        angle = np.arccos(cosine)
        t = np.linspace(0, 1, points)[None, :, None]
        safe = np.maximum(np.sin(angle), 1e-12)
        path = (np.sin((1 - t) * angle) * start[:, None] + np.sin(t * angle) * end[:, None]) / safe
        return np.where(angle < 1e-9, start[:, None], path)


class Mixture(Law):
    """A mixture of normals; a loop stays within one component, drawn by its weight.

    Args:
        weights: shape (k,), they sum to 1.
        components: k Gaussians.
        name: how the card calls it.
    """

    def __init__(self, weights: np.ndarray, components: list[Gaussian], *, name: str = "gmm"):
        self.weights, self.components, self.name = np.asarray(weights, float), components, name
        self.dimension = components[0].dimension

    @classmethod
    def fit(cls, codes: np.ndarray, k: int, *, seed: int = 0) -> "Mixture":
        """A Gaussian mixture fitted to codes ex post (scikit-learn, full covariances), shape (n, d)."""
        from sklearn.mixture import GaussianMixture

        k = max(1, min(k, len(codes) // 2))
        found = GaussianMixture(k, covariance_type="full", reg_covar=1e-6, random_state=seed, max_iter=50).fit(codes)
        means, covariances = np.asarray(found.means_), np.asarray(found.covariances_)
        parts = [Gaussian(m, np.linalg.cholesky(c)) for m, c in zip(means, covariances, strict=True)]
        return cls(np.asarray(found.weights_), parts, name=f"GMM-{k}")

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._by_component(n, rng, lambda part, count: part.sample(count, rng))

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        return self._by_component(n, rng, lambda part, count: part.loops(count, points, rng))

    def whiten(self, z: np.ndarray) -> np.ndarray:
        mean = sum(w * part.mean for w, part in zip(self.weights, self.components, strict=True))
        spread = sum(
            w * (part.factor @ part.factor.T + np.outer(part.mean - mean, part.mean - mean))
            for w, part in zip(self.weights, self.components, strict=True)
        )
        return (z - mean) @ np.linalg.pinv(np.linalg.cholesky(spread + 1e-12 * np.eye(self.dimension))).T

    def _by_component(
        self, n: int, rng: np.random.Generator, draw: Callable[[Gaussian, int], np.ndarray]
    ) -> np.ndarray:
        counts = rng.multinomial(n, self.weights)
        parts = [draw(part, count) for part, count in zip(self.components, counts, strict=True) if count]
        return rng.permutation(np.concatenate(parts))


class Mixup(Law):
    """Points on the segment between two random codes: `(1 - t) z + t z'`, t uniform; what interpolation visits.

    A loop walks one segment there and back, each point following the law.

    Args:
        codes: shape (n, d).
    """

    def __init__(self, codes: np.ndarray, *, name: str = "mixup"):
        self.codes, self.name, self.dimension = np.asarray(codes, float), name, codes.shape[1]

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        first, last = self.codes[rng.integers(0, len(self.codes), (2, n))]
        t = rng.random((n, 1))
        return (1 - t) * first + t * last

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        first, last = self.codes[rng.integers(0, len(self.codes), (2, n))]
        phase = (rng.random((n, 1)) + np.arange(points)[None] / points) % 1
        t = (1 - np.abs(2 * phase - 1))[..., None]
        return (1 - t) * first[:, None] + t * last[:, None]


class DiscreteCodes(Law):
    """Independent positions, each one of `levels` values with given probabilities.

    A loop resamples one position a step (Efron & Stein 1981) in a random order, until all are new, and so on; it is
    not closed in the sense of angles, but every point follows the law and neighbours differ in one position.

    Args:
        values: the code of each level, shape (levels,) or (positions, levels).
        probabilities: shape (positions, levels); rows sum to 1.
    """

    def __init__(self, values: np.ndarray, probabilities: np.ndarray, *, name: str = "uniform on codes"):
        self.probabilities = np.asarray(probabilities, float)
        self.values = np.broadcast_to(np.asarray(values, float), self.probabilities.shape)
        self.dimension, self.name = len(self.probabilities), name

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.stack([self._draw(position, n, rng) for position in range(self.dimension)], axis=1)

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        path = np.empty((n, points, self.dimension))
        path[:, 0] = self.sample(n, rng)
        for step in range(1, points):
            path[:, step] = path[:, step - 1]
            chosen = rng.integers(0, self.dimension, n)
            for position in range(self.dimension):
                rows = np.flatnonzero(chosen == position)
                path[rows, step, position] = self._draw(position, len(rows), rng)
        return path

    def _draw(self, position: int, n: int, rng: np.random.Generator) -> np.ndarray:
        level = rng.choice(self.probabilities.shape[1], size=n, p=self.probabilities[position])
        return self.values[position, level]
