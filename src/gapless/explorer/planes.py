"""The planes of a panel's map, and the gap score of the audit on each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapless.audit.completeness import NEIGHBOURS, Isolation
from gapless.audit.subject import Probe

__all__ = ["GRID", "Plane", "gap_grid", "half_of", "isolation_of", "planes_of"]

GRID = 48
"""Places a side of the gap map."""
LEAST = 3.4
"""Half the side of a plane that shows the third ring."""
STRAY = 3.0
"""How many times as far as 99 % of the codes one may lie and still be on the plane."""


@dataclass(frozen=True)
class Plane:
    """`z = origin + a u + b v` with |a|, |b| at most `half`; u and v are orthonormal.

    Attributes:
        name: how the page calls it.
        origin: shape (d,).
        u: the horizontal direction, shape (d,).
        v: the vertical one, shape (d,); zero where the latent space is a line.
        half: half the side of the square shown.
    """

    name: str
    origin: np.ndarray
    u: np.ndarray
    v: np.ndarray
    half: float

    def lattice(self, side: int) -> np.ndarray:
        """Codes of side x side places, b from -half upwards row by row, shape (side**2, d)."""
        line = np.linspace(-self.half, self.half, side)
        b, a = np.meshgrid(line, line, indexing="ij")
        return self.origin + a.reshape(-1, 1) * self.u + b.reshape(-1, 1) * self.v

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "origin": self.origin.tolist(), "u": self.u.tolist(), "v": self.v.tolist(),
                "half": self.half}  # fmt: skip


def planes_of(loc: np.ndarray, scale: np.ndarray, order: Sequence[int]) -> list[Plane]:
    """The plane of the two features most used, and that of the two main axes of the aggregate posterior.

    At two latent features the plane is the space itself; at one, the vertical direction is zero.

    Args:
        loc: means of q(z|x), shape (n, d).
        scale: standard deviations, shape (n, d).
        order: features by use, most used first.
    """
    loc, d = loc.astype(float), loc.shape[1]
    if d <= 2:
        return [_of_features(loc, list(range(d)))]
    return [_of_features(loc, [int(feature) for feature in order[:2]]), _of_main_axes(loc, scale)]


def _of_features(loc: np.ndarray, features: list[int]) -> Plane:
    """True places on the shown features, the mean code on all others: a slice through the middle of the codes."""
    origin, unit = loc.mean(0), np.eye(loc.shape[1])
    origin[features] = 0
    v = unit[features[1]] if len(features) > 1 else np.zeros(loc.shape[1])
    name = f"features {features[0]} and {features[1]}" if len(features) > 1 else f"feature {features[0]}"
    return Plane(name, origin, unit[features[0]], v, half_of(loc[:, features]))


def _of_main_axes(loc: np.ndarray, scale: np.ndarray) -> Plane:
    """Eigenvectors of `Cov(loc) + diag(mean scale^2)`, the covariance of the aggregate posterior; largest entry > 0."""
    origin = loc.mean(0)
    covariance = np.cov(loc.T, bias=True) + np.diag(np.square(scale, dtype=float).mean(0))
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :2].T
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    return Plane("main axes of the codes (PCA)", origin, axes[0], axes[1], half_of((loc - origin) @ axes.T))


def half_of(places: np.ndarray) -> float:
    """Half the side of a plane around the origin that shows all codes and the third ring, without strays far beyond.

    Args:
        places: of the codes on the plane, shape (n, 2) or (n, 1).
    """
    far = np.abs(places).max(1)
    most = float(np.quantile(far, 0.99))
    return max(LEAST, 1.06 * (float(far.max()) if far.max() <= STRAY * most else most))


def isolation_of(probe: Probe, draws: np.ndarray, rng: np.random.Generator) -> Isolation | None:
    """The audit's own score of isolation, from the reconstructions of some codes; None where there are too few."""
    if len(draws) < 2 * (NEIGHBOURS + 1):
        return None
    return Isolation.fit(probe.phi(draws), rng=rng)


def gap_grid(plane: Plane, probe: Probe, isolation: Isolation, *, side: int = GRID) -> np.ndarray:
    """Isolation of the decode over its threshold at the places of the lattice, in full d: float32 (side, side).

    Above 1 the decode is like no data. Row = b from -half upwards, column = a.
    """
    return isolation.score(probe.phi(plane.lattice(side))).reshape(side, side).astype("<f4")
