"""The scorecard: one audit of one subject, from the data to the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gapless.audit import diagnostics as diagnose
from gapless.audit.completeness import DataLike, Isolation, data_like
from gapless.audit.continuity import Smoothness, evenness, smoothness
from gapless.audit.coverage import Coverage, coverage
from gapless.audit.informativeness import explained_variance, identification, neighbour_preservation
from gapless.audit.laws import Law, Mixture, Mixup, moments, standard
from gapless.audit.measure import Measure
from gapless.audit.subject import Codes, Probe, Subject
from gapless.audit.surgery import surgery
from gapless.audit.verdict import levels, verdict
from gapless.errors import DataError, UsageError

__all__ = ["BUDGETS", "HEADLINE", "Budget", "Scorecard", "scorecard"]

HEADLINE = (
    "smoothness", "evenness", "cliff_free", "data_like", "coverage", "identification", "explained_variance",
)  # fmt: skip
LEAST_ITEMS = 50
EX_POST = ("gmm", "mixup")
OUTPUT_BYTES = 400 * 2**20


@dataclass(frozen=True)
class Budget:
    """How much is drawn and decoded; apart from this nothing grows with the data.

    Attributes:
        items: items encoded at most.
        reconstructions: items decoded at most, half of them references.
        draws: draws from the reference law.
        loops: loops walked; None is 128, or 512 at 1 or 2 latent features.
        pairs: segments walked.
        sampler: draws for each row of the sampler table.
        surgery: samples of the aggregate posterior.
        sobol: base samples of the Sobol indices.
        reliability: items of the decode reliability.
    """

    items: int = 20_000
    reconstructions: int = 10_000
    draws: int = 5_000
    loops: int | None = None
    pairs: int = 400
    sampler: int = 1_000
    surgery: int = 2_000
    sobol: int = 128
    reliability: int = 500


BUDGETS = {
    "default": Budget(),
    "quick": Budget(4_000, 2_000, 1_000, 32, 48, 250, 500, 32, 100),
}


@dataclass(frozen=True)
class Scorecard:
    """What the audit found.

    Attributes:
        smoothness: C of a small nudge: 1 for the smoothest decoder of equal variety.
        evenness: 1 for constant speed between two items.
        cliff_free: share of steps without a jump.
        data_like: share of draws that decode to something like the data.
        coverage: how much of the reference law the codes fill.
        identification: whether a decode finds its own item again.
        explained_variance: R^2 of the sampled reconstruction.
        sensitivity: share of planted ghosts that the data-like measure recognises.
        holes: regions of the law without codes, largest first; `nearest` are rows of the data given.
        cliffs: places where the output jumps, largest first.
        diagnostics: everything under the headline, plain data.
        verdict: the audit in words.
        reference: name of the reference law.
        levels: good, partial or weak, by leg.
        about: n, d, phi, budget, seed, decodes.
        evidence: arrays behind the pictures (codes, draws, scores, rows); not part of `to_dict`.
    """

    smoothness: Measure
    evenness: Measure
    cliff_free: Measure
    data_like: Measure
    coverage: Measure
    identification: Measure
    explained_variance: Measure
    sensitivity: Measure
    holes: tuple[Any, ...]
    cliffs: tuple[Any, ...]
    diagnostics: dict[str, Any]
    verdict: str
    reference: str
    levels: dict[str, str | None]
    about: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def measures(self) -> dict[str, Measure]:
        """The seven headline numbers by name."""
        return {name: getattr(self, name) for name in HEADLINE}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON: numbers that are not finite become None."""
        return _plain(
            {
                "verdict": self.verdict,
                "levels": self.levels,
                "reference": self.reference,
                **{name: measure.to_dict() for name, measure in self.measures.items()},
                "sensitivity": self.sensitivity.to_dict(),
                "holes": [vars(hole) for hole in self.holes],
                "cliffs": [{**vars(cliff), "nearest": self._beside(cliff)} for cliff in self.cliffs],
                "diagnostics": self.diagnostics,
                "about": self.about,
            }
        )

    def _beside(self, cliff: Any) -> list[int]:
        """Rows of the items whose codes are nearest to the two sides of a cliff."""
        loc, rows = self.evidence["codes"].loc, self.evidence["rows"]
        sides = (cliff.left, cliff.right)
        return [int(rows[np.square(loc - side).sum(1).argmin()]) for side in sides]


