"""Commands that train."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gapless.cli.commands.root import HowKept, HowRead, HowTrained, Output, app
from gapless.cli.options import Keeping, Reading
from gapless.settings import Settings

__all__ = []


@app.command
def demo(
    *, output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("runs/demo"), json: bool = False
) -> None:
    """Train and audit AE, KL-only and VAE on the built-in digits; ends with the path of the report.

    Args:
        output: folder of the result; a finished demo there is replaced, an interrupted one goes on.
        json: print a JSON object instead of tables.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # such small networks gain nothing from a second thread
    from gapless.cli import work
    from gapless.workplaces import is_ours, is_unfinished

    settings = Settings(latent=2, epochs=100)
    keeping = Keeping(force=is_ours(output) and not is_unfinished(output))
    work.compare(
        "digits", reading=Reading(), settings=settings, output=output, keeping=keeping, json=json, budget="quick"
    )


@app.command
def compare(
    data: str,
    /,
    *,
    output: Output = None,
    audit: str = "default",
    reference: str = "moments",
    json: bool = False,
    keeping: HowKept = Keeping(),
    reading: HowRead = Reading(),
    latent: int = 2,  # a study is looked at in the plane
    settings: Annotated[Settings, Parameter(name="*", parse=re.compile("^(?!latent$)"))] = Settings(),
) -> None:
    """Train AE, KL-only and VAE with the same networks, seed and budget; write a report that shows them side by side.

    Args:
        data: digits, or a file or folder.
        output: folder of the result; runs/compare-NAME by default.
        audit: default, quick or none.
        reference: reference law of the audit: moments, declared, gmm or mixup.
        json: print a JSON object instead of tables.
        latent: number of latent features.
    """
    from gapless.cli import work

    work.compare(
        data,
        reading=reading,
        settings=replace(settings, latent=latent),
        output=output,
        keeping=keeping,
        json=json,
        budget=audit,
        reference=reference,
    )


@app.command
def train(
    data: str,
    /,
    *,
    recipe: str = "vae",
    output: Output = None,
    watch: bool = False,
    json: bool = False,
    keeping: HowKept = Keeping(),
    reading: HowRead = Reading(),
    settings: HowTrained = Settings(),
) -> None:
    """Train one recipe and write its run folder. Run again, it goes on where it stopped.

    Args:
        data: digits, or a file or folder.
        recipe: a name from `gapless recipes`.
        output: the run folder; runs/RECIPE-NAME by default.
        watch: track live features and data-like draws, and announce a posterior collapse when it happens.
        json: print a JSON object instead of a table.
    """
    from gapless.cli import work

    work.train(
        data, recipe=recipe, reading=reading, settings=settings, output=output, keeping=keeping, json=json, watch=watch
    )


@app.command
def density(
    run: Path,
    /,
    *,
    kind: str = "mixture",
    output: Output = None,
    components: int | None = None,
    force: bool = False,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Fit a density to the codes of a trained run and write the run anew, with that density for its prior.

    Args:
        run: a run folder.
        kind: mixture, flow or second-stage.
        output: folder of the new run; RUN-KIND by default.
        components: normals of a mixture; by default the number of lowest BIC.
        force: replace an earlier run in the output folder.
        seed: seed of everything drawn.
        json: print a JSON object.
    """
    from gapless.cli.density import density as fit

    fit(run, kind=kind, output=output, components=components, force=force, seed=seed, json=json)


@app.command
def recipes(*, json: bool = False) -> None:
    """List the models that can be trained, and their papers.

    Args:
        json: print a JSON object.
    """
    from gapless.cli import work

    work.recipes(json=json)
