"""Whether final losses agree within half a nat: means over rounds, with their standard errors."""

import math
import statistics

WITHIN = 0.5
"""Nats. Peers that end further apart do not do the same work, and their speeds say nothing about each other."""


def mean(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error; nan where one value tells nothing of the error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), error


def judged(losses: dict[str, list[float]]) -> tuple[str, bool]:
    """One sentence on the two that lie furthest apart, and False where they differ by more than chance explains.

    Above half a nat, but not by two standard errors of the difference, nothing is shown either way: more rounds.

    >>> judged({"a": [100.0, 100.2], "b": [100.3, 100.3]})[0]
    'Losses agree: means lie at most 0.20 +- 0.10 nats apart (a 100.10, b 100.30; 0.5 allowed).'
    >>> judged({"a": [100.0, 100.2], "b": [103.3, 103.3]})[1]
    False
    """
    means = {name: mean(values) for name, values in losses.items()}
    lowest, highest = min(means, key=lambda n: means[n][0]), max(means, key=lambda n: means[n][0])
    apart = means[highest][0] - means[lowest][0]
    error = math.hypot(means[lowest][1], means[highest][1])
    figures = (
        f"means lie at most {apart:.2f} +- {error:.2f} nats apart "
        f"({lowest} {means[lowest][0]:.2f}, {highest} {means[highest][0]:.2f}; {WITHIN} allowed)"
    )
    if apart <= WITHIN:
        return f"Losses agree: {figures}.", True
    if math.isnan(error) or apart - 2 * error <= WITHIN:
        return f"**NOT SHOWN that losses agree**: {figures}, not beyond two standard errors. More rounds tell.", True
    return f"**LOSSES DIFFER, the speeds above do not compare**: {figures}, beyond two standard errors.", False
