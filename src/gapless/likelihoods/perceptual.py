"""A measure of likeness in the place of a density."""

import torch
from jaxtyping import Float
from torch import Tensor

from gapless import distributions
from gapless.errors import UsageError
from gapless.likelihoods.likelihood import Likelihood

__all__ = ["MSSSIM"]


class MSSSIM(Likelihood):
    """`log p(x|z) = -weight (1 - MS-SSIM(x, sigmoid(decoder(z))))`: a metric as pseudo-likelihood, Snell et al. (2017).

    No density: it is not normalised, its nats are nats in name only and cannot be compared with another likelihood's
    (`density` is False). Images alone have it; their values lie in [0, 1].

    Args:
        weight: what complete unlikeness costs an image, above 0: against the KL it is what 1 / beta is elsewhere.

    >>> MSSSIM(50.0)(torch.zeros(5, 1, 1, 28, 28)).log_prob(torch.full((5, 1, 28, 28), 0.5)).abs().max() < 1e-3
    tensor(True)
    """

    support = (0.0, 1.0)
    density = False

    def __init__(self, weight: float = 100.0):
        super().__init__()
        if not weight > 0:
            raise UsageError(f"a metric needs a weight above 0; got {weight}")
        self.weight = weight

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The picture's logits: (1, channels, height, width)."""
        if len(event_shape) != 3:
            raise UsageError(
                f"MSSSIM compares images of shape (channels, height, width); got items of shape {event_shape}",
                fix="use a likelihood of single values, for example NormalWithOptimalScale",
            )
        return super().parameter_shape(event_shape)

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.StructuralSimilarity:
        return distributions.StructuralSimilarity(torch.sigmoid(parameters[:, 0]), weight=self.weight)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return torch.logit(mean.clamp(1e-3, 1 - 1e-3))[None]
