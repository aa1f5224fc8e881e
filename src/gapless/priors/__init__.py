"""Distributions p(z) with parameters of their own."""

from gapless.priors import discrete, normals, prior, products, spheres
from gapless.priors.discrete import *
from gapless.priors.normals import *
from gapless.priors.prior import *
from gapless.priors.products import *
from gapless.priors.spheres import *

__all__ = []
__all__ += prior.__all__
__all__ += normals.__all__
__all__ += discrete.__all__
__all__ += products.__all__
__all__ += spheres.__all__
