"""Heads that turn an encoder's output into q(z|x)."""

from gapless.posteriors import (
    discrete,
    flows,
    hyperbolic,
    normals,
    posterior,
    products,
    quantized,
    spheres,
)
from gapless.posteriors.discrete import *
from gapless.posteriors.flows import *
from gapless.posteriors.hyperbolic import *
from gapless.posteriors.normals import *
from gapless.posteriors.posterior import *
from gapless.posteriors.products import *
from gapless.posteriors.quantized import *
from gapless.posteriors.spheres import *

__all__ = []
__all__ += posterior.__all__
__all__ += discrete.__all__
__all__ += flows.__all__
__all__ += normals.__all__
__all__ += products.__all__
__all__ += quantized.__all__
__all__ += spheres.__all__
__all__ += hyperbolic.__all__
