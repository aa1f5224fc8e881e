"""Commands that say what a trained run is worth."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gapless.cli.commands.root import app

__all__ = []


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
    label: str | None = None,
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
        label: the class that conditional models are given; items of that class alone are shown.
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
        label=label,
    )