def scorecard(
    subject: Subject,
    x: Any,
    *,
    reference: str | Law = "declared",
    features: Callable[[np.ndarray], Any] | None = None,
    budget: str | Budget = "default",
    labels: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
) -> Scorecard:
    """Audit an autoencoder: continuity, completeness, informativeness, each with a 95 % interval and its evidence.

    The same seed gives the same card bit for bit, and the same draws, pairs and subsets to every subject audited with
    it, so that two cards can be compared number by number (`paired`).

    Args:
        subject: the two callables.
        x: items, shape (n, *event), in the units of `decode`; held-out items where there are enough. At least 50.
        reference: "declared" (the subject's prior; N(0, I) where there is none but encode gives scales), "moments"
            (mean and covariance of the encodings: the law under which an AE can be compared with a VAE), "gmm" or
            "mixup" (ex post), or a law of your own.
        features: outputs (n, *event) -> (n, k): the space outputs are compared in; the outputs themselves by default.
        budget: "default", "quick" (a sixth of the decodes) or a `Budget`.
        labels: class of each item, kept with the evidence for pictures; they change no number.
        seed: seed of everything drawn.

    Raises:
        DataError: fewer than 50 items, items that are not finite, or a callable that gives wrong shapes or values.
        UsageError: an unknown reference or budget.
    """
    plan = _budget(budget)
    items, rows = _items(x, plan, seed)
    probe = Probe(subject, features=features, seed=seed)
    codes = probe.encode(items, rng=_rng(seed, "encode"))
    ex_post = isinstance(reference, str) and reference in EX_POST
    fitted, judged_codes = _halves(codes) if ex_post else (codes.draws, codes.draws)
    law = _law(reference, subject, codes, fitted, seed=seed)
    judged_rows = rows[::2] if ex_post else rows
    seen = _outputs(probe, codes, items, plan)
    walked = smoothness(probe, law, rng=_rng(seed, "loops"), seed=seed, loops=plan.loops)
    even = evenness(probe, law, codes.draws, rng=_rng(seed, "pairs"), seed=seed, pairs=plan.pairs)
    like = data_like(probe, law, seen.phi, seen.outputs, rng=_rng(seed, "draws"), seed=seed, draws=plan.draws)
    filled = coverage(law, judged_codes, rng=_rng(seed, "coverage"), seed=seed, draws=plan.draws)
    found = identification(seen.items_phi, seen.phi, rng=_rng(seed, "identify"), seed=seed)
    measures: dict[str, Measure] = {
        "smoothness": walked.smoothness,
        "evenness": even,
        "cliff_free": walked.cliff_free,
        "data_like": like.data_like,
        "coverage": filled.coverage,
        "identification": found.identification,
        "explained_variance": explained_variance(_flat(seen.items), _flat(seen.outputs), seed=seed),
    }
    under = {
        **_under(probe, codes, law, subject, plan, seed, seen.items_phi),
        "curve": {str(lag): list(point) for lag, point in walked.curve.items()},
        "top1": found.top1.to_dict(),
        "typical_rank": found.typical_rank,
        "hole_mass": filled.hole_mass.to_dict(),
        "strays": filled.strays.to_dict(),
        "samplers": _samplers(probe, subject, codes, seen.phi, plan, seed),
    }
    judged = {**measures, "sensitivity": like.sensitivity}
    return Scorecard(
        **measures,
        sensitivity=like.sensitivity,
        holes=tuple(replace(hole, nearest=judged_rows[hole.nearest]) for hole in filled.holes),
        cliffs=walked.cliffs,
        diagnostics=under,
        verdict=verdict(judged, jumps=any(cliff.jump for cliff in walked.cliffs)),
        reference=law.name,
        levels=levels(judged),
        about=_about(x, codes, probe, budget, seed),
        evidence=_evidence(codes, rows, labels, like, law, walked, filled),
    )


