"""The three parts of the aggregate KL, estimated from a batch: a training signal, never a value to report.

`E_x KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j))`, Chen et al. (2018),
with the aggregate `q(z) = 1/N sum_n q(z|x_n)` of all N items. Even right estimates from a batch are far off as values;
`audit.surgery` measures the parts on all the data.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.distributions import PointMass
from gapless.distributions.factorized import Factorized
from gapless.draws import Draws
from gapless.errors import UsageError
from gapless.regularizers.regularizer import Penalty, Regularizer, checked_weight

__all__ = ["Decomposition"]


class Parts(NamedTuple):
    """The parts of the KL at each draw in nats, shape (samples, batch); they add up to `log q(z|x) - log p(z)`.

    Attributes:
        mutual_information: `log q(z|x) - log q(z)`, on average I(x; z).
        total_correlation: `log q(z) - sum_j log q(z_j)`.
        dimension: `sum_j log q(z_j) - log p(z)`; for a prior that does not factorize, KL(prod_j q(z_j) || p(z)).
    """

    mutual_information: Tensor
    total_correlation: Tensor
    dimension: Tensor


class Decomposition(Regularizer):
    """`mutual_information I(x; z) + total_correlation TC + dimension sum_j KL(q(z_j) || p(z_j))`: beta-TC-VAE.

    Chen et al. (2018), estimated by their minibatch-weighted ("weighted") or -stratified ("stratified") sampling. In
    expectation over batches the stratified estimate of the density q(z) is exact, and where the batch is all the data
    it is q(z) itself; the weighted one is log N too low there. Beside a KL of weight 1 each weight here is the excess
    over 1. The values of a batch are a training signal only: for a number to report use `audit.surgery`.

    Where the number of training items is not known the batch counts as all of them.

    Args:
        mutual_information: weight of I(x; z).
        total_correlation: weight of the total correlation.
        dimension: weight of the KL of the single features.
        estimator: of log q(z): "stratified" or "weighted".
        weight: of all three together, at least 0.

    >>> Decomposition(total_correlation=5.0).estimator
    'stratified'
    """

    def __init__(
        self,
        mutual_information: float = 0.0,
        total_correlation: float = 1.0,
        dimension: float = 0.0,
        *,
        estimator: str = "stratified",
        weight: float = 1.0,
    ):
        super().__init__()
        if estimator not in ESTIMATORS:
            raise UsageError(
                f"there is no estimator {estimator!r} of the aggregate posterior", fix=f"use {' or '.join(ESTIMATORS)}"
            )
        self.mutual_information, self.total_correlation = mutual_information, total_correlation
        self.dimension, self.estimator, self.weight = dimension, estimator, checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        parts = self.parts(draws)
        weights = (self.mutual_information, self.total_correlation, self.dimension)
        return Penalty(torch.stack([w * part.mean() for w, part in zip(weights, parts, strict=True)]).sum())

    def parts(self, draws: Draws) -> Parts:
        """The three parts at each draw, by this estimator; for training."""
        q, z = _density(draws.posterior), draws.z
        batch = z.shape[1]
        log_weights = ESTIMATORS[self.estimator](batch, max(self.items or batch, batch)).to(z)
        pairs = q.log_prob_per_feature(z[:, :, None])  # z of item i under q(z|x_j): (samples, i, j, latent)
        joint = (log_weights + pairs.sum(-1)).logsumexp(-1)
        marginals = (log_weights[..., None] + pairs).logsumexp(-2).sum(-1)
        return Parts(q.log_prob(z) - joint, joint - marginals, marginals - draws.prior.log_prob(z))


def _stratified(batch: int, items: int) -> Float[Tensor, "batch batch"]:
    """Log weights of q(z_i|x_j) in q(z_i): 1/N for the item's own posterior, the rest shared by the others.

    Chen et al. (2018) give one of the others another weight than the rest; this is the mean of their
    weights over the orders of the batch, which has the same expectation, no greater variance, and no first item.
    """
    if batch == 1:
        return torch.zeros(1, 1)
    weights = torch.full((batch, batch), (items - 1) / items / (batch - 1), dtype=torch.float64)
    return weights.fill_diagonal_(1 / items).log()


def _weighted(batch: int, items: int) -> Float[Tensor, "batch batch"]:
    """Log weights of q(z_i|x_j) in q(z_i), all 1 / (N M): Chen et al. (2018)."""
    return torch.full((batch, batch), -math.log(items * batch), dtype=torch.float64)


ESTIMATORS: dict[str, Callable[[int, int], Tensor]] = {"stratified": _stratified, "weighted": _weighted}
"""Log weights of a batch, from its size and the number of training items."""


def _density(posterior: object) -> Factorized:
    if not isinstance(posterior, Factorized) or isinstance(posterior, PointMass):
        raise UsageError(
            f"the parts of the KL need a posterior with a density of each latent feature; "
            f"{type(posterior).__name__} has none",
            fix="use a diagonal normal posterior",
        )
    return posterior
