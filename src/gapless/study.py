"""Train one recipe, or AE, KL-only and VAE side by side on the same networks, seed and budget."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gapless import likelihoods, processes, recipes
from gapless.conditions import given, known_classes
from gapless.data import Dataset, Feed, Items, batch
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives import DynamicBinarization, Objective
from gapless.randomness import generator
from gapless.runs import DataCard, Run, load_run
from gapless.settings import Settings
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
from gapless.workplaces import METRICS, Workplace, claimed, environment

if TYPE_CHECKING:
    from gapless.audit import Scorecard

# The audit is imported where it is used: training alone starts a tenth of a second sooner without it.
__all__ = ["Comparison", "StudyAudit", "audit_runs", "compare", "plan_of", "train", "train_in"]

COMPARED = ("ae", "kl-only", "vae")
WATCH, TRACKING = "watch.jsonl", "tracking"
STARTING_ITEMS = 1_000
"""Training items that parts look at before training: pseudo-inputs and codebooks begin at them."""


def train(
    data: Dataset,
    *,
    recipe: str = "vae",
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
        settings: how to train; the defaults when None.
        callbacks: told of every step and epoch.
        watch: track live features and data-like draws every epoch; a collapse is announced when it happens.
        folder: the run folder, new or begun before; None keeps the run in memory.
        fresh: refuse a folder in which a run was begun.
        force: replace what was begun in the folder.
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
    work = _Work(_classed(data, recipe, settings), recipe, settings, callbacks, watch, tuple(log_with))
    with processes.job(work.settings.device):
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
    data = _classed(data, recipe, settings)
    return _Work(data, recipe, settings, callbacks, watch, tuple(log_with)).made(place, max_time)


def _classed(data: Dataset, recipe: str, settings: Settings) -> Dataset:
    """The data, for a conditional model with its unknown classes told from the others."""
    return known_classes(data) if settings.condition or recipes.named_recipe(recipe).conditional else data


def plan_of(data: Dataset, settings: Settings, **more: Any) -> dict[str, Any]:
    """What a result depends on but the machine; plain data."""
    card = DataCard.of(data).to_dict()
    known = {name: card[name] for name in ("kind", "event_shape", "likelihood", "scaling", "columns", "items")}
    known |= {name: card[name] for name in ("arguments", "missing", "categories") if card[name]}
    return {**more, "settings": settings.to_dict(), "data": {**known, "fingerprint": data.fingerprint()}}


@dataclass(frozen=True)
class _Work:
    """One recipe on one data set."""

    data: Dataset
    recipe: str
    settings: Settings
    callbacks: Sequence[Callback]
    watch: bool
    log_with: tuple[str, ...] = ()

    def made(self, place: Workplace, max_time: float | None) -> Run:
        """Trained in a folder, or loaded from it where that was done before."""
        labels = {"labels": _digest(self.data)} if self._classes() else {}  # of a conditional model they matter
        identity = place.begin(plan_of(self.data, self.settings, recipe=self.recipe, **labels))
        if place.finished:
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
        check_suited(data, self.recipe)
        check_support(data)
        model, objective = self._built()
        feed, held_out = (Feed(items, data.scaling, device=_device(settings)) for items in (data.train, data.held_out))
        model.center(*moments_of(feed, model.likelihood.view))
        started = _some(data.train, settings.seed, STARTING_ITEMS)
        given(model, started, range(len(started))).start(batch(started, data.scaling).to(feed.device))
        told = (*self.callbacks, *self._watching(model, held_out, folder))
        history = fit(model, objective, feed, held_out, settings=settings, callbacks=told, saving=saving)
        epochs = settings.epochs_for(len(feed))
        run = Run(model, objective, self.recipe, DataCard.of(data), replace(settings, epochs=epochs))
        run.history = [epoch.to_dict() for epoch in history]
        kept = history and (best_epoch(history) if objective.comparable else history[-1]).epoch
        run.held_out = {"epoch": kept or 0, **_held_out(run, held_out, latent_statistics(model, held_out))}
        return run

    def _built(self) -> tuple[Model, Objective]:
        settings, data = self.settings, self.data
        model, objective = recipes.build(
            self.recipe,
            data.event_shape,
            latent=settings.latent,
            likelihood=data.head,
            network=settings.network,
            hidden=settings.hidden,
            channels=settings.channels,
            activation=settings.activation,
            options=settings.options(),
            context=self._classes(),
            known=_known(data),
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

    def _classes(self) -> int:
        """Numbers of context: the classes of the data for a conditional model, else none."""
        if not (self.settings.condition or recipes.named_recipe(self.recipe).conditional):
            return 0
        if not self.data.label_names:
            raise UsageError(
                "a conditional model needs the class of every item; this data has none",
                where=self.data.source,
                fix="name the column with --label, or give one folder a class",
            )
        return len(self.data.label_names)

    def _tracking(self, folder: Path) -> tuple[Callback, ...]:
        if not (self.log_with and processes.is_first()):
            return ()
        from gapless.training.trackers import Tracked, tracker_names

        return (Tracked(tracker_names(self.log_with), folder / TRACKING, self.settings.to_dict()),)

    def _watching(self, model: Model, held_out: Feed, folder: Path | None) -> tuple[Callback, ...]:
        return (Watch(model, held_out, folder and folder / WATCH),) if self.watch else ()


def _digest(data: Dataset) -> str:
    """Hexadecimal digits that stand for the labels and their names."""
    labels = [part.labels for part in (data.train, data.held_out) if part.labels is not None]
    return hashlib.sha256(b"".join([*(part.tobytes() for part in labels), repr(data.label_names).encode()])).hexdigest()


def check_suited(data: Dataset, recipe: str) -> None:
    """Refuse data that was read for another likelihood than the recipe is about, unless that was asked for.

    Raises:
        UsageError: with the fix.
    """
    wanted = recipes.named_recipe(recipe).likelihood
    if wanted not in (None, data.likelihood) and data.options.get("likelihood", "auto") == "auto":
        raise UsageError(
            f"the recipe {recipe!r} is about the likelihood {wanted}; the data was read for {data.likelihood}",
            where=data.source,
            fix=f"read it with likelihood={wanted!r}, or ask for another one when it is read",
        )


def _known(data: Dataset) -> likelihoods.Known:
    """What a likelihood may need to know of the data; of columns with scalings of their own nothing but the shape."""
    (shift, *_), (scale, *others) = data.scaling.shift, data.scaling.scale
    if others:
        return likelihoods.Known(data.event_shape)
    largest = (data.inspection.maximum - shift) / scale
    return likelihoods.Known(data.event_shape, largest, 1 / scale if data.inspection.integer else None)


def check_support(data: Dataset) -> None:
    """Refuse a likelihood that gives the data no probability.

    Raises:
        UsageError: values outside the likelihood's support, with the feature and the fix.
    """
    head = recipes.likelihood_of(data.head, _known(data))
    low, high, whole = (ends.numpy() for ends in head.supports(data.event_shape))
    bounded = np.isfinite(high).all() and not whole.any()
    scaling = "unit to map the values to [0, 1]" if bounded else "none where the values are counts or classes"
    fix = f"use --likelihood NormalWithOptimalScale, or --scaling {scaling}"
    for items, name in ((data.train, "training"), (data.held_out, "held-out")):
        smallest, largest = _range(items, data)
        outside = (smallest < low - 1e-6) | (largest > high + 1e-6)
        if outside.any():
            at = tuple(np.argwhere(outside)[0].tolist())
            values = f"in [{low[at]:g}, {high[at]:g}]" if high[at] < math.inf else f"from {low[at]:g} on"
            raise UsageError(
                f"a {_kind(head, at)} likelihood explains values {values}; the {name} items "
                f"{_feature(data, at)}lie in [{smallest.min():g}, {largest.max():g}] (scaling: {data.scaling.name})",
                where=data.source,
                fix=fix,
            )
        if whole.any():
            _refuse_fractions(data, items, name, head, whole, fix)


def _refuse_fractions(data: Dataset, items: Items, name: str, head: Any, whole: np.ndarray, fix: str) -> None:
    """Stop at features that must be whole numbers and are not."""
    if data.inspection.integer and data.scaling.name == "none":
        return
    for rows in _chunks(items):
        scaled = np.nan_to_num(data.scaling(rows))
        broken = whole & (scaled != np.round(scaled)).any(axis=0)
        if broken.any():
            at = tuple(np.argwhere(broken)[0].tolist())
            value = next(v for v in scaled[(slice(None), *at)] if v != round(v))
            raise UsageError(
                f"a {_kind(head, at)} likelihood explains whole numbers; among the {name} items "
                f"{_feature(data, at)}there is {value:g} (scaling: {data.scaling.name})",
                where=data.source,
                fix=fix,
            )


def _kind(head: Any, at: tuple[int, ...]) -> str:
    """The likelihood of one feature, by name."""
    head = getattr(head, "likelihood", head)
    columns = getattr(head, "columns", None)
    return type(head if columns is None else columns[at[0]]).__name__


def _feature(data: Dataset, at: tuple[int, ...]) -> str:
    return f"in column {data.columns[at[0]]!r} " if data.columns and len(data.columns) > 1 else ""


def _chunks(items: Items) -> Iterator[np.ndarray]:
    return (items.take(range(start, min(start + 4096, len(items)))) for start in range(0, len(items), 4096))


def _range(items: Items, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each feature in model units, over what was observed."""
    # Scaling is increasing in every feature: the ends of the raw values are scaled, not the values.
    ends = [_ends(rows) for rows in _chunks(items)]
    low, high = np.fmin.reduce([low for low, _ in ends]), np.fmax.reduce([high for _, high in ends])
    return data.scaling(low), data.scaling(high)


