"""Distributions p(z) with parameters of their own."""

from gapless.priors import normals, prior
from gapless.priors.normals import *
from gapless.priors.prior import *

__all__ = []
__all__ += prior.__all__
__all__ += normals.__all__
