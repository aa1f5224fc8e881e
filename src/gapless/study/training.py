"""Train one recipe on data, in memory or in a folder that a later call goes on with."""

import copy
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gapless import likelihoods, machine, processes, recipes
from gapless.conditions import check_classes, classified, given, known_classes
from gapless.data import Dataset, Feed, Items, batch
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives import DynamicBinarization, Objective
from gapless.parts import describe
from gapless.randomness import generator
from gapless.runs import DataCard, Run, load_run
from gapless.settings import Settings
from gapless.study.moments import moments_of
from gapless.study.support import check_suited, check_support, known_of, number_of_classes
from gapless.training import (
    Callback,
    LatentStatistics,
    MetricsLog,
    Saving,
    Watch,
    best_epoch,
    evaluate,
    fit,
    latent_statistics,
)  # fmt: skip
from gapless.training.checkpoints import EVERY_SECONDS
from gapless.training.execution import in_parts
from gapless.workplaces import METRICS, WATCH, Workplace, claimed, environment

__all__ = ["Work", "plan_of", "some_of", "train", "train_in"]

TRACKING = "tracking"
STARTING_ITEMS = 1_000
"""Training items that parts look at before training: pseudo-inputs and codebooks begin at them."""


def train(
    data: Dataset,
    *,
    recipe: str = "vae",
    likelihood: likelihoods.Likelihood | None = None,
    settings: Settings | None = None,
    callbacks: Sequence[Callback] = (),
    watch: bool = False,
    folder: str | Path | None = None,
    fresh: bool = False,
    force: bool = False,
    max_time: float | None = None,
    checkpoint_every: float = EVERY_SECONDS,
    log_with: Sequence[str] = (),
) -> Run:
    """Train a recipe on data, or go on with it where it stopped.

    With a folder, nothing that was saved is ever lost: the same call made again after a crash ends in the bits of the
    uninterrupted run, on the same kind of machine, with as many threads and the same versions.

    Args:
        data: what `gapless.read` gave.
        recipe: a name from `gapless recipes`.
        likelihood: a fresh head in the place of the one that the data was read for; it is copied, and masked where
            values are missing.
        settings: how to train; the defaults when None.
        callbacks: told of every step and epoch.
        watch: track live features and data-like draws every epoch; a collapse is announced when it happens.
        folder: the run folder, new or begun before; None keeps the run in memory.
        fresh: refuse a folder in which a run was begun.
        force: replace what was begun in the folder; an unfinished run of the same plan goes on, unless `fresh`.
        max_time: seconds of training after which the run ends as it is; the same call goes on with it.
        checkpoint_every: seconds between checkpoints.
        log_with: names of trackers that are told of every epoch as well, in the folder's `tracking`.

    Returns:
        The run, with its model in evaluation mode and its held-out values.

    Raises:
        UsageError: an unknown recipe or option, a likelihood that cannot explain the data, or a folder that holds
            something else.
        Diverged: a term became infinite or not a number.
        StorageError: the folder cannot be written; what was saved before is whole.
    """
    if log_with and folder is None:
        raise UsageError("trackers need a run folder", where="log_with", fix="give a folder")
    settings = settings or Settings()
    work = Work(data, recipe, settings, callbacks, watch, tuple(log_with), likelihood)
    with processes.job(settings.device):
        if folder is None:
            return work.trained(Saving(max_time=max_time), None)
        with claimed(Path(folder), fresh=fresh, force=force, every=checkpoint_every) as place:
            return work.made(place, max_time)


def train_in(
    place: Workplace,
    data: Dataset,
    *,
    recipe: str,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
    watch: bool = False,
    max_time: float | None = None,
    log_with: Sequence[str] = (),
) -> Run:
    """`train` in a folder that is claimed already, so that it was known to be ours before the data was read."""
    return Work(data, recipe, settings, callbacks, watch, tuple(log_with)).made(place, max_time)


