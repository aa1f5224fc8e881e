"""Distributions p(z) with parameters of their own."""

from gapless.priors import (
    discrete,
    flows,
    hyperbolic,
    mixtures,
    normals,
    prior,
    products,
    second_stage,
    spheres,
    vamp,
)
from gapless.priors.discrete import *
from gapless.priors.flows import *
from gapless.priors.hyperbolic import *
from gapless.priors.mixtures import *
from gapless.priors.normals import *
from gapless.priors.prior import *
from gapless.priors.products import *
from gapless.priors.second_stage import *
from gapless.priors.spheres import *
from gapless.priors.vamp import *

__all__ = []
__all__ += prior.__all__
__all__ += discrete.__all__
__all__ += flows.__all__
__all__ += mixtures.__all__
__all__ += normals.__all__
__all__ += products.__all__
__all__ += second_stage.__all__
__all__ += spheres.__all__
__all__ += vamp.__all__
__all__ += hyperbolic.__all__
