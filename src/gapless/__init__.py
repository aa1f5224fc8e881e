"""gapless: train variational autoencoders correctly and see what their latent space is worth.

Public names are loaded when first used, so that `import gapless` stays instant and imports no torch.
"""

import gc
import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gapless.machine import before_torch

if TYPE_CHECKING:
    from gapless.data import Dataset, batch, read
    from gapless.errors import DataError, Diverged, GaplessError, MissingExtra, UsageError
    from gapless.evaluation import evaluate
    from gapless.explorer import explore
    from gapless.imputation import impute
    from gapless.model import Model
    from gapless.objectives import ELBO
    from gapless.report import write_report
    from gapless.runs import Run, load, load_run
    from gapless.settings import Settings
    from gapless.study import Comparison, compare, train

__version__ = "0.1.0"

before_torch()  # every module of ours that loads torch comes after this line

_HOMES = {
    "Comparison": "study",
    "DataError": "errors",
    "Dataset": "data",
    "Diverged": "errors",
    "ELBO": "objectives",
    "GaplessError": "errors",
    "MissingExtra": "errors",
    "Model": "model",
    "Run": "runs",
    "Settings": "settings",
    "UsageError": "errors",
    "batch": "data",
    "compare": "study",
    "evaluate": "evaluation",
    "explore": "explorer",
    "impute": "imputation",
    "load": "runs",
    "load_run": "runs",
    "read": "data",
    "train": "study",
    "write_report": "report",
}
_MODULES = (
    "data", "densities", "distributions", "draws", "errors", "evaluation", "explorer", "imputation", "likelihoods",
    "model", "networks", "objectives", "ownership", "parts", "posteriors", "priors", "randomness", "recipes",
    "regularizers", "report", "runs", "study", "testing", "training", "uncertainty",
)  # fmt: skip

__all__ = [
    "ELBO",
    "Comparison",
    "DataError",
    "Dataset",
    "Diverged",
    "GaplessError",
    "MissingExtra",
    "Model",
    "Run",
    "Settings",
    "UsageError",
    "__version__",
    "batch",
    "compare",
    "evaluate",
    "explore",
    "impute",
    "load",
    "load_run",
    "read",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(_loaded(_HOMES[name]), name)
    if name in _MODULES:
        return _loaded(name)
    raise AttributeError(f"module 'gapless' has no attribute {name!r}")


def _loaded(name: str) -> ModuleType:
    """A module of ours, with torch if need be; what comes with it is no garbage, and is not searched for any."""
    if f"gapless.{name}" in sys.modules:
        return importlib.import_module(f"gapless.{name}")  # waits where another thread is still loading it
    collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(f"gapless.{name}")
    finally:
        if collecting and not gc.get_freeze_count():
            gc.freeze()  # there and back: all objects now count as old
            gc.unfreeze()
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
