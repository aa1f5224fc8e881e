"""Circles of Gaussian noise, of which loops are made: ordinary ones, and ones from far out with their weights."""

import numpy as np

__all__ = ["balance", "circles", "far_circles", "surprise"]

SURPRISE = 3.0
"""Mean of -log P(a circle at least so large) among the circles drawn far out; 1 among ordinary ones."""


def circles(n: int, points: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """`cos(t) a + sin(t) b` at equally spaced t, a, b ~ N(0, I): shape (n, points, dimension)."""
    a, b = rng.standard_normal((2, n, 1, dimension))
    t = (np.arange(points) * (2 * np.pi / points))[None, :, None]
    return np.cos(t) * a + np.sin(t) * b


def surprise(u: np.ndarray) -> np.ndarray:
    """`-log P(|a|^2 + |b|^2 at least that of the circle)` of circles (n, points, k), at least 3 points: shape (n,).

    The size of `cos(t) a + sin(t) b` is twice the mean of |u(t)|^2 and follows chi^2(2 k), so that this is Exp(1).
    """
    from scipy.stats import chi2

    if u.shape[2] == 0:
        return np.zeros(len(u))
    return -np.asarray(chi2.logsf(2 * np.square(u).sum(2).mean(1), 2 * u.shape[2]))


def far_circles(n: int, points: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """Circles blown up so that their surprise is three times as large: Exp of mean 3, directions as they were."""
    from scipy.stats import chi2

    u = circles(n, points, dimension, rng)
    if dimension == 0:
        return u
    size = np.asarray(chi2.isf(np.exp(-np.minimum(SURPRISE * surprise(u), 700)), 2 * dimension))
    return u * np.sqrt(size / (2 * np.square(u).sum(2).mean(1)))[:, None, None]


def balance(surprise: np.ndarray, n: int, far: int) -> np.ndarray:
    """Density of an ordinary circle over that of n ordinary ones and `far` far ones mixed: shape (n + far,).

    The balance heuristic of multiple importance sampling (Veach & Guibas 1995, eq. 14): no weight exceeds
    (n + far) / n, so that what the tail does not move is estimated nearly as well as without it.
    """
    ratio = np.exp(surprise * (1 - 1 / SURPRISE)) / SURPRISE
    return (n + far) / (n + far * ratio)
