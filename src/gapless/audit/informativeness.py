"""Informativeness: how much of an item its code keeps, from one draw z ~ q(z|x) an item."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapless.audit.measure import Z95, Measure, interval, not_applicable, resamples
from gapless.errors import DataError, UsageError

__all__ = ["Identification", "explained_variance", "identification", "neighbour_preservation", "resampled_means"]

ROWS = 256
NEIGHBOUR_POINTS = 2000
TIE = 1e-12
"""Scores closer than this, relative to their size, are tied: the rounding of a float64 product."""

LogProb = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Identification:
    """How well items are told apart by the decodes of their codes.

    Attributes:
        identification: `1 - E[log rank] / (log K! / K)`, 0 at chance, 1 if the item is always first.
        top1: share of items that come first; a tie at the top counts by its share.
        typical_rank: exp(E log rank), from 1 to K.
        ranks: exp of the mean log rank over tied positions, one for each row of `items`.
        items: which items were ranked; whole blocks of K, so at most K - 1 items are left out.
        among: K.
    """

    identification: Measure
    top1: Measure
    typical_rank: float
    ranks: np.ndarray
    items: np.ndarray
    among: int


def identification(
    items_phi: np.ndarray,
    outputs_phi: np.ndarray,
    *,
    rng: np.random.Generator,
    seed: int,
    among: int = 1000,
    log_prob: LogProb | None = None,
) -> Identification:
    """Rank of each item among K items, by their distance to the decode of the item's sampled code.

    `1 - E[log rank] / (log K! / K)`: log ranks, as between first and tenth lies more than between 501st and 510th.
    Items are dealt at random into blocks of K = min(among, n); each is ranked within its block. Ties get the mean of
    log rank over the tied positions, so that a constant decoder is exactly at chance, duplicates among the items too.

    Args:
        items_phi: features of the items, shape (n, D).
        outputs_phi: features of the decodes g(z_i), z_i ~ q(z|x_i), row by row, shape (n, D).
        rng: deals the items into blocks.
        seed: of the resamples.
        among: K.
        log_prob: (outputs (m, D), items (K, D)) -> log p(item | output), shape (m, K); ranks by it, highest first,
            instead of by distance. For counts and categories.

    Raises:
        UsageError: items and outputs of different shapes.
        DataError: a score that is not a number.
    """
    if items_phi.shape[0] != outputs_phi.shape[0] or (log_prob is None and items_phi.shape != outputs_phi.shape):
        raise UsageError(
            f"items and outputs must pair row by row; got {items_phi.shape} and {outputs_phi.shape}",
            where="identification",
        )
    n = len(items_phi)
    size = min(among, n)
    if size < 2:
        nothing = not_applicable("Identification needs at least two items.", n)
        return Identification(nothing, nothing, 1.0, np.ones(n), np.arange(n), size)
    order = rng.permutation(n)[: n // size * size]
    found = [_block(items_phi[block], outputs_phi[block], log_prob) for block in order.reshape(-1, size)]
    log_ranks, firsts = (np.concatenate([part[i] for part in found]) for i in (0, 1))
    chance = float(np.log(np.arange(1, size + 1)).mean())
    return Identification(
        _rank_measure(log_ranks, chance, size, seed=seed),
        _first_measure(firsts, size, seed=seed),
        float(np.exp(log_ranks.mean())),
        np.exp(log_ranks),
        order,
        size,
    )


def explained_variance(items: np.ndarray, outputs: np.ndarray, *, seed: int) -> Measure:
    """R^2 of the sampled reconstruction: `1 - sum |x_i - g(z_i)|^2 / sum |x_i - mean x|^2`, z_i ~ q(z|x_i).

    Over all features together, so a feature counts by its variance. The intervals keep the mean of the items fixed
    (its own error is of order 1/n).

    Args:
        items: shape (n, *event).
        outputs: decodes of the sampled codes, row by row, shape (n, *event) or flattened.
        seed: of the resamples.

    Returns:
        The share; a negative one (worse than the mean of the data) is shown as 0, with the raw value kept. Constant
        items: not applicable.

    Raises:
        UsageError: items and outputs of different sizes.
    """
    n = len(items)
    items, outputs = items.reshape(n, -1), outputs.reshape(len(outputs), -1)
    if items.shape != outputs.shape:
        raise UsageError(
            f"items and outputs must pair row by row; got {items.shape} and {outputs.shape}", where="explained_variance"
        )
    mean = items.mean(0, dtype=np.float64)
    left, total = (_square_distances(items, other) for other in (outputs, mean))
    if n < 2 or total.sum() <= 1e-24 * n * np.square(mean).sum():
        return not_applicable("The items are all equal: there is no variance to explain.", n)
    raw = float(1 - left.sum() / total.sum())
    means = resampled_means(np.stack([left, total], axis=1), seed=seed)
    replicates = 1 - means[:, 0] / np.maximum(means[:, 1], np.finfo(float).tiny)
    share = f"Sampled reconstructions explain {max(raw, 0):.1%} of the variance of {n:,} items"
    tail = "." if raw >= 0 else f": they are worse than the mean of the items (raw value {raw:.3g})."
    return _cut(raw, interval(replicates), n, share + tail, replicates)


def neighbour_preservation(items_phi: np.ndarray, codes: np.ndarray, *, k: int = 10) -> dict[str, Any]:
    """Whether neighbours stay neighbours between items and codes (Venna & Kaski 2001).

    `1 - 2 / (n k (2n - 3k - 1)) sum_i sum_j (rank(i, j) - k)` over the j that are among the k neighbours of i in one
    space and not in the other, whose rank counts. `trustworthiness`: neighbours among codes are neighbours among items.
    `recall`: the reverse, which Venna & Kaski call "continuity"; it says nothing of the decoder's continuity here.

    Args:
        items_phi: features of the items, shape (n, D).
        codes: shape (n, d).
        k: neighbours, under n / 2. At most 2,000 evenly spaced items are used.

    Returns:
        `trustworthiness`, `recall` (1: kept, about 0.5: unrelated), `k`, `n`, `reading`.
    """
    rows = np.unique(np.linspace(0, len(codes) - 1, min(len(codes), NEIGHBOUR_POINTS)).astype(int))
    items, chosen = (np.asarray(side[rows], dtype=np.float64) for side in (items_phi, codes))
    k = min(k, (len(rows) - 1) // 2)
    if k < 1:
        return {"trustworthiness": None, "recall": None, "k": k, "n": len(rows), "reading": "Too few items."}
    trust, recall = _preserved(items, chosen, k)
    return {
        "trustworthiness": trust,
        "recall": recall,
        "k": k,
        "n": len(rows),
        "reading": f"The {k} nearest codes are near as items ({trust:.3f}), the {k} nearest items near as codes "
        f"({recall:.3f}; 1 is kept, about 0.5 unrelated; {len(rows):,} items).",
    }


def resampled_means(values: np.ndarray, *, seed: int) -> np.ndarray:
    """Means of the rows of `values` (n, ...) under the paired resamples: shape (rounds, ...)."""
    return np.stack([values[row].mean(0) for row in resamples(len(values), seed=seed)])


def _block(items: np.ndarray, outputs: np.ndarray, log_prob: LogProb | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean log rank over tied positions, and the share of the first place, of each item of a block."""
    sums = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(items) + 1)))])
    log_ranks, firsts = np.empty(len(items)), np.empty(len(items))
    for start in range(0, len(items), ROWS):
        rows = slice(start, min(start + ROWS, len(items)))
        score, size = _scores(items, outputs[rows], log_prob)
        mine = np.arange(len(score)), np.arange(rows.start, rows.stop)
        own, slack = score[mine][:, None], np.where(np.isfinite(score[mine]), TIE * size[mine], 0.0)[:, None]
        better = (score < own - slack).sum(1)
        tied = (score <= own + slack).sum(1) - better
        log_ranks[rows] = (sums[better + tied] - sums[better]) / tied
        firsts[rows] = (better == 0) / tied
    return log_ranks, firsts


