"""Completeness of the codes: do they fill the reference law, where are the holes, and how many codes stray outside?"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gapless.audit.laws import Law
from gapless.audit.measure import Z95, Measure, resamples, share
from gapless.audit.neighbours import nearest
from gapless.errors import DataError

__all__ = ["Coverage", "Hole", "coverage"]

DRAWS, SAME, MIN_CODES = 5000, 1e-6, 12
FOLDS, RANK, MAX_DIRECTIONS = 3, 10, 32
FOLD_SPREAD = 1.3174
EDGE = 10 / 11
MOST_HOLES, LEAST, SMALL, LINKS, SIDES = 8, 5, 0.005, 15, 4


@dataclass(frozen=True)
class Hole:
    """A connected region of the reference law without codes.

    Attributes:
        mass: its share of reference draws.
        low: lower end of the 95 % interval of the mass.
        high: upper end.
        codes_share: its share of the codes.
        centre: a code in it (the medoid of the deeper half of the draws there), shape (d,).
        nearest: rows of the codes nearest to the centre on different sides, the nearest first.
    """

    mass: float
    low: float
    high: float
    codes_share: float
    centre: np.ndarray
    nearest: np.ndarray


@dataclass(frozen=True)
class Coverage:
    """How much of the reference law the codes fill.

    Attributes:
        coverage: 1 - max(0, lower bound of TV).
        holes: numbered, largest mass first, at most 8.
        hole_mass: reference mass where the predicted ratio codes / reference is under 1/10: a lower bound, for the edge
            of a hole, where the classifier is not sure, is left out (.14 to .20 is found of .20).
        strays: share of codes where that ratio is over 10.
    """

    coverage: Measure
    holes: tuple[Hole, ...]
    hole_mass: Measure
    strays: Measure


def coverage(law: Law, codes: np.ndarray, *, rng: np.random.Generator, seed: int, draws: int = DRAWS) -> Coverage:
    """How much of the reference law held-out codes fill, where the holes are, and how many codes stray outside.

    A classifier s(z) = P(reference | z) is fitted on two thirds and judged on the third (three times):
    `TV >= P_ref(s > 1/2) - P_codes(s > 1/2)` holds for any s that has not seen the points it judges. The predicted
    ratio codes / reference is (1 - s) / s; a hole is where it is under 1/10.

    The folds are not independent: each trains the others. Without a gap, a local classifier in fold f reports
    `e_f sign(e_g + e_h)` for the noise e of each place; two folds then correlate by rho = .3677 (Gaussian integrals),
    so the sum spreads up to sqrt(1 + 2 rho) = 1.317 times wider than a resample of the points, and the interval is
    widened by that (measured: 1.28 at d = 2, 1.12 at d = 8).

    Args:
        law: the reference.
        codes: one draw z_i ~ q(z|x_i) of each *held-out* item, shape (n, d); never the in-sample posterior mixture.
        rng: draws, folds.
        seed: of the resamples behind the intervals.
        draws: how many reference codes; at most twice as many of `codes` are used.

    Raises:
        DataError: fewer than 12 codes.
    """
    if len(codes) < MIN_CODES:
        raise DataError(
            f"coverage needs at least {MIN_CODES} held-out codes; got {len(codes)}",
            where="coverage.coverage", fix="give more held-out items",
        )  # fmt: skip
    rows = rng.permutation(len(codes))[: 2 * draws]
    reference = law.sample(draws, rng)
    white = _standardise(law, reference, codes[rows])
    scores = _cross_fit(*white, rng=rng)
    holes = _holes(white, scores, reference, rows)
    again = resamples(draws, seed=seed), resamples(len(rows), seed=seed + 1)
    filled, hole_mass, strays = _shares(scores, again, law.name)
    return Coverage(filled, holes, hole_mass, strays)


def _standardise(law: Law, reference: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets in the units of the law, then of the reference's median and interquartile range, column by column.

    Where the law has fewer dimensions than the codes, the codes' own columns are kept beside, so that leaving its
    subspace is seen. Rounded to 1e-6: what differs by less is equal.
    """
    reference, codes = _settle(reference, codes)
    sets = [law.whiten(reference), law.whiten(codes)]
    if sets[0].shape[1] < reference.shape[1]:
        sets = [np.hstack([white, raw]) for white, raw in zip(sets, (reference, codes), strict=True)]
    low, middle, high = np.quantile(sets[0], [0.25, 0.5, 0.75], axis=0)
    size = np.abs(np.concatenate(sets)).max(0)
    spread = np.where(high - low > SAME * size, (high - low) / 1.349, np.where(size > 0, size, 1.0))
    first, second = (np.round((points - middle) / spread, 6) for points in sets)
    return first, second


