"""The covariance of the codes, drawn to the identity."""

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.draws import Draws
from gapless.errors import UsageError
from gapless.regularizers.regularizer import Penalty, Regularizer, checked_weight

__all__ = ["Covariance"]

MATCHED = ("means", "aggregate")


class Covariance(Regularizer):
    """`off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2`: DIP-VAE, Kumar et al. (2018), eqs. 6 and 7.

    C is the batch's covariance (with 1/n): of the means, `Cov[mu(x)]` (DIP-VAE-I), or of the aggregate posterior,
    `Cov[mu(x)] + E[sigma^2(x)]` (DIP-VAE-II).

    Args:
        off_diagonal: weight of the squared covariances of different features, at least 0.
        diagonal: weight of the squared deviations of the variances from 1, at least 0.
        of: "means" or "aggregate".
        weight: of both together, at least 0.

    >>> Covariance(10.0, 10.0, of="aggregate").weight
    1.0
    """

    def __init__(self, off_diagonal: float = 10.0, diagonal: float = 100.0, *, of: str = "means", weight: float = 1.0):
        super().__init__()
        if of not in MATCHED:
            raise UsageError(f"the covariance is of {' or '.join(MATCHED)}; got {of!r}")
        self.off_diagonal = checked_weight(off_diagonal, "weight off_diagonal")
        self.diagonal, self.of = checked_weight(diagonal, "weight diagonal"), of
        self.weight = checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        covariance = covariance_of(draws.posterior.mean)
        if self.of == "aggregate":
            covariance = covariance + torch.diag(draws.posterior.stddev.square().mean(0))
        variances = covariance.diagonal()
        others = covariance - torch.diag(variances)
        return Penalty(self.off_diagonal * others.square().sum() + self.diagonal * (variances - 1).square().sum())


def covariance_of(rows: Float[Tensor, "batch latent"]) -> Float[Tensor, "latent latent"]:
    """The covariance of the columns, with 1/n."""
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)
