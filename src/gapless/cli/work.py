"""What the commands that train do."""

import re
from pathlib import Path
from typing import Any

from gapless.cli.options import Reading
from gapless.cli.output import cards_table, held_out_table, print_json, say
from gapless.errors import UsageError
from gapless.settings import Settings

__all__ = ["compare", "inspect", "recipes", "train"]


def compare(
    source: str,
    *,
    reading: Reading,
    settings: Settings,
    output: Path | None,
    force: bool,
    json: bool,
    budget: str,
    reference: str = "moments",
) -> None:
    """Read, train three models, audit them, write their runs and the report."""
    from gapless import runs, study
    from gapless.files import write_json
    from gapless.report import write_report

    if budget not in ("default", "quick", "none"):
        raise UsageError(f"--audit takes default, quick or none; got {budget!r}")
    if reference not in ("moments", "declared", "gmm", "mixup"):
        raise UsageError(f"--reference takes moments, declared, gmm or mixup; got {reference!r}")
    folder = output or Path("runs") / f"compare-{_stem(source)}"
    with runs.staged(folder, force=force) as partial:
        data = _read(source, reading, settings)
        comparison = study.compare(data, settings=settings, callbacks=lambda name: _callbacks(name, partial / name))
        for name, run in comparison.runs.items():
            run.write_into(partial / name)
        if budget != "none":
            say("auditing the three, and two anchors beside them")
            comparison.audit = study.audit_runs(data, comparison.runs, budget=budget, reference=reference)
        say("writing the report")
        write_report(comparison, partial / "report.html")
        result = {**comparison.to_dict(), "report": str(folder / "report.html"), "folder": str(folder)}
        write_json(partial / runs.STUDY, result)
    if json:
        return print_json(result)
    held_out_table(result["models"])
    if comparison.audit is not None:
        cards_table(comparison.audit.cards)
    print(f"runs:   {', '.join(str(folder / name) for name in comparison.runs)}")
    print(f"report: {folder / 'report.html'}")
    return None


def train(
    source: str,
    *,
    recipe: str,
    reading: Reading,
    settings: Settings,
    output: Path | None,
    force: bool,
    json: bool,
    watch: bool,
) -> None:
    """Read, train one recipe, write its run folder."""
    from gapless import runs, study
    from gapless.recipes import named_recipe

    named_recipe(recipe)
    folder = output or Path("runs") / f"{recipe}-{_stem(source)}"
    with runs.staged(folder, force=force) as partial:
        data = _read(source, reading, settings)
        watched = partial / "watch.jsonl" if watch else None
        callbacks = _callbacks(recipe, partial)
        run = study.train(data, recipe=recipe, settings=settings, callbacks=callbacks, watch=watched)
        run.write_into(partial)
    if json:
        return print_json({"recipe": recipe, "run": str(folder), "held_out": run.held_out, "data": run.data.to_dict()})
    held_out_table({recipe: run.held_out})
    print(f"run: {folder}")
    return None


def inspect(source: str, *, reading: Reading, json: bool) -> None:
    """Print what is in the data, or what a run folder holds."""
    from gapless import runs

    folder = Path(source)
    if source != "digits" and folder.is_dir() and runs.is_ours(folder):
        return _inspect_run(folder, json=json)
    data = reading.read(source, seed=0)
    if json:
        return print_json({**_card(data), "inspection": data.inspection.to_dict()})
    _print_facts(
        {
            "source": data.source,
            "kind": data.kind,
            "items": f"{len(data.train):,} to train on, {len(data.held_out):,} held out",
            "shape of an item": " × ".join(map(str, data.event_shape)),
            "type": data.inspection.dtype,
            "range": f"{data.inspection.minimum:g} to {data.inspection.maximum:g}",
            "classes": ", ".join(f"{name} ({n:,})" for name, n in data.inspection.class_counts.items()) or "none",
            "constant features": str(data.inspection.constant_features),
            "likelihood": data.likelihood,
            "scaling": data.scaling.name,
            "decided": "\n".join(data.inspection.notes),
        }
    )
    return None


def recipes(*, json: bool) -> None:
    """Print the recipes."""
    from rich.table import Table

    from gapless.cli.output import _console
    from gapless.recipes import RECIPES

    if json:
        listed = {n: {"summary": r.summary, "paper": r.paper, "options": r.options} for n, r in RECIPES.items()}
        return print_json({"recipes": listed})
    table = Table("recipe", "what it is", "options", "paper")
    for name, recipe in RECIPES.items():
        options = ", ".join(f"--{key} {value:g}" for key, value in recipe.options.items())
        table.add_row(name, recipe.summary, options, recipe.paper)
    _console().print(table)
    return None


def _inspect_run(folder: Path, *, json: bool) -> None:
    from gapless import runs

    run = runs.load_run(folder)
    if json:
        return print_json({"run": str(folder), **run.to_dict()})
    parameters = sum(p.numel() for p in run.model.parameters())
    _print_facts(
        {
            "run": str(folder),
            "recipe": run.recipe,
            "parameters": f"{parameters:,}",
            "latent features": str(run.model.latent),
            "data": f"{run.data.source}, items of shape {' × '.join(map(str, run.data.event_shape))}",
            "likelihood": f"{run.data.likelihood}, scaling {run.data.scaling.name}",
            "trained": f"{run.settings.epochs} epochs, batches of {run.settings.batch_size}, seed {run.settings.seed}",
        }
    )
    held_out_table({run.recipe: run.held_out})
    return None


def _read(source: str, reading: Reading, settings: Settings) -> Any:
    data = reading.read(source, seed=settings.seed)
    sizes = f"{len(data.train):,} items of shape {data.event_shape} to train on, {len(data.held_out):,} held out"
    say(f"{data.source}: {sizes}")
    for note in data.inspection.notes:
        say(f"  {note}")
    return data


def _callbacks(title: str, folder: Path) -> tuple[Any, ...]:
    from gapless.runs import METRICS
    from gapless.training import MetricsLog, Progress

    folder.mkdir(exist_ok=True)
    return Progress(title), MetricsLog(folder / METRICS)


def _card(data: Any) -> dict[str, Any]:
    from gapless.runs import DataCard

    return DataCard.of(data).to_dict()


def _print_facts(facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        first, *rest = value.splitlines() or [""]
        print(f"{name:<{width}}  {first}")
        for line in rest:
            print(" " * (width + 2) + line)


def _stem(source: str) -> str:
    name = Path(source).name
    return re.sub(r"[^\w.-]+", "-", name.split(".")[0]).strip("-.") or "data"
