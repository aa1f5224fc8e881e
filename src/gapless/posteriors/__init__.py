"""Heads that turn an encoder's output into q(z|x)."""

from gapless.posteriors import normals, posterior
from gapless.posteriors.normals import *
from gapless.posteriors.posterior import *

__all__ = []
__all__ += posterior.__all__
__all__ += normals.__all__
