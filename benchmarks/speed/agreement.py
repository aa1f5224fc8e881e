"""Whether final losses agree with ours within half a nat: means over rounds, with their standard errors."""

import math
import statistics

WITHIN = 0.5
"""Nats. Peers that end further apart do not do the same work, and their speeds say nothing about each other."""


def mean(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error; nan where one value tells nothing of the error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.mean(values), error


def judged(losses: dict[str, list[float]]) -> tuple[str, bool]:
    """One sentence on the one furthest from the first, and False where they differ by more than chance explains.

    All ratios are to the first, so that the others' differences from each other do not matter. Above half a nat, but
    not by two standard errors of the difference, nothing is shown either way: more rounds.

    >>> judged({"a": [100.0, 100.2], "b": [100.3, 100.3]})[0]
    'Losses agree: means lie at most 0.20 +- 0.10 nats from ours (a 100.10, b 100.30; 0.5 allowed).'
    >>> judged({"a": [100.0, 100.2], "b": [103.3, 103.3]})[1]
    False
    """
    means = {name: mean(values) for name, values in losses.items()}
    ours, *others = means
    furthest = max(others, key=lambda name: abs(means[name][0] - means[ours][0]))
    apart = abs(means[furthest][0] - means[ours][0])
    error = math.hypot(means[ours][1], means[furthest][1])
    figures = (
        f"means lie at most {apart:.2f} +- {error:.2f} nats from ours "
        f"({ours} {means[ours][0]:.2f}, {furthest} {means[furthest][0]:.2f}; {WITHIN} allowed)"
    )
    if apart <= WITHIN:
        return f"Losses agree: {figures}.", True
    if math.isnan(error) or apart - 2 * error <= WITHIN:
        return f"**NOT SHOWN that losses agree**: {figures}, not beyond two standard errors. More rounds tell.", True
    return f"**LOSSES DIFFER, the speeds above do not compare**: {figures}, beyond two standard errors.", False
