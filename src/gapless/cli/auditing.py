"""What `gapless audit` does."""

import re
from pathlib import Path
from typing import Any

from gapless import adapters, runs, study
from gapless.audit import Scorecard, scorecard
from gapless.audit.card import HEADLINE
from gapless.cli.options import check_reference
from gapless.cli.output import cards_table, print_json, say
from gapless.conditions import given_label, labelled_data, of_label, refuse_covariates
from gapless.data import Feed
from gapless.errors import AuditBelowBar, UsageError
from gapless.training import latent_statistics

__all__ = ["audit"]


def audit(
    folder: Path,
    source: str | None,
    *,
    reference: str,
    budget: str,
    html: Path | None,
    bars: tuple[str, ...],
    seed: int,
    json: bool,
    label: str | None = None,
) -> None:
    """Audit one run, print its card, write its page, and fail below a stated bar."""
    wanted = [_bar(text) for text in bars]
    check_reference(reference)
    if seed < 0:
        raise UsageError(f"--seed takes 0 or more; got {seed}")
    run = runs.load_run(folder)
    refuse_covariates(run.data.covariates, "an audit judges")
    run.model = given_label(run.model, run.data.label_names, label)
    reference, why = adapters.suited_reference(run.model, reference)
    if why is not None:
        say(why)
    data = run.data.read() if source is None else run.data.read_like(source)
    if label is not None:
        data = of_label(labelled_data(run, data), label)
    items, labels, said = adapters.audited_items(data) if source is None else adapters.all_items(data)
    say(f"auditing {folder} on {said}")
    judged = adapters.subject(run.model, reference=reference)
    card = scorecard(judged, items, reference=reference, budget=budget, labels=labels, seed=seed)
    if html is not None:
        _write_page(run, data, study.StudyAudit({run.recipe: card}, items, said, card.reference), html)
    if json:
        print_json({"run": str(folder), "items": said, **card.to_dict(), "html": None if html is None else str(html)})
    else:
        _print(run.recipe, card, html)
    _hold(card, wanted)


def _print(recipe: str, card: Scorecard, html: Path | None) -> None:
    cards_table({recipe: card})
    for name, measure in card.measures.items():
        print(f"  {name.replace('_', '-')}: {measure.reading}")
    for number, hole in enumerate(card.holes[:5], start=1):
        place = ", ".join(f"{value:.2f}" for value in hole.centre[:6])
        print(f"  hole {number}: {hole.mass:.1%} of draws around ({place})")
    for row in card.diagnostics["samplers"]:
        print(f"  drawing from {row['law']}: {row['data_like']:.2f} data-like")
    if html is not None:
        print(f"report: {html}")


def _write_page(run: runs.Run, data: Any, found: study.StudyAudit, html: Path) -> None:
    from gapless.report import write_report

    statistics = latent_statistics(run.model, Feed(data.held_out, data.scaling))
    write_report(study.Comparison(data, {run.recipe: run}, {run.recipe: statistics}, found), html)


def _bar(text: str) -> tuple[str, str, float]:
    """`data_like<0.9` as (name, sign, number)."""
    match = re.fullmatch(r"\s*([a-z_-]+)\s*([<>])\s*([0-9.eE+-]+)\s*", text)
    name = match[1].replace("-", "_") if match else ""
    if match is None or name not in (*HEADLINE, "sensitivity"):
        names = ", ".join((*HEADLINE, "sensitivity"))
        raise UsageError(f"--fail-on takes NAME<NUMBER; got {text!r}", fix=f"NAME is one of {names}")
    try:
        return name, match[2], float(match[3])
    except ValueError:
        raise UsageError(f"--fail-on takes NAME<NUMBER; got {text!r}", fix="for example data_like<0.9") from None


def _hold(card: Scorecard, bars: list[tuple[str, str, float]]) -> None:
    """Fail where a number is on the wrong side of its bar; a number that does not apply fails none."""
    broken = []
    for name, sign, bar in bars:
        value = getattr(card, name).value
        if value is not None and (value < bar if sign == "<" else value > bar):
            broken.append(f"{name} is {value:.3f} ({sign} {bar:g})")
    if broken:
        raise AuditBelowBar(f"the audit is beyond a stated bar: {'; '.join(broken)}", fix="see the readings above")
