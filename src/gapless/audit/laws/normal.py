"""What a reference law is, and the normal one: every law is whitened by the normal law of its moments."""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from gapless.audit.circles import balance, circles, far_circles, surprise
from gapless.errors import UsageError

__all__ = ["Gaussian", "Law", "moments", "standard"]

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
        return framed(draws, draws.mean(0), rows_of(draws))

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


def rows_of(codes: np.ndarray) -> np.ndarray:
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
    rows, noise = rows_of(loc), [np.diag(np.sqrt(np.square(scale).mean(0)))]
    if 1 < n < 10 * d:
        from sklearn.covariance import ledoit_wolf_shrinkage

        shrunk = float(ledoit_wolf_shrinkage(loc))
        noise.append(np.eye(d) * np.sqrt(shrunk * np.square(rows).sum() / d))
        rows = rows * np.sqrt(1 - shrunk)
    return framed(loc, loc.mean(0), np.concatenate([rows, *noise]))