def _settle(*sets: np.ndarray) -> list[np.ndarray]:
    """Columns that vary by under 1e-6 of their size in all sets together are made constant: that is rounding."""
    together = np.concatenate(sets)
    still = np.ptp(together, axis=0) <= SAME * np.abs(together).max(0)
    return [np.where(still, together[0], part) for part in sets]


def _cross_fit(reference: np.ndarray, codes: np.ndarray, *, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """P(reference | z), both kinds equally likely, of every point by a classifier that has not seen it.

    Nothing of the judged fold enters the fit: neighbours of a training point are sought in the other training fold,
    those of a judged point in each training fold in turn (the two predictions are averaged).
    """
    points, label = np.concatenate([reference, codes]), np.repeat([1, 0], [len(reference), len(codes)])
    fold = np.concatenate([rng.permutation(np.arange(len(part)) % FOLDS) for part in (reference, codes)])
    seed = int(rng.integers(2**31))
    pairs = [(i, j) for i in range(FOLDS) for j in range(FOLDS) if i != j]
    distances = {
        (i, j): _log_distances(points[fold == i], points[fold == j], from_law=label[fold == j] == 1) for i, j in pairs
    }
    score = np.empty(len(points))
    for judged in range(FOLDS):
        directions = _directions(points[(fold != judged) & (label == 0)], seed=seed)
        base = np.hstack([points, np.linalg.norm(points, axis=1, keepdims=True), points @ directions])
        features = {pair: np.hstack([base[fold == pair[0]], distances[pair]]) for pair in pairs}
        one, two = (i for i in range(FOLDS) if i != judged)
        training = np.concatenate([features[one, two], features[two, one]])
        known = np.concatenate([label[fold == one], label[fold == two]])
        predict = _classifier(training, known, seed=seed)
        score[fold == judged] = (predict(features[judged, one]) + predict(features[judged, two])) / 2
    return score[label == 1], score[label == 0]


def _classifier(features: np.ndarray, label: np.ndarray, *, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Boosted trees, small ones: the noise of large ones crosses 1/2 (measured: they find .14 of .20, these .18).

    Kinds of unequal number are put right in the odds, not by sample weights: scikit-learn then takes weighted quantiles
    of every feature one by one, which costs more than the trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    part = label.mean()
    rarer = int(min(label.sum(), (1 - label).sum()))
    model = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=8, min_samples_leaf=min(40, max(5, rarer // 4)), random_state=seed
    )
    model.set_params(early_stopping=False)  # "auto" would change the fit above 10,000 rows
    model.fit(features, label)

    def predict(rows: np.ndarray) -> np.ndarray:
        found = model.predict_proba(rows)[:, 1]
        return found * (1 - part) / (found * (1 - part) + (1 - found) * part)

    return predict


def _log_distances(points: np.ndarray, others: np.ndarray, *, from_law: np.ndarray) -> np.ndarray:
    """Log distance to the 10th neighbour among the law's and among the codes' points of `others`; their difference."""
    columns = []
    for kind in (from_law, ~from_law):
        base = others[kind]
        distances, _ = nearest(points, base, min(RANK, len(base)))
        columns.append(np.log(np.maximum(distances[:, -1], SAME)))
    return np.stack([*columns, columns[0] - columns[1]], axis=1)


def _directions(codes: np.ndarray, *, seed: int) -> np.ndarray:
    """Least Gaussian directions of the codes (FastICA, Hyvarinen 1999), shape (d, found); none where it fails."""
    from sklearn.decomposition import FastICA

    rank = int(np.linalg.matrix_rank(codes - codes.mean(0)))
    if rank < 2:
        return np.empty((codes.shape[1], 0))
    ica = FastICA(min(rank, MAX_DIRECTIONS), whiten="unit-variance", tol=1e-2, max_iter=100, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = np.asarray(ica.fit(codes).components_).T
        except (ValueError, np.linalg.LinAlgError, FloatingPointError):
            return np.empty((codes.shape[1], 0))
    return found if np.isfinite(found).all() else np.empty((codes.shape[1], 0))


def _shares(
    scores: tuple[np.ndarray, np.ndarray], again: tuple[np.ndarray, np.ndarray], law: str
) -> tuple[Measure, Measure, Measure]:
    """Coverage, hole mass and strays, each with a reading."""
    (reference, codes), (rows, code_rows) = scores, again
    more, less = reference > 0.5, codes > 0.5
    tv = float(more.mean() - less.mean())
    again_tv = tv + FOLD_SPREAD * (more[rows].mean(1) - less[code_rows].mean(1) - tv)
    filled = share(1 - tv, 1 - again_tv, n=len(codes))
    empty, astray = reference > EDGE, codes < 1 - EDGE
    hole = share(float(empty.mean()), empty[rows].mean(1), n=len(reference))
    stray = share(float(astray.mean()), astray[code_rows].mean(1), n=len(codes))
    missed = f"At least {1 - (filled.value or 0):.1%} of {law} is not filled by the codes"
    none = f"No part of {law} without codes: none found"
    power = f"{len(codes):,} codes against {len(reference):,} draws"
    return (
        replace(filled, reading=f"{none if (filled.high or 0) >= 1 else missed} ({power})."),
        replace(
            hole,
            reading=f"At least {hole.value:.1%} of {law} lies where codes are predicted under a tenth as frequent; "
            f"{(codes > EDGE).mean():.1%} of the codes lie there ({power}).",
        ),
        replace(
            stray,
            reading=f"{stray.value:.1%} of the codes lie where draws from {law} are predicted under a tenth as "
            f"frequent; {(reference < 1 - EDGE).mean():.1%} of the draws lie there ({power}).",
        ),
    )


def _holes(
    white: tuple[np.ndarray, np.ndarray], scores: tuple[np.ndarray, np.ndarray], reference: np.ndarray, rows: np.ndarray
) -> tuple[Hole, ...]:
    """The connected pieces of the empty region, largest mass first; masses and shares of codes are held out."""
    draws, codes = white
    inside, missed = np.flatnonzero(scores[0] > EDGE), np.flatnonzero(scores[1] > EDGE)
    if len(inside) < max(LEAST, SMALL * len(draws)):
        return ()
    piece = _pieces(draws, inside)
    owner = piece[nearest(codes[missed], draws[inside], 1)[1][:, 0]]
    holes = []
    for number in np.argsort(-np.bincount(piece), kind="stable")[:MOST_HOLES]:
        members = inside[piece == number]
        centre = members[_middle(draws[members], codes)]
        low, high = wilson(len(members), len(draws))
        codes_share = float((owner == number).sum() / len(codes))
        sides = rows[_sides(codes, draws[centre])]
        holes.append(Hole(len(members) / len(draws), low, high, codes_share, reference[centre], sides))
    return tuple(holes)


def _pieces(draws: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The piece 0..p-1 of each draw inside: components of the graph of 15 nearest draws, where both ends are inside.

    Pieces under half a percent of the law join the piece of the nearest draw in a larger one.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    k = min(LINKS + 1, len(draws))
    found = nearest(draws[inside], draws, k)[1].ravel()
    place = np.full(len(draws), -1)
    place[inside] = np.arange(len(inside))
    start, end = np.repeat(np.arange(len(inside)), k), place[found]
    keep = end >= 0
    graph = coo_matrix((np.ones(keep.sum()), (start[keep], end[keep])), shape=(len(inside), len(inside)))
    label = connected_components(graph, directed=False)[1]
    large = np.bincount(label) >= max(LEAST, SMALL * len(draws))
    if not large.any():
        return np.zeros(len(inside), int)
    big = np.flatnonzero(large[label])
    owner = label[big[nearest(draws[inside], draws[inside[big]], 1)[1][:, 0]]]
    return np.unique(owner, return_inverse=True)[1]


def _middle(points: np.ndarray, codes: np.ndarray) -> int:
    """The medoid of the deeper half of a piece (by distance to the nearest code): of a ring, not its inner edge."""
    from scipy.spatial.distance import cdist

    depth = nearest(points, codes, 1)[0][:, 0]
    deep = np.flatnonzero(depth >= np.median(depth))
    return int(deep[cdist(points[deep], points[deep][:500]).mean(1).argmin()])


def _sides(codes: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The nearest code, then the nearest one beyond the plane through the centre that faces those found; at most 4."""
    offset = codes - centre
    order = np.argsort(np.linalg.norm(offset, axis=1), kind="stable")
    free = np.ones(len(codes), bool)
    chosen: list[int] = []
    while len(chosen) < SIDES and free.any():
        chosen.append(int(order[free[order]][0]))
        free &= offset @ offset[chosen[-1]] < 0
    if len(chosen) == 1:
        chosen.append(int(order[1]))
    return np.array(chosen)


def wilson(count: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    part, z2 = count / n, Z95**2
    middle, half = (part + z2 / (2 * n)) / (1 + z2 / n), Z95 / (1 + z2 / n)
    half *= np.sqrt(part * (1 - part) / n + z2 / (4 * n * n))
    return float(middle - half), float(middle + half)
