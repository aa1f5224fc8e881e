"""The loop: one seed, batches in an order that is a function of (seed, epoch), a checkpoint whenever it is due."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gapless import interrupts, machine, processes
from gapless.conditions import context_of
from gapless.data import Feed
from gapless.data.prefetch import ahead
from gapless.errors import DataError, Diverged, Interrupted
from gapless.model import Model
from gapless.objectives import Objective
from gapless.settings import Settings
from gapless.training.callbacks import Callback
from gapless.training.checkpoints import Checkpoints
from gapless.training.course import Course
from gapless.training.evaluation import BATCH, Evaluation, LatentStatistics, evaluate, latent_statistics
from gapless.training.execution import in_parts
from gapless.training.guard import LOWER
from gapless.training.memory import memory_for
from gapless.training.placement import Apart, kept_apart
from gapless.training.records import Epoch, best_epoch
from gapless.training.stopping import should_stop

__all__ = ["Epoch", "Saving", "best_epoch", "fit", "is_complete"]

LIVE_ITEMS = 2_000
AGREE_EVERY = 20
"""Steps between two agreements of several processes with accelerators on whether to stop or save."""
_AHEAD = 4  # batches that wait


@dataclass(frozen=True)
class Saving:
    """Where and how a run is saved as it goes, and when it must end.

    Attributes:
        checkpoints: where checkpoints go; None saves nothing.
        identity: what the run is; a checkpoint of another run is refused.
        facts: plain data kept with every checkpoint.
        max_time: seconds of training in this session, None for no limit; the run can be taken up again.
        stop: asked after every step; True saves and raises `Interrupted`.
        say: what to do with a remark.
    """

    checkpoints: Checkpoints | None = None
    identity: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    max_time: float | None = None
    stop: Callable[[], bool] = field(default=interrupts.asked)
    say: Callable[[str], None] = field(default=lambda text: print(text, file=sys.stderr))


def fit(
    model: Model,
    objective: Objective,
    train: Feed,
    held_out: Feed,
    *,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
    saving: Saving | None = None,
) -> list[Epoch]:
    """Train a model in place; it ends with the weights of the epoch whose held-out loss was lowest.

    The order of the data is a function of (seed, epoch) and the noise of (seed, step): on one kind of machine, with
    one number of threads and one version of torch, two runs end in the same bits, and so does a run that was killed
    and taken up again from a checkpoint.

    Args:
        model: the model; it ends in evaluation mode.
        objective: what is minimised.
        train: training items.
        held_out: items for validation only.
        settings: how to train.
        callbacks: told of every step and epoch.
        saving: where it is saved and when it must end; by default nothing is saved.

    Returns:
        One record an epoch, those of earlier sessions included.

    Raises:
        Diverged: a term became infinite or not a number; the message names the step and the term.
        Interrupted: `saving.stop` asked for it; the last step is saved.
        StorageError: a checkpoint could not be written; the older ones are whole.
    """
    machine.tune()
    saving = saving or Saving()
    per_epoch = math.ceil(len(train) / settings.batch_size)
    epochs = settings.epochs_for(len(train))
    course = Course(model, objective, settings, epochs=epochs, per_epoch=per_epoch, items=len(train))
    callbacks = tuple(callbacks) if processes.is_first() else ()
    session = _Session(course, train, held_out, callbacks, saving)
    processes.barrier()  # from here on all keep step
    session.resume()
    # Without checkpoints there is nothing to save: a signal ends the process where it is.
    deferred = interrupts.deferred() if saving.checkpoints else nullcontext()
    with _told(callbacks, course, saving.say), deferred, kept_apart() as threads:
        session.run(threads)
    course.keep_best()
    model.eval()
    return course.history


def is_complete(losses: Sequence[float], settings: Settings, items: int) -> bool:
    """Whether training ended as planned: all epochs, or the held-out loss stopped falling.

    Args:
        losses: held-out losses of the epochs so far.
        settings: how it was trained.
        items: training items.
    """
    return len(losses) == settings.epochs_for(items) or should_stop(losses, settings.patience)


@contextmanager
def _told(callbacks: Sequence[Callback], course: Course, say: Callable[[str], None]) -> Iterator[None]:
    """Callbacks are told of the start, and whatever happens of the end; what ended the training is what is raised."""
    started = list[Callback]()
    try:
        for callback in callbacks:
            started.append(callback)
            callback.on_start(course.epochs, course.per_epoch, course.history)
        yield
    except BaseException:
        for error in _ended(started):
            say(f"note: a callback failed at the end, too: {type(error).__name__}: {error}")
        raise
    for error in _ended(started):
        raise error


def _ended(callbacks: Sequence[Callback]) -> list[Exception]:
    """Tell all of them that training is over; what went wrong with that."""
    failures = list[Exception]()
    for callback in callbacks:
        try:
            callback.on_end()
        except Exception as error:
            failures.append(error)
    return failures


class _Session:
    """One process's share of a training run."""

    def __init__(self, course: Course, train: Feed, held_out: Feed, callbacks: tuple[Callback, ...], saving: Saving):
        self.course, self.train, self.held_out = course, train, held_out
        self.callbacks, self.saving = callbacks, saving
        self.started, self.before, self.saved = time.monotonic(), 0.0, -1

    @property
    def seconds(self) -> float:
        """Seconds of training, those of earlier sessions included."""
        return self.before + time.monotonic() - self.started

    @property
    def out_of_time(self) -> bool:
        limit = self.saving.max_time
        return limit is not None and time.monotonic() - self.started >= limit

    def resume(self) -> None:
        checkpoints = self.saving.checkpoints
        snapshot = checkpoints.newest() if checkpoints else None
        if snapshot is None:
            return
        if snapshot.record.get("identity") != self.saving.identity:
            raise DataError(
                "the newest checkpoint belongs to another run",
                where=str(checkpoints and checkpoints.folder),
                fix="choose another -o, or start again with --fresh --force",
            )
        self.course.restore(snapshot)
        now = {"accumulate": self.course.settings.accumulate, **self.saving.facts}
        for remark in (*checkpoints.remarks, *_changes(snapshot.record, now)):  # pyright: ignore
            if processes.is_first():
                self.saving.say(f"note: {remark}")
        self.before, self.saved = float(snapshot.record["seconds"]), snapshot.step

    def run(self, threads: Apart) -> None:
        """All that is left, or as much as time allows."""
        course = self.course
        while not is_complete([e.held_out.loss for e in course.history], course.settings, len(self.train)):
            if not self._steps(threads):
                break
            self._close_epoch()
            if self._pause():
                break
        if self.saving.checkpoints and self.saved != course.step:
            self._save()

    def _steps(self, threads: Apart) -> bool:
        """The rest of the epoch; False where time ran out before its end."""
        course = self.course
        course.model.train()
        course.objective.train()
        self.epoch_began, self.items = time.monotonic(), 0
        for items, chosen, x in self._batches():
            terms = course.advance(x, items, context_of(course.model, self.train.items, chosen))
            self.items += items
            threads.step()
            for callback in self.callbacks:
                callback.on_step(course.step, terms)
            if course.batch and self._pause():  # the last step of an epoch is saved with its validation
                return False
        return True

    def _batches(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The rest of the epoch: items of each batch, and its rows, or this process's share: positions and values."""
        course, size = self.course, self.course.settings.batch_size
        if processes.size() == 1:
            by_feature = course.model.encoder.by_feature and self.train.device.type == "cpu"
            seed, start = course.settings.seed, course.batch
            for chosen, x in self.train.stream(seed, course.epoch, size, start=start, by_feature=by_feature):
                yield len(chosen), chosen, x
            return
        positions = self.train.positions(course.settings.seed, course.epoch, size, start=course.batch)
        shares = ((len(chosen), chosen[processes.share(len(chosen))]) for chosen in positions)
        own = ((items, share, self.train.batch(share)) for items, share in shares)
        if not self.train.mapped:
            yield from own
            return
        with closing(ahead(own, size=_AHEAD)) as read:
            yield from read

    def _pause(self) -> bool:
        """Between two steps: save if it is due or all ends here; True when time has run out."""
        stop, late, due = self._wishes()
        if self.saving.checkpoints and (stop or late or due):
            folder = self._save()
            if stop:
                raise Interrupted(f"stopped at {self.course.place}; all of it is saved in {folder}")
        return late

    def _wishes(self) -> tuple[bool, ...]:
        """Stop, out of time, checkpoint due: what one process wishes, all do at the same step."""
        checkpoints = self.saving.checkpoints
        wishes = (self.saving.stop(), self.out_of_time, bool(checkpoints and processes.is_first() and checkpoints.due))
        if processes.size() == 1:
            return wishes
        if not self.course.prompt and self.course.batch % AGREE_EVERY:
            return (False, False, False)
        return processes.any_of(wishes)

    def _save(self) -> Path:
        checkpoints, course = self.saving.checkpoints, self.course
        assert checkpoints is not None
        self.saved = course.step
        facts = {"accumulate": course.settings.accumulate, **self.saving.facts}
        snapshot = course.snapshot(seconds=self.seconds, identity=self.saving.identity, **facts)
        folder = checkpoints.save(snapshot) if processes.is_first() else checkpoints.folder
        processes.barrier()  # nobody goes on, or ends, before it is written
        return folder

    def _close_epoch(self) -> None:
        course = self.course
        course.collect()
        number, rate = course.step // course.per_epoch, self.items / max(time.monotonic() - self.epoch_began, 1e-9)
        seen = Evaluation(*(course.sums / len(self.train)).tolist(), items=len(self.train))
        with course.average.swapped() if course.average else nullcontext():
            validated, latent = self._validate(number)
            live, beta = int(latent.live.sum()), course.objective.beta_at(course.step - 1)
            record = Epoch(number, course.step, self.seconds, rate, live, seen, validated, beta, _kl_of(latent))
            if processes.size() > 1:  # seconds, and whatever else an accelerator may round otherwise
                record = Epoch.from_dict(processes.told(record.to_dict()))
            course.close_epoch(record)
            for callback in self.callbacks:  # they look at the weights that were validated
                callback.on_epoch(record)
        processes.barrier()

    def _validate(self, number: int) -> tuple[Evaluation, LatentStatistics]:
        course, settings = self.course, self.course.settings
        model, shared = in_parts(course.model, settings), processes.size() > 1
        where, batch = (
            f"validation after epoch {number}, {BATCH} items at a time",
            min(settings.batch_size, len(self.train)),
        )
        with memory_for("the held-out items", where, model=course.model, settings=settings, items=batch):
            result = evaluate(
                model, course.objective, self.held_out, seed=settings.seed, step=course.steps, shared=shared
            )
            latent = latent_statistics(model, self.held_out, limit=LIVE_ITEMS)
        if not math.isfinite(result.loss):
            raise Diverged(
                "the loss of the held-out items is not finite: training stopped",
                where=f"step {course.step} (validation after epoch {number}), term loss",
                fix=LOWER,
            )
        return result, latent


def _kl_of(latent: LatentStatistics) -> tuple[float, ...] | None:
    """Six digits of each feature's KL: there may be thousands of features, and every checkpoint holds all epochs."""
    return None if latent.kl is None else tuple(float(f"{value:.6g}") for value in latent.kl.tolist())


def _changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between how a checkpoint was made and what is done now, where bits may depend on it."""
    names = ("torch", "machine", "threads", "device", "processes")
    before, after = then.get("environment", {}), now.get("environment", {})
    changed = [f"{n} {before[n]} -> {after[n]}" for n in names if n in before and n in after and before[n] != after[n]]
    parts = [(facts.get("accumulate", 1)) for facts in (then, now)]
    cut = [f"going on with --accumulate {parts[1]} after {parts[0]}: the last bits may differ"]
    moved = [f"going on elsewhere ({', '.join(changed)}): the last bits may differ"]
    return (moved if changed else []) + (cut if parts[0] != parts[1] else [])
