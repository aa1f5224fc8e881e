"""Independent parts side by side in one code."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence, register_kl

from gapless.distributions.seeded import Reparameterized

__all__ = ["Product", "divergence_of_parts"]


class Product(Reparameterized):
    """`q(z) = q_1(z_1) q_2(z_2) ...`, with z = (z_1, z_2, ...).

    Args:
        parts: distributions of one batch_shape, each over a vector, in the order of the features.

    >>> from gapless.distributions import DiagonalNormal, PointMass
    >>> Product([PointMass(torch.ones(3, 2)), DiagonalNormal(torch.zeros(3, 4), torch.ones(3, 4))]).rsample().shape
    torch.Size([3, 6])
    """

    def __init__(self, parts: Sequence[Distribution]):
        self.parts = tuple(parts)
        self.sizes = tuple(part.event_shape.numel() for part in self.parts)
        self.has_rsample = all(part.has_rsample for part in self.parts)
        super().__init__((*self.parts[0].batch_shape, sum(self.sizes)))

    @property
    def mean(self) -> Tensor:
        return torch.cat([part.mean for part in self.parts], -1)

    @property
    def mode(self) -> Tensor:
        return torch.cat([part.mode for part in self.parts], -1)

    @property
    def stddev(self) -> Tensor:
        return torch.cat([part.stddev for part in self.parts], -1)

    @property
    def variance(self) -> Tensor:
        return torch.cat([part.variance for part in self.parts], -1)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Differentiable draws, shape (*sample_shape, *batch, features of all parts)."""
        return torch.cat([part.rsample(sample_shape, generator=generator) for part in self.parts], -1)  # pyright: ignore[reportCallIssue]

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draws without gradient, shape (*sample_shape, *batch, features of all parts)."""
        return torch.cat([part.sample(sample_shape, generator=generator) for part in self.parts], -1)  # pyright: ignore[reportCallIssue]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, the sum of those of the parts; shape (*samples, *batch)."""
        values = value.split(self.sizes, -1)
        return torch.stack([part.log_prob(v) for part, v in zip(self.parts, values, strict=True)]).sum(0)


def divergence_of_parts(q: Product, p: Product) -> Tensor:
    """KL of each part of q from the part of p at the same place, in nats, shape (parts, *batch).

    Raises:
        NotImplementedError: the parts differ in their sizes, or a pair has no closed form.
    """
    if q.sizes != p.sizes:
        raise NotImplementedError
    return torch.stack([kl_divergence(one, other) for one, other in zip(q.parts, p.parts, strict=True)])


@register_kl(Product, Product)
def _product_product(q: Product, p: Product) -> Tensor:
    return divergence_of_parts(q, p).sum(0)