def plan_of(data: Dataset, settings: Settings, **more: Any) -> dict[str, Any]:
    """What a result depends on but the machine; plain data."""
    card = DataCard.of(data).to_dict()
    known = {name: card[name] for name in ("kind", "event_shape", "likelihood", "scaling", "columns", "items")}
    known |= {name: card[name] for name in ("arguments", "missing", "categories", "covariates") if card.get(name)}
    # In how many parts a step is computed changes memory and time: a run may go on with others.
    return {
        **more,
        "settings": replace(settings, accumulate=1).to_dict(),
        "data": {**known, "fingerprint": data.fingerprint()},
    }


@dataclass
class Work:
    """One recipe on one data set; for a semi-supervised model its unknown classes are told from the others."""

    data: Dataset
    recipe: str
    settings: Settings
    callbacks: Sequence[Callback]
    watch: bool
    log_with: tuple[str, ...] = ()
    likelihood: likelihoods.Likelihood | None = None

    def __post_init__(self):
        recipe = recipes.named_recipe(self.recipe)
        if self.likelihood is not None:
            told = describe(self.likelihood)
            self.data = replace(self.data, likelihood=told.pop("kind"), arguments=told)
        self.data = known_classes(self.data) if recipe.semi_supervised else check_classes(self.data)
        if recipe.semi_supervised and self.data.covariates:
            raise UsageError(f"{self.recipe} is given classes alone", where="covariates", fix="leave --covariates out")
        of_covariates = bool(self.data.covariates) and not self.data.label_names
        asked = self.settings.condition or (recipe.conditional and not of_covariates)
        self.context = (number_of_classes(self.data) if asked else 0) + len(self.data.covariates)

    def made(self, place: Workplace, max_time: float | None) -> Run:
        """Trained in a folder, or loaded from it where that was done before."""
        more = {"labels": _digest(self.data)} if self.context else {}  # of a conditional model they matter
        if self.likelihood is not None:
            more["head"] = _digest_of(self.likelihood)
        identity = place.begin(plan_of(self.data, self.settings, recipe=self.recipe, **more))
        if place.finished:
            if processes.is_first():
                place.tidy()  # a kill may have interrupted it
            return load_run(place.folder)
        if processes.is_first():
            place.reopen()
        facts = {"environment": {**environment(), "device": self.settings.device}}
        saving = Saving(place.checkpoints, identity=identity, facts=facts, max_time=max_time)
        logs = (MetricsLog(place.folder / METRICS), *self._tracking(place.folder))
        logged = replace(self, callbacks=(*self.callbacks, *logs))
        run = logged.trained(saving, place.folder)
        if processes.is_first():
            run.write_into(place.folder)
            if run.complete:
                place.tidy()
        processes.barrier()
        return run

    def trained(self, saving: Saving, folder: Path | None) -> Run:
        data, settings = self.data, self.settings
        machine.tune()
        check_suited(data, self.recipe)
        check_support(data)
        model, objective = self._built()
        feed, held_out = (Feed(items, data.scaling, device=_device(settings)) for items in (data.train, data.held_out))
        model.center(*moments_of(feed, model.likelihood.view))
        started = some_of(data.train, settings.seed, STARTING_ITEMS)
        seen = in_parts(model, settings)
        bound = given(seen, started, range(len(started)))
        first = batch(started, data.scaling).to(feed.device)
        bound.start(first)
        objective.start(bound, first)
        told = (*self.callbacks, *self._watching(model, held_out, folder))
        history = fit(model, objective, feed, held_out, settings=settings, callbacks=told, saving=saving)
        epochs = settings.epochs_for(len(feed))
        run = Run(model, objective, self.recipe, DataCard.of(data), replace(settings, epochs=epochs))
        run.history = [epoch.to_dict() for epoch in history]
        kept = history and (best_epoch(history) if objective.comparable else history[-1]).epoch
        told_apart = classified(model, objective, held_out)
        run.held_out = {"epoch": kept or 0, **_held_out(run, seen, held_out, latent_statistics(seen, told_apart))}
        return run

    def _built(self) -> tuple[Model, Objective]:
        settings, data = self.settings, self.data
        model, objective = recipes.build(
            self.recipe,
            data.event_shape,
            latent=settings.latent,
            likelihood=self._head(),
            network=settings.network,
            hidden=settings.hidden,
            channels=settings.channels,
            activation=settings.activation,
            options=settings.options(),
            context=self.context,
            known=known_of(data),
            seed=settings.seed,
        )
        if settings.patience is not None and not objective.comparable:
            raise UsageError(
                f"held-out losses of {self.recipe!r} cannot be compared between epochs: its weights are learned",
                fix="leave --patience out",
            )
        device = _device(settings)
        objective = DynamicBinarization(objective) if settings.binarize else objective
        return model.to(device), objective.to(device)

    def _head(self) -> dict[str, Any] | likelihoods.Likelihood:
        if self.likelihood is None:
            return self.data.head
        head = copy.deepcopy(self.likelihood)
        return likelihoods.Masked(head) if self.data.missing else head

    def _tracking(self, folder: Path) -> tuple[Callback, ...]:
        if not (self.log_with and processes.is_first()):
            return ()
        from gapless.training.trackers import Tracked, tracker_names

        return (Tracked(tracker_names(self.log_with), folder / TRACKING, self.settings.to_dict()),)

    def _watching(self, model: Model, held_out: Feed, folder: Path | None) -> tuple[Callback, ...]:
        return (Watch(model, held_out, folder and folder / WATCH),) if self.watch else ()


