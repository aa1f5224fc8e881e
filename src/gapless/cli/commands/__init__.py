"""The commands; what is heavy is imported inside them."""

from gapless.cli.commands import checking, judging, training, using
from gapless.cli.commands.root import app

__all__ = ["app", "checking", "judging", "training", "using"]
