"""Networks from tensors to tensors; they know nothing of probability."""

from gapless.networks import (
    bayesian,
    convolutions,
    network,
    perceptrons,
    spatial,
    standardized,
)
from gapless.networks.bayesian import *
from gapless.networks.convolutions import *
from gapless.networks.network import *
from gapless.networks.perceptrons import *
from gapless.networks.spatial import *
from gapless.networks.standardized import *

__all__ = []
__all__ += network.__all__
__all__ += bayesian.__all__
__all__ += convolutions.__all__
__all__ += perceptrons.__all__
__all__ += spatial.__all__
__all__ += standardized.__all__