@dataclass(frozen=True)
class _Seen:
    """The decoded items: values and outputs (few, *event), and both in the feature space (few, k)."""

    items: np.ndarray
    outputs: np.ndarray
    items_phi: np.ndarray
    phi: np.ndarray


def _outputs(probe: Probe, codes: Codes, items: Any, plan: Budget) -> _Seen:
    """Decode one draw an item, as many as fit the budget and the memory."""
    event = tuple(items.shape[1:])
    size = int(np.prod(event))
    few = min(len(codes), plan.reconstructions, max(LEAST_ITEMS, OUTPUT_BYTES // (4 * size)))
    values, outputs = _values(items[:few]), probe.decode(codes.draws[:few])
    if outputs.shape[1] != size:
        raise DataError(
            f"decode gives {outputs.shape[1]} values an item, the items have {size}",
            where="decode", fix="give items and outputs in the same units and shape",
        )  # fmt: skip
    shaped = outputs.reshape(few, *event)
    return _Seen(values, shaped, probe.phi_of(values), probe.phi_of(shaped))


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _budget(budget: str | Budget) -> Budget:
    if isinstance(budget, Budget):
        return budget
    if budget not in BUDGETS:
        raise UsageError(f"there is no budget {budget!r}", fix=f"use one of {', '.join(BUDGETS)}")
    return BUDGETS[budget]


STAGES = ("items", "encode", "law", "loops", "pairs", "draws", "coverage", "identify", "sobol", "icc", "surgery",
          "sampler", "distance")  # fmt: skip


def _rng(seed: int, stage: str) -> np.random.Generator:
    """A stream of its own for every stage, so that a change in one shifts nothing in the others."""
    return np.random.default_rng([seed, STAGES.index(stage), 20261])


def _items(x: Any, plan: Budget, seed: int) -> tuple[Any, np.ndarray]:
    """At most `plan.items` items in a random order, and which rows of x they are."""
    x = x if hasattr(x, "shape") else np.asarray(x)
    if len(x) < LEAST_ITEMS:
        raise DataError(
            f"an audit needs at least {LEAST_ITEMS} items; got {len(x)}: with fewer every interval covers everything",
            fix="give more held-out items",
        )
    rows = _rng(seed, "items").permutation(len(x))[: plan.items]
    chosen = x[rows]
    bad = ~np.isfinite(_values(chosen)).reshape(len(rows), -1).all(1)
    if bad.any():
        raise DataError("the items are not all finite", where=f"item {rows[bad][0]}", fix="remove or repair them")
    return chosen, rows


def _values(items: Any) -> np.ndarray:
    return np.asarray(items.detach().cpu().numpy() if hasattr(items, "detach") else items, dtype=np.float32)


def _halves(codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Draws a law is fitted to, and draws it is judged by."""
    return codes.draws[1::2], codes.draws[::2]


def _law(reference: str | Law, subject: Subject, codes: Codes, fitted: np.ndarray, *, seed: int) -> Law:
    if isinstance(reference, Law):
        law = reference
    elif reference == "declared":
        fallback = moments(codes.loc, codes.scale) if codes.point else standard(codes.loc.shape[1])
        law = subject.prior or fallback
    elif reference == "moments":
        law = moments(codes.loc, codes.scale)
    elif reference == "gmm":
        law = Mixture.fit(fitted, 10, seed=seed)
    elif reference == "mixup":
        law = Mixup(fitted)
    else:
        raise UsageError(f"there is no reference {reference!r}", fix="use declared, moments, gmm, mixup or a law")
    if law.dimension != codes.loc.shape[1]:
        raise DataError(f"the reference law has {law.dimension} dimensions, the codes {codes.loc.shape[1]}")
    return law


def _under(
    probe: Probe, codes: Codes, law: Law, subject: Subject, plan: Budget, seed: int, phi: np.ndarray
) -> dict[str, Any]:
    """Everything under the headline that is told for its own sake."""
    used = diagnose.total_sobol(probe, law, rng=_rng(seed, "sobol"), n=plan.sobol)
    described = diagnose.features(codes, used)
    states = [feature.state for feature in described]
    declared = subject.prior is None or subject.prior.name == "N(0, I)"
    cut = None if codes.point or not declared else surgery(codes, rng=_rng(seed, "surgery"), samples=plan.surgery)
    return {
        "surgery": None if cut is None else vars(cut),
        "features": [vars(feature) for feature in described],
        "states": {state: states.count(state) for state in ("live", "ignored", "noise", "dead")},
        "moments": diagnose.moments_check(codes),
        "radius": diagnose.radius(codes.draws),
        "reliability": diagnose.icc(probe, codes, rng=_rng(seed, "icc"), seed=seed, items=plan.reliability).to_dict(),
        **_distances(codes, law, _rng(seed, "distance")),
        "neighbours": neighbour_preservation(phi[:1000], codes.loc[: len(phi)][:1000]),
    }


def _distances(codes: Codes, law: Law, rng: np.random.Generator) -> dict[str, Any]:
    """Codes against draws of the law, both whitened; a law of rank 0 is a point and has no distances."""
    sample = min(1000, len(codes))
    ours, drawn = law.whiten(codes.draws[:sample]), law.whiten(law.sample(sample, rng))
    if not ours.shape[1]:
        return {"mmd": None, "sliced_w2": None}
    squared, p = diagnose.mmd(ours, drawn, rng=rng)
    return {"mmd": {"squared": squared, "p": p}, "sliced_w2": diagnose.sliced_w2(ours, drawn, rng=rng)}


def _samplers(
    probe: Probe, subject: Subject, codes: Codes, outputs_phi: np.ndarray, plan: Budget, seed: int
) -> list[dict[str, Any]]:
    """Data-like draws under laws one could sample from, fitted to one half of the codes and judged by the other."""
    fitted, _ = _halves(codes)
    fitted = fitted[:5000]
    laws: list[Law] = [] if subject.prior is None and codes.point else [subject.prior or standard(fitted.shape[1])]
    laws += [moments(codes.loc, codes.scale), *(Mixture.fit(fitted, k, seed=seed) for k in (10, 50)), Mixup(fitted)]
    isolation = Isolation.fit(outputs_phi[::2], rng=_rng(seed, "sampler"))
    table = []
    for law in laws:
        gap, flags = isolation.gap(probe.phi(law.sample(plan.sampler, _rng(seed, "sampler"))))
        error = float(flags.std() / np.sqrt(len(flags)) / (1 - isolation.alpha))
        table.append({"law": law.name, "data_like": float(np.clip(1 - gap, 0, 1)), "standard_error": error})
    return table


def _about(x: Any, codes: Codes, probe: Probe, budget: str | Budget, seed: int) -> dict[str, Any]:
    return {
        "items_given": len(x),
        "items": len(codes),
        "latent": codes.loc.shape[1],
        "posterior": "point" if codes.point else "distribution",
        "phi": probe.phi_name,
        "budget": budget if isinstance(budget, str) else "custom",
        "decodes": probe.decodes,
        "seed": seed,
    }


def _evidence(
    codes: Codes, rows: np.ndarray, labels: Any, like: DataLike, law: Law, walked: Smoothness, filled: Coverage
) -> dict[str, Any]:
    return {
        "codes": codes,
        "rows": rows,
        "labels": None if labels is None else np.asarray(labels)[rows],
        "like": like,
        "law": law,
        "walked": walked,
        "filled": filled,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value
