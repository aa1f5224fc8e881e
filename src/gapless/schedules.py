"""Numbers that change with the step: the learning rate, and the weight of the KL. Plain numbers, no torch.

Each is a function of (step, steps in all) and of nothing else, so a resumed run continues exactly.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapless.errors import UsageError

if TYPE_CHECKING:
    from gapless.settings import Settings

__all__ = ["RAMPS", "RATES", "Ramp", "learning_rate"]

RISING = 0.3
"""Share of all steps in which a one-cycle rate rises, where no warm-up is asked for."""
FIRST, LAST = 1 / 25, 1 / 25e4
"""Where a one-cycle rate starts and ends, as shares of the largest."""


def learning_rate(settings: "Settings", step: int, steps: int) -> float:
    """The learning rate of one optimizer step.

    Args:
        settings: its `learning_rate` is the largest, `schedule` the shape, `warmup` the share of steps it rises.
        step: the optimizer step, counted from 0.
        steps: optimizer steps in all, at least 1.

    >>> from gapless.settings import Settings
    >>> learning_rate(Settings(learning_rate=0.1, schedule="cosine", warmup=0.0), 50, 100)
    0.05
    """
    return settings.learning_rate * RATES[settings.schedule](step, steps, settings.warmup)


def _constant(step: int, steps: int, warmup: float) -> float:
    return min(1.0, (step + 1) / max(1, _risen(steps, warmup)))


def _cosine(step: int, steps: int, warmup: float) -> float:
    """`(1 + cos(pi t)) / 2`, t the share of the steps after the warm-up: Loshchilov & Hutter (2017), eq. 5."""
    start = _risen(steps, warmup)
    return _constant(step, steps, warmup) if step < start else _half_wave(1.0, 0.0, (step - start) / (steps - start))


def _one_cycle(step: int, steps: int, warmup: float) -> float:
    """Up from 1/25 by half a cosine wave, down to 1/250,000 by another: Smith & Topin (2018), as torch has it."""
    peak = (warmup or RISING) * steps - 1
    if step < peak:
        return _half_wave(FIRST, 1.0, step / peak)
    return _half_wave(1.0, LAST, (step - peak) / (steps - 1 - peak))


def _staged(step: int, steps: int, warmup: float) -> float:
    """8 stages of 3^i of 3,280 parts each, at `10^(-i/7)`, i = 0..7: Burda et al. (2016), section 5."""
    start = _risen(steps, warmup)
    if step < start:
        return _constant(step, steps, warmup)
    part = 3280 * (step - start) / (steps - start)
    return 10 ** (-min(7, int(math.log(2 * part + 1, 3) + 1e-9)) / 7)


def _risen(steps: int, warmup: float) -> int:
    """The number of steps that rise."""
    return int(warmup * steps)


def _half_wave(start: float, end: float, t: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


RATES = {"constant": _constant, "cosine": _cosine, "one-cycle": _one_cycle, "staged": _staged}
"""Shapes of the learning rate: (step, steps, warmup) -> share of the largest rate."""


@dataclass(frozen=True)
class Ramp:
    """A number that rises from 0 to 1 over the steps of a training run, and is 1 at its end whatever the shape.

    "cyclic" rises linearly and stays, `cycles` times over: Fu et al. (2019), eqs. 6-7, whose R is `warmup`.

    Args:
        shape: one of `RAMPS`.
        warmup: share of all steps in which it rises, 0 to 1; the rest it stays at 1.
        cycles: how many times "cyclic" starts again from 0, at least 1.

    >>> [Ramp("linear", 0.5)(step, 100) for step in (0, 25, 50, 100)]
    [0.0, 0.5, 1.0, 1.0]
    """

    shape: str = "constant"
    warmup: float = 0.5
    cycles: int = 4

    def __post_init__(self):
        if self.shape not in RAMPS:
            raise UsageError(
                f"there is no schedule of the KL called {self.shape!r}", fix=f"use one of {', '.join(RAMPS)}"
            )
        if not 0 <= self.warmup <= 1:
            raise UsageError(f"the warm-up of the KL is a share of all steps, from 0 to 1; got {self.warmup}")
        if self.cycles < 1:
            raise UsageError(f"a cyclic schedule of the KL needs at least 1 cycle; got {self.cycles}")

    def __call__(self, step: int, steps: int | None) -> float:
        """Its value at an optimizer step.

        Args:
            step: optimizer steps taken so far.
            steps: optimizer steps in all; None where there is no plan, and the value is that of the end.
        """
        if self.shape == "constant" or steps is None or step >= steps:
            return 1.0
        cycles = self.cycles if self.shape == "cyclic" else 1
        place = (step * cycles % steps) / steps
        risen = place / self.warmup if place < self.warmup else 1.0
        return _half_wave(0.0, 1.0, risen) if self.shape == "cosine" else risen


RAMPS = ("constant", "linear", "cosine", "cyclic")
"""Shapes of a ramp."""
