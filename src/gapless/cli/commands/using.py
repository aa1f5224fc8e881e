"""Commands that use a trained run."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gapless.cli.commands.root import Output, app

__all__ = []


@app.command
def sample(
    run: Path,
    /,
    *,
    count: Annotated[int, Parameter(name=["--count", "-n"])] = 64,
    label: str | None = None,
    given: tuple[str, ...] = (),
    output: Output = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Draw codes from the prior and decode them.

    Args:
        run: a run folder.
        count: how many.
        label: the class to draw, for a conditional model.
        given: NAME=NUMBER, the value of a covariate; once for each that the model was trained with.
        output: a .npy, .csv or .png file; CSV on the standard output by default.
        seed: seed of the draws.
        json: print a JSON object.
    """
    from gapless.cli import use

    use.sample(run, count=count, output=output, seed=seed, json=json, label=label, values=given)


@app.command
def encode(run: Path, data: str | None = None, /, *, output: Output = None, json: bool = False) -> None:
    """Encode every item of the data: mean and standard deviation of its code, and of the run's own data the part.

    Args:
        run: a run folder.
        data: a file or folder; the data the run was trained on by default.
        output: a .npy (means), .npz or .csv file; CSV on the standard output by default.
        json: print a JSON object.
    """
    from gapless.cli import use

    use.encode(run, data, output=output, json=json)


@app.command
def decode(
    run: Path,
    codes: Path,
    /,
    *,
    label: str | None = None,
    given: tuple[str, ...] = (),
    output: Output = None,
    json: bool = False,
) -> None:
    """Decode codes.

    Args:
        run: a run folder.
        codes: a .npy, .npz or .csv file of codes, one row each, as `gapless encode` writes it.
        label: the class that a conditional model is given.
        given: NAME=NUMBER, the value of a covariate; once for each that the model was trained with.
        output: a .npy, .csv or .png file; CSV on the standard output by default.
        json: print a JSON object.
    """
    from gapless.cli import use

    use.decode(run, codes, output=output, json=json, label=label, values=given)


@app.command
def reconstruct(run: Path, data: str | None = None, /, *, output: Output = None, json: bool = False) -> None:
    """Encode and decode every item of the data.

    Args:
        run: a run folder.
        data: a file or folder; the data the run was trained on by default.
        output: a .npy, .csv or .png file; CSV on the standard output by default.
        json: print a JSON object.
    """
    from gapless.cli import use

    use.reconstruct(run, data, output=output, json=json)


@app.command
def interpolate(
    run: Path,
    data: str | None = None,
    /,
    *,
    start: Annotated[int, Parameter(name=["--from"])] = 0,
    end: Annotated[int, Parameter(name=["--to"])] = 1,
    steps: int = 9,
    output: Output = None,
    json: bool = False,
) -> None:
    """Decode the straight line between the codes of two items.

    Args:
        run: a run folder.
        data: a file or folder; the data the run was trained on by default.
        start: number of the first item, counted from 0 in the order of the data.
        end: number of the last item.
        steps: points on the line, both ends included.
        output: a .npy, .csv or .png file; CSV on the standard output by default.
        json: print a JSON object.
    """
    from gapless.cli import use

    use.interpolate(run, data, start=start, end=end, steps=steps, output=output, json=json)


@app.command
def impute(
    run: Path,
    data: str | None = None,
    /,
    *,
    output: Output = None,
    samples: int = 1000,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Fill in missing values (NaN, empty cells) by what the model expects there, given what was observed.

    Args:
        run: a run folder.
        data: a file or folder; the data the run was trained on by default.
        output: a .npy, .npz or .csv file; CSV on the standard output by default.
        samples: draws of the code an item.
        seed: seed of the draws.
        json: print a JSON object.
    """
    from gapless.cli import use

    use.impute(run, data, samples=samples, output=output, seed=seed, json=json)
