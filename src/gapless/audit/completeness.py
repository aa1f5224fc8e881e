"""Completeness: does every code the reference law draws decode to something like the data, and do the codes fill it?"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gapless.audit.laws import Law
from gapless.audit.measure import Z95, Measure, interval, resamples
from gapless.audit.neighbours import nearest, nearest_others
from gapless.audit.subject import Probe
from gapless.errors import DataError

__all__ = ["Coverage", "DataLike", "Hole", "Isolation", "coverage", "data_like"]

NEIGHBOURS, ALPHA, PER_HALF, DRAWS, GHOSTS = 5, 0.05, 5000, 5000, 2000
SAME = 1e-6
POWER, MIN_CODES = 0.5, 12
FOLDS, RANK, MAX_DIRECTIONS = 3, 10, 32
FOLD_SPREAD = 1.3174
EDGE = 10 / 11
MOST_HOLES, LEAST, SMALL, LINKS, SIDES = 8, 5, 0.005, 15, 4


@dataclass(frozen=True)
class DataLike:
    """How many draws decode to something like the reconstructions.

    Attributes:
        data_like: 1 - G, n = draws.
        sensitivity: share of ghosts (means of two random reconstructions) recovered.
        draws: codes drawn, shape (m, d).
        scores: isolation of each draw over its threshold, averaged over the two halves, shape (m,); > 1 is flagged.
        nearest: row of the nearest reconstruction, shape (m,).
        threshold_rate: nominal share of real items above the threshold.
        references: reconstructions per half.
    """

    data_like: Measure
    sensitivity: Measure
    draws: np.ndarray
    scores: np.ndarray
    nearest: np.ndarray
    threshold_rate: float
    references: int


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
        hole_mass: reference mass where the predicted ratio codes / reference is under 1/10.
        strays: share of codes where that ratio is over 10.
    """

    coverage: Measure
    holes: tuple[Hole, ...]
    hole_mass: Measure
    strays: Measure


