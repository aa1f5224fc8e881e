"""Mean and spread of the training items, one pass over them: where training starts."""

from collections.abc import Callable

import torch

from gapless.data import Feed

__all__ = ["moments_of"]


def moments_of(
    feed: Feed, view: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Where training starts: what `Model.center` takes, over the values that were observed.

    Args:
        feed: the training items.
        view: what the encoder is shown of a batch (`Likelihood.view`).

    Returns:
        The mean item in model units, shape (*event); the root mean square, over items and features, of what the
        encoder is shown about its mean; and that mean, of the shape of the view.
    """
    of_items, of_views = _Moments(), _Moments()
    for x in feed.batches(512):
        x = x.cpu() if x.device.type == "mps" else x  # which has no float64
        shown = view(x)
        if shown is not x:
            of_views.add(shown)
        of_items.add(x)
    seen = of_views if of_views.count is not None else of_items
    return of_items.mean.float(), seen.spread, seen.mean.float()


class _Moments:
    """Running mean and mean square deviation of each feature; what is not a number was not observed."""

    def __init__(self):
        self.count: torch.Tensor | None = None
        self.total, self.squares = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)

    def add(self, x: torch.Tensor) -> None:
        """Take in a batch; x may be changed."""
        total, count = x.sum(0, dtype=torch.float64).cpu(), torch.full(x.shape[1:], len(x))
        if total.isnan().any():
            count = (~x.isnan()).sum(0).cpu()
            x = x.nan_to_num(0.0)
            total = x.sum(0, dtype=torch.float64).cpu()
        self.count = count if self.count is None else self.count + count
        self.total = self.total + total
        self.squares = self.squares + x.double().square_().sum(0).cpu()

    @property
    def mean(self) -> torch.Tensor:
        return self.total / self._counted

    @property
    def spread(self) -> float:
        variance = self.squares / self._counted - self.mean.square()
        return float(variance.clamp_min(0).mean().sqrt())

    @property
    def _counted(self) -> torch.Tensor:
        assert self.count is not None
        return self.count.clamp_min(1)
