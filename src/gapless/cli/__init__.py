"""The command line. Results go to the standard output, everything else to the standard error."""

from gapless.cli.main import main

__all__ = ["main"]
