"""What the commands that train do."""

import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from gapless.cli.options import Keeping, Reading, check_reference
from gapless.cli.output import cards_table, held_out_table, print_json, say
from gapless.errors import UsageError
from gapless.settings import KL_OPTIONS, Settings

__all__ = ["compare", "inspect", "recipes", "train", "verify"]


def compare(
    source: str,
    *,
    reading: Reading,
    settings: Settings,
    output: Path | None,
    keeping: Keeping,
    json: bool,
    budget: str,
    reference: str = "moments",
) -> None:
    """Read, train three models, audit them, write their runs and the report; or go on where that stopped."""
    from gapless import study
    from gapless.adapters import check_auditable
    from gapless.workplaces import claimed

    if budget not in ("default", "quick", "none"):
        raise UsageError(f"--audit takes default, quick or none; got {budget!r}")
    check_reference(reference)
    _check_names(reading, settings)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError("compare runs in one process", fix="launch `gapless train` once for each recipe")
    if keeping.log_with:
        raise UsageError("--log-with belongs to train", fix="use `gapless train --recipe NAME --log-with ...`")
    folder = output or Path("runs") / f"compare-{_stem(source)}"
    with claimed(folder, fresh=keeping.fresh, force=keeping.force) as place:
        data = _read(source, reading, settings)
        if (
            budget != "none" or settings.condition or data.covariates
        ):  # the report, too, is of models that need no label
            check_auditable(data, condition=settings.condition)
        place.begin(study.plan_of(data, settings, recipes=list(study.COMPARED), audit=budget, reference=reference))
        if place.finished:
            place.tidy()  # a kill may have interrupted it
            return _show_finished(folder, json=json)
        comparison = study.compare(
            data,
            settings=settings,
            callbacks=_callbacks,
            folder=folder,
            checkpoint_every=keeping.checkpoint_every,
        )
        if budget != "none":
            say("auditing the three, and two anchors beside them")
            comparison.audit = study.audit_runs(data, comparison.runs, budget=budget, reference=reference)
        result = _write_study(comparison, place)
    if json:
        return print_json(result)
    _show_study(result, comparison.audit and comparison.audit.cards)
    return None


def _write_study(comparison: Any, place: Any) -> dict[str, Any]:
    """The report and the study's numbers, sealed last."""
    from gapless.files import write_json, writing
    from gapless.report import write_report
    from gapless.workplaces import PLAN, REPORT, STUDY

    say("writing the report")
    report = place.folder / REPORT
    result = {**comparison.to_dict(), "report": str(report), "folder": str(place.folder)}
    with writing(place.folder):
        write_report(comparison, report)
        write_json(place.folder / STUDY, result)
    place.seal([PLAN, STUDY, REPORT], kind="study")
    place.tidy()
    return result


def _show_finished(folder: Path, *, json: bool) -> None:
    from gapless.files import json_of
    from gapless.workplaces import REPORT, STUDY

    say(f"a finished study is here: nothing is done again without --force: {folder}")
    result = {**json_of((folder / STUDY).read_text("utf-8")), "report": str(folder / REPORT), "folder": str(folder)}
    if json:
        return print_json(result)
    return _show_study(result, None)


def _show_study(result: dict[str, Any], cards: dict[str, Any] | None) -> None:
    from gapless.workplaces import REPORT

    held_out_table(result["models"])
    if cards:
        cards_table(cards)
    folder = Path(result["folder"])
    print(f"runs:   {', '.join(str(folder / name) for name in result['models'])}")
    print(f"explore: {shlex.join(['gapless', 'explore', str(folder)])}")
    print(f"report: {folder / REPORT}")


