"""The audit of latent regularity: continuity, completeness, informativeness of anybody's autoencoder.

It needs two callables and data, and knows nothing of models, training or torch.
"""

from gapless.audit.card import Budget, Scorecard, scorecard
from gapless.audit.laws import DiscreteCodes, Gaussian, Law, Mixture, Mixup, PushForward, Sphere, moments, standard
from gapless.audit.measure import Measure
from gapless.audit.paired import Difference, paired
from gapless.audit.subject import Subject

__all__ = [
    "Budget",
    "Difference",
    "DiscreteCodes",
    "Gaussian",
    "Law",
    "Measure",
    "Mixture",
    "Mixup",
    "PushForward",
    "Scorecard",
    "Sphere",
    "Subject",
    "moments",
    "paired",
    "scorecard",
    "standard",
]
