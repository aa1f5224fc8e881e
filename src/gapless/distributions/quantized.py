"""A code of a codebook: all mass on it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, register_kl

from gapless.distributions.discrete import SAME, Codes
from gapless.distributions.seeded import Located

__all__ = ["Quantized"]


class Quantized(Located):
    """All mass on the code that an encoder's output was rounded to.

    A draw is that code; its gradient is passed to the encoder's output as it is (straight through: Bengio et al. 2013;
    van den Oord et al. 2017, section 3.2), and none to the codebook.

    Args:
        encoded: what was rounded, shape (*batch, latent).
        stages: the codes, with a gradient to the codebook; shape (stages, *batch, latent), of which the last is the
            code and those before it are coarser ones.
        indices: symbols of the code, shape (*batch, symbols).

    >>> q = Quantized(torch.tensor([[0.2, 0.9]]), torch.tensor([[[0.0, 1.0]]]), torch.tensor([[0, 1]]))
    >>> q.rsample((2,)).shape, q.mean
    (torch.Size([2, 1, 2]), tensor([[0., 1.]]))
    """

    def __init__(
        self,
        encoded: Float[Tensor, "*batch latent"],
        stages: Float[Tensor, "stages *batch latent"],
        indices: Int[Tensor, "*batch symbols"],
    ):
        self.encoded, self.stages, self.indices = encoded, stages, indices
        self.code = stages[-1].detach() + (encoded - encoded.detach())  # the code to the bit: the bracket is 0
        self.loc = self.code
        super().__init__(encoded.shape)

    @property
    def stddev(self) -> Tensor:
        return torch.zeros_like(self.encoded)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """The code, repeated: shape (*sample_shape, *batch, latent)."""
        return self.code.expand((*sample_shape, *self.code.shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability: 0 at the code, minus infinity elsewhere; shape (*samples, *batch)."""
        away = (value - self.code).abs().amax(-1)
        return torch.where(away <= SAME, 0.0, -torch.inf).to(value)


@register_kl(Quantized, Codes)
def _quantized_codes(q: Quantized, p: Codes) -> Tensor:
    return -p.log_mass(q.indices)


@register_kl(Quantized, Distribution)
def _quantized_density(q: Quantized, p: Distribution) -> Tensor:
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    return torch.full(shape, torch.inf, dtype=q.encoded.dtype, device=q.encoded.device)
