"""Codes that turn with their images."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gapless.draws import Draws
from gapless.errors import UsageError
from gapless.randomness import noise
from gapless.regularizers.regularizer import Penalty, Regularizer, checked_weight

__all__ = ["Equivariance"]


class Equivariance(Regularizer):
    """`-E_q log p(T x | T z)`: a code, turned as a grid, must decode to the turned image: EQ-VAE.

    Kouzelis et al. (2025), the reconstruction term of their eq. 5, beside the plain one; there each of the two is taken
    for half of the batches. Weight 1 gives them equal shares, too, and twice the size: the KL weighs half as much.
    Each batch one T at random: a turn by 90, 180 or 270 degrees, by 180 alone where grid or image is not square. The
    paper's other transformations change the size of the grid, which needs a decoder for grids of any size.

    Args:
        grid: (channels, height, width) that a code is read as, channels outermost; their product is the latent size.
        weight: in the loss, beside the reconstruction's; at least 0.

    >>> Equivariance((4, 2, 2)).grid
    (4, 2, 2)
    """

    def __init__(self, grid: Sequence[int], *, weight: float = 1.0):
        super().__init__()
        self.grid, self.weight = tuple(grid), checked_weight(weight)
        if len(self.grid) != 3 or min(self.grid) < 1 or max(self.grid[1:]) < 2:
            raise UsageError(
                f"a code that turns is a grid (channels, height, width) of at least two places; got {self.grid}",
                fix="choose --latent so that it is channels times height times width, for example 16 for (4, 2, 2)",
            )

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        self._check(draws)
        turns = self._turns(draws.x, generator)
        z = _turned(draws.z.unflatten(-1, self.grid), turns).flatten(-3)
        again = replace(draws, x=_turned(draws.x, turns)).at(z)
        return Penalty(again.reconstruction.mean())

    def _turns(self, x: Tensor, generator: torch.Generator | None) -> int:
        if self.grid[1] != self.grid[2] or x.shape[-1] != x.shape[-2]:
            return 2
        return 1 + int(3 * noise(torch.rand, (), like=x.new_zeros((), dtype=torch.float64), generator=generator))

    def _check(self, draws: Draws) -> None:
        if draws.x.dim() != 4 or draws.z.shape[-1] != torch.Size(self.grid).numel():
            raise UsageError(
                f"codes of {draws.z.shape[-1]} features of items {tuple(draws.x.shape[1:])} cannot turn as {self.grid}",
                fix="it needs images (channels, height, width) and a grid of as many places as there are features",
            )


def _turned(images: Tensor, turns: int) -> Tensor:
    return images.rot90(turns, (-2, -1))
