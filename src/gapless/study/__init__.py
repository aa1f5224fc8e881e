"""Train one recipe, or AE, KL-only and VAE side by side on the same networks, seed and budget."""

from gapless.study.comparison import COMPARED, Comparison, StudyAudit, audit_runs, compare
from gapless.study.moments import moments_of
from gapless.study.support import check_suited, check_support
from gapless.study.training import plan_of, train, train_in

__all__ = [
    "COMPARED",
    "Comparison",
    "StudyAudit",
    "audit_runs",
    "check_suited",
    "check_support",
    "compare",
    "moments_of",
    "plan_of",
    "train",
    "train_in",
]
