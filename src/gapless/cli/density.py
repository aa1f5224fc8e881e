"""What `gapless density` does."""

from dataclasses import replace
from pathlib import Path

import torch

from gapless import runs
from gapless.cli.output import held_out_table, print_json, say
from gapless.data import Feed
from gapless.densities import codes_of, fit
from gapless.training import evaluate

__all__ = ["density"]


def density(
    folder: Path, *, kind: str, output: Path | None, components: int | None, force: bool, seed: int, json: bool
) -> None:
    """Fit a density to the codes of a run's training items, and write the run with it for a prior."""
    run = runs.load_run(folder)
    data = run.data.read()
    train, held_out = (Feed(items, data.scaling) for items in (data.train, data.held_out))
    say(f"fitting a {kind} to the codes of {len(train):,} training items")
    model = fit(run.model, codes_of(run.model, train, seed=seed), kind, components=components, seed=seed)
    found = evaluate(model, run.objective, held_out, seed=run.settings.seed, samples=4, first=1)
    with torch.no_grad():
        log_prob = float(model.prior_distribution().log_prob(codes_of(model, held_out, seed=seed)).mean())
    fitted = {"kind": kind, "seed": seed, "log_prob_of_held_out_codes": log_prob}
    values = {**run.held_out, **found.to_dict(), "kl_per_feature": None, "density": fitted}
    new = replace(run, model=model, held_out=values)
    place = new.save(output or folder.with_name(f"{folder.name}-{kind}"), force=force)
    if json:
        return print_json({"run": str(place), **values})
    held_out_table({f"{run.recipe}, {kind}": values})
    print(f"log p(z) of held-out codes: {log_prob:.3f} nats")
    print(f"run: {place}")
    return None
