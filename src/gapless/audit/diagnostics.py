"""Diagnostics under the headline: what each latent feature does, and how the codes differ from a reference law."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gapless.audit.informativeness import neighbour_preservation, resampled_means
from gapless.audit.laws import DiscreteCodes, Gaussian, Law
from gapless.audit.measure import Measure, interval, not_applicable
from gapless.audit.subject import Codes, Probe
from gapless.audit.surgery import kl_from_standard

__all__ = [
    "Feature",
    "features",
    "icc",
    "mmd",
    "moments_check",
    "neighbour_preservation",
    "radius",
    "sliced_w2",
    "total_sobol",
]

RELIABLE_NATS = 0.01
"""An encoder uses a feature that carries more: -1/2 log(1 - reliability), the information of a linear code."""
SOBOL_SHARE = 0.01
"""A decoder uses a feature behind more than this share of its output variance."""
CONSTANT = 1e-12
"""Outputs whose variance is under this share of their mean square differ by the rounding of float32 only."""
ROWS = 256
MMD_POINTS = 2000

State = Literal["live", "ignored", "noise", "dead"]


@dataclass(frozen=True)
class Feature:
    """One latent feature.

    Attributes:
        loc_mean: mean of loc over the items; towards 0 under a standard normal prior.
        loc_std: standard deviation of loc over the items.
        scale_rms: sqrt(E scale^2).
        total_variance: Var loc + E scale^2; towards 1 under a standard normal prior.
        reliability: Var loc / (Var loc + E scale^2), 0..1: how much of the feature's variance is due to the item.
        kl: E KL(q(z_j|x) || N(0, 1)) in nats; None for a point mass.
        sobol: total Sobol index of the decoder, 0..1; None where it was not measured.
        state: live (encoder and decoder use it), ignored (the encoder alone), noise (the decoder alone), dead.
    """

    loc_mean: float
    loc_std: float
    scale_rms: float
    total_variance: float
    reliability: float
    kl: float | None
    sobol: float | None
    state: State


def features(codes: Codes, sobol: np.ndarray | None) -> tuple[Feature, ...]:
    """What each latent feature carries (encoder: reliability) and is used for (decoder: total Sobol index).

    The encoder uses a feature if `-1/2 log(1 - reliability) > 0.01` nats; the decoder if its Sobol index is over 0.01,
    or over a tenth of an equal share, 0.1 / d, where that is less (d > 10): 128 equal features have 0.008 each.

    Args:
        codes: q(z|x) of the items.
        sobol: from `total_sobol`, shape (d,); None: the state goes by the encoder alone, live or dead.
    """
    mean, variance = codes.loc.mean(0), codes.loc.var(0)
    noise = np.square(codes.scale).mean(0)
    total = variance + noise
    reliability = np.divide(variance, total, out=np.zeros_like(total), where=total > 0)
    kl = None if codes.point else kl_from_standard(codes).mean(0)
    carried = reliability > -np.expm1(-2 * RELIABLE_NATS)
    used = carried if sobol is None else sobol > min(SOBOL_SHARE, 0.1 / len(total))
    states: dict[tuple[bool, bool], State] = {
        (True, True): "live", (True, False): "ignored", (False, True): "noise", (False, False): "dead",
    }  # fmt: skip
    return tuple(
        Feature(
            float(mean[j]),
            float(np.sqrt(variance[j])),
            float(np.sqrt(noise[j])),
            float(total[j]),
            float(reliability[j]),
            None if kl is None else float(kl[j]),
            None if sobol is None else float(sobol[j]),
            states[bool(carried[j]), bool(used[j])],
        )
        for j in range(len(total))
    )


def total_sobol(probe: Probe, law: Law, *, rng: np.random.Generator, n: int = 256) -> np.ndarray:
    """Share of the decoder's output variance that latent feature j takes part in, under a law.

    `T_j = E |g(u) - g(u with u_j redrawn)|^2 / (2 Var g)` (Jansen 1999), over all output features phi. The coordinates
    u are independent: of discrete codes the positions; of a Gaussian the whitened coordinates nearest to the features
    (`z = m + V^1/2 P^1/2 u`, V variances, P correlations: Kessy, Lewin & Strimmer 2018, ZCA-cor), which are the
    features themselves where these are uncorrelated. Any other law is replaced by the Gaussian of its moments. Sums to
    1 for an additive decoder, to more with interactions; relative standard error about sqrt(2 / n).

    Args:
        probe: n (d + 2) decodes.
        law: of codes.
        rng: draws the codes.
        n: redraws a feature.

    Returns:
        Shape (d,); zeros for a constant decoder.
    """
    to_codes, (first, second) = _coordinates(law, n, rng)
    base, other = (probe.phi(to_codes(u)) for u in (first, second))
    both = np.concatenate([base, other])
    variance = both.var(0, ddof=1).sum()
    if variance <= CONSTANT * np.square(both).sum(1).mean():
        return np.zeros(law.dimension)
    shares = np.empty(law.dimension)
    for j in range(law.dimension):
        mixed = first.copy()
        mixed[:, j] = second[:, j]
        shares[j] = 0.5 * np.square(base - probe.phi(to_codes(mixed))).sum(1).mean() / variance
    return shares


def _coordinates(law: Law, n: int, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
    """(independent coordinates -> codes, two draws of the coordinates (2, n, d))."""
    d = law.dimension
    if isinstance(law, DiscreteCodes):
        return (lambda u: u), law.sample(2 * n, rng).reshape(2, n, d)
    if isinstance(law, Gaussian):
        mean, covariance = law.mean, law.factor @ law.factor.T
    else:
        drawn = law.sample(4096, rng)
        mean, covariance = drawn.mean(0), np.cov(drawn, rowvar=False).reshape(d, d)
    std = np.sqrt(np.diag(covariance))
    inverse = np.divide(1, std, out=np.zeros(d), where=std > 0)
    values, vectors = np.linalg.eigh(covariance * np.outer(inverse, inverse))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T * std
    return (lambda u: mean + u @ root), rng.standard_normal((2, n, d))


def icc(
    probe: Probe, codes: Codes, *, rng: np.random.Generator, seed: int, items: int = 500, draws: int = 4
) -> Measure:
    """Decode reliability: the intraclass correlation of decodes of repeated draws z ~ q(z|x), ICC(1).

    `between / (between + within)`, variances summed over output features; `within` is the mean variance of the decodes
    of one item, `between = Var(item means) - within / draws` (Shrout & Fleiss 1979).

    Args:
        probe: items x draws decodes.
        codes: q(z|x).
        rng: chooses the items and draws their codes.
        seed: of the resamples.
        items: at most this many.
        draws: codes an item, at least 2.
    """
    chosen = rng.permutation(len(codes))[:items]
    n = len(chosen)
    if n < 2:
        return not_applicable("Decode reliability needs at least two items.", n)
    noise = rng.standard_normal((n, draws, codes.loc.shape[1]))
    z = codes.loc[chosen][:, None] + codes.scale[chosen][:, None] * noise
    phi = probe.phi(z.reshape(n * draws, -1)).reshape(n, draws, -1)
    means = phi.mean(1)
    within = np.square(phi - means[:, None]).sum((1, 2)) / (draws - 1)
    between = np.square(means - means.mean(0)).sum(1) * n / (n - 1)
    if (within + between).mean() <= CONSTANT * np.square(phi).sum(2).mean():
        return not_applicable("The decoder is constant: there is nothing to tell apart.", n)
    raw = float(_icc(between.mean(), within.mean(), draws))
    resampled = resampled_means(np.stack([between, within], axis=1), seed=seed)
    replicates = np.asarray(_icc(resampled[:, 0], resampled[:, 1], draws))
    value, low, high = (float(np.clip(number, 0, 1)) for number in (raw, *interval(replicates)))
    reading = f"{value:.1%} of the variance of decodes is due to the item, the rest to the noise of its code."
    return Measure(value, low, high, n, reading, raw=None if value == raw else raw, replicates=replicates)


def _icc(between: Any, within: Any, draws: int) -> Any:
    """(MSB - MSW) / (MSB + (draws - 1) MSW), from the variance of item means and the variance within items."""
    total = between + within * (1 - 1 / draws)
    return (between - within / draws) / np.maximum(total, np.finfo(float).tiny)


def radius(codes: np.ndarray) -> dict[str, Any]:
    """Quantiles of |z| against those of chi(d), the radius under N(0, I).

    Args:
        codes: draws z, shape (n, d).

    Returns:
        `probabilities`, `measured`, `expected` (lists of the same length), `mean`, `expected_mean`, `n`, `d`,
        `reading`.
    """
    from scipy.stats import chi

    n, d = codes.shape
    length = np.linalg.norm(codes.astype(np.float64), axis=1)
    probabilities = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
    measured, expected = np.quantile(length, probabilities), chi.ppf(probabilities, d)
    return {
        "probabilities": probabilities.tolist(),
        "measured": measured.tolist(),
        "expected": expected.tolist(),
        "mean": float(length.mean()),
        "expected_mean": float(np.asarray(chi.mean(d))),
        "n": n,
        "d": d,
        "reading": f"Codes lie {measured[4]:.2f} from the origin (median; {expected[4]:.2f} under N(0, I)), half of "
        f"them between {measured[3]:.2f} and {measured[5]:.2f} ({expected[3]:.2f} and {expected[5]:.2f}).",
    }


def moments_check(codes: Codes) -> dict[str, Any]:
    """How far the covariance of the codes is from I and their mean from 0.

    Covariance of loc plus the mean of scale^2 on the diagonal. Standard errors by the influence of each item (delta
    method). The largest of many is never 0: `*_by_chance` is about what n codes of N(0, I) show (the edge of Marchenko
    & Pastur 1967 for eigenvalues, the largest of m normals for the others).

    Returns:
        `eigenvalue_gap` max |eigenvalue - 1|, `correlation` max |correlation| with its `correlation_pair` (None for
        d = 1), `mean` max |mean| with its `mean_feature`, each with `_error` and `_by_chance`; `eigenvalues`
        (ascending), `n`, `d`, `reading`.
    """
    n, d = codes.loc.shape
    mean = codes.loc.mean(0)
    centred, square = codes.loc - mean, np.square(codes.scale)
    covariance = centred.T @ centred / n + np.diag(square.mean(0))
    values, vectors = np.linalg.eigh(covariance)
    worst, feature = int(np.argmax(np.abs(values - 1))), int(np.argmax(np.abs(mean)))
    axis = vectors[:, worst]
    along = np.square(centred @ axis) + square @ np.square(axis)
    found: dict[str, Any] = {
        "eigenvalue_gap": float(abs(values[worst] - 1)),
        "eigenvalue_gap_error": float(along.std() / np.sqrt(n)),
        "eigenvalue_gap_by_chance": float((1 + np.sqrt(d / n)) ** 2 - 1),
        "mean": float(abs(mean[feature])),
        "mean_error": float(centred[:, feature].std() / np.sqrt(n)),
        "mean_by_chance": float(np.sqrt(2 * np.log(2 * d) / n)),
        "mean_feature": feature,
        "eigenvalues": values.tolist(),
        "n": n,
        "d": d,
        **_largest_correlation(centred, square, covariance),
    }
    apart = "" if d == 1 else f"The largest correlation is {found['correlation']:.3f}. "
    found["reading"] = (
        f"The covariance of {n:,} codes has eigenvalues from {values[0]:.3f} to {values[-1]:.3f} (1 under N(0, I); "
        f"chance moves them by {found['eigenvalue_gap_by_chance']:.3f}). {apart}The mean is at most "
        f"{found['mean']:.3f} from 0 in any feature (standard error {found['mean_error']:.3f})."
    )
    return found


def _largest_correlation(centred: np.ndarray, square: np.ndarray, covariance: np.ndarray) -> dict[str, Any]:
    """The largest |correlation| of two features, its pair and its standard error."""
    n, d = centred.shape
    if d == 1:
        names = ("correlation", "correlation_pair", "correlation_error", "correlation_by_chance")
        return dict.fromkeys(names)
    std = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    scaled = np.triu(covariance / np.outer(std, std), 1)
    j, k = (int(i) for i in np.unravel_index(np.argmax(np.abs(scaled)), scaled.shape))
    parts = (np.square(centred[:, [j, k]]) + square[:, [j, k]]) / np.square(std[[j, k]])
    product = centred[:, j] * centred[:, k] / (std[j] * std[k])
    influence = product - 0.5 * scaled[j, k] * parts.sum(1)
    return {
        "correlation": float(abs(scaled[j, k])),
        "correlation_pair": (j, k),
        "correlation_error": float(influence.std() / np.sqrt(n)),
        "correlation_by_chance": float(np.sqrt(2 * np.log(d * (d - 1)) / n)),
    }


def mmd(
    a: np.ndarray, b: np.ndarray, *, rng: np.random.Generator, permutations: int = 200, bandwidth: float | None = None
) -> tuple[float, float]:
    """Unbiased MMD^2 of two samples under a Gaussian kernel, and its permutation p (Gretton et al. 2012, eq. 3).

    `k(x, y) = exp(-|x - y|^2 / (2 h^2))`, h the median distance; at most 2,000 points a side, chosen at random. The
    kernel is computed by rows and never kept.

    Args:
        a: shape (n, d).
        b: shape (m, d).
        rng: chooses points and permutes labels.
        permutations: of the labels; p is at least 1 / (permutations + 1).
        bandwidth: h; None for the median.

    Returns:
        (MMD^2, which may be negative, p).
    """
    a, b = (side[rng.permutation(len(side))[:MMD_POINTS]].astype(np.float64) for side in (a, b))
    pooled = np.concatenate([a, b])
    pooled -= pooled.mean(0)
    h = bandwidth or _median_distance(a, b)
    labels = np.zeros((permutations + 1, len(pooled)))
    labels[:, : len(a)] = 1
    labels[1:] = rng.permuted(labels[1:], axis=1)
    columns = np.concatenate([labels, np.ones((1, len(pooled)))]).T
    size = np.square(pooled).sum(1)
    within = np.zeros(permutations + 1)
    across, everything = np.zeros(permutations + 1), 0.0
    for start in range(0, len(pooled), ROWS):
        rows = slice(start, start + ROWS)
        distance = np.maximum(size[rows, None] + size - 2 * pooled[rows] @ pooled.T, 0)
        sums = np.exp(-distance / (2 * h * h)) @ columns
        mine = columns[rows, :-1]
        within += (mine * sums[:, :-1]).sum(0)
        across += (mine * (sums[:, -1:] - sums[:, :-1])).sum(0)
        everything += sums[:, -1].sum()
    n, m = len(a), len(b)
    rest = everything - within - 2 * across
    values = (within - n) / (n * (n - 1)) + (rest - m) / (m * (m - 1)) - 2 * across / (n * m)
    return float(values[0]), float((1 + (values[1:] >= values[0]).sum()) / (permutations + 1))


def _median_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Median distance of two points of the pooled sample (500 a side)."""
    from scipy.spatial.distance import pdist

    return float(np.median(pdist(np.concatenate([a[:500], b[:500]])))) or 1.0


