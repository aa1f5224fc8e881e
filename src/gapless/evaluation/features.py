"""How near generated items come to real ones, judged on features that the user names."""

import math
from dataclasses import dataclass

import numpy as np

from gapless.errors import DataError, UsageError

__all__ = ["Likeness", "frechet_distance", "likeness", "manifold_overlap", "polynomial_mmd"]

ROWS_BYTES = 64 << 20
BLOCKS = 10
PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5


@dataclass(frozen=True)
class Likeness:
    """Distances between real and generated items, and what each covers of the other.

    Attributes:
        frechet: squared Fréchet distance of the normals with their moments, 0 if these agree; falls with the number of
            items even between equal laws, so compare only at equal numbers.
        mmd: unbiased squared maximum mean discrepancy, polynomial kernel; around 0 for equal laws.
        mmd_standard_error: of the mmd, from ten parts of the items; None below 100 a side.
        precision: share of generated items among the real ones: within a ball to the 3rd neighbour of a real item.
        recall: share of real items among the generated ones.
        density: how many balls of real items a generated one lies in, relative to what is expected; 1 for equal laws.
        coverage: share of real items whose ball to the 5th neighbour holds a generated one.
        items: (real, generated).
        dimensions: of the features.
    """

    frechet: float
    mmd: float
    mmd_standard_error: float | None
    precision: float
    recall: float
    density: float
    coverage: float
    items: tuple[int, int]
    dimensions: int


def likeness(real: np.ndarray, generated: np.ndarray) -> Likeness:
    """All of these measures between two sets of features.

    Args:
        real: shape (n, D), n at least 6.
        generated: shape (m, D), m at least 6.

    Raises:
        UsageError: shapes that do not go together.
        DataError: values that are not finite.
    """
    real, generated = _checked(real, generated)
    centre = real.mean(0)
    precision, recall = _overlap(real - centre, generated - centre)
    density, coverage = _density_coverage(real - centre, generated - centre)
    mmd = polynomial_mmd(real, generated)
    sizes = (len(real), len(generated))
    return Likeness(
        frechet_distance(real, generated), mmd, _mmd_error(real, generated), precision, recall, density, coverage,
        sizes, real.shape[1],
    )  # fmt: skip


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """`|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^{1/2})`: Heusel et al. (2017); C the 1/(n - 1) covariances.

    With factors `C = F F^T`, the trace of the root is the sum of singular values of `F_a^T F_b`: no root of a matrix
    that rounding has made asymmetric or indefinite is taken, and no matrix is larger than the smaller of items and D.

    Args:
        a: features, shape (n, D).
        b: features, shape (m, D).
    """
    a, b = _checked(a, b)
    centred = [(side - side.mean(0)) / math.sqrt(len(side) - 1) for side in (a, b)]
    factors = [_factor(side) for side in centred]
    root = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    return float(max(shift + sum(np.square(side).sum() for side in centred) - 2 * root, 0.0))


def polynomial_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased `E k(a, a') + E k(b, b') - 2 E k(a, b)`, `k(x, y) = (x.y / D + 1)^3`: Binkowski et al. (2018).

    Published values are means over random subsets; this is the same estimate of all pairs at once.

    Args:
        a: features, shape (n, D).
        b: features, shape (m, D).
    """
    a, b = _checked(a, b)
    within = [(_kernel_sum(side, side) - _kernel_diagonal(side)) / (len(side) * (len(side) - 1)) for side in (a, b)]
    return float(sum(within) - 2 * _kernel_sum(a, b) / (len(a) * len(b)))


def manifold_overlap(real: np.ndarray, generated: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balls around real items to their k-th nearest other: how many hold each generated item, and which hold one.

    Args:
        real: features, shape (n, D), n > k.
        generated: features, shape (m, D).
        k: neighbours, at least 1.

    Returns:
        Closed balls that hold each generated item (m,), open balls that do (m,), and whether the nearest generated item
        lies in the open ball of each real one (n,).
    """
    closed, strict, held = np.zeros(len(generated), int), np.zeros(len(generated), int), np.zeros(len(real), bool)
    for rows in _rows(len(real), max(len(real), len(generated))):
        # each is among its own neighbours, at 0
        radius = np.partition(_square_distances(real[rows], real), k, axis=1)[:, k, None]
        distance = _square_distances(real[rows], generated)
        inside = distance < radius
        closed += (distance <= radius).sum(0)
        strict += inside.sum(0)
        held[rows] = inside.any(1)
    return closed, strict, held


def _overlap(real: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    """Precision and recall of Kynkäänniemi et al. (2019), k = 3."""
    shares = [
        float((manifold_overlap(held, asked, k=PRECISION_NEIGHBOURS)[0] > 0).mean())
        for held, asked in ((real, generated), (generated, real))
    ]
    return shares[0], shares[1]


def _density_coverage(real: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    """Density and coverage of Naeem et al. (2020), k = 5."""
    _, strict, held = manifold_overlap(real, generated, k=DENSITY_NEIGHBOURS)
    return float(strict.mean() / DENSITY_NEIGHBOURS), float(held.mean())


def _mmd_error(a: np.ndarray, b: np.ndarray) -> float | None:
    if min(len(a), len(b)) < 10 * BLOCKS:
        return None
    parts = zip(np.array_split(a, BLOCKS), np.array_split(b, BLOCKS), strict=True)
    return float(np.std([polynomial_mmd(*pair) for pair in parts], ddof=1) / math.sqrt(BLOCKS))


def _factor(centred: np.ndarray) -> np.ndarray:
    """F of shape (D, min(n, D)) with F F^T = centred^T centred."""
    if len(centred) <= centred.shape[1]:
        return centred.T
    triangle = np.asarray(np.linalg.qr(centred, mode="r"))
    return triangle.T


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    return float(sum(np.power(a[rows] @ b.T / a.shape[1] + 1, 3).sum() for rows in _rows(len(a), len(b))))


def _kernel_diagonal(a: np.ndarray) -> float:
    return float(np.power(np.square(a).sum(1) / a.shape[1] + 1, 3).sum())


def _square_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2 by a product; what is 0 within rounding is 0, so that equal points lie in each other's balls."""
    sizes = np.square(a).sum(1)[:, None] + np.square(b).sum(1)
    distance = sizes - 2 * a @ b.T
    return np.where(distance > 1e-12 * sizes, distance, 0.0)


def _rows(count: int, others: int) -> list[slice]:
    """Rows of a (count, others) matrix some at a time, in bounded memory."""
    step = max(1, ROWS_BYTES // (8 * others))
    return [slice(start, start + step) for start in range(0, count, step)]


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shapes = (np.shape(a), np.shape(b))
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1:] != shapes[1][1:] or not shapes[0][1]:
        raise UsageError(f"features need the shapes (n, D) and (m, D); got {shapes[0]} and {shapes[1]}")
    if min(shape[0] for shape in shapes) <= DENSITY_NEIGHBOURS:
        raise UsageError(f"features of at least {DENSITY_NEIGHBOURS + 1} items a side are needed; got {shapes}")
    pair = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not all(np.isfinite(side).all() for side in pair):
        raise DataError("features must be finite")
    return pair
