"""What a trained model is worth: bounds of log p(x), bits, active units, known factors, generated items."""

from gapless.evaluation.bounds import Bounds, Evidence, measured_bounds
from gapless.evaluation.factors import Disentanglement, disentanglement
from gapless.evaluation.features import Likeness, frechet_distance, likeness, polynomial_mmd
from gapless.evaluation.generation import Compared
from gapless.evaluation.summary import Summary, evaluate

__all__ = [
    "Bounds",
    "Compared",
    "Disentanglement",
    "Evidence",
    "Likeness",
    "Summary",
    "disentanglement",
    "evaluate",
    "frechet_distance",
    "likeness",
    "measured_bounds",
    "polynomial_mmd",
]
