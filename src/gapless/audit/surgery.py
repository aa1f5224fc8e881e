"""ELBO surgery: what the mean KL to the prior is made of, in nats, as brackets that no sampling can turn into points.

`E KL(q(z|x) || p) = I(x; z) + KL(q(z) || p)` and `KL(q(z) || p) = TC + sum_j KL(q(z_j) || p(z_j))` for a factorized p
(Hoffman & Johnson 2016, "ELBO surgery"; Chen, Li, Grosse & Duvenaud 2018).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gapless.audit.measure import Z95
from gapless.audit.subject import Codes

__all__ = ["Surgery", "kl_from_standard", "log_aggregate", "surgery"]

LOG_TWO_PI = float(np.log(2 * np.pi))
CELLS = 2**20
"""Densities held at once by log_aggregate (8 MiB)."""
FEATURE_ITEMS = 4000
"""Components of the one-dimensional aggregates: there are d of them to evaluate, and n is dense in one dimension."""

LogProb = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Surgery:
    """The parts of the mean KL, in nats. A pair is a bracket (low, high), its ends moved out by 1.96 standard errors.

    Attributes:
        mean_kl: E KL(q(z|x) || p) over the items.
        mutual_information: I(x; z) for the population of items; low end: own component kept, at most log n; high end:
            left out, at most the mean KL.
        marginal_kl: KL(q(z) || p) = mean_kl - I.
        total_correlation: KL(q(z) || prod_j q(z_j)); needs no prior.
        dimensionwise_kl: sum_j KL(q(z_j) || p(z_j)), the middle of its bracket; None with a prior other than N(0, I).
        dimensionwise_bracket: its bracket; None with it.
        n: items in the aggregate.
        samples: codes at which it was evaluated.
    """

    mean_kl: float
    mutual_information: tuple[float, float]
    marginal_kl: tuple[float, float]
    total_correlation: tuple[float, float]
    dimensionwise_kl: float | None
    dimensionwise_bracket: tuple[float, float] | None
    n: int
    samples: int


@dataclass(frozen=True)
class _Controls:
    """Two series of known mean that explain much of the sampling noise (regression control variates).

    Attributes:
        kl: KL(q(z|x_i) || p) of every item, shape (n,).
        chosen: the sampled items, shape (S,).
        noise: `log q(z_s|x_s) - log p(z_s) - KL_s`, mean 0 given the item, shape (S,).
    """

    kl: np.ndarray
    chosen: np.ndarray
    noise: np.ndarray

    def mean(self, values: np.ndarray) -> tuple[float, float]:
        """The mean of a series over items and codes, shape (S,), and its standard error.

        The least-squares line at the known means of the controls. What the KL of the items explains is known for all n
        of them, the rest for the S sampled ones.
        """
        known = np.stack([self.noise, self.kl[self.chosen] - self.kl.mean()], axis=1)
        centred = known - known.mean(0)
        slope = np.linalg.lstsq(centred, values - values.mean(), rcond=1e-10)[0]
        left = values - values.mean() - centred @ slope
        variance = np.square(left).sum() / max(len(left) - 3, 1) / len(left) + slope[1] ** 2 * self.kl.var() / len(
            self.kl
        )
        return float(values.mean() - known.mean(0) @ slope), float(np.sqrt(variance))

    def bracket(self, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
        """(mean of low, mean of high), moved out by 1.96 standard errors each."""
        (start, down), (end, up) = self.mean(low), self.mean(high)
        return start - Z95 * down, end + Z95 * up


def surgery(
    codes: Codes, *, rng: np.random.Generator, samples: int = 2000, prior_log_prob: LogProb | None = None
) -> Surgery | None:
    """Mutual information, KL of the aggregate posterior, total correlation and marginal KLs, as brackets.

    The aggregate q(z) is the mixture of the posteriors of n items, evaluated at the draws z_i of S of them. With the
    component of x_i kept, `E log q(z_i|x_i) / q(z_i)` is at most I and at most log n; with it left out, at least I
    (Poole et al. 2019, bounds with a known encoder). The truth for the population lies between; at I >> log n the
    bracket is wide, because no sample of n items can say more.

    Args:
        codes: q(z|x) of n items and one draw each.
        rng: chooses the items at whose draws the aggregate is evaluated.
        samples: S, at most n.
        prior_log_prob: log p(z), codes (m, d) -> (m,), of a prior other than N(0, I).

    Returns:
        None for point masses (any scale 0: the KL is infinite) and for fewer than two items.
    """
    n = len(codes)
    if n < 2 or (codes.scale <= 0).any():
        return None
    order = rng.permutation(n)
    chosen = order[: min(samples, n)]
    z, own = codes.draws[chosen], _log_normal(codes, chosen)
    controls, log_prior = _controls(codes, chosen, own.sum(1), prior_log_prob)
    kept, out = _aggregate(z, codes, np.arange(n), chosen, own.sum(1))
    feature_kept, feature_out = _features(codes, order[: max(min(n, FEATURE_ITEMS), len(chosen))], own)
    mean_kl = float(controls.kl.mean())
    marginal = _at_least_zero(controls.bracket(out - log_prior, kept - log_prior))
    information = _at_least_zero(controls.bracket(own.sum(1) - kept, own.sum(1) - out))
    correlation = _at_least_zero(controls.bracket(out - feature_kept, kept - feature_out))
    ceiling = mean_kl + Z95 * float(controls.kl.std() / np.sqrt(n))
    marginal = (marginal[0], min(marginal[1], ceiling))
    bracket = None
    if prior_log_prob is None:
        bracket = _at_least_zero(controls.bracket(feature_out - log_prior, feature_kept - log_prior))
        bracket = (bracket[0], min(bracket[1], marginal[1]))
        correlation = (correlation[0], min(correlation[1], marginal[1]))
    return Surgery(
        mean_kl,
        (min(information[0], float(np.log(n))), min(information[1], ceiling)),
        marginal,
        correlation,
        None if bracket is None else sum(bracket) / 2,
        bracket,
        n,
        len(chosen),
    )


def kl_from_standard(codes: Codes) -> np.ndarray:
    """KL(q(z_j|x) || N(0, 1)) = (loc^2 + scale^2 - 1) / 2 - log scale, in nats: shape (n, d); inf where scale is 0."""
    with np.errstate(divide="ignore"):
        return 0.5 * (np.square(codes.loc) + np.square(codes.scale) - 1) - np.log(codes.scale)


def log_aggregate(
    z: np.ndarray, loc: np.ndarray, scale: np.ndarray, *, leave_out: np.ndarray | None = None
) -> np.ndarray:
    """log q(z) of the aggregate posterior `q(z) = 1/n sum_i N(z; loc_i, scale_i^2)`, in nats.

    The quadratic form is two products, z^2 with 1 / scale^2 and z with loc / scale^2, in float64: they cancel to the
    last digits when scale is small, and float32 is off by 100 nats at scale 1e-3.

    Args:
        z: shape (S, d).
        loc: shape (n, d).
        scale: shape (n, d), positive.
        leave_out: the component left out at each z, shape (S,); the mean is over the other n - 1.

    Returns:
        Shape (S,).
    """
    centre = loc.mean(0, dtype=np.float64)
    z, loc, precision = z - centre, loc - centre, 1 / np.square(scale.astype(np.float64))
    left = np.concatenate([z * z, z], axis=1)
    right = np.concatenate([-0.5 * precision, loc * precision], axis=1)
    constant = 0.5 * (np.log(precision) - np.square(loc) * precision).sum(1)
    top, total = np.full(len(z), -1e300), np.zeros(len(z))
    step = max(1, CELLS // max(len(z), 1))
    for start in range(0, len(loc), step):
        block = left @ right[start : start + step].T
        block += constant[start : start + step]
        if leave_out is not None:
            mine = np.flatnonzero((leave_out >= start) & (leave_out < start + block.shape[1]))
            block[mine, leave_out[mine] - start] = -np.inf
        higher = np.maximum(top, block.max(1))
        block -= higher[:, None]
        total = total * np.exp(top - higher) + np.exp(block, out=block).sum(1)
        top = higher
    count = len(loc) - (leave_out is not None)
    return top + np.log(total) - np.log(count) - 0.5 * z.shape[1] * LOG_TWO_PI


def _log_normal(codes: Codes, rows: np.ndarray) -> np.ndarray:
    """log q(z_ij | x_i) of the draws of some items, shape (S, d)."""
    scale = codes.scale[rows]
    return -0.5 * np.square((codes.draws[rows] - codes.loc[rows]) / scale) - np.log(scale) - 0.5 * LOG_TWO_PI


def _controls(
    codes: Codes, chosen: np.ndarray, own: np.ndarray, prior_log_prob: LogProb | None
) -> tuple[_Controls, np.ndarray]:
    """The control variates, and log p at the chosen draws; with a prior of its own, KL_i = -H_i - log p(z_i)."""
    z = codes.draws[chosen]
    if prior_log_prob is None:
        log_prior = -0.5 * (np.square(z) + LOG_TWO_PI).sum(1)
        kl = kl_from_standard(codes).sum(1)
        return _Controls(kl, chosen, own - log_prior - kl[chosen]), log_prior
    log_priors = np.asarray(prior_log_prob(codes.draws), dtype=np.float64).reshape(len(codes))
    entropy = (np.log(codes.scale) + 0.5 * (1 + LOG_TWO_PI)).sum(1)
    return _Controls(-entropy - log_priors, chosen, own + entropy[chosen]), log_priors[chosen]


def _aggregate(
    z: np.ndarray, codes: Codes, members: np.ndarray, chosen: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """log q at draws with the own component kept and left out; `chosen` indexes rows of `members`."""
    n = len(members)
    out = log_aggregate(z, codes.loc[members], codes.scale[members], leave_out=chosen)
    return np.logaddexp(out + np.log(n - 1), own) - np.log(n), out


def _features(codes: Codes, members: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """sum_j log q(z_j), own component kept and left out, at the draws of the first S of `members`."""
    size = len(own)
    kept, out = np.zeros(size), np.zeros(size)
    for j in range(codes.loc.shape[1]):
        one = Codes(codes.loc[:, [j]], codes.scale[:, [j]], codes.draws[:, [j]])
        parts = _aggregate(one.draws[members[:size]], one, members, np.arange(size), own[:, j])
        kept, out = kept + parts[0], out + parts[1]
    return kept, out


def _at_least_zero(bracket: tuple[float, float]) -> tuple[float, float]:
    """A divergence is not negative: the bracket cut at 0."""
    return max(bracket[0], 0.0), max(bracket[1], 0.0)
