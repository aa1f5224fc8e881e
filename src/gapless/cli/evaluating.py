"""What `gapless evaluate` does."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gapless import runs
from gapless.cli.output import TITLES, number, print_json, say
from gapless.errors import UsageError
from gapless.evaluation import Compared, Summary
from gapless.evaluation import evaluate as measured
from gapless.evaluation.known import known_factors

__all__ = ["evaluate"]

TOLD = 6
PATIENCE_SECONDS = 5


def evaluate(
    folder: Path,
    source: str | None,
    *,
    samples: int,
    items: int | None,
    factors: tuple[str, ...],
    features: tuple[str, ...],
    seed: int,
    json: bool,
) -> None:
    """Evaluate one run and print a table."""
    for name, value, lowest in (("samples", samples, 1), ("items", items, 1), ("seed", seed, 0)):
        if value is not None and value < lowest:
            raise UsageError(f"--{name} takes {lowest} or more; got {value}")
    run = runs.load_run(folder)
    place = run.data.source if source is None else source
    found = measured(
        run,
        source,
        samples=samples,
        items=items,
        factors=known_factors(run.data, place, factors) if factors else None,
        features=features,
        seed=seed,
        progress=_progress(),
    )
    if json:
        return print_json({"run": str(folder), **found.to_dict()})
    _print(found, run)
    return None


def _progress() -> Callable[[int, int], None]:
    """One remark on how long it will take, once that can be said."""
    began, told = time.monotonic(), [False]

    def tell(done: int, of: int) -> None:
        seconds = time.monotonic() - began
        if told[0] or seconds < PATIENCE_SECONDS or done == of:
            return
        told[0] = True
        left = seconds * (of - done) / done
        say(f"{done:,} of {of:,} items done; about {left:,.0f} seconds to go (fewer --samples or --items take less)")

    return tell


def _print(found: Summary, run: runs.Run) -> None:
    from rich.markup import escape
    from rich.table import Table

    from gapless.cli.output import _console

    console = _console()
    title = f"{TITLES.get(found.recipe, found.recipe)} on {run.data.source}: {found.said}"
    table = Table(title=title, show_header=True, title_justify="left")
    for name, justify in (("quantity", "left"), ("value", "right"), ("what it says", "left")):
        table.add_column(name, justify=justify)  # pyright: ignore[reportArgumentType]
    for section in (_terms(found), _codes(found), _errors(found), _factor_rows(found)):
        for row in section:
            table.add_row(*map(escape, row))
        table.add_section()
    console.print(table)
    for one in found.likeness:
        console.print(_likeness_table(one, Table))
    for warning in found.warnings:
        console.print(f"note: {warning}", highlight=False)


Rows = list[tuple[str, str, str]]


def _terms(found: Summary) -> Rows:
    values, evidence = found.bounds, found.bounds.evidence
    beta = "∞" if found.effective_beta is None else f"{found.effective_beta:g}"
    rows: Rows = [
        (
            "reconstruction",
            number(float(values.reconstruction.mean())),
            "-E log p(x|z), nats an item; lower is better",
        ),
        ("KL", number(float(values.kl.mean())), "what the codes cost, nats an item"),
        (
            "ELBO",
            _plus_minus(values.elbo, values.elbo_standard_error, "-"),
            "-(reconstruction + KL), a bound of log p(x); higher is better",
        ),
    ]
    if evidence is not None:
        rows.append(
            (
                "log p(x), at least",
                _plus_minus(evidence.value, evidence.standard_error),
                f"tighter bound by {evidence.samples:,} importance samples an item (IWAE); ± is over items",
            )
        )
        rows += _trust(evidence)
    bits = found.bits
    rows.append(("bits per dimension", "none" if bits.value is None else f"{bits.value:.4f}", bits.how))
    rows.append(("trained objective", number(found.loss), f"the loss that was minimised; effective β {beta}"))
    return rows


def _trust(evidence: Any) -> Rows:
    if evidence.monte_carlo_error is None:
        return []
    median, fewest = float(evidence.effective.median()), float(evidence.effective.min())
    loose = f"other draws for the same items; log p(x) itself lies at least about {evidence.looseness:.2g} higher"
    return [
        ("  error of the draws", f"{evidence.monte_carlo_error:.2g}", loose),
        ("  effective samples", f"{median:,.0f}", f"draws that really count, median over items; fewest {fewest:,.0f}"),
    ]


def _codes(found: Summary) -> Rows:
    active = found.codes.active
    rows: Rows = [
        ("active latent features", f"{active.sum()} of {len(active)}", "variance of E[z|x] over items above 0.01")
    ]
    if found.kl_by_feature:
        rows.append(("KL per latent feature", *_listed(found.kl_by_feature)))
    if found.reconstruction_by_column:
        rows.append(("most expensive columns", *_listed(found.reconstruction_by_column)))
    return rows


def _errors(found: Summary) -> Rows:
    errors = found.errors
    if errors is None:
        return []
    rows: Rows = []
    if errors.mse is not None:
        rows.append(("mean squared error", f"{errors.mse:.4g}", "of reconstructions, model units"))
        rows.append(("mean absolute error", f"{errors.mae:.4g}", "of reconstructions, model units"))
        if not np.all(errors.scale == 1):
            said = f"in the units of the data; mean squared error {errors.raw_mse:.4g}"
            rows.append(("mean absolute error", f"{errors.raw_mae:.4g}", said))
    if errors.wrong_share is not None:
        rows.append(("wrong categories", f"{errors.wrong_share:.1%}", "another one is the most probable; 0 is best"))
    for kind, part in errors.by_kind.items():
        names = part.mae is None
        value, said = (part.wrong_share, "wrong share") if names else (part.mae, "mean absolute error, model units")
        rows.append((f"  {kind}", f"{value:.4g}", f"{said}, over {part.squared.size} columns"))
    return rows


def _factor_rows(found: Summary) -> Rows:
    scores = found.factors
    if scores is None:
        return []
    names, several = ", ".join(scores.names), len(scores.names) > 1
    rows = [
        ("MIG", scores.mig, f"is each factor in one latent feature? 0 to 1; factors: {names}"),
        ("SAP", scores.sap, "the same, by how well single latent features predict the factor"),
        ("DCI disentanglement", scores.disentanglement, "each latent feature serves one factor"),
        ("DCI completeness", scores.completeness, "each factor is served by one latent feature"),
        ("DCI informativeness", scores.informativeness, "accuracy of the factors predicted from all codes"),
        ("modularity", scores.modularity, "each latent feature knows of one factor only"),
    ]
    among_factors = ("DCI disentanglement", "modularity")  # 1 for any code where there is a single factor
    return [(name, f"{value:.3f}", said) for name, value, said in rows if several or name not in among_factors]


def _likeness_table(one: Compared, kind: Any) -> Any:
    made, real = one.generated, one.training
    how = "draws x ~ p(x|z)" if one.drawn else "means of p(x|z)"
    size = f"{made.items[1]:,} generated ({how}) against {made.items[0]:,} real items"
    table = kind(title=f"{one.features} ({made.dimensions} features, {one.said}): {size}", title_justify="left")
    for name in ("measure", "generated", "training items", "what it says"):
        table.add_column(name, justify="left" if name in ("measure", "what it says") else "right")
    for field, name, said in _MEASURES:
        values = (f"{getattr(side, field):.4g}" if side is not None else "-" for side in (made, real))
        table.add_row(name, *values, said)
    return table


_MEASURES = (
    ("frechet", "Fréchet distance", "between normals of the same moments; 0 is best"),
    ("mmd", "MMD² (polynomial)", "unbiased: around 0 for equal laws"),
    ("precision", "precision", "share of generated items among the real ones"),
    ("recall", "recall", "share of real items among the generated ones"),
    ("density", "density", "how crowded real items are where generated ones lie; 1 for equal laws"),
    ("coverage", "coverage", "share of real items with a generated neighbour"),
)


def _listed(values: dict[str, float]) -> tuple[str, str]:
    """The highest value, and the first few by name."""
    highest = next(iter(values.values()))
    shown = ", ".join(f"{name} {number(value)}" for name, value in list(values.items())[:TOLD])
    rest = f", ... {number(list(values.values())[-1])}" if len(values) > TOLD else ""
    return number(highest), f"nats an item: {shown}{rest}"


def _plus_minus(value: float, error: float | None, sign: str = "") -> str:
    return number(value, sign) if error is None or not math.isfinite(value) else f"{value:.2f} ± {error:.2f}"
