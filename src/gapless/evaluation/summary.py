"""Everything that can be said of a trained model on given items, in one call."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gapless.conditions import classified, labelled
from gapless.data import Feed, Items, factors_of
from gapless.errors import DataError, UsageError
from gapless.evaluation.bits import Bits, counting_of
from gapless.evaluation.bounds import MEMORY, Bounds, chosen_items, measured_bounds
from gapless.evaluation.codes import Codes, posterior_means
from gapless.evaluation.factors import Disentanglement, disentanglement
from gapless.evaluation.generation import Compared, Extractor, check_features, compared, generated_items
from gapless.evaluation.reconstructions import Errors, reconstruction_errors
from gapless.runs import Run, load_run
from gapless.training import evaluate as trained_objective

__all__ = ["Summary", "evaluate"]

MOST_COMPARED, FEWEST_COMPARED, MOST_VALUES = 5000, 200, 1 << 24
MOST_FACTORED = 10_000

Features = Sequence[str] | Mapping[str, Extractor]


@dataclass(frozen=True)
class Summary:
    """What a trained model is worth on given items; all in nats an item unless a name says otherwise.

    Attributes:
        recipe: name of the recipe.
        said: which items, one sentence.
        bounds: terms of the ELBO and the importance-weighted bound.
        loss: the trained objective on the same items.
        effective_beta: weight of the KL per unit weight of the reconstruction; None where it is infinite.
        bits: bits per dimension, or why there are none.
        errors: of reconstructions; None where p(x|z) has no mean.
        codes: means of the posteriors, with the active units.
        factors: scores against known factors; None where none are known.
        likeness: generated against real items, one entry for each kind of features asked for.
        columns: names of the data features of a table, () for images.
        moved: what moves codes after they are drawn from q(z|x), in the bound that was trained; None in most.
    """

    recipe: str
    said: str
    bounds: Bounds
    loss: float
    effective_beta: float | None
    bits: Bits
    errors: Errors | None
    codes: Codes
    factors: Disentanglement | None
    likeness: tuple[Compared, ...]
    columns: tuple[str, ...]
    moved: str | None = None

    @property
    def kl_by_feature(self) -> dict[str, float]:
        """KL of each latent feature, highest first; empty where the KL does not split."""
        kl = self.bounds.kl_per_feature
        return {} if kl is None else _ranked([f"z_{j}" for j in range(len(kl))], kl.numpy())

    @property
    def reconstruction_by_column(self) -> dict[str, float]:
        """-E log p(x_i|z) of each column of a table, most expensive first; empty for images."""
        values = self.bounds.reconstruction_per_feature
        return {} if values is None or not self.columns else _ranked(list(self.columns), values.numpy())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know before quoting the numbers."""
        found, evidence = [], self.bounds.evidence
        if self.moved is not None:
            found.append(
                "ELBO and log p(x) are bounds with draws of plain q(z|x); the bound that was trained, with codes moved "
                f"by {self.moved}, is {-self.loss:.2f}: minus the trained objective"
            )
        if evidence is None:
            found.append("no log p(x): the codes of this model, or its likelihood, have no density")
        elif evidence.dominated:
            found.append(
                f"for {evidence.dominated:,} of {len(evidence.per_item):,} items a single draw carries over half of "
                "the weight: there the bound is loose and its error understated; give more --samples"
            )
        if self.bits.value is None and "cross-entropy" in self.bits.how:
            found.append(
                "the likelihood is a cross-entropy of grey values, no density: compare its nats only with models of "
                "the same likelihood and data"
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON but for infinite values (an autoencoder's KL)."""
        return {
            "recipe": self.recipe,
            "items": self.said,
            "elbo": self._elbo(),
            "evidence": self._evidence(),
            "bits_per_dim": {"value": self.bits.value, "how": self.bits.how},
            "reconstruction_errors": None if self.errors is None else self.errors.to_dict(),
            "active_units": {
                "count": int(self.codes.active.sum()),
                "latent": len(self.codes.active),
                "activity": self.codes.activity.tolist(),
                "active": self.codes.active.tolist(),
            },
            "factors": None if self.factors is None else self.factors.to_dict(),
            "likeness": [one.to_dict() for one in self.likeness],
            "warnings": list(self.warnings),
        }

    def _elbo(self) -> dict[str, Any]:
        values, features = self.bounds, self.bounds.reconstruction_per_feature
        return {
            "reconstruction": float(values.reconstruction.mean()),
            "kl": float(values.kl.mean()),
            "elbo": values.elbo,
            "standard_error": values.elbo_standard_error,
            "loss": self.loss,
            "effective_beta": self.effective_beta,
            "kl_per_feature": None if values.kl_per_feature is None else values.kl_per_feature.tolist(),
            "reconstruction_per_feature": None
            if features is None
            else self.reconstruction_by_column or features.tolist(),
        }

    def _evidence(self) -> dict[str, Any] | None:
        found = self.bounds.evidence
        if found is None:
            return None
        return {
            "log_prob_at_least": found.value,
            "samples": found.samples,
            "items": len(found.per_item),
            "standard_error": found.standard_error,
            "monte_carlo_error": found.monte_carlo_error,
            "looseness": found.looseness,
            "effective_sample_size": {
                "median": float(found.effective.median()), "smallest": float(found.effective.min()),
            },
            "largest_weight": float(found.largest.max()),
            "dominated": found.dominated,
        }  # fmt: skip


def evaluate(
    run: Run | str | Path,
    data: Any = None,
    *,
    samples: int = 5000,
    items: int | None = None,
    factors: Mapping[str, np.ndarray] | None = None,
    features: Features = (),
    seed: int = 0,
    memory: int = MEMORY,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Evaluate a trained model: both bounds, bits, active units, reconstructions, factors, generated items.

    Args:
        run: a run, or its folder.
        data: other data of the same kind, all its items; the held-out items of the run's own data by default.
        samples: draws an item for the importance-weighted bound, at least 1.
        items: a random subset of so many items; all of them by default.
        factors: values by name, one for every item of the data in its order (the whole source, not a part); by default
            those the data is known to be made from.
        features: kinds of features to compare generated items on: pixels, pca, embedding, "REAL.npy,GENERATED.npy"; or
            callables by name, from items (n, *event) in model units to (n, D).
        seed: of everything drawn.
        memory: bytes for decoding.
        progress: told of (items done, items) while the bound is computed.

    Raises:
        UsageError: an argument that cannot be used.
        DataError: data that cannot be read or does not fit the model.
    """
    run = run if isinstance(run, Run) else load_run(run)
    work = _Work.of(run, data, items=items, seed=seed)
    options: dict[str, Any] = {"samples": samples, "seed": seed, "memory": memory}
    kinds = _kinds(features)
    for kind in kinds:
        check_features(kind)
    work.check_comparable(kinds, seed)
    known = factors if factors is not None else factors_of(run.data.source if data is None else data)
    work.check_factors(known)
    found = measured_bounds(run.model, work.feed, work.positions, **options, progress=progress)
    return Summary(
        recipe=run.recipe,
        said=work.said,
        bounds=found,
        loss=work.loss(seed),
        effective_beta=run.effective_beta if math.isfinite(run.effective_beta) else None,
        bits=work.bits(found, options),
        errors=reconstruction_errors(run.model, work.feed, work.positions),
        codes=posterior_means(run.model, work.feed, work.positions),
        factors=work.factors(known, seed) if known else None,
        likeness=work.likeness(kinds, seed),
        columns=run.data.columns,
        moved=run.objective.moved,
    )


@dataclass(frozen=True)
class _Work:
    """A model in evaluation mode and the items it is evaluated on; of unknown classes the most probable ones."""

    run: Run
    feed: Feed
    positions: torch.Tensor
    training: Items | None
    said: str
    as_read: Items

    @classmethod
    def of(cls, run: Run, data: Any, *, items: int | None, seed: int) -> "_Work":
        run.model.eval()
        if data is None:
            read = run.data.read()
            part, training = (labelled(run, items, read.label_names) for items in (read.held_out, read.train))
            name = "held-out items"
        else:
            part, training, name = labelled(run, *run.data.read_items(data)), None, "items"
        positions = chosen_items(len(part), items, seed=seed)
        device = next(run.model.parameters()).device
        count = f"{len(part):,} {name}"
        said = count if len(positions) == len(part) else f"{len(positions):,} of {count}, chosen at random"
        feed = Feed(part, run.scaling, device=device)
        return cls(run, classified(run.model, run.objective, feed), positions, training, said, part)

    @property
    def items(self) -> Items:
        """The items chosen, with the classes they were read with."""
        return self.as_read.at(self.positions.numpy())

    def loss(self, seed: int) -> float:
        """The trained objective."""
        feed = Feed(self.items, self.run.scaling, device=self.feed.device)
        objective = self.run.objective.to(self.feed.device)
        return trained_objective(self.run.model, objective, feed, seed=seed, step=objective.steps or 0).loss

    def bits(self, found: Bounds, options: dict[str, Any]) -> Bits:
        """Bits per dimension; dequantised values need the bound once more."""
        counting = counting_of(self.run.model.likelihood, self.items, self.run.scaling)
        if not counting.known or found.evidence is None:
            return Bits(None, counting.how if found.evidence is not None else "points have no density")
        if counting.bin_width is not None:
            noisy = measured_bounds(self.run.model, self.feed, self.positions, **options, bin_width=counting.bin_width)
            found = noisy if noisy.evidence is not None else found
        assert found.evidence is not None
        return counting.bits(found.evidence.value, self.feed.event_shape)

    def check_factors(self, known: Mapping[str, np.ndarray]) -> None:
        """Refuse factors that do not go with the items."""
        items = len(self.feed.items.values)
        for name, values in known.items():
            if len(values) != items:
                raise UsageError(
                    f"the factor {name!r} has {len(values):,} values; the data has {items:,} items", where="factors",
                    fix="give one value for every item of the data, in its order",
                )  # fmt: skip

    def check_comparable(self, kinds: Sequence[str | tuple[str, Extractor]], seed: int) -> None:
        """Refuse features that these items, or this model, do not have."""
        if "embedding" in kinds and self.run.model.context:
            raise UsageError(
                "a conditional model has another embedding for every label or covariate",
                where="features",
                fix="use pixels or pca",
            )
        broken = int(np.isnan(self._real(seed)).reshape(len(self._compared(seed)), -1).any(1).sum()) if kinds else 0
        if broken:
            raise DataError(
                f"{broken:,} of the items have missing values: generated items are compared with whole ones",
                where="features",
                fix="fill them first, gapless impute RUN -o FILE, and evaluate the run on that file",
            )

    def _compared(self, seed: int) -> torch.Tensor:
        """Positions of the items that generated ones are compared with."""
        most = min(MOST_COMPARED, max(FEWEST_COMPARED, MOST_VALUES // math.prod(self.feed.event_shape)))
        return chosen_items(len(self.feed), most, seed=seed)

    def _real(self, seed: int) -> np.ndarray:
        return self.feed.batch(self._compared(seed)).cpu().numpy()

    def factors(self, known: Mapping[str, np.ndarray], seed: int) -> Disentanglement:
        """Scores on all items, training items too, as published: mutual information of few items comes out too high."""
        everything = self.feed.items if self.training is None else _joined(self.feed.items, self.training)
        rows = chosen_items(len(everything), MOST_FACTORED, seed=seed)
        feed = classified(
            self.run.model, self.run.objective, Feed(everything, self.run.scaling, device=self.feed.device)
        )
        means, index = posterior_means(self.run.model, feed, rows).loc, everything.index[rows.numpy()]
        return disentanglement(means, {name: np.asarray(values)[index] for name, values in known.items()}, seed=seed)

    def likeness(self, kinds: Sequence[str | tuple[str, Extractor]], seed: int) -> tuple[Compared, ...]:
        """Generated items against real ones, at most 5,000 a side, equally many; fewer where they are large."""
        if not kinds:
            return ()
        rows, real = self._compared(seed), self._real(seed)
        # grey pictures are shown as their means, and judged as they are shown; bits and rows of tables are draws
        noise = self.run.data.kind == "table" or self._discrete()
        made = generated_items(self.run.model, self.feed.items.at(rows.numpy()), noise=noise, seed=seed)
        training = self._training(len(real), seed)
        return tuple(
            compared(kind, self.run.model, real=real, generated=made, training=training, drawn=noise) for kind in kinds
        )

    def _discrete(self) -> bool:
        counting = counting_of(self.run.model.likelihood, self.items, self.run.scaling)
        return counting.known and counting.bin_width is None

    def _training(self, count: int, seed: int) -> np.ndarray | None:
        if self.training is None or len(self.training) < count:
            return None
        rows = chosen_items(len(self.training), count, seed=seed)
        return Feed(self.training, self.run.scaling).batch(rows).numpy()


def _joined(first: Items, second: Items) -> Items:
    labels, covariates = (
        None if ours is None or theirs is None else np.concatenate([ours, theirs])
        for ours, theirs in ((first.labels, second.labels), (first.covariates, second.covariates))
    )
    return Items(first.values, labels, np.concatenate([first.index, second.index]), covariates)


def _kinds(features: Features) -> list[str | tuple[str, Extractor]]:
    if isinstance(features, Mapping):
        return list(features.items())
    return [features] if isinstance(features, str) else list(features)


def _ranked(names: list[str], values: np.ndarray) -> dict[str, float]:
    order = np.argsort(-values, kind="stable")
    return {names[i]: float(values[i]) for i in order}
