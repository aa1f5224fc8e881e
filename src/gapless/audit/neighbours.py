"""Exact k-nearest neighbours in bounded memory: float32 products propose, float64 distances decide."""

import numpy as np

from gapless.errors import UsageError

__all__ = ["nearest", "nearest_others"]

ENTRIES = 1 << 22
SPARE = 4


def nearest(queries: np.ndarray, references: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest references of every query, exactly, nearest first.

    `|q - r|^2 = |q|^2 - 2 q.r + |r|^2` by a float32 product, on centred points in units of the references, proposes
    k + 4 candidates; their distances are taken again in float64. A row is accepted only where the rounding bound of
    the product, `|error| <= (dims + 8) u (|q| + |r|)^2` (Higham 2002, section 3.1), shows that no other reference can
    be among the k; the other rows go through a float64 product, which leaves open only the order of references whose
    distances agree to 1e-7 of the extent of the points. Memory: 4 million distances at a time, whatever n is.

    Args:
        queries: shape (m, dims).
        references: shape (n, dims).
        k: how many, 1 to n.

    Returns:
        Euclidean distances (m, k), float64, ascending, and indices into the references (m, k).

    Raises:
        UsageError: k outside 1..n, or points of different dimension.
    """
    _check(queries, references, k)
    centre = references.mean(0, dtype=np.float64)
    base = references - centre
    scale = float(np.abs(base).max(initial=0)) or 1.0
    base = base / scale
    single, rows = base.astype(np.float32), max(1, ENTRIES // max(len(base), (k + SPARE) * base.shape[1], 1))
    distances, found = np.empty((len(queries), k)), np.empty((len(queries), k), np.intp)
    for start in range(0, len(queries), rows):
        block = (queries[start : start + rows] - centre) / scale
        near, index, sure = _search(block, base, single, k)
        if not sure.all():
            near[~sure], index[~sure], _ = _search(block[~sure], base, base, k)
        distances[start : start + rows], found[start : start + rows] = near * scale, index
    return distances, found


def nearest_others(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest *other* points of every point: as `nearest`, the point itself left out, 1 <= k < n."""
    distances, found = nearest(points, points, k + 1)
    drop = found == np.arange(len(points))[:, None]
    drop[~drop.any(1), -1] = True  # hidden behind k + 1 points equal to it
    return distances[~drop].reshape(-1, k), found[~drop].reshape(-1, k)


def _search(
    queries: np.ndarray, base: np.ndarray, product: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, indices, and whether a row is proven exact; `product` is `base` in the precision of the product."""
    count = min(k + SPARE, len(base))
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.einsum("ij,ij->i", product, product)
        partial = queries.astype(product.dtype) @ product.T
        partial *= -2
        partial += sizes
        chosen = np.argpartition(partial, count - 1, axis=1)[:, :count]
        last = np.take_along_axis(partial, chosen[:, -1:], 1)[:, 0].astype(np.float64)
    chosen.sort(axis=1)
    exact = np.square(base[chosen] - queries[:, None]).sum(-1)
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]
    near, index = np.take_along_axis(exact, order, 1), np.take_along_axis(chosen, order, 1)
    norms = np.square(queries).sum(1)
    reach = np.square(np.sqrt(norms) + np.sqrt(float(sizes.max(initial=0))))
    slack = (base.shape[1] + 8) * float(np.finfo(product.dtype).eps) * reach
    return np.sqrt(near), index, (near[:, -1] <= last + norms - slack) | (count == len(base))


def _check(queries: np.ndarray, references: np.ndarray, k: int) -> None:
    """Errors of the front door."""
    if queries.ndim != 2 or references.ndim != 2 or queries.shape[1] != references.shape[1]:
        raise UsageError(
            f"neighbours need points (m, dims) and (n, dims); got {queries.shape} and {references.shape}",
            where="neighbours.nearest", fix="flatten both to the same features",
        )  # fmt: skip
    if not 1 <= k <= len(references):
        raise UsageError(
            f"k must be 1 to {len(references)}, the number of references; got {k}",
            where="neighbours.nearest", fix="give more references or a smaller k",
        )  # fmt: skip
