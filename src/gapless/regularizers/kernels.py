"""Distances between the aggregate posterior and the prior by samples; no density of the posterior is needed.

The codes are draws of q(z|x), one an item (its point for a point mass); they are held against as many draws of p(z), or
against p(z) itself where that is normal. The prior carries no gradient: it is the encoder that moves.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gapless import distributions
from gapless.draws import Draws
from gapless.errors import UsageError
from gapless.randomness import noise
from gapless.regularizers.regularizer import Penalty, Regularizer, checked_weight

__all__ = ["MMD", "NormalMMD", "SlicedWasserstein"]


class MMD(Regularizer):
    """Squared maximum mean discrepancy `MMD^2(q(z), p(z))`, the unbiased U-statistic: Tolstikhin et al. (2018), alg. 2.

    `1/(n(n-1)) sum_{i != j} [k(z_i, z_j) + k(y_i, y_j)] - 2/n^2 sum_{ij} k(z_i, y_j)`, z of q and y of p. The kernel is
    a sum over scales s with `C = 2 d s`, 2 d being the mean squared distance of two draws of N(0, I):
    "inverse-multiquadric" `C / (C + r^2)`, or "gaussian" `exp(-r^2 / C)`; the paper has s = 1, its published code the
    sum over the scales that are the default. No unit; 0 in the mean where q(z) is p(z),
    so that single values fall below 0 there.

    Args:
        weight: in the loss, at least 0 (a negative weight would drive the two apart).
        kernel: "inverse-multiquadric" or "gaussian".
        scales: s, each above 0.

    >>> MMD(10.0).kernel
    'inverse-multiquadric'
    """

    def __init__(
        self,
        weight: float = 10.0,
        *,
        kernel: str = "inverse-multiquadric",
        scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    ):
        super().__init__()
        self.weight, self.scales = checked_weight(weight), tuple(scales)
        if kernel not in KERNELS:
            raise UsageError(f"there is no kernel {kernel!r}", fix=f"use {' or '.join(KERNELS)}")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise UsageError(f"a kernel needs scales above 0; got {self.scales}")
        self.kernel = kernel

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        return Penalty(self.between(draws.z, _of_prior(draws, generator)).mean())

    def between(self, z: Float[Tensor, "sets n latent"], y: Float[Tensor, "sets n latent"]) -> Float[Tensor, " sets"]:
        """The estimate for each pair of sets of codes; 0 for sets of one, of which nothing can be said."""
        if z.shape[1] < 2:
            return (z - y).sum((1, 2)) * 0
        within = _mean_of_pairs(self._similarity(z, z)) + _mean_of_pairs(self._similarity(y, y))
        return within - 2 * self._similarity(z, y).mean((1, 2))

    def _similarity(self, z: Tensor, y: Tensor) -> Float[Tensor, "sets n n"]:
        squared = (z[:, :, None] - y[:, None]).square().sum(-1)
        base = 2 * z.shape[-1]
        return torch.stack([KERNELS[self.kernel](squared, base * scale) for scale in self.scales]).sum(0)


def _inverse_multiquadric(squared: Tensor, scale: float) -> Tensor:
    return scale / (scale + squared)


def _gaussian(squared: Tensor, scale: float) -> Tensor:
    return torch.exp(-squared / scale)


KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "inverse-multiquadric": _inverse_multiquadric,
    "gaussian": _gaussian,
}
"""Similarity of two codes, from their squared distance and C."""


def _mean_of_pairs(similarity: Float[Tensor, "sets n n"]) -> Float[Tensor, " sets"]:
    """The mean over pairs of different codes."""
    n = similarity.shape[-1]
    return (similarity.sum((1, 2)) - similarity.diagonal(dim1=1, dim2=2).sum(-1)) / (n * (n - 1))


class NormalMMD(Regularizer):
    """Squared MMD of codes and a normal prior itself, in its standard deviations: Rustamov (2021), no draws of p(z).

    With `k(z, y) = exp(-r^2 / C)`, `C = 2 d scale`, codes z in units of the prior and y, y' ~ N(0, I):
    `[1/(n(n-1)) sum_{i != j} k(z_i, z_j) - 2/n sum_i E k(z_i, y) + E k(y, y')] / s`. It is unbiased, and s is what its
    standard deviation is over batches of `unit` codes where q(z) is p(z): there the value of such a batch has mean 0
    and variance 1 for any d and scale, so that it says how far from the prior a batch is. The mean does not depend on
    n. Single values fall below 0. The prior is diagonal normal.

    Args:
        weight: in the loss, at least 0.
        scale: of the kernel, 0.1 to 10; r^2 / C has the mean 1 / scale under the prior.
        unit: codes of the batches whose standard deviation is the unit, at least 2.

    >>> NormalMMD(scale=0.5).weight
    1.0
    """

    def __init__(self, weight: float = 1.0, *, scale: float = 1.0, unit: int = 128):
        super().__init__()
        if not (0.1 <= scale <= 10 and unit >= 2):
            raise UsageError(f"NormalMMD needs a scale of 0.1 to 10 and a unit of 2 codes or more; got {scale}, {unit}")
        self.weight, self.scale, self.unit = checked_weight(weight), scale, unit

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        if not isinstance(draws.prior, distributions.DiagonalNormal):
            raise UsageError("NormalMMD needs a diagonal normal prior", fix="use MMD, which draws from any prior")
        z = (draws.z - draws.prior.mean.detach()) / draws.prior.stddev.detach()
        n, d = z.shape[-2:]
        if n < 2:
            return Penalty(z.sum() * 0)
        c = 2 * d * self.scale
        mean_of_prior = (1 + 4 / c) ** (-d / 2)  # E k(y, y')
        to_prior = (1 + 2 / c) ** (-d / 2) * torch.exp(-z.square().sum(-1) / (c + 2))  # E k(z, y), for each z
        within = _mean_of_pairs(_gaussian((z[:, :, None] - z[:, None]).square().sum(-1), c))
        squared = (1 + 8 / c) ** (-d / 2)  # E k(y, y')^2
        squared_mean = (1 + 2 / c) ** -d * (1 + 4 / (c + 2)) ** (-d / 2)  # E [E k(y, y') given y]^2
        variance = 2 / (self.unit * (self.unit - 1)) * (squared - 2 * squared_mean + mean_of_prior**2)
        return Penalty(((within - 2 * to_prior.mean(-1) + mean_of_prior) / math.sqrt(variance)).mean())


class SlicedWasserstein(Regularizer):
    """Squared sliced Wasserstein distance of q(z) and p(z): SWAE, Kolouri et al. (2018).

    `1/(L n) sum_l sum_i (theta_l . z_(i) - theta_l . y_(i))^2`, each projection sorted; theta_l uniform on the sphere.

    Args:
        weight: in the loss, at least 0.
        projections: L, at least 1.

    >>> SlicedWasserstein(projections=20).weight
    10.0
    """

    def __init__(self, weight: float = 10.0, *, projections: int = 50):
        super().__init__()
        if projections < 1:
            raise UsageError(f"the sliced Wasserstein distance needs at least 1 projection; got {projections}")
        self.weight, self.projections = checked_weight(weight), projections

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        y = _of_prior(draws, generator)
        directions = noise(torch.randn, (self.projections, y.shape[-1]), like=draws.z, generator=generator)
        directions = directions / directions.norm(dim=1, keepdim=True)
        return Penalty(sliced(draws.z, y, directions).mean())


def sliced(
    z: Float[Tensor, "sets n latent"], y: Float[Tensor, "sets n latent"], directions: Float[Tensor, "lines latent"]
) -> Float[Tensor, "sets lines"]:
    """Squared Wasserstein-2 distance of two sets of codes along each direction."""
    along = [(codes @ directions.T).sort(dim=1).values for codes in (z, y)]
    return (along[0] - along[1]).square().mean(1)


def _of_prior(draws: Draws, generator: torch.Generator | None) -> Tensor:
    """As many draws of p(z) as there are codes, shape (samples, batch, latent)."""
    shape = draws.z.shape[:2]
    return draws.prior.sample(shape, generator=generator).detach()  # pyright: ignore[reportCallIssue]