def _digest(data: Dataset) -> str:
    """Hexadecimal digits that stand for the labels and their names, and for the covariates."""
    parts = (data.train, data.held_out)
    known = [part.labels for part in parts if part.labels is not None]
    known += [part.covariates for part in parts if part.covariates is not None]
    return hashlib.sha256(b"".join([*(part.tobytes() for part in known), repr(data.label_names).encode()])).hexdigest()


def _digest_of(head: likelihoods.Likelihood) -> str:
    """Hexadecimal digits that stand for all numbers of a head."""
    state = sorted(head.state_dict().items())
    return hashlib.sha256(b"".join(n.encode() + v.cpu().numpy().tobytes() for n, v in state)).hexdigest()


def _device(settings: Settings) -> torch.device:
    name = processes.device_of(settings.device)
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device {name!r} is not there: {str(error).splitlines()[0]}", fix="use --device cpu"
        ) from error
    return torch.device(name)


def _held_out(run: Run, seen: Model, feed: Feed, statistics: LatentStatistics) -> dict[str, Any]:
    """What is reported of a finished run; enough passes over few items that the noise of the draws is small."""
    samples = min(64, max(1, 10_000 // len(feed)))
    # Fresh noise: that of the validations has chosen the epoch.
    result = evaluate(
        seen, run.objective, feed, seed=run.settings.seed, step=run.objective.steps or 0, samples=samples, first=1
    )
    live = statistics.live
    return {
        **result.to_dict(),
        "effective_beta": run.effective_beta if math.isfinite(run.effective_beta) else None,
        "kl_per_feature": None if statistics.kl is None else statistics.kl.tolist(),
        "live": live.tolist(),
        "live_share": float(live.double().mean()),
        "loc_mean": statistics.loc.double().mean(0).tolist(),
        "loc_std": statistics.loc.double().std(0, unbiased=False).tolist(),
        "scale_mean": statistics.scale.double().mean(0).tolist(),
        "draws_per_item": samples,
        "seconds": run.history[-1]["seconds"] if run.history else None,
        "seconds_per_epoch": run.history[-1]["seconds"] / len(run.history) if run.history else None,
    }


def some_of(items: Items, seed: int, most: int = 20_000) -> Items:
    """So many items at most, in a random order: files are often sorted by class."""
    chosen = torch.randperm(len(items), generator=generator(seed, "picture", 1))[:most].numpy()
    return items.at(chosen)
