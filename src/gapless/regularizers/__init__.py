"""Penalties beside reconstruction and KL."""

from gapless.regularizers import (
    codebooks,
    critics,
    decoders,
    decomposition,
    equivariance,
    kernels,
    moments,
    regularizer,
)
from gapless.regularizers.codebooks import *
from gapless.regularizers.critics import *
from gapless.regularizers.decoders import *
from gapless.regularizers.decomposition import *
from gapless.regularizers.equivariance import *
from gapless.regularizers.kernels import *
from gapless.regularizers.moments import *
from gapless.regularizers.regularizer import *

__all__ = []
__all__ += regularizer.__all__
__all__ += codebooks.__all__
__all__ += critics.__all__
__all__ += decoders.__all__
__all__ += decomposition.__all__
__all__ += equivariance.__all__
__all__ += kernels.__all__
__all__ += moments.__all__
