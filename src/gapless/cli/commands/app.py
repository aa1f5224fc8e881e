"""The commands; what is heavy is imported inside them."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

import gapless
from gapless.cli.options import Keeping, Reading
from gapless.settings import PlaneSettings, Settings

__all__ = ["app"]

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
Shared = Parameter(name="*")


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
    keeping: Annotated[Keeping, Shared] = Keeping(),  # noqa: B008 - frozen
    reading: Annotated[Reading, Shared] = Reading(),  # noqa: B008 - frozen
    settings: Annotated[PlaneSettings, Shared] = PlaneSettings(),  # noqa: B008 - frozen
) -> None:
    """Train AE, KL-only and VAE with the same networks, seed and budget; write a report that shows them side by side.

    Args:
        data: digits, or a file or folder.
        output: folder of the result; runs/compare-NAME by default.
        audit: default, quick or none.
        reference: reference law of the audit: moments, declared, gmm or mixup.
        json: print a JSON object instead of tables.
    """
    from gapless.cli import work

    work.compare(
        data,
        reading=reading,
        settings=settings,
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
    keeping: Annotated[Keeping, Shared] = Keeping(),  # noqa: B008 - frozen
    reading: Annotated[Reading, Shared] = Reading(),  # noqa: B008 - frozen
    settings: Annotated[Settings, Shared] = Settings(),  # noqa: B008 - frozen
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
def verify(run: Path, /, *, json: bool = False) -> None:
    """Check every file of a run, a study or their checkpoints against what was written.

    Args:
        run: the folder.
        json: print a JSON object instead of lines.
    """
    from gapless.cli import work

    work.verify(run, json=json)


@app.command
def audit(
    run: Path,
    data: str | None = None,
    /,
    *,
    reference: str = "declared",
    budget: str = "default",
    label: str | None = None,
    html: Path | None = None,
    fail_on: tuple[str, ...] = (),
    seed: int = 0,
    json: bool = False,
) -> None:
    """Measure continuity, completeness and informativeness, with intervals and the place of every gap.

    Args:
        run: a run folder.
        data: a file or folder; by default the data the run was trained on, its held-out part if large enough.
        reference: declared (the model's prior), moments (comparable between models), gmm or mixup.
        budget: default or quick.
        label: the class to audit, for a conditional model: its items, and what it decodes for that class.
        html: write a report with pictures to this file.
        fail_on: exit with code 4 if this holds, for example data_like<0.9; can be given more than once.
        seed: seed of everything drawn.
        json: print a JSON object.
    """
    from gapless.cli import auditing

    auditing.audit(
        run, data, reference=reference, budget=budget, html=html, bars=fail_on, seed=seed, json=json, label=label
    )


@app.command
def evaluate(
    run: Path,
    data: str | None = None,
    /,
    *,
    samples: int = 5000,
    items: int | None = None,
    factors: tuple[str, ...] = (),
    features: tuple[str, ...] = (),
    seed: int = 0,
    json: bool = False,
) -> None:
    """Say what a model is worth: ELBO by term and feature, log p(x) by importance samples, bits, active units.

    Args:
        run: a run folder.
        data: a file or folder; by default the held-out part of the data the run was trained on.
        samples: draws an item for the bound of log p(x).
        items: a random subset of so many items, to save time; all by default.
        factors: what the items were made from, for MIG, SAP, DCI and modularity: a column of the data, or a .csv or
            .npz file with one value an item; can be given more than once. Known for sprites.
        features: compare generated with real items on pixels, pca, embedding, or a pair of files
            REAL.npy,GENERATED.npy; can be given more than once.
        seed: seed of everything drawn.
        json: print a JSON object.
    """
    from gapless.cli import evaluating

    evaluating.evaluate(
        run, data, samples=samples, items=items, factors=factors, features=features, seed=seed, json=json
    )


@app.command
def explore(
    run: Path,
    /,
    *more: Path,
    data: str | None = None,
    export: Path | None = None,
    port: int = 0,
    host: str = "127.0.0.1",
    open_browser: Annotated[bool, Parameter(name="--open", negative="--no-open")] = True,
    lang: str | None = None,
    items: int = 10_000,
    audit: str = "quick",
    json: bool = False,
) -> None:
    """Walk through latent spaces in the browser: one to four models side by side, or one file to share.

    Args:
        run: a run folder, or a folder of `gapless compare`: AE, KL-only and VAE side by side.
        more: further run folders.
        data: a file or folder to show; by default the data the first run was trained on.
        export: write one self-contained HTML file instead of serving.
        port: where to serve; 0 takes any free port.
        host: address to serve at; any other than 127.0.0.1 lets other machines in, with the token of the address.
        open_browser: open the browser.
        lang: en or ko; by default what the browser prefers.
        items: at most so many items, held-out ones first; up to 1,000,000.
        audit: none, quick or default.
        json: print a JSON object with the address or the file.
    """
    from gapless.cli import exploring

    exploring.explore(
        (run, *more),
        source=data,
        port=port,
        host=host,
        opened=open_browser,
        language=lang,
        export=export,
        items=items,
        audit=audit,
        json=json,
    )


@app.command
def inspect(
    data: str,
    /,
    *,
    json: bool = False,
    reading: Annotated[Reading, Shared] = Reading(),  # noqa: B008 - frozen
) -> None:
    """Say what is in the data and how it would be read: shape, type, range, classes, scaling, likelihood.

    Args:
        data: digits, a file or folder, or a run folder.
        json: print a JSON object.
    """
    from gapless.cli import work

    work.inspect(data, reading=reading, json=json)


@app.command
def recipes(*, json: bool = False) -> None:
    """List the models that can be trained, and their papers.

    Args:
        json: print a JSON object.
    """
    from gapless.cli import work

    work.recipes(json=json)


@app.command
def sample(
    run: Path,
    /,
    *,
    count: Annotated[int, Parameter(name=["--count", "-n"])] = 64,
    label: str | None = None,
    output: Output = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Draw codes from the prior and decode them.

    Args:
        run: a run folder.
        count: how many.
        label: the class to draw, for a conditional model.
        output: a .npy, .csv or .png file; CSV on the standard output by default.
        seed: seed of the draws.
        json: print a JSON object.
    """
    from gapless.cli import use

    use.sample(run, count=count, output=output, seed=seed, json=json, label=label)


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
def decode(run: Path, codes: Path, /, *, output: Output = None, json: bool = False) -> None:
    """Decode codes.

    Args:
        run: a run folder.
        codes: a .npy, .npz or .csv file of codes, one row each, as `gapless encode` writes it.
        output: a .npy, .csv or .png file; CSV on the standard output by default.
        json: print a JSON object.
    """
    from gapless.cli import use

    use.decode(run, codes, output=output, json=json)


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


@app.command
def doctor(*, runs: Path = Path("runs"), json: bool = False) -> None:
    """Look at the machine: versions, threads, allocator, optimizer, devices, disk; advice for each thing that is off.

    Args:
        runs: the folder runs will be written to.
        json: print a JSON object instead of lines.
    """
    from gapless.cli.doctor import doctor as look

    look(runs=runs, json=json)


@app.command
def shards(
    data: str,
    /,
    *,
    output: Output = None,
    verify: bool = False,
    json: bool = False,
    reading: Annotated[Reading, Shared] = Reading(),  # noqa: B008 - frozen
) -> None:
    """Write a slow source (saved datasets, tar shards, folders of images) once as shards that train at full speed.

    Args:
        data: a file or folder.
        output: folder of the shards, which is then the DATA of the other commands.
        verify: compare shards that exist with their checksums, and write nothing.
        json: print a JSON object instead of a line.
    """
    from gapless.cli.shards import shards as write

    write(data, output=output, reading=reading, verify=verify, json=json)
