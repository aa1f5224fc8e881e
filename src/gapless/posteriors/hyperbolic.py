"""Posteriors on the Poincare ball."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gapless import distributions
from gapless.distributions.hyperbolic import from_centre
from gapless.errors import UsageError
from gapless.posteriors.posterior import Posterior

__all__ = ["PoincareNormal"]

_LARGEST_SCALE = 2.0
_LARGEST_RADIUS = 6.0


class PoincareNormal(Posterior):
    """`q(z|x)`: a wrapped normal on the Poincare ball of curvature -c; Mathieu et al. (2019), section 3.

    The location is `exp_0` of what the encoder puts out, `u`, at the geodesic distance `R tanh(|u| / R)` from 0,
    R = 6 / sqrt(c), and the scale lies between `2 exp(-2 bound)` and 2: so that single precision can tell places near
    the rim of the ball apart.

    Args:
        curvature: c, above 0; that of the prior.
        bound: half the range of log scale in nats, above 0.

    >>> PoincareNormal()(torch.zeros(5, 4)).mean.shape
    torch.Size([5, 2])
    """

    parameters_per_code = 2

    def __init__(self, curvature: float = 1.0, *, bound: float = 4.0):
        super().__init__()
        if not (0 < curvature < math.inf and 0 < bound < math.inf):
            raise UsageError(f"a Poincare ball needs a curvature and a bound above 0; got {curvature} and {bound}")
        self.curvature, self.bound = curvature, bound

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.PoincareNormal:
        tangent, raw = parameters.chunk(2, dim=-1)
        middle = math.log(_LARGEST_SCALE) - self.bound
        scale = torch.exp(middle + self.bound * torch.tanh((raw - middle) / self.bound))
        loc = from_centre(_shortened(tangent, _LARGEST_RADIUS / self.curvature**0.5), self.curvature)
        return distributions.PoincareNormal(loc, scale, self.curvature)


def _shortened(u: Tensor, longest: float) -> Tensor:
    """The same direction, `longest tanh(|u| / longest)` long, whatever u is."""
    largest = u.abs().amax(-1, keepdim=True).clamp_min(1e-7)  # squares of large numbers overflow
    direction = u / largest
    length = torch.linalg.vector_norm(direction, dim=-1, keepdim=True).clamp_min(1e-7)
    return direction / length * longest * torch.tanh(largest * length / longest)
