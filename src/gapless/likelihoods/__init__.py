"""Heads that turn a decoder's output into p(x|z)."""

from gapless.likelihoods import (
    bits,
    categories,
    composed,
    counts,
    likelihood,
    normals,
    perceptual,
    pixels,
    reals,
)
from gapless.likelihoods.bits import *
from gapless.likelihoods.categories import *
from gapless.likelihoods.composed import *
from gapless.likelihoods.counts import *
from gapless.likelihoods.likelihood import *
from gapless.likelihoods.normals import *
from gapless.likelihoods.perceptual import *
from gapless.likelihoods.pixels import *
from gapless.likelihoods.reals import *

__all__ = []
__all__ += likelihood.__all__
__all__ += bits.__all__
__all__ += categories.__all__
__all__ += counts.__all__
__all__ += composed.__all__
__all__ += normals.__all__
__all__ += perceptual.__all__
__all__ += pixels.__all__
__all__ += reals.__all__
