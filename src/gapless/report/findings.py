"""The audit's part of the report: the card in words, and the pictures that are its evidence."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gapless.adapters import subject
from gapless.audit import Scorecard
from gapless.audit.card import HEADLINE
from gapless.audit.continuity import jump_profile
from gapless.audit.subject import Probe
from gapless.audit.verdict import BANDS, level
from gapless.model import Model
from gapless.report.maps import curve_figure, dimension_figure, field_map, frame_of, jump_figure
from gapless.report.thumbnails import framed, png_uri, sheet, thumbnails

__all__ = ["NAMES", "Findings"]

NAMES = {
    "smoothness": ("smoothness", "a small nudge changes the output 1/C times more than for the smoothest decoder"),
    "evenness": ("evenness", "1: constant speed on the way between two items; low: all the change in one jump"),
    "cliff_free": ("cliff-free", "share of small steps without a jump"),
    "data_like": ("data-like draws", "share of draws that decode to something like the data"),
    "coverage": ("coverage", "how much of the space one draws from is filled by codes (at most)"),
    "identification": ("identification", "does a decode find its own item among 1,000; 0 is chance"),
    "explained_variance": ("explained variance", "R² of the reconstruction from one draw of the code"),
}  # fmt: skip
LEG_OF = {"smoothness": "continuity", "evenness": "continuity", "cliff_free": "continuity",
          "data_like": "completeness", "coverage": "completeness",
          "identification": "informativeness", "explained_variance": "informativeness"}  # fmt: skip
FIELD, WORST, PLAIN = 44, 14, ("ppca", "collapsed")


@dataclass
class Findings:
    """Pictures and words of one model's scorecard.

    Args:
        name: the model's name.
        card: its scorecard.
        model: the model.
        items: the audited items, model units.
        kind: "image" or "table".
        low: value shown as black.
        high: value shown as white.
        axes: the two latent features of its maps.
    """

    name: str
    card: Scorecard
    model: Model
    items: Tensor
    kind: str
    low: float
    high: float
    axes: list[int]

    def __post_init__(self):
        self.probe = Probe(subject(self.model, reference="none"), seed=self.card.about["seed"])
        codes = self.card.evidence["codes"]
        self.half = frame_of(codes.loc[:, self.axes])
        self.base = codes.loc.mean(0)

    def gap_map(self) -> bytes:
        """Density of the codes over that of the reference law, log10, with numbered holes, on the plane of the map."""
        codes, law = self.card.evidence["codes"], self.card.evidence["law"]
        drawn = law.sample(4000, np.random.default_rng(0))[:, self.axes]
        ratio = _log_ratio(codes.draws[:4000][:, self.axes], drawn, self._lattice())
        marks = [(hole.centre[self.axes], f"{number}") for number, hole in enumerate(self.card.holes, start=1)]
        return field_map(
            ratio.reshape(FIELD, FIELD), self.half, axes=self.axes, marks=marks, label="log10 codes / law", signed=True
        )

    def stretch(self) -> np.ndarray:
        """How fast the output changes with the code, in the law's units: log10 |J S^(1/2)| on the plane of the map."""
        spread = self.card.evidence["law"].sample(4000, np.random.default_rng(0)).std(0)
        here, step = self._place(self._lattice()), 2 * self.half / FIELD / 20
        start, square = self.probe.phi(here), np.zeros(len(here))
        for axis in sorted(set(self.axes)):
            moved = here.copy()
            moved[:, axis] += step
            square += np.square(self.probe.phi(moved) - start).sum(1) * (spread[axis] / step) ** 2
        return np.log10(np.sqrt(square) + 1e-9).reshape(FIELD, FIELD)

    def stretch_map(self, stretch: np.ndarray, limits: tuple[float, float]) -> bytes:
        """The picture of `stretch`, with a cross on every jump found.

        Args:
            stretch: what `stretch` gave.
            limits: what is shown darkest and brightest, the same for all models.
        """
        cliffs = [((cliff.left + cliff.right)[self.axes] / 2, "×") for cliff in self.card.cliffs if cliff.jump]
        return field_map(
            stretch, self.half, axes=self.axes, marks=cliffs, label="log10 stretch", signed=False, limits=limits
        )

    def worst(self) -> dict[str, Any]:
        """The draws least like the data, worst first, each above its nearest item; framed red beyond the threshold."""
        like, rows = self.card.evidence["like"], self.card.evidence["rows"]
        order = np.argsort(-like.scores, kind="stable")
        shown = np.unique(np.concatenate([order[:WORST]]), return_index=True)
        chosen = order[:WORST] if len(shown[0]) == WORST else shown[0]
        draws = self._thumbs(self._decode(like.draws[chosen]))
        near = self._thumbs(self.items[rows[like.nearest[chosen]]].numpy())
        beyond = like.scores[chosen] > 1
        flagged = float((like.scores > 1).mean())
        return {
            "draws": png_uri(sheet(framed(draws, beyond), len(chosen), gap=2)),
            "nearest": png_uri(sheet(framed(near, np.zeros(len(chosen), bool)), len(chosen), gap=2)),
            "share": flagged,
            "count": len(like.scores),
            "expected": like.threshold_rate,
            "highest": float(like.scores.max()),
            "all_beyond": bool(beyond.all()),
            "beyond": int(beyond.sum()),
        }

    def jumps(self, start: Tensor, end: Tensor) -> np.ndarray:
        """Change per step of phi on the straight way between the embeddings of two items."""
        with torch.no_grad():
            first, last = self.model.embed(torch.stack([start, end])).double().numpy()
        return jump_profile(self.probe, self.card.evidence["law"], first, last, steps=48)

    def rows(self) -> list[dict[str, Any]]:
        """The seven numbers for a table."""
        return [_row(name, self.card) for name in HEADLINE]

    def holes(self) -> list[dict[str, Any]]:
        """The largest holes: mass, place in words, and the items on both sides as pictures."""
        found = []
        for number, hole in enumerate(self.card.holes[:3], start=1):
            near = self.items[np.asarray(hole.nearest[:2])].numpy()
            middle = self._decode(hole.centre[None])
            parts = [near[:1], middle, near[1:2]] if len(near) > 1 else [near, middle]
            pictures = self._thumbs(np.concatenate(parts))
            picture = sheet(
                framed(pictures, np.array([False, True, False])[: len(pictures)]), len(pictures), gap=2, target=300
            )
            place = ", ".join(f"{value:.1f}" for value in hole.centre[:4]) + (", …" if len(hole.centre) > 4 else "")
            found.append({"number": number, "mass": hole.mass, "low": hole.low, "high": hole.high,
                          "place": place, "picture": png_uri(picture)})  # fmt: skip
        return found

    def _lattice(self) -> np.ndarray:
        line = np.linspace(-self.half, self.half, FIELD)
        x, y = np.meshgrid(line, line)
        return np.stack([x.ravel(), y.ravel()], axis=1)

    def _place(self, plane: np.ndarray) -> np.ndarray:
        codes = np.repeat(self.base[None], len(plane), axis=0)
        codes[:, self.axes[1]], codes[:, self.axes[0]] = plane[:, 1], plane[:, 0]
        return codes

    @torch.no_grad()
    def _decode(self, codes: np.ndarray) -> np.ndarray:
        return self.model.decode(torch.as_tensor(codes, dtype=torch.float32)).mean.numpy()

    def _thumbs(self, values: np.ndarray) -> np.ndarray:
        return thumbnails(values, kind=self.kind, low=self.low, high=self.high)