def _scores(items: np.ndarray, outputs: np.ndarray, log_prob: LogProb | None) -> tuple[np.ndarray, np.ndarray]:
    """Lower is nearer: squared distances or minus log p, (m, K); and the size of the numbers they were made of."""
    if log_prob is not None:
        score = -np.asarray(log_prob(outputs, items), dtype=np.float64)
        if score.shape != (len(outputs), len(items)) or np.isnan(score).any():
            raise DataError(
                f"log_prob must give numbers of shape ({len(outputs)}, {len(items)}); got {score.shape}",
                where="identification",
            )
        return score, 1 + np.abs(score)
    items, outputs = items.astype(np.float64), outputs.astype(np.float64)
    centre = items.mean(0)
    items, outputs = items - centre, outputs - centre
    theirs, mine = np.square(items).sum(1)[None], np.square(outputs).sum(1)[:, None]
    return theirs - 2 * outputs @ items.T + mine, mine + theirs


def _rank_measure(log_ranks: np.ndarray, chance: float, size: int, *, seed: int) -> Measure:
    """Identification; the interval's lower end allows for the misses that n items cannot show (rule of three)."""
    n = len(log_ranks)
    raw = float(1 - log_ranks.mean() / chance)
    replicates = 1 - resampled_means(log_ranks, seed=seed) / chance
    low, high = interval(replicates)
    unseen = 1 - min(3 / n, 1.0) * np.log(size) / chance
    reading = (
        f"Of {size:,} items, the one a sampled code came from ranks {np.exp(log_ranks.mean()):.3g} (geometric mean; "
        f"chance {np.exp(chance):.0f}) by nearness to its decode."
    )
    return _cut(raw, (min(low, float(unseen)), high), n, reading, replicates)


