"""What a codebook learns by, and how much of it is in use."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from gapless.distributions import Product, Quantized
from gapless.draws import Draws
from gapless.errors import UsageError
from gapless.regularizers.regularizer import Penalty, Regularizer

__all__ = ["Commitment", "Perplexity"]


class Commitment(Regularizer):
    """`|sg[z_e] - e|^2 + beta |z_e - sg[e]|^2`: codes move to encodings and encodings to codes, sg holds a side still.

    van den Oord et al. (2017), eq. 3, its second and third terms: squared lengths summed over the features of an item
    and averaged over the items of the batch, as the nats beside them are, so that neither term grows with the batch.
    Of a residual quantizer each stage counts: Lee et al. (2022), with the codebooks learning by their own term.

    Args:
        weight: what the value is multiplied by in the loss.
        beta: weight of the encodings' side, at least 0.

    >>> Commitment().beta
    0.25
    """

    def __init__(self, weight: float = 1.0, beta: float = 0.25):
        super().__init__()
        if not 0 <= beta < math.inf:
            raise UsageError(f"the weight of a commitment is at least 0 and finite; got {beta}")
        self.weight, self.beta = weight, beta

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        quantized = _quantized(draws.posterior)
        values = [_squares(q, True) + self.beta * _squares(q, False) for q in quantized]
        return Penalty(torch.stack(values).sum())


class Perplexity(Regularizer):
    """`exp(-sum_k f_k log f_k)` of the frequencies f of the codes in a batch, the mean over the symbols' own codebooks.

    The number of codes in use: 1 where all items share one, K where K codes are used alike; no more than the vectors
    in the batch. It is shown and has no gradient.

    Args:
        weight: what the value is multiplied by in the loss; 0 shows it alone.

    >>> Perplexity().weight
    0.0
    """

    def __init__(self, weight: float = 0.0):
        super().__init__()
        self.weight = weight

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        values = [perplexity(q.indices) for q in _quantized(draws.posterior)]
        return Penalty(torch.stack(values).mean().to(draws.x))


def perplexity(indices: Tensor) -> Tensor:
    """Number of codes in use, of whole numbers of any shape."""
    _, counts = indices.flatten().unique(return_counts=True)
    shares = counts.double() / counts.sum()
    return torch.exp(-(shares * shares.log()).sum())


def _squares(q: Quantized, encoding_held: bool) -> Tensor:
    """Squared distances of encoding and code, summed over stages and features: the mean over the batch."""
    encoded, stages = (q.encoded.detach(), q.stages) if encoding_held else (q.encoded, q.stages.detach())
    return (encoded - stages).square().sum((0, -1)).mean()


def _quantized(q: Distribution) -> list[Quantized]:
    """The quantized parts of a posterior."""
    found = [part for part in (q.parts if isinstance(q, Product) else (q,)) if isinstance(part, Quantized)]
    if not found:
        raise UsageError(
            f"{type(q).__name__} has no codes of a codebook", fix="use VectorQuantized or ResidualQuantized"
        )
    return found
