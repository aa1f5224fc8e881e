"""The page: numbers, sentences made of the numbers, and pictures, in one file that needs nothing else."""

import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import gapless
from gapless.files import write_atomic
from gapless.report.findings import Findings, audit_context
from gapless.report.maps import TITLES, kl_figure, training_figure
from gapless.report.pictures import Pictures, reach, sameness
from gapless.report.thumbnails import png_uri
from gapless.study import Comparison
from gapless.training.evaluation import LIVE_NATS
from gapless.workplaces import environment

__all__ = ["render_report", "write_report"]

EXPLAINED = {
    "ae": "Reconstruction alone. Each item becomes one point, placed wherever that helps the decoder.",
    "kl-only": "Regularization alone. Each item becomes the same cloud, N(0, I); nothing is asked of the decoder.",
    "vae": "Both. Each item becomes a small cloud, and together the clouds are pulled into N(0, I).",
}


def write_report(comparison: Comparison, path: str | Path) -> Path:
    """Write the report as one self-contained HTML file and return its path."""
    path = Path(path)
    write_atomic(path, render_report(comparison).encode("utf-8"))
    return path


def render_report(comparison: Comparison) -> str:
    """The report as HTML: pictures inside, no script, no link to anything outside."""
    pictures = Pictures(comparison)
    names = list(comparison.runs)
    first = next(iter(comparison.runs.values()))
    return _template().render(
        title=_title(first.data.source),
        heading="What the regularization is for" if len(names) > 1 else f"Audit of {TITLES.get(names[0], names[0])}",
        data=first.data,
        settings=first.settings,
        models=[_model(comparison, pictures, name) for name in names],
        pair=pictures.pair(),
        shown=pictures.shown,
        originals=png_uri(pictures.originals()),
        grid_is_slice=first.settings.latent > 2,
        kl_bars=png_uri(kl_figure({TITLES.get(n, n): _sorted_kl(comparison, n) for n in names}, LIVE_NATS)),
        training=png_uri(training_figure({TITLES.get(n, n): comparison.runs[n].history for n in names})),
        live_nats=LIVE_NATS,
        audit=_audit(comparison, pictures),
        titles=TITLES,
        environment=environment(),
        version=gapless.__version__,
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    source = resources.files("gapless.report").joinpath("template.html").read_text("utf-8")
    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["nats"] = _nats
    return made.from_string(source)


def _model(comparison: Comparison, pictures: Pictures, name: str) -> dict[str, Any]:
    run, held = comparison.runs[name], comparison.runs[name].held_out
    return {
        "name": name,
        "title": TITLES.get(name, name),
        "explained": EXPLAINED.get(name, ""),
        "held": held,
        "beta": run.effective_beta,
        "parameters": sum(p.numel() for p in run.model.parameters() if p.requires_grad),
        "live": sum(held["live"]),
        "sentences": _sentences(comparison, pictures, name),
        "map": png_uri(pictures.map(name)),
        "axes": pictures.axes(name),
        "grid": png_uri(pictures.grid(name)),
        "samples": png_uri(pictures.samples(name)),
        "reconstructions": png_uri(pictures.reconstructions(name)),
        "interpolation": png_uri(pictures.interpolation(name)),
        "traversals": [(feature, live, text, png_uri(p)) for feature, live, text, p in pictures.traversals(name)],
    }


def _audit(comparison: Comparison, pictures: Pictures) -> dict[str, Any] | None:
    audit = comparison.audit
    if audit is None:
        return None
    shared = {"items": audit.items, "kind": pictures.kind, "low": pictures.low, "high": pictures.high}
    found = {
        name: Findings(name, audit.cards[name], comparison.model(name).cpu(), axes=pictures.axes(name), **shared)
        for name in comparison.runs
    }
    first, last = pictures.pair()
    return audit_context(found, audit.cards, audit, (pictures.items[first], pictures.items[last]))


def _sentences(comparison: Comparison, pictures: Pictures, name: str) -> list[str]:
    """What the numbers of this model say, in words; nothing here is assumed from the model's name."""
    statistics, held = comparison.statistics[name], comparison.runs[name].held_out
    radius, outside = reach(statistics.loc)
    latent, variety = statistics.loc.shape[1], sameness(pictures, name)
    expected = chi_quantile(latent)
    if not any(held["live"]):
        where = f"All codes sit on one point: no latent feature tells the items apart (KL {_nats(held['kl'])} nats)."
    elif radius > 1.4 * expected:
        where = f"95 % of the codes lie within radius {radius:.1f}; for N(0, I) that radius is {expected:.1f}."
    elif radius < expected / 1.4:
        where = f"95 % of the codes lie within radius {radius:.1f}, well inside the rings (N(0, I): {expected:.1f})."
    else:
        where = f"The codes fill the rings: 95 % lie within radius {radius:.1f} (N(0, I): {expected:.1f})."
    if outside > 0.05 and latent <= 3:
        where += f" {outside:.0%} lie outside the last ring."
    keeps = f"The reconstructions keep {variety:.0%} of the variety of the items."
    if variety < 0.01:
        keeps = (
            "Every reconstruction is the same picture."
            if pictures.kind == "image"
            else "Every reconstruction is the same row."
        )
    return [where, keeps]


def chi_quantile(latent: int, probability: float = 0.95) -> float:
    """The radius that holds this share of N(0, I) in `latent` dimensions."""
    from scipy.stats import chi

    return float(chi.ppf(probability, latent))


def _sorted_kl(comparison: Comparison, name: str) -> list[float] | None:
    values = comparison.runs[name].held_out["kl_per_feature"]
    return None if values is None else sorted(values, reverse=True)


def _nats(value: float | None, sign: str = "") -> str:
    if value is None or not math.isfinite(value):
        return f"{sign}∞"
    small = abs(value) < 0.01 and value != 0
    return f"{value:.2g}".replace("-", "−") if small else f"{value:.2f}".replace("-", "−")


def _title(source: str) -> str:
    return Path(source).name or source
