"""The command line itself, and the options that several commands share."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

import gapless
from gapless.cli.options import Keeping, Reading
from gapless.settings import Settings

__all__ = ["HowKept", "HowRead", "HowTrained", "Output", "app"]

app = App(
    name="gapless",
    version=gapless.__version__,
    help=(
        "Train variational autoencoders on your own data and see what their latent space is worth.\n\n"
        "DATA is `digits` or `sprites` (built in), an .npy, .npz, .csv, .parquet, .arrow or idx file, or a folder or "
        ".zip of images. Every command takes `--help`; `--debug` shows the traceback of an error."
    ),
    suppress_keyboard_interrupt=False,  # main says what was saved and how to go on
    help_format="plaintext",  # the others load a Markdown parser for nothing
    default_parameter=Parameter(negative=()),
)

Output = Annotated[Path | None, Parameter(name=["--output", "-o"])]
HowKept = Annotated[Keeping, Parameter(name="*")]
HowRead = Annotated[Reading, Parameter(name="*")]
HowTrained = Annotated[Settings, Parameter(name="*")]