def _first_measure(firsts: np.ndarray, size: int, *, seed: int) -> Measure:
    """Share of first places, with the score interval of Wilson (1927)."""
    n, share = len(firsts), float(firsts.mean())
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    reading = f"{share:.1%} of {n:,} items are the nearest of {size:,} to the decode of their own sampled code."
    return Measure(
        share,
        float(max(middle - half, 0.0)),
        float(min(middle + half, 1.0)),
        n,
        reading,
        replicates=resampled_means(firsts, seed=seed),
    )


def _cut(raw: float, ends: tuple[float, float], n: int, reading: str, replicates: np.ndarray) -> Measure:
    """A measure cut to 0..1, interval too; the replicates are not cut."""
    value, low, high = (min(max(number, 0.0), 1.0) for number in (raw, *ends))
    return Measure(value, low, high, n, reading, raw=None if value == raw else raw, replicates=replicates)


def _square_distances(items: np.ndarray, others: np.ndarray) -> np.ndarray:
    """|x_i - y_i|^2 row by row in float64, chunked; `others` (n, D) or one row (D,)."""
    out = np.empty(len(items))
    for start in range(0, len(items), ROWS):
        rows = slice(start, start + ROWS)
        other = others[rows] if others.ndim == 2 else others
        out[rows] = np.square(items[rows].astype(np.float64) - other).sum(1)
    return out


def _preserved(items: np.ndarray, codes: np.ndarray, k: int) -> tuple[float, float]:
    """(trustworthiness, recall), by rows."""
    n = len(items)
    lost = np.zeros(2)
    for start in range(0, n, ROWS):
        ranks = [_ranks(side, start) for side in (items, codes)]
        for i, (seen, near) in enumerate((ranks, ranks[::-1])):
            lost[i] += np.maximum(seen - k, 0)[near <= k].sum()
    kept = 1 - 2 * lost / (n * k * (2 * n - 3 * k - 1))
    return float(kept[0]), float(kept[1])


def _ranks(points: np.ndarray, start: int) -> np.ndarray:
    """Ranks by distance from each of ROWS points to all, shape (rows, n): 1 the nearest other; oneself n."""
    from scipy.spatial.distance import cdist

    distance = cdist(points[start : start + ROWS], points, "sqeuclidean")
    own = np.arange(len(distance))
    distance[own, start + own] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(1, len(points) + 1), order.shape), axis=1)
    return ranks
