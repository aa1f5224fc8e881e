"""Regions left out of a normal law (T2), of known mass."""

import numpy as np
from scipy import stats

REGIONS = ("slab", "half-space", "ball", "shell", "rotated slab")


class Region:
    """A region A of mass h under N(0, I): an interval of the probability transform of one statistic."""

    def __init__(self, kind, d, mass=0.2):
        self.kind, self.d, self.mass = kind, d, mass
        self.axis = np.ones(d) / np.sqrt(d) if kind == "rotated slab" else np.eye(d)[0]
        self.low = {"slab": 0.5, "rotated slab": 0.5, "half-space": 1 - mass, "ball": 0.0, "shell": 0.4}[kind]

    def rank(self, z):
        if self.kind in ("ball", "shell"):
            return stats.chi2.cdf(np.square(z).sum(1), self.d)
        return stats.norm.cdf(z @ self.axis)

    def inside(self, z):
        return (self.rank(z) > self.low) & (self.rank(z) < self.low + self.mass)

    def outside(self, n, rng):
        z = rng.standard_normal((3 * n, self.d))
        return z[~self.inside(z)][:n]

    def fill(self, z):
        """Codes in A moved out of it, so that they follow the law given outside: the statistic's rank is stretched."""
        rank, share = self.rank(z), (self.rank(z) - self.low) / self.mass
        moved = share * (1 - self.mass)
        rank = np.where(self.inside(z), moved + self.mass * (moved > self.low), rank)
        if self.kind in ("ball", "shell"):
            return z * np.sqrt(stats.chi2.ppf(rank, self.d) / np.square(z).sum(1))[:, None]
        return z + (stats.norm.ppf(rank) - z @ self.axis)[:, None] * self.axis


def clusters(n, d, rng):
    """Codes as an autoencoder may leave them: six tight clusters of unequal size."""
    homes = 3 * rng.standard_normal((6, d))
    return homes[rng.choice(6, n, p=np.arange(1, 7) / 21)] + 0.2 * rng.standard_normal((n, d))


def moved(codes, rng):
    """The same codes in other units, z -> A z + b with a condition of 1e4, and the way back."""
    d = codes.shape[1]
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    matrix, shift = left @ np.diag(np.geomspace(1, 1e4, d)) @ right, rng.standard_normal(d) * 100
    inverse = np.linalg.inv(matrix).T
    return codes @ matrix.T + shift, lambda z: (z - shift) @ inverse