def audit_context(found: dict[str, Findings], cards: dict[str, Scorecard], audit: Any, pair: Any) -> dict[str, Any]:
    """Everything the template needs to show the audit.

    Args:
        found: findings of the compared models, in their order.
        cards: all scorecards, the anchors' among them.
        audit: the study's audit, for what it rests on and the paired differences.
        pair: the two items walked between, model units.
    """
    profiles = {name: one.jumps(*pair) for name, one in found.items()}
    stretches = {name: one.stretch() for name, one in found.items()}
    brightest = max(float(stretch.max()) for stretch in stretches.values())
    limits = (brightest - 2, brightest)
    return {
        "said": audit.said,
        "reference": audit.reference,
        "phi": next(iter(cards.values())).about["phi"],
        "rows": [
            {"name": name, "title": NAMES[name][0], "means": NAMES[name][1], "leg": LEG_OF[name],
             "cells": {card: _row(name, cards[card]) for card in cards}}
            for name in HEADLINE
        ],
        "verdicts": {name: card.verdict for name, card in cards.items()},
        "sensitivity": {name: card.sensitivity.value for name, card in cards.items()},
        "samplers": {name: cards[name].diagnostics["samplers"] for name in found},
        "anchors": [name for name in cards if name in PLAIN],
        "differences": _differences(audit.differences()),
        "curve": png_uri(curve_figure({name: card.diagnostics["curve"] for name, card in cards.items()})),
        "jumps": png_uri(jump_figure(profiles)),
        "dimensions": png_uri(dimension_figure({name: cards[name].diagnostics["features"] for name in found})),
        "models": {
            name: {
                "gap": png_uri(one.gap_map()),
                "stretch": png_uri(one.stretch_map(stretches[name], limits)),
                "worst": one.worst(),
                "holes": one.holes(),
                "cliffs": len(one.card.cliffs),
                "surgery": one.card.diagnostics["surgery"],
                "moments": one.card.diagnostics["moments"]["reading"],
            }
            for name, one in found.items()
        },
    }  # fmt: skip


def _row(name: str, card: Scorecard) -> dict[str, Any]:
    measure = card.measures[name]
    word = level(name, measure) if name in BANDS else None
    return {"value": measure.value, "low": measure.low, "high": measure.high, "n": measure.n,
            "reading": measure.reading, "level": word}  # fmt: skip


def _differences(differences: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row a pair: the numbers on which the interval excludes 0, and those on which it does not."""
    words, rows = {1: "higher in", -1: "lower in", 0: "no difference shown in"}, []
    for pair, found in differences.items():
        first, second = pair.split(" - ")
        named = {sign: [NAMES[d["measure"]][0] for d in found if d["decided"] == sign] for sign in words}
        rows.append(
            {"first": first, "second": second, "found": [(words[s], names) for s, names in named.items() if names]}
        )
    return rows


def _log_ratio(codes: np.ndarray, drawn: np.ndarray, places: np.ndarray) -> np.ndarray:
    """log10 of two kernel densities of one bandwidth, cut to [-2, 2]; places the law hardly visits are not a number."""
    width = 0.5 * drawn.std(0).mean() * len(drawn) ** (-1 / 12)
    ours, theirs = _density(codes, places, width), _density(drawn, places, width)
    ratio = np.log10((ours + 1e-12) / (theirs + 1e-12))
    return np.where(np.maximum(ours, theirs) < 0.03 * theirs.max(), np.nan, np.clip(ratio, -2, 2))


def _density(points: np.ndarray, places: np.ndarray, width: float) -> np.ndarray:
    from scipy.spatial.distance import cdist

    if not width > 0:
        return np.ones(len(places))
    total = np.zeros(len(places))
    for start in range(0, len(points), 1000):
        total += np.exp(-0.5 * np.square(cdist(places, points[start : start + 1000]) / width)).sum(1)
    return total / len(points) / width**2
