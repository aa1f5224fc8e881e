"""Independent parts side by side."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from gapless import distributions
from gapless.errors import UsageError
from gapless.posteriors.posterior import Posterior

__all__ = ["Product"]


class Product(Posterior):
    """`q(z|x) = q_1(z_1|x) q_2(z_2|x) ...`: the code is the codes of the parts, side by side. Dupont (2018).

    Args:
        parts: posteriors, in the order of the features; at least one.
        sizes: number of latent features of each part.

    >>> from gapless.posteriors import DiagonalNormal, RelaxedCategorical
    >>> head = Product((DiagonalNormal(), RelaxedCategorical(3)), (2, 3))
    >>> import torch
    >>> head(torch.zeros(4, *head.parameter_shape(5))).mean.shape
    torch.Size([4, 5])
    """

    def __init__(self, parts: Sequence[Posterior], sizes: Sequence[int]):
        super().__init__()
        if not parts or len(parts) != len(sizes):
            raise UsageError(f"a product needs one size a part; got {len(parts)} parts and {len(sizes)} sizes")
        self.parts, self.sizes = nn.ModuleList(parts), tuple(sizes)

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        if latent != sum(self.sizes):
            raise UsageError(f"the parts of this posterior have {sum(self.sizes)} latent features; got {latent}")
        return (sum(self._counts()),)

    def start(self, encoded: Tensor) -> None:
        for part, parameters in self._split(encoded):
            part.start(parameters)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.Product:
        return distributions.Product([part(its) for part, its in self._split(parameters)])

    def _split(self, parameters: Tensor) -> list[tuple[Posterior, Tensor]]:
        pieces = parameters.split(self._counts(), -1)
        shapes = [part.parameter_shape(size) for part, size in zip(self._parts(), self.sizes, strict=True)]
        shaped = [piece.unflatten(-1, shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return list(zip(self._parts(), shaped, strict=True))

    def _counts(self) -> list[int]:
        return [math.prod(part.parameter_shape(size)) for part, size in zip(self._parts(), self.sizes, strict=True)]

    def _parts(self) -> list[Posterior]:
        return list(self.parts)  # pyright: ignore[reportReturnType]