def train(
    source: str,
    *,
    recipe: str,
    reading: Reading,
    settings: Settings,
    output: Path | None,
    keeping: Keeping,
    json: bool,
    watch: bool,
) -> None:
    """Read, train one recipe, write its run folder; or go on where that stopped."""
    from gapless import processes, study
    from gapless.recipes import named_recipe
    from gapless.workplaces import claimed

    reading = _suited(reading, named_recipe(recipe))
    _check_names(reading, settings)
    _check_trackers(keeping.log_with)
    folder = output or Path("runs") / f"{recipe}-{_stem(source)}"
    # Claimed before the data is read: what cannot be written is said at once.
    with (
        processes.job(settings.device),
        claimed(folder, fresh=keeping.fresh, force=keeping.force, every=keeping.checkpoint_every) as place,
    ):
        first = processes.is_first()
        if place.finished and first:
            say(f"a finished run is here: nothing is done again without --force: {folder}")
        data = _read(source, reading, settings)
        run = study.train_in(
            place,
            data,
            recipe=recipe,
            settings=settings,
            callbacks=_callbacks(recipe),
            watch=watch,
            max_time=keeping.max_time,
            log_with=keeping.log_with,
        )
    if not first:
        return None
    if json:
        return print_json({"recipe": recipe, "run": str(folder), "held_out": run.held_out, "data": run.data.to_dict()})
    held_out_table({recipe: run.held_out})
    if not run.complete:
        print(f"time ran out after epoch {len(run.history)} of {run.settings.epochs}: the same command goes on")
    print(f"run: {folder}")
    return None


def verify(folder: Path, *, json: bool) -> None:
    """Check every file of a run or a study, and of its checkpoints, against what was written.

    Raises:
        DataError: something is damaged; each file is named.
    """
    from gapless.errors import DataError
    from gapless.verification import verify as found_in

    found = found_in(folder)
    broken = [f"{name}: {damage}" for name, damages in found.items() for damage in damages]
    if json:
        print_json({"folder": str(folder), "whole": not broken, "found": found})
    else:
        for name, damages in found.items():
            print(f"{name:<28} {'; '.join(damages) or 'whole'}")
    if broken:
        raise DataError(
            f"{len(broken)} damaged: {broken[0]}",
            where=str(folder),
            fix="restore the folder from a copy; an unfinished run goes on from its newest whole checkpoint",
        )


def inspect(source: str, *, reading: Reading, json: bool) -> None:
    """Print what is in the data, or what a run folder holds."""
    from gapless.data import BUILT_IN
    from gapless.workplaces import is_ours

    folder = Path(source)
    if source not in BUILT_IN and folder.is_dir() and is_ours(folder):
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
            **({"covariates": ", ".join(data.covariates)} if data.covariates else {}),
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
        listed = {
            n: {"summary": r.summary, "paper": r.paper, "options": r.options, "accepted": r.accepted}
            for n, r in RECIPES.items()
        }
        return print_json({"recipes": listed})
    table = Table("recipe", "what it is", "options", "paper")
    for name, recipe in RECIPES.items():
        options = ", ".join(_option(key, recipe.options.get(key)) for key in recipe.accepted)
        table.add_row(name, recipe.summary, options, recipe.paper)
    _console().print(table)
    return None


def _option(name: str, value: Any) -> str:
    shown = "" if value is None else f"{value:g}" if isinstance(value, (int, float)) else f"{value}"
    if name not in KL_OPTIONS:
        return f"--option {name}={shown}"
    return f"--{name.replace('_', '-')} {shown}".rstrip()


def _inspect_run(folder: Path, *, json: bool) -> None:
    from gapless import runs

    run = runs.load_run(folder)
    if json:
        return print_json({"run": str(folder), **run.to_dict()})
    parameters = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
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
    from gapless import processes

    data = reading.read(source, seed=settings.seed)
    if not processes.is_first():
        return data
    sizes = f"{len(data.train):,} items of shape {data.event_shape} to train on, {len(data.held_out):,} held out"
    say(f"{data.source}: {sizes}")
    for note in data.inspection.notes:
        say(f"  {note}")
    return data


def _suited(reading: Reading, recipe: Any) -> Reading:
    """How the data is read for a recipe that is about a likelihood, unless another was asked for."""
    asked = reading.likelihood != "auto" or recipe.likelihood is None
    return reading if asked else replace(reading, likelihood=recipe.likelihood)


def _check_names(reading: Reading, settings: Settings) -> None:
    """Names that no data can make right are refused before the data is read and told of."""
    from gapless import likelihoods
    from gapless.parts import named
    from gapless.recipes import resolve_network

    if reading.likelihood != "auto":
        named(reading.likelihood, likelihoods)
    resolve_network(settings.network, (1, 1, 1))


def _check_trackers(asked: tuple[str, ...]) -> None:
    if asked:
        from gapless.training.trackers import tracker_names

        tracker_names(asked)


def _callbacks(title: str) -> tuple[Any, ...]:
    from gapless.training import Progress

    return (Progress(title),)


def _card(data: Any) -> dict[str, Any]:
    from gapless.data_card import DataCard

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