@dataclass(frozen=True)
class _Half:
    """One half of the reconstructions as references, the other half's scores as calibration, in item order."""

    points: np.ndarray
    own: np.ndarray
    rows: np.ndarray
    calibration: np.ndarray
    k: int
    floor: float

    def score(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Isolation, distance to the nearest reference, and its row."""
        distances, found = nearest(phi, self.points, self.k)
        isolation = np.maximum(distances.mean(1), self.floor) / self.own[found].mean(1)
        return isolation, distances[:, 0], self.rows[found[:, 0]]


class Isolation:
    """How far an output lies from reconstructions, in units of how far those lie from each other.

    `s(y) = mean_{j in N_5(y)} |y - r_j| / mean_{j in N_5(y)} rho_j`, rho_j the mean distance of reference j to its own
    5 nearest; references are one half of the reconstructions. The threshold is the conformal 1 - alpha quantile of
    the other half's scores (Vovk et al. 2005; Breunig et al. 2000 for the ratio), so that an output exchangeable with
    reconstructions exceeds it with the known rate a; `G = (P(s > t) - a) / (1 - a)`, halves swapped and averaged.
    Distances under 1e-6 of the size of outputs count as equal (float32), so that 0/0 is 1. Where scores tie at the
    threshold, a is the share above it.
    """

    def __init__(self, halves: tuple[_Half, _Half], alpha: float):
        self.halves, self.alpha, self.k = halves, alpha, halves[0].k
        self.references = len(halves[0].points)
        self._limits = [conformal(np.sort(half.calibration), alpha) for half in halves]

    @classmethod
    def fit(
        cls, reference_phi: np.ndarray, *, rng: np.random.Generator, k: int = NEIGHBOURS, alpha: float = ALPHA,
        per_half: int = PER_HALF,
    ) -> "Isolation":  # fmt: skip
        """Split reconstructions at random into two halves, each the other's calibration.

        Args:
            reference_phi: features of reconstructions, one an item, shape (n, k).
            rng: splits.
            k: neighbours.
            alpha: share of real items above the threshold.
            per_half: at most so many references a half.

        Raises:
            DataError: fewer than 2 (k + 1) reconstructions.
        """
        if len(reference_phi) < 2 * (k + 1):
            raise DataError(
                f"isolation needs at least {2 * (k + 1)} reconstructions; got {len(reference_phi)}",
                where="completeness.Isolation", fix="give more held-out items",
            )  # fmt: skip
        rows = rng.permutation(len(reference_phi))[: 2 * per_half]
        floor = max(SAME * float(np.sqrt(np.square(reference_phi).sum(1).mean())), 1e-150)
        bare = [_bare_half(reference_phi, part, k=k, floor=floor) for part in (rows[::2], rows[1::2])]
        calibrations = [bare[i].score(bare[1 - i].points)[0] for i in (0, 1)]
        first, second = (_Half(h.points, h.own, h.rows, c, k, floor) for h, c in zip(bare, calibrations, strict=True))
        return cls((first, second), alpha)

    def score(self, phi: np.ndarray) -> np.ndarray:
        """Isolation over its threshold, averaged over the halves, shape (m,); above 1 is unlike the references."""
        return self._relative(self._raw(phi)[0])

    def gap(self, phi: np.ndarray) -> tuple[float, np.ndarray]:
        """G, not cut to 0..1, and how many of the two halves flag each output (0, 1/2, 1), shape (m,)."""
        raw = self._raw(phi)[0]
        flags = np.mean([scores > limit for scores, (limit, _) in zip(raw, self._limits, strict=True)], axis=0)
        return self._gap(raw), flags

    def nearest(self, phi: np.ndarray) -> np.ndarray:
        """Row of the nearest reference of either half, shape (m,)."""
        return self._raw(phi)[1]

    def _raw(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [half.score(phi) for half in self.halves]
        closer = found[0][1] <= found[1][1]
        return np.stack([part[0] for part in found]), np.where(closer, found[0][2], found[1][2])

    def _relative(self, raw: np.ndarray) -> np.ndarray:
        return np.mean([scores / limit for scores, (limit, _) in zip(raw, self._limits, strict=True)], axis=0)

    def _gap(self, raw: np.ndarray) -> float:
        excess = [
            ((scores > limit).mean() - rate) / (1 - rate)
            for scores, (limit, rate) in zip(raw, self._limits, strict=True)
        ]
        return float(np.mean(excess))

    def _replicates(self, raw: np.ndarray, *, seed: int) -> np.ndarray:
        """G with draws and calibration items resampled: the threshold's own uncertainty is in it."""
        rows = resamples(raw.shape[1], seed=seed)
        gaps = np.zeros(len(rows))
        for number, (half, scores) in enumerate(zip(self.halves, raw, strict=True), start=1):
            again = resamples(len(half.calibration), seed=seed + number)
            limit, rate = conformal(np.sort(half.calibration[again], axis=1), self.alpha)
            gaps += ((scores[rows] > limit[:, None]).mean(1) - rate) / (1 - rate) / 2
        return gaps


def _bare_half(phi: np.ndarray, rows: np.ndarray, *, k: int, floor: float) -> _Half:
    """A half not yet calibrated."""
    points = phi[rows]
    own = np.maximum(nearest_others(points, k)[0].mean(1), floor)
    return _Half(points, own, rows, np.empty(0), k, floor)


def conformal(ascending: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The ceil((m + 1)(1 - alpha))-th smallest of m scores, and the rate at which a new one exceeds it.

    That rate is (m + 1 - rank) / (m + 1) without ties (Vovk et al. 2005); with ties at the threshold, the share above.

    Args:
        ascending: sorted along the last axis, shape (..., m).
        alpha: nominal rate.
    """
    m = ascending.shape[-1]
    rank = min(int(np.ceil((m + 1) * (1 - alpha))), m)
    limit = ascending[..., rank - 1]
    above = (ascending > limit[..., None]).sum(-1)
    tied = (ascending == limit[..., None]).sum(-1) > 1
    return limit, np.where(tied, above / m, (above + 1) / (m + 1))


def data_like(
    probe: Probe, law: Law, reconstructions_phi: np.ndarray, reconstructions: np.ndarray, *,
    rng: np.random.Generator, seed: int, draws: int = DRAWS, per_half: int = PER_HALF,
    event_shape: tuple[int, ...] | None = None,
) -> DataLike:  # fmt: skip
    """The share of draws that decode to something like a reconstruction, 1 - G (see `Isolation`), and its sensitivity.

    Against reconstructions, not data, so that blur is not punished twice. Ghosts (means of two random
    reconstructions) tell what share of wrong outputs would be found with so many references.

    Args:
        probe: decodes.
        law: draws codes.
        reconstructions_phi: features of decode(z_i), z_i ~ q(z|x_i), held-out items, shape (n, k).
        reconstructions: the outputs themselves, shape (n, D) or (n, *event).
        rng: splits, draws and ghosts.
        seed: of the resamples behind the intervals.
        draws: how many codes to decode.
        per_half: at most so many references a half.
        event_shape: shape of one output, for a hook of the probe; by default that of `reconstructions`.
    """
    isolation = Isolation.fit(reconstructions_phi, rng=rng, per_half=per_half)
    codes = law.sample(draws, rng)
    raw, rows = isolation._raw(probe.phi(codes))
    ghosts = isolation._raw(_ghosts(probe, reconstructions_phi, reconstructions, rng=rng, event_shape=event_shape))[0]
    found = _measure(isolation._gap(ghosts), isolation._replicates(ghosts, seed=seed), n=ghosts.shape[1])
    found = replace(found, reading=_sensitivity_reading(found))
    real = _measure(1 - isolation._gap(raw), 1 - isolation._replicates(raw, seed=seed), n=draws)
    real = replace(real, reading=_data_like_reading(real, found, isolation, law.name))
    return DataLike(
        data_like=real, sensitivity=found, draws=codes, scores=isolation._relative(raw), nearest=rows,
        threshold_rate=isolation.alpha, references=isolation.references,
    )  # fmt: skip


def _ghosts(
    probe: Probe, phi: np.ndarray, outputs: np.ndarray, *, rng: np.random.Generator, event_shape: tuple[int, ...] | None
) -> np.ndarray:
    """Features of the means of two random reconstructions; taken in phi where phi is linear."""
    n = len(phi)
    first = rng.integers(0, n, min(GHOSTS, 5 * n))
    second = (first + rng.integers(1, n, len(first))) % n
    if probe.features is None:
        return (phi[first] + phi[second]) / 2
    means = (outputs[first] + outputs[second]) / 2
    return probe.phi_of(means.reshape(len(means), *(event_shape or outputs.shape[1:])))


def _measure(raw: float, replicates: np.ndarray, *, n: int) -> Measure:
    """A share, cut to 0..1 as its replicates are; its reading is added by the caller."""
    value, again = float(np.clip(raw, 0, 1)), np.clip(replicates, 0, 1)
    return Measure(value, *interval(again), n, "", raw=None if value == raw else float(raw), replicates=again)


def _sensitivity_reading(found: Measure) -> str:
    share = f"{found.value:.0%} of ghosts (means of two random reconstructions) are recognised as unlike the data"
    return share + ("." if (found.value or 0) >= POWER else ": low power, give more data.")


def _data_like_reading(real: Measure, found: Measure, isolation: Isolation, law: str) -> str:
    power = f"sensitivity {found.value:.0%}"
    how = f"k = {isolation.k}, alpha = {isolation.alpha:g}, {isolation.references:,} reconstructions a half"
    if (found.value or 0) < POWER:
        power = f"{power}: low power, give more data"
    if (real.high or 0) >= 1:
        return f"No draws from {law} unlike every reconstruction: none found ({power}; {how})."
    return f"At least {1 - (real.value or 0):.1%} of draws from {law} decode to nothing like the data ({power}; {how})."


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
            where="completeness.coverage", fix="give more held-out items",
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

    share = label.mean()
    rarer = int(min(label.sum(), (1 - label).sum()))
    model = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=8, min_samples_leaf=min(40, max(5, rarer // 4)), random_state=seed
    )
    model.set_params(early_stopping=False)  # "auto" would change the fit above 10,000 rows
    model.fit(features, label)

    def predict(rows: np.ndarray) -> np.ndarray:
        found = model.predict_proba(rows)[:, 1]
        return found * (1 - share) / (found * (1 - share) + (1 - found) * share)

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
    filled = _measure(1 - tv, 1 - again_tv, n=len(codes))
    empty, astray = reference > EDGE, codes < 1 - EDGE
    hole = _measure(float(empty.mean()), empty[rows].mean(1), n=len(reference))
    stray = _measure(float(astray.mean()), astray[code_rows].mean(1), n=len(codes))
    missed = f"At least {1 - (filled.value or 0):.1%} of {law} is not filled by the codes"
    none = f"No part of {law} without codes: none found"
    power = f"{len(codes):,} codes against {len(reference):,} draws"
    return (
        replace(filled, reading=f"{none if (filled.high or 0) >= 1 else missed} ({power})."),
        replace(
            hole,
            reading=f"{hole.value:.1%} of {law} lies where codes are predicted under a tenth as frequent; "
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
    share, z2 = count / n, Z95**2
    middle, half = (share + z2 / (2 * n)) / (1 + z2 / n), Z95 / (1 + z2 / n)
    half *= np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return float(middle - half), float(middle + half)
