"""The training engine: it trains any objective on any model and knows no recipe."""

from gapless.training.callbacks import Callback, MetricsLog, Progress
from gapless.training.evaluation import Evaluation, LatentStatistics, evaluate, latent_statistics
from gapless.training.loop import Epoch, best_epoch, fit
from gapless.training.watch import Watch

__all__ = [
    "Callback",
    "Epoch",
    "Evaluation",
    "LatentStatistics",
    "MetricsLog",
    "Progress",
    "Watch",
    "best_epoch",
    "evaluate",
    "fit",
    "latent_statistics",
]