def sliced_w2(codes: np.ndarray, reference: np.ndarray, *, rng: np.random.Generator, directions: int = 128) -> float:
    """Sliced 2-Wasserstein distance of two samples, in standard deviations of the reference.

    `sqrt(E_u W_2^2(<u, codes>, <u, reference>) / Var <u, reference>)` (Bonneel et al. 2015), u from random orthonormal
    bases, so that a translation t by a whole basis gives |t|^2 / d exactly under N(0, I). Two samples of one law give
    about sqrt(log log n / n), not 0.

    Args:
        codes: shape (n, d).
        reference: shape (m, d); draws of the law.
        rng: draws the directions.
        directions: rounded up to whole bases (128 for d over 128); one suffices at d = 1.
    """
    d = codes.shape[1]
    bases = 1 if d == 1 else -(-directions // d)
    total, count = 0.0, 0
    for _ in range(bases):
        basis = np.linalg.qr(rng.standard_normal((d, d)))[0][:, :directions]
        ours, theirs = (np.sort(side @ basis, axis=0) for side in (codes, reference))
        variance = np.maximum(theirs.var(0), np.finfo(float).tiny)
        total += (_gap(ours, theirs) / variance).sum()
        count += basis.shape[1]
    return float(np.sqrt(total / count))


def _gap(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """W_2^2 of sorted columns (n, k), (m, k): the mean square of the difference of their quantile functions.

    The shorter is interpolated at the quantiles (i - 1/2) / n of the longer.
    """
    short, long = sorted((ours, theirs), key=len)
    if len(short) < len(long):
        place = np.clip((np.arange(len(long)) + 0.5) * (len(short) / len(long)) - 0.5, 0, len(short) - 1)
        lower = place.astype(int)
        upper, part = np.minimum(lower + 1, len(short) - 1), (place - lower)[:, None]
        short = (1 - part) * short[lower] + part * short[upper]
    return np.square(short - long).mean(0)
