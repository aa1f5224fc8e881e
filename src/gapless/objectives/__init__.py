"""What is minimised: a map from (model, batch) to terms in nats per example, summed over features."""

from gapless.objectives import binarization, elbo, geco, hamiltonian, importance, objective, semi_supervised, weights
from gapless.objectives.binarization import *
from gapless.objectives.elbo import *
from gapless.objectives.geco import *
from gapless.objectives.hamiltonian import *
from gapless.objectives.importance import *
from gapless.objectives.objective import *
from gapless.objectives.semi_supervised import *
from gapless.objectives.weights import *

__all__ = []
__all__ += objective.__all__
__all__ += elbo.__all__
__all__ += geco.__all__
__all__ += hamiltonian.__all__
__all__ += importance.__all__
__all__ += semi_supervised.__all__
__all__ += weights.__all__
__all__ += binarization.__all__
