"""Distributions whose sampling takes a generator and whose log-density is summed over an example's features.

torch.distributions draws from the global generator only, has no point mass, and spends a pass per feature where one
fused sum will do; what is here differs from it in nothing else, and is tested against it.
"""

from gapless.distributions import (
    bits,
    categories,
    composed,
    counts,
    discrete,
    divergences,
    factorized,
    flowing,
    hyperbolic,
    mixtures,
    normals,
    perceptual,
    pixels,
    points,
    products,
    quantized,
    reals,
    spheres,
)
from gapless.distributions.bits import *
from gapless.distributions.categories import *
from gapless.distributions.composed import *
from gapless.distributions.counts import *
from gapless.distributions.discrete import *
from gapless.distributions.divergences import *
from gapless.distributions.factorized import *
from gapless.distributions.flowing import *
from gapless.distributions.hyperbolic import *
from gapless.distributions.mixtures import *
from gapless.distributions.normals import *
from gapless.distributions.perceptual import *
from gapless.distributions.pixels import *
from gapless.distributions.points import *
from gapless.distributions.products import *
from gapless.distributions.quantized import *
from gapless.distributions.reals import *
from gapless.distributions.spheres import *

__all__ = []
__all__ += bits.__all__
__all__ += categories.__all__
__all__ += counts.__all__
__all__ += discrete.__all__
__all__ += composed.__all__
__all__ += divergences.__all__
__all__ += factorized.__all__
__all__ += flowing.__all__
__all__ += mixtures.__all__
__all__ += normals.__all__
__all__ += perceptual.__all__
__all__ += pixels.__all__
__all__ += points.__all__
__all__ += products.__all__
__all__ += quantized.__all__
__all__ += reals.__all__
__all__ += spheres.__all__
__all__ += hyperbolic.__all__
