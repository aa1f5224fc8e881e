"""Options that several commands share; plain data, imports nothing heavy."""

from dataclasses import dataclass
from typing import Any

from gapless.errors import UsageError

__all__ = ["Keeping", "Reading", "check_reference", "parse_size"]

REFERENCES = ("declared", "moments", "gmm", "mixup")


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a run is kept, and when it ends.

    Args:
        fresh: refuse a folder in which a run was begun, instead of going on with it.
        force: replace what was begun in the folder; an unfinished run of the same command goes on, unless --fresh.
        checkpoint_every: seconds between checkpoints.
        max_time: seconds of training after which the run ends as it is; the same command goes on with it.
        log_with: tensorboard, wandb, mlflow or another tracker that accelerate knows, or all that are installed.
    """

    fresh: bool = False
    force: bool = False
    checkpoint_every: float = 30.0
    max_time: float | None = None
    log_with: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.checkpoint_every >= 0:
            raise UsageError(f"--checkpoint-every takes seconds, 0 or more; got {self.checkpoint_every}")
        if self.max_time is not None and not self.max_time > 0:
            raise UsageError(f"--max-time takes seconds, above 0; got {self.max_time}")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How data is read.

    Args:
        held_out: share of the items held out, between 0 and 1.
        likelihood: auto, Bernoulli, NormalWithOptimalScale, Mixed (each column its own) or the name of another one.
        noise_scale: shared, or feature: a scale for each, of a likelihood that learns the scale of its noise.
        scaling: auto, none, unit (to 0..1) or standard (mean 0, deviation 1).
        array: which array of an .npz holds the items.
        label: which column of a table holds the class.
        drop: columns of a table to leave out.
        covariates: columns of a table, or arrays of an .npz, that encoder and decoder are given beside each item.
        resize: bring all images to this size, 32 or HEIGHTxWIDTH.
        on_error: stop or skip, at a file that cannot be read.
        missing: refuse missing values (NaN, empty cells), or keep them as not observed.
    """

    held_out: float = 0.1
    likelihood: str = "auto"
    noise_scale: str = "shared"
    scaling: str = "auto"
    array: str | None = None
    label: str | None = None
    drop: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    resize: str | None = None
    on_error: str = "stop"
    missing: str = "refuse"

    def read(self, source: str, *, seed: int) -> Any:
        """The data set, split by `seed`."""
        from gapless.data import read

        return read(
            source,
            held_out=self.held_out,
            seed=seed,
            likelihood=self.likelihood,
            scaling=self.scaling,
            array=self.array,
            label=self.label,
            drop=self.drop,
            noise_scale=self.noise_scale,
            covariates=[name for text in self.covariates for name in text.split(",")],
            resize=parse_size(self.resize),
            on_error=self.on_error,
            missing=self.missing,
        )


def check_reference(name: str) -> None:
    """Refuse a reference law that cannot be named in a shell."""
    if name not in REFERENCES:
        raise UsageError(f"there is no reference {name!r}", where="--reference", fix=f"use {', '.join(REFERENCES)}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`32` or `28x20` (height x width) as a pair.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 65536 for part in parts):
        raise UsageError(f"--resize takes 32 or HEIGHTxWIDTH in pixels; got {text!r}")
    return int(parts[0]), int(parts[-1])
