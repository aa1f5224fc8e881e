"""A measured number: its value with a 95 % interval, how many it rests on, and what it says in one sentence."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Measure", "interval", "jackknife", "not_applicable", "resamples", "share"]

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Measure:
    """One number of an audit.

    Attributes:
        value: the estimate; None where the question does not apply.
        low: lower end of the 95 % interval; None with the value.
        high: upper end of the 95 % interval; None with the value.
        n: how many independent units (loops, pairs, draws, items) it rests on.
        reading: what it says, one sentence.
        raw: the value before it was cut to its range; None where nothing was cut.
        replicates: the estimate under `resamples(n, seed=...)`, shape (rounds,); None where the value is None. Two
            models measured with the same seed and n share the resamples, so that differences of replicates are paired.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reading: str
    raw: float | None = None
    replicates: np.ndarray | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in ("value", "low", "high", "n", "reading", "raw")}


def not_applicable(reading: str, n: int = 0) -> Measure:
    """A question that does not apply, with the reason."""
    return Measure(None, None, None, n, reading)


def jackknife(values: np.ndarray, *, full: float) -> tuple[float, float]:
    """The 95 % interval of an estimate from its leave-one-unit-out values (Efron & Stein 1981).

    Args:
        values: the estimate without unit i, shape (units,).
        full: the estimate from all units.

    Returns:
        (low, high), symmetric around `full`.
    """
    units = len(values)
    error = np.sqrt((units - 1) / units * np.square(values - values.mean()).sum())
    return float(full - Z95 * error), float(full + Z95 * error)


def resamples(n: int, *, seed: int, rounds: int = 400) -> np.ndarray:
    """Bootstrap resamples of n independent units: indices, shape (rounds, n), a function of (n, seed, rounds) alone."""
    return np.random.default_rng([seed, n, 95]).integers(0, n, (rounds, n))


def interval(replicates: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap replicates of an estimate."""
    low, high = np.quantile(replicates, [0.025, 0.975])
    return float(low), float(high)


def share(raw: float, replicates: np.ndarray, *, n: int) -> Measure:
    """A share, cut to 0..1 as its replicates are; its reading is added by the caller."""
    value, again = float(np.clip(raw, 0, 1)), np.clip(replicates, 0, 1)
    return Measure(value, *interval(again), n, "", raw=None if value == raw else float(raw), replicates=again)
