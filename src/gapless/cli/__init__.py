"""The command line. Results go to the standard output, everything else to the standard error."""

from gapless.cli.main import main, run

__all__ = ["main", "run"]
