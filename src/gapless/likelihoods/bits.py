"""Bits."""

import torch
from jaxtyping import Float
from torch import Tensor

from gapless import distributions
from gapless.likelihoods.likelihood import Likelihood

__all__ = ["Bernoulli"]


class Bernoulli(Likelihood):
    """Bits, or grey values in [0, 1], from logits.

    >>> Bernoulli()(torch.zeros(5, 1, 8)).mean.shape
    torch.Size([5, 8])
    """

    support = (0.0, 1.0)

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.Bernoulli:
        logits = parameters.squeeze(1)
        return distributions.Bernoulli(logits, event_dims=logits.dim() - 1)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return torch.logit(mean.clamp(1e-3, 1 - 1e-3))[None]
