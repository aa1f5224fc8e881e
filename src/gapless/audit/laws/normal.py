"""Reference laws: what a user would draw codes from, as objects that sample, walk in loops, interpolate and whiten."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np

from gapless.audit.circles import balance, circles, far_circles, surprise
from gapless.errors import UsageError

__all__ = ["DiscreteCodes", "Gaussian", "Law", "Mixture", "Mixup", "PushForward", "Sphere", "moments", "standard"]

TWO_PI = 2 * np.pi
SYMMETRIC = 1e-6
"""A skewness under this may be rounding."""


class Law(ABC):
    """A distribution of codes.

    To add one: write `sample` and `loops`; every point of a loop follows the law, and two points of a loop have the
    correlation that `correlation` states in whatever noise the law is made of (override it where that is not a cosine).

    Attributes:
        name: how the card calls it.
        dimension: d.
        closed: whether loops are closed curves: the last point neighbours the first and every step can be halved.
    """

    name: str
    dimension: int
    closed: bool = True

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws, shape (n, dimension), float64."""

    @abstractmethod
    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        """n closed curves of equally spaced points, shape (n, points, dimension), float64."""

    def loops_and_parts(self, n: int, points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Loops, and the part of the law each one stays within: shapes (n, points, dimension) and (n,), integers."""
        return self.loops(n, points, rng), np.zeros(n, dtype=int)

    def loops_and_tail(
        self, n: int, far: int, points: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """n loops, then up to `far` more drawn too far out; with them the parts, and weights that make up for it.

        Weighted means over all of them estimate what plain means over loops do, and see the rare loops that carry much
        of the mean of a steep output. A law without a tail of its own draws no loops far out.

        Returns:
            Codes (n + far, points, dimension), parts (n + far,), weights (n + far,) of mean about 1.
        """
        return *self.loops_and_parts(n, points, rng), np.ones(n)

    def correlation(self, lag: int, points: int) -> float:
        """Correlation of the law's noise `lag` steps apart on a loop of `points`: cos(2 pi lag / points).

        A decoder that is linear in that noise has `1/2 E|g - g'|^2 = (1 - correlation) Var g`.
        """
        return float(np.cos(TWO_PI * lag / points))

    def interpolate(self, start: np.ndarray, end: np.ndarray, points: int) -> np.ndarray:
        """Straight segments, both ends included: (n, d), (n, d) -> (n, points, d)."""
        t = np.linspace(0, 1, points)[None, :, None]
        return (1 - t) * start[:, None] + t * end[:, None]

    def whiten(self, z: np.ndarray) -> np.ndarray:
        """Codes in the units of the law, mean 0 and covariance I: (n, d) -> (n, rank of the law's covariance)."""
        return self._normal.whiten(z)

    @cached_property
    def _normal(self) -> "Gaussian":
        """The Gaussian with the moments of the law; by 8,192 fixed draws where they are not known."""
        draws = self._fixed_draws
        return framed(draws, draws.mean(0), _rows(draws))

    @cached_property
    def _fixed_draws(self) -> np.ndarray:
        """8,192 draws, always the same."""
        return self.sample(8192, np.random.default_rng(0))


class Gaussian(Law):
    """`z = mean + L u`, u ~ N(0, I); loops are `u(t) = cos(t) a + sin(t) b`, a, b ~ N(0, I).

    Args:
        mean: shape (d,).
        factor: L, shape (d, rank); the covariance is L L^T, rank below d allowed.
        name: how the card calls it.
    """

    def __init__(self, mean: np.ndarray, factor: np.ndarray, *, name: str = "moments"):
        self.mean, self.factor, self.name = np.asarray(mean, float), np.asarray(factor, float), name
        if self.mean.ndim != 1 or self.factor.ndim != 2 or len(self.factor) != len(self.mean):
            raise UsageError(
                f"a Gaussian needs a mean (d,) and a factor (d, rank); got {self.mean.shape} and {self.factor.shape}"
            )
        self.dimension = len(self.mean)
        unit = np.linalg.norm(self.factor, axis=1) + (self.factor == 0).all(1)  # features may differ in units
        self._inverse = np.linalg.pinv(self.factor / unit[:, None]) / unit

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.mean + rng.standard_normal((n, self.factor.shape[1])) @ self.factor.T

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        return self.mean + circles(n, points, self.factor.shape[1], rng) @ self.factor.T

    def far_loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        """Loops of `far_circles`, shape (n, points, d)."""
        return self.mean + far_circles(n, points, self.factor.shape[1], rng) @ self.factor.T

    def loops_and_tail(
        self, n: int, far: int, points: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        codes = np.concatenate([self.loops(n, points, rng), self.far_loops(far, points, rng)])
        return codes, np.zeros(n + far, dtype=int), balance(surprise(self.whiten(codes)), n, far)

    def whiten(self, z: np.ndarray) -> np.ndarray:
        return (z - self.mean) @ self._inverse.T


def root(rows: np.ndarray) -> np.ndarray:
    """A square root L of the covariance B^T B of rows B (m, d): L L^T = S R S, S standard deviations, R correlations.

    From the singular values of the rows themselves: a covariance squares the condition, and would lose narrow
    directions to rounding. Null directions are left out: shape (d, rank). Scaling first keeps features whose units are
    far apart.
    """
    spread = np.linalg.norm(rows, axis=0)
    unit = np.where(spread > 0, spread, 1)
    _, values, vectors = np.linalg.svd(np.linalg.qr(rows / unit, mode="r"), full_matrices=False)
    keep = values > max(values.max(initial=0), 0) * 1e-6
    return unit[:, None] * vectors[keep].T * values[keep]


def framed(points: np.ndarray, mean: np.ndarray, rows: np.ndarray) -> Gaussian:
    """N(mean, B^T B), B the rows, whose axes of noise are those of the points, whatever units they come in.

    A square root of a covariance is known up to a rotation. This one makes the fourth moments `E |w|^2 w w^T` of the
    whitened points diagonal (FOBI: Cardoso 1989), ascending, each axis skewed to the positive side. Then z -> A z + b
    turns L into A L: the same noise draws the same places, and whitened codes do not change at all. Where the points
    are symmetric, axes and signs are arbitrary, and it does not matter which.

    Args:
        points: shape (n, d).
        mean: shape (d,).
        rows: B, shape (m, d).
    """
    bare = Gaussian(mean, root(rows))
    white = bare.whiten(points)
    _, axes = np.linalg.eigh((white * np.square(white).sum(1, keepdims=True)).T @ white / len(white))
    along = white @ axes
    skew = (along**3).mean(0)
    longest = np.take_along_axis(along, np.abs(along).argmax(0, keepdims=True), 0).sum(0)
    signs = np.where(np.abs(skew) > SYMMETRIC, skew, longest)
    return Gaussian(mean, bare.factor @ (axes * np.where(signs < 0, -1, 1)))


def _rows(codes: np.ndarray) -> np.ndarray:
    """B (n, d) such that B^T B is the covariance of codes (n, d), divided by n."""
    return (codes - codes.mean(0)) / np.sqrt(len(codes))


def standard(dimension: int) -> Gaussian:
    """N(0, I)."""
    return Gaussian(np.zeros(dimension), np.eye(dimension), name="N(0, I)")


def moments(loc: np.ndarray, scale: np.ndarray) -> Gaussian:
    """N(mean, covariance) of the encodings: covariance of loc plus the mean of scale^2 on the diagonal.

    Shrunk by Ledoit & Wolf (2004) when n < 10 d; rank deficiency is kept by the eigen square root. The same noise draws
    the same places whatever the units of the codes (`framed`).

    Args:
        loc: means of q(z|x), shape (n, d).
        scale: standard deviations, shape (n, d).
    """
    n, d = loc.shape
    rows, noise = _rows(loc), [np.diag(np.sqrt(np.square(scale).mean(0)))]
    if 1 < n < 10 * d:
        from sklearn.covariance import ledoit_wolf_shrinkage

        shrunk = float(ledoit_wolf_shrinkage(loc))
        noise.append(np.eye(d) * np.sqrt(shrunk * np.square(rows).sum() / d))
        rows = rows * np.sqrt(1 - shrunk)
    return framed(loc, loc.mean(0), np.concatenate([rows, *noise]))


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


class Mixture(Law):
    """A mixture of normals; a loop stays within one component, drawn by its weight.

    Args:
        weights: shape (k,), they sum to 1.
        components: k Gaussians.
        name: how the card calls it.
    """

    def __init__(self, weights: np.ndarray, components: list[Gaussian], *, name: str = "gmm"):
        weights = np.asarray(weights, float)
        if weights.shape != (len(components),) or (weights < 0).any() or abs(weights.sum() - 1) > 1e-6:
            raise UsageError(f"a mixture of {len(components)} needs as many weights that sum to 1; got {weights}")
        self.weights, self.components, self.name = weights / weights.sum(), components, name
        self.dimension = components[0].dimension

    @classmethod
    def fit(cls, codes: np.ndarray, k: int, *, seed: int = 0) -> "Mixture":
        """A Gaussian mixture fitted to codes ex post (scikit-learn, full covariances), shape (n, d).

        Fitted in whitened codes, so that its start and its floor of 1e-6 on variances do not depend on units.
        """
        from sklearn.mixture import GaussianMixture

        k = max(1, min(k, len(codes) // 2))
        whole = framed(codes, codes.mean(0), _rows(codes))
        if whole.factor.shape[1] == 0:
            return cls(np.ones(1), [whole], name="GMM-1")
        model = GaussianMixture(k, covariance_type="full", reg_covar=1e-6, random_state=seed, max_iter=50)
        with warnings.catch_warnings():  # 50 rounds serve for drawing codes, converged or not
            warnings.simplefilter("ignore")
            found = model.fit(whole.whiten(codes))
        means = whole.mean + np.asarray(found.means_) @ whole.factor.T
        factors = [whole.factor @ np.linalg.cholesky(c) for c in np.asarray(found.covariances_)]
        parts = [Gaussian(m, factor) for m, factor in zip(means, factors, strict=True)]
        return cls(np.asarray(found.weights_), parts, name=f"GMM-{k}")

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._by_component(n, rng, lambda part, count: part.sample(count, rng))[0]

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        return self.loops_and_parts(n, points, rng)[0]

    def loops_and_parts(self, n: int, points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self._by_component(n, rng, lambda part, count: part.loops(count, points, rng))

    def loops_and_tail(
        self, n: int, far: int, points: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        plain = self.loops_and_parts(n, points, rng)
        tail = self._by_component(far, rng, lambda part, count: part.far_loops(count, points, rng))
        codes, part = (np.concatenate(both) for both in zip(plain, tail, strict=True))
        found = np.empty(n + far)
        for number in np.unique(part):
            rows = part == number
            found[rows] = surprise(self.components[number].whiten(codes[rows]))
        return codes, part, balance(found, n, far)

    @cached_property
    def _normal(self) -> Gaussian:
        means = np.stack([part.mean for part in self.components])
        mean = self.weights @ means
        rows = [np.sqrt(self.weights)[:, None] * (means - mean)]
        rows += [np.sqrt(w) * part.factor.T for w, part in zip(self.weights, self.components, strict=True)]
        return framed(self._fixed_draws, mean, np.concatenate(rows))

    def _by_component(
        self, n: int, rng: np.random.Generator, draw: Callable[[Gaussian, int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each component draws, in random order, and which component it was."""
        counts = rng.multinomial(n, self.weights).tolist()
        drawn = np.concatenate([draw(part, count) for part, count in zip(self.components, counts, strict=True)])
        order = rng.permutation(n)
        return drawn[order], np.repeat(np.arange(len(counts)), counts)[order]


class Mixup(Law):
    """Points on the segment between two random codes: `(1 - t) z + t z'`, t uniform; what interpolation visits.

    A loop walks one segment there and back at constant speed, each point following the law. With e = lag / points of
    the way, `E(t - t')^2 = 4 e^2 (1 - 4 e / 3)`, the codes have covariance S, the law 2 S / 3, hence the correlation
    of a linear function is `1 - 6 e^2 (1 - 4 e / 3)`.

    Args:
        codes: shape (n, d).
        name: how the card calls it.
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

    def correlation(self, lag: int, points: int) -> float:
        way = min(lag % points, -lag % points) / points
        return 1 - 6 * way**2 * (1 - 4 * way / 3)

    @cached_property
    def _normal(self) -> Gaussian:
        return framed(self.codes, self.codes.mean(0), _rows(self.codes) * np.sqrt(2 / 3))


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
