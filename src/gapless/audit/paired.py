"""Two scorecards compared number by number, on the same draws, pairs and subsets."""

from dataclasses import dataclass

import numpy as np

from gapless.audit.card import HEADLINE, Scorecard
from gapless.audit.measure import interval
from gapless.errors import UsageError

__all__ = ["Difference", "paired"]


@dataclass(frozen=True)
class Difference:
    """How much higher the first card is on one number.

    Attributes:
        measure: which number.
        value: first minus second.
        low: lower end of the 95 % interval, from resamples shared by both cards.
        high: upper end.
    """

    measure: str
    value: float
    low: float
    high: float

    @property
    def decided(self) -> int:
        """1 where the first is higher, -1 where it is lower, 0 where the interval holds 0."""
        return int(self.low > 0) - int(self.high < 0)


def paired(first: Scorecard, second: Scorecard) -> list[Difference]:
    """Differences of the numbers that both cards have; "better" is said only where the interval excludes 0.

    Args:
        first: a card.
        second: a card made with the same data, seed, budget and kind of reference law.

    Raises:
        UsageError: the cards do not rest on the same draws, so that their differences would not be paired.
    """
    for name in ("seed", "items", "items_given", "budget"):
        if first.about[name] != second.about[name]:
            raise UsageError(
                f"these cards differ in {name}: {first.about[name]} and {second.about[name]}",
                fix="audit both with the same items, seed and budget",
            )
    if first.reference != second.reference:
        raise UsageError(
            f"these cards have different reference laws: {first.reference} and {second.reference}",
            fix="audit both under reference='moments'",
        )
    found = []
    for name in HEADLINE:
        a, b = getattr(first, name), getattr(second, name)
        if a.value is None or b.value is None or a.replicates is None or b.replicates is None:
            continue
        low, high = interval(np.clip(a.replicates, 0, 1) - np.clip(b.replicates, 0, 1))  # cut as the values are
        found.append(Difference(name, a.value - b.value, low, high))
    return found
