"""Heads that turn a decoder's output into p(x|z)."""

from gapless.likelihoods import bits, likelihood, normals
from gapless.likelihoods.bits import *
from gapless.likelihoods.likelihood import *
from gapless.likelihoods.normals import *

__all__ = []
__all__ += likelihood.__all__
__all__ += bits.__all__
__all__ += normals.__all__
