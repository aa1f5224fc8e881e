"""Penalties beside reconstruction and KL."""

from gapless.regularizers import regularizer
from gapless.regularizers.regularizer import *

__all__ = []
__all__ += regularizer.__all__
