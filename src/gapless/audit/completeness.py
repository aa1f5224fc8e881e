"""Completeness of the decoder: does every code the reference law draws decode to something like the data?"""

from dataclasses import dataclass, replace

import numpy as np

from gapless.audit.laws import Law
from gapless.audit.measure import Measure, resamples, share
from gapless.audit.neighbours import nearest, nearest_others
from gapless.audit.subject import Probe
from gapless.errors import DataError

__all__ = ["DataLike", "Isolation", "data_like"]

NEIGHBOURS, ALPHA, PER_HALF, DRAWS, GHOSTS = 5, 0.05, 5000, 5000, 2000
SAME = 1e-6
POWER = 0.5


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
    found = share(isolation._gap(ghosts), isolation._replicates(ghosts, seed=seed), n=ghosts.shape[1])
    found = replace(found, reading=_sensitivity_reading(found))
    real = share(1 - isolation._gap(raw), 1 - isolation._replicates(raw, seed=seed), n=draws)
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


def _sensitivity_reading(found: Measure) -> str:
    said = f"{found.value:.0%} of ghosts (means of two random reconstructions) are recognised as unlike the data"
    return said + ("." if (found.value or 0) >= POWER else ": low power, give more data.")


def _data_like_reading(real: Measure, found: Measure, isolation: Isolation, law: str) -> str:
    power = f"sensitivity {found.value:.0%}"
    how = f"k = {isolation.k}, alpha = {isolation.alpha:g}, {isolation.references:,} reconstructions a half"
    if (found.value or 0) < POWER:
        power = f"{power}: low power, give more data"
    if (real.high or 0) >= 1:
        return f"No draws from {law} unlike every reconstruction: none found ({power}; {how})."
    return f"At least {1 - (real.value or 0):.1%} of draws from {law} decode to nothing like the data ({power}; {how})."