def _ends(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = rows.min(axis=0), rows.max(axis=0)
    if rows.dtype.kind == "f" and np.isnan(low).any():  # the other way is far slower
        low, high = np.fmin.reduce(rows), np.fmax.reduce(rows)
    return low, high


def moments_of(
    feed: Feed, view: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Where training starts: what `Model.center` takes, over the values that were observed.

    Args:
        feed: the training items.
        view: what the encoder is shown of a batch (`Likelihood.view`).

    Returns:
        The mean item in model units, shape (*event); the root mean square, over items and features, of what the
        encoder is shown about its mean; and that mean, of the shape of the view.
    """
    of_items, of_views = _Moments(), _Moments()
    for x in feed.batches(512):
        x = x.cpu() if x.device.type == "mps" else x  # which has no float64
        shown = view(x)
        if shown is not x:
            of_views.add(shown)
        of_items.add(x)
    seen = of_views if of_views.count is not None else of_items
    return of_items.mean.float(), seen.spread, seen.mean.float()


class _Moments:
    """Running mean and mean square deviation of each feature; what is not a number was not observed."""

    def __init__(self):
        self.count: torch.Tensor | None = None
        self.total, self.squares = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)

    def add(self, x: torch.Tensor) -> None:
        """Take in a batch; x may be changed."""
        total, count = x.sum(0, dtype=torch.float64).cpu(), torch.full(x.shape[1:], len(x))
        if total.isnan().any():
            count = (~x.isnan()).sum(0).cpu()
            x = x.nan_to_num(0.0)
            total = x.sum(0, dtype=torch.float64).cpu()
        self.count = count if self.count is None else self.count + count
        self.total = self.total + total
        self.squares = self.squares + x.double().square_().sum(0).cpu()

    @property
    def mean(self) -> torch.Tensor:
        return self.total / self._counted

    @property
    def spread(self) -> float:
        variance = self.squares / self._counted - self.mean.square()
        return float(variance.clamp_min(0).mean().sqrt())

    @property
    def _counted(self) -> torch.Tensor:
        assert self.count is not None
        return self.count.clamp_min(1)


def _device(settings: Settings) -> torch.device:
    name = processes.device_of(settings.device)
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device {name!r} is not there: {str(error).splitlines()[0]}", fix="use --device cpu"
        ) from error
    return torch.device(name)


def _held_out(run: Run, feed: Feed, statistics: LatentStatistics) -> dict[str, Any]:
    """What is reported of a finished run; enough passes over few items that the noise of the draws is small."""
    samples = min(64, max(1, 10_000 // len(feed)))
    # Fresh noise: that of the validations has chosen the epoch.
    result = evaluate(
        run.model, run.objective, feed, seed=run.settings.seed, step=run.objective.steps or 0, samples=samples, first=1
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


@dataclass
class StudyAudit:
    """Scorecards of the compared models and of two anchors, on the same items, draws, pairs and subsets.

    Attributes:
        cards: scorecard by name: the recipes, "ppca" (probabilistic PCA, closed form) and "collapsed" (the null).
        items: the items audited, model units, shape (n, *event).
        said: what they are, one sentence.
        reference: name of the reference law asked for.
    """

    cards: "dict[str, Scorecard]"
    items: torch.Tensor
    said: str
    reference: str

    def differences(self) -> dict[str, list[dict[str, Any]]]:
        """Paired differences between the compared models, plain data."""
        from gapless.audit import paired

        names = [name for name in self.cards if name not in ("ppca", "collapsed")]
        # Under "declared" an AE is audited under another law than a VAE: such numbers are not compared.
        pairs = [
            (a, b) for i, a in enumerate(names) for b in names[:i] if self.cards[a].reference == self.cards[b].reference
        ]
        return {
            f"{a} - {b}": [{**vars(d), "decided": d.decided} for d in paired(self.cards[a], self.cards[b])]
            for a, b in pairs
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        cards = {name: card.to_dict() for name, card in self.cards.items()}
        return {"items": self.said, "reference": self.reference, "cards": cards, "differences": self.differences()}


@dataclass
class Comparison:
    """AE, KL-only and VAE on the same data.

    Attributes:
        data: the data they were trained on.
        runs: one run a recipe, in the order they are shown.
        statistics: codes of the held-out items, one a recipe.
        audit: the scorecards, the baselines' among them; None where none was asked for.
    """

    data: Dataset
    runs: dict[str, Run]
    statistics: dict[str, LatentStatistics]
    audit: "StudyAudit | None" = None

    def model(self, name: str) -> Model:
        """The model of one of the compared recipes."""
        return self.runs[name].model

    def held_out_batch(self, positions: Sequence[int]) -> torch.Tensor:
        """Held-out items in model units, shape (n, *event)."""
        return torch.from_numpy(self.data.scaling(self.data.held_out.take(list(positions))))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: held-out values in nats by model; None where a value is infinite."""
        return {
            "data": DataCard.of(self.data).to_dict(),
            "settings": next(iter(self.runs.values())).settings.to_dict(),
            "units": "nats per held-out item; elbo = -(reconstruction + kl); null is infinite: a point has no density",
            "models": {name: run.held_out for name, run in self.runs.items()},
            **({} if self.audit is None else {"audit": self.audit.to_dict()}),
        }


def compare(
    data: Dataset,
    *,
    settings: Settings | None = None,
    callbacks: Callable[[str], Sequence[Callback]] = lambda name: (),
    budget: str | None = None,
    reference: str = "moments",
    folder: str | Path | None = None,
    checkpoint_every: float = EVERY_SECONDS,
) -> Comparison:
    """Train AE, KL-only and VAE with the same networks, seed and budget, and audit them if asked to.

    Args:
        data: what `gapless.read` gave.
        settings: how to train; 2 latent features when None.
        callbacks: makes the callbacks of each recipe from its name.
        budget: "default" or "quick" audits the three models and two anchors; None does not.
        reference: reference law of the audit; "moments" is the one under which an AE can be compared with a VAE.
        folder: where the three run folders go, new or begun before; None keeps the runs in memory.
        checkpoint_every: seconds between checkpoints.

    Returns:
        The three runs, the codes of the held-out items, and the audit.
    """
    settings = settings or Settings(latent=2)
    places = {name: None if folder is None else Path(folder) / name for name in COMPARED}
    runs = {
        name: train(
            data,
            recipe=name,
            settings=_settings_of(name, settings),
            callbacks=callbacks(name),
            folder=place,
            checkpoint_every=checkpoint_every,
        )
        for name, place in places.items()
    }
    held_out = Feed(data.held_out, data.scaling, device=settings.device)
    statistics = {name: latent_statistics(run.model, held_out) for name, run in runs.items()}
    found = None if budget is None else audit_runs(data, runs, budget=budget, reference=reference)
    return Comparison(data, runs, statistics, found)


def _settings_of(recipe: str, settings: Settings) -> Settings:
    """The settings without options that only the other recipes take; one that none takes is refused by `build`."""
    accepted = {option for name in COMPARED for option in recipes.named_recipe(name).accepted}
    mine = recipes.named_recipe(recipe).accepted
    return replace(settings, **{name: None for name in settings.options() if name in accepted and name not in mine})


def audit_runs(
    data: Dataset, runs: dict[str, Run], *, budget: str = "default", reference: str = "moments"
) -> StudyAudit:
    """Audit runs of the same data, with probabilistic PCA of the same size and the collapsed null beside them.

    Args:
        data: what they were trained on.
        runs: by name.
        budget: "default" or "quick".
        reference: reference law.
    """
    from gapless.adapters import audited_items, subject
    from gapless.audit import scorecard
    from gapless.audit.anchors import collapsed, ppca

    first = next(iter(runs.values()))
    items, labels, said = audited_items(data)
    fitted, latent = batch(_some(data.train, first.settings.seed), data.scaling).numpy(), first.model.latent
    subjects = {name: subject(run.model.cpu()) for name, run in runs.items()}
    subjects |= {"ppca": ppca(fitted, latent), "collapsed": collapsed(fitted, latent)}
    cards = {
        name: scorecard(one, items, reference=reference, budget=budget, labels=labels, seed=first.settings.seed)
        for name, one in subjects.items()
    }
    return StudyAudit(cards, items, said, reference)


def _some(items: Items, seed: int, most: int = 20_000) -> Items:
    """So many items at most, in a random order: files are often sorted by class."""
    chosen = torch.randperm(len(items), generator=generator(seed, "picture", 1))[:most].numpy()
    return Items(items.values, None if items.labels is None else items.labels[chosen], items.index[chosen])
