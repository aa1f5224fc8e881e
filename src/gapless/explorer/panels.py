"""One model as the page reads it: codes, costs, planes, the audit's findings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gapless import posteriors, priors
from gapless.adapters import subject, suited_reference
from gapless.audit import Law, Scorecard, moments, scorecard
from gapless.audit.card import BUDGETS, LEAST_ITEMS, OUTPUT_BYTES, _rng
from gapless.audit.laws import Gaussian
from gapless.audit.subject import Probe
from gapless.distributions import divergence, divergence_per_feature
from gapless.errors import DataError
from gapless.explorer.items import Shown
from gapless.explorer.planes import Plane, gap_grid, isolation_of, planes_of
from gapless.model import Model
from gapless.randomness import generator
from gapless.runs import Run
from gapless.training import LatentStatistics

__all__ = ["Panel", "panel_of"]

BATCH, DRAWS, PRIOR_DRAWS = 512, 16, 4096
UNAUDITED = 4_000
"""Items whose reconstructions the gap map rests on where no audit was asked for."""


@dataclass
class Panel:
    """One model's part of the scene.

    Attributes:
        document: plain data, as the page reads it.
        blobs: arrays by name.
        planes: planes of its map.
    """

    document: dict[str, Any]
    blobs: dict[str, bytes]
    planes: list[Plane]


@dataclass(frozen=True)
class _Encoded:
    """Of each item: loc and scale (n, d), KL of each feature (n, d) or none, KL (n,) or none, cost (n,) in nats."""

    loc: Tensor
    scale: Tensor
    per_feature: Tensor | None
    kl: Tensor | None
    cost: Tensor


def panel_of(name: str, title: str, run: Run, shown: Shown, *, audit: str, reference: str, seed: int = 0) -> Panel:
    """What the page shows of one model.

    Args:
        name: prefix of its arrays, letters, digits and dashes.
        title: heading.
        run: the model.
        shown: the items.
        audit: none, quick or default.
        reference: reference law of the audit.
        seed: of everything drawn.
    """
    model, point = run.model.cpu().eval(), isinstance(run.model.posterior, posteriors.PointMass)
    found = _encode(model, shown, seed)
    per_feature = None if found.per_feature is None else found.per_feature.mean(0)
    known = LatentStatistics(found.loc, found.scale, per_feature)
    order = known.importance.tolist()
    planes = planes_of(found.loc.numpy(), found.scale.numpy(), order)
    judged = _Judged.of(run, shown, audit=audit, reference=reference, seed=seed)
    beta = run.effective_beta
    document = {
        "name": name,
        "title": title,
        "latent": model.latent,
        "loc": f"{name}.loc",
        "scale": None if point else f"{name}.scale",
        "kl_per_feature": None if per_feature is None else per_feature.tolist(),
        "error": f"{name}.error",
        "kl": None if found.kl is None else f"{name}.kl",
        "live": known.live.tolist(),
        "order": order,
        "effective_beta": beta if np.isfinite(beta) else None,
        "law": judged.law_dict(),
        **judged.findings(),
    }
    blobs = {f"{name}.loc": _floats(found.loc), f"{name}.error": _floats(found.cost)}
    if not point:
        blobs[f"{name}.scale"] = _floats(found.scale)
    if found.kl is not None:
        blobs[f"{name}.kl"] = _floats(found.kl)
    document["prior"] = _prior(name, model, blobs, seed)
    document["planes"] = [_plane(name, number, plane, judged, blobs) for number, plane in enumerate(planes)]
    return Panel(document, blobs, planes)


@torch.no_grad()
def _encode(model: Model, shown: Shown, seed: int) -> _Encoded:
    """Codes and costs of all items; the cost is that of the decode of the code's mean."""
    loc, scale, kl, features, cost, prior = [], [], [], [], [], model.prior_distribution()
    for number, x in enumerate(shown.feed.batches(BATCH)):
        q = model.encode(x)
        loc.append(q.mean)
        scale.append(q.stddev)
        cost.append(-model.decode(q.mean).log_prob(x))
        if isinstance(model.posterior, posteriors.PointMass):
            continue
        split = divergence_per_feature(q, prior)
        if split is not None:
            features.append(split)
        drawn: Any = q  # a posterior's sample takes a generator
        kl.append(
            divergence(q, prior, drawn.sample((DRAWS,), generator=generator(seed, "picture", 3, number)))
            if split is None
            else split.sum(-1)
        )
    return _Encoded(
        torch.cat(loc),
        torch.cat(scale),
        torch.cat(features) if features else None,
        torch.cat(kl) if kl else None,
        torch.cat(cost),
    )


