"""Real numbers with noise of heavier tails than the normal's."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapless import distributions
from gapless.errors import UsageError
from gapless.likelihoods.likelihood import Likelihood
from gapless.likelihoods.normals import SCALE_FLOOR

__all__ = ["Laplace", "LaplaceWithLearnedScale"]


class Laplace(Likelihood):
    """`p(x|z) = Laplace(decoder(z), scale)` with a fixed scale: the absolute error, divided by it.

    Args:
        scale: mean distance from the decoder's output in model units, above 0.

    >>> Laplace(0.5)(torch.zeros(5, 1, 8)).scale
    tensor(0.5000)
    """

    def __init__(self, scale: float = 1.0):
        super().__init__()
        if not scale > 0:
            raise UsageError(f"a Laplace needs a scale above 0; got {scale}")
        self.scale = scale

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.Laplace:
        return _laplace(parameters, parameters.new_tensor(self.scale))

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return mean[None]


class LaplaceWithLearnedScale(Likelihood):
    """`p(x|z) = Laplace(decoder(z), scale)` with a scale learned by gradient, shared or one a feature.

    Args:
        shape: () for one scale, or the event shape for one a feature.

    >>> LaplaceWithLearnedScale((8,))(torch.zeros(5, 1, 8)).stddev.shape
    torch.Size([5, 8])
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        super().__init__()
        self.shape = tuple(shape)
        self.log_scale = nn.Parameter(torch.zeros(self.shape))

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.Laplace:
        return _laplace(parameters, SCALE_FLOOR + self.log_scale.exp())

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return mean[None]


def _laplace(parameters: Tensor, scale: Tensor) -> distributions.Laplace:
    loc = parameters.squeeze(1)
    return distributions.Laplace(loc, scale, event_dims=loc.dim() - 1)
