"""Real numbers with normal noise."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import distributions, processes
from gapless.errors import UsageError
from gapless.likelihoods.likelihood import Likelihood

__all__ = ["SCALE_FLOOR", "Normal", "NormalWithLearnedScale", "NormalWithOptimalScale"]

SCALE_FLOOR = 1e-3
"""No learned scale falls below this (model units), so no density grows without bound."""


class Normal(Likelihood):
    """`p(x|z) = N(decoder(z), scale^2)` with a fixed scale.

    With this scale the effective weight of the KL against a squared error summed over features is 2 scale^2.

    Args:
        scale: standard deviation in model units, above 0.

    >>> Normal(0.5)(torch.zeros(5, 1, 8)).stddev.max()
    tensor(0.5000)
    """

    def __init__(self, scale: float = 1.0):
        super().__init__()
        if not scale > 0:
            raise UsageError(f"a normal needs a scale above 0; got {scale}")
        self.scale = scale

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.DiagonalNormal:
        return _normal(parameters, parameters.new_tensor(self.scale))

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return mean[None]


class NormalWithLearnedScale(Likelihood):
    """`p(x|z) = N(decoder(z), scale^2)` with a scale learned by gradient, shared or one a feature.

    Args:
        shape: () for one scale, or the event shape for one a feature.

    >>> NormalWithLearnedScale((8,))(torch.zeros(5, 1, 8)).stddev.shape
    torch.Size([5, 8])
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        super().__init__()
        self.shape = tuple(shape)
        self.log_scale = nn.Parameter(torch.zeros(self.shape))

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.DiagonalNormal:
        return _normal(parameters, SCALE_FLOOR + self.log_scale.exp())

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return mean[None]


class NormalWithOptimalScale(Likelihood):
    """`p(x|z) = N(decoder(z), scale^2)` with the maximum-likelihood scale: sigma-VAE, Rybkin et al. (2021).

    While training, `scale^2` is the batch's own mean squared error: the loss is stationary in the scale there, so the
    gradient is that of `D/2 log MSE`. It is fitted once a step, to the reconstruction; what is decoded beside it has
    its scale. A running average of it is the scale of the finished model, and evaluation uses that fixed one: the
    density does not depend on what is evaluated.

    The average is over all draws of an item alike: the maximiser of the ELBO. That of an importance bound weighs them,
    `scale^2 = 1/(B D) sum_i sum_k w_ik |x_i - decoder(z_ik)|^2`, w the normalised weights, and is smaller. Bounds under
    this head hold all the same; where such a bound is trained, `NormalWithLearnedScale` finds its maximiser.

    Args:
        memory: weight of the past in the running average of the variance, in [0, 1).

    >>> NormalWithOptimalScale()(torch.zeros(5, 1, 8)).stddev.max()
    tensor(1.)
    """

    batchwise = True
    variance: Tensor
    weight: Tensor

    def __init__(self, memory: float = 0.99):
        super().__init__()
        self.memory = memory
        self.register_buffer("variance", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    @property
    def scale(self) -> Tensor:
        """The running scale in model units: 1 before the first step."""
        seen = self.weight > 0
        return torch.where(seen, self.variance / self.weight.clamp_min(1e-12), 1.0).sqrt().clamp_min(SCALE_FLOOR)

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.DiagonalNormal:
        return _normal(parameters, self.scale)

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return mean[None]

    def calibrate(self, distribution: Distribution, x: Tensor, *, like: Distribution | None = None) -> Distribution:
        if not self.training:
            return distribution
        scale = self._fitted(x - distribution.mean) if like is None else like.scale  # pyright: ignore[reportAttributeAccessIssue]
        return distributions.DiagonalNormal(distribution.mean, scale, event_dims=len(distribution.event_shape))

    @torch.no_grad()
    def _fitted(self, deviation: Tensor) -> Tensor:
        """The scale of a batch, which the running average takes in."""
        error = self._error(deviation)
        self.variance.mul_(self.memory).add_((1 - self.memory) * error)
        self.weight.mul_(self.memory).add_(1 - self.memory)
        return error.sqrt().clamp_min(SCALE_FLOOR)

    def _error(self, deviation: Tensor) -> Tensor:
        """The mean square over what was observed; a batch without any keeps the scale."""
        if not self.missing:
            return processes.mean(deviation.square())
        error = processes.mean(deviation[~deviation.isnan()].square())
        return torch.where(error.isnan(), self.scale.square(), error)


def _normal(parameters: Tensor, scale: Tensor) -> distributions.DiagonalNormal:
    loc = parameters.squeeze(1)
    return distributions.DiagonalNormal(loc, scale, event_dims=loc.dim() - 1)