@dataclass(frozen=True)
class _Judged:
    """Which items are judged, their card, or none; the law of distances; what is behind the gap maps."""

    rows: np.ndarray
    card: Scorecard | None
    law: Law
    probe: Probe
    isolation: Any

    @classmethod
    def of(cls, run: Run, shown: Shown, *, audit: str, reference: str, seed: int) -> "_Judged":
        reference, _ = suited_reference(run.model, reference)
        judged = subject(run.model, reference=reference)
        rows = shown.judged(seed=seed)
        items = shown.feed.batch(torch.from_numpy(rows))
        probe = Probe(judged, seed=seed)
        if audit != "none" and len(items) >= LEAST_ITEMS:
            card = scorecard(judged, items, reference=reference, budget=audit, seed=seed)
            codes, law, few = card.evidence["codes"], card.evidence["law"], _reconstructed(audit, items)
            return cls(rows, card, law, probe, isolation_of(probe, codes.draws[:few], _rng(seed, "draws")))
        codes = probe.encode(items[:UNAUDITED], rng=_rng(seed, "encode"))
        law = moments(codes.loc, codes.scale) if reference == "moments" or judged.prior is None else judged.prior
        return cls(rows, None, law, probe, isolation_of(probe, codes.draws, _rng(seed, "draws")))

    def law_dict(self) -> dict[str, Any]:
        """`w = whiten (z - mean)`: codes in the units of the law."""
        normal = self.law if isinstance(self.law, Gaussian) else self.law._normal
        d = len(normal.mean)
        return {"mean": normal.mean.tolist(), "whiten": normal.whiten(normal.mean + np.eye(d)).T.tolist()}

    def findings(self) -> dict[str, Any]:
        """The card, and its holes and cliffs with numbers; `nearest` are rows of the shown items."""
        if self.card is None:
            return {"card": None, "holes": [], "cliffs": []}
        card = self.card.to_dict()
        holes = [
            {"number": i, "place": hole["centre"], "mass": hole["mass"], "low": hole["low"], "high": hole["high"],
             "nearest": self.rows[hole["nearest"][:2]].tolist()}
            for i, hole in enumerate(card["holes"], start=1)
        ]  # fmt: skip
        cliffs = [
            {"number": i, "place": [(a + b) / 2 for a, b in zip(cliff["left"], cliff["right"], strict=True)],
             "from": cliff["left"], "to": cliff["right"], "size": cliff["size"], "width": cliff["width"],
             "nearest": self.rows[cliff["nearest"]].tolist()}
            for i, cliff in enumerate((cliff for cliff in card["cliffs"] if cliff["jump"]), start=1)
        ]  # fmt: skip
        return {"card": card, "holes": holes, "cliffs": cliffs}


def _reconstructed(audit: str, items: Tensor) -> int:
    """How many items the audit decoded for its score of isolation."""
    few = OUTPUT_BYTES // (4 * items[0].numel())
    return min(BUDGETS[audit].reconstructions, max(LEAST_ITEMS, few))


def _prior(name: str, model: Model, blobs: dict[str, bytes], seed: int) -> dict[str, Any]:
    if isinstance(model.prior, priors.StandardNormal):
        return {"kind": "standard_normal"}
    drawn = model.sample_codes(PRIOR_DRAWS, generator=generator(seed, "picture", 4))
    blobs[f"{name}.prior"] = _floats(drawn)
    return {"kind": "samples", "draws": f"{name}.prior"}


def _plane(name: str, number: int, plane: Plane, judged: _Judged, blobs: dict[str, bytes]) -> dict[str, Any]:
    try:
        grid = None if judged.isolation is None else gap_grid(plane, judged.probe, judged.isolation)
    except DataError:  # a decode out there is not finite: the rest can be looked at
        grid = None
    if grid is None:
        return {**plane.to_dict(), "gap": None, "grid": 0}
    blobs[f"{name}.gap.{number}"] = grid.tobytes()
    return {**plane.to_dict(), "gap": f"{name}.gap.{number}", "grid": len(grid)}


def _floats(values: Tensor) -> bytes:
    return values.detach().numpy().astype("<f4").tobytes()
