"""When to stop before the last epoch: a function of the history alone, so a resumed run stops where it would have."""

from collections.abc import Sequence

__all__ = ["should_stop"]


def should_stop(losses: Sequence[float], patience: int | None) -> bool:
    """Whether the held-out loss, the trained objective, has not fallen for `patience` epochs.

    Args:
        losses: held-out losses of the epochs so far.
        patience: epochs to wait for a lower one, at least 1; None never stops.

    >>> should_stop([3.0, 2.0, 2.5, 2.0], 2), should_stop([3.0, 2.0, 2.5], 2)
    (True, False)
    """
    if patience is None or not losses:
        return False
    return len(losses) - 1 - losses.index(min(losses)) >= patience
