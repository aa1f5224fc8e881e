"""The training engine: it trains any objective on any model and knows no recipe."""

from gapless.training.callbacks import Callback, MetricsLog, Progress
from gapless.training.checkpoints import Checkpoints
from gapless.training.evaluation import Evaluation, LatentStatistics, evaluate, latent_statistics
from gapless.training.loop import Epoch, Saving, best_epoch, fit, is_complete
from gapless.training.watch import Watch

__all__ = [
    "Callback",
    "Checkpoints",
    "Epoch",
    "Evaluation",
    "LatentStatistics",
    "MetricsLog",
    "Progress",
    "Saving",
    "Watch",
    "best_epoch",
    "evaluate",
    "fit",
    "is_complete",
    "latent_statistics",
]
