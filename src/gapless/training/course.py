"""A training run between two steps: what a step changes, and what a checkpoint must hold."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from gapless import schedules
from gapless.errors import DataError, Diverged
from gapless.model import Model
from gapless.objectives import Objective, Terms
from gapless.randomness import generator
from gapless.settings import Settings
from gapless.training import optimizers
from gapless.training.averaging import Average
from gapless.training.checkpoints import Snapshot
from gapless.training.execution import arranged, cut
from gapless.training.guard import LOWER, Guard
from gapless.training.memory import explained
from gapless.training.records import Epoch, best_epoch
from gapless.training.replay import Replay

__all__ = ["Course", "check_finite"]

SUMMED = 3  # loss, reconstruction, KL
LOOK_EVERY = 10
"""Steps between two looks at the terms: a dozen operations, and on an accelerator it waits until they are there."""


class Course:
    """A model on its way: weights, moments, averages, the best weights so far, and what was measured.

    Args:
        model: the model.
        objective: what is minimised.
        settings: how.
        epochs: passes over the training items, in all.
        per_epoch: optimizer steps an epoch.
        items: training items, where they are known.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        settings: Settings,
        *,
        epochs: int,
        per_epoch: int,
        items: int | None = None,
    ):
        self.model, self.objective, self.settings = model, objective, settings
        self.epochs, self.per_epoch, self.steps, self.items = epochs, per_epoch, epochs * per_epoch, items
        self.shards = cut(model, settings)
        self.execution = arranged(model, objective, settings, self.shards)
        alone = self.execution is None and self.shards is None
        self.replay = Replay(model, objective, settings.seed) if alone else None
        named = [pair for module in (model, objective) for pair in module.named_parameters() if pair[1].requires_grad]
        self.parameters = [parameter for _, parameter in named]
        moved = self.shards.moved(self.parameters) if self.shards else self.parameters
        self.optimizer = optimizers.make(settings.optimizer, moved, weight_decay=settings.weight_decay)
        self.guard = Guard(zip((name for name, _ in named), moved, strict=True), self.optimizer)
        self.average = None if settings.ema is None else Average(model, settings.ema)
        self.step, self.history, self.best = 0, list[Epoch](), dict[str, Tensor]()
        self.sums = torch.zeros(SUMMED, dtype=torch.float64)
        self.device, self._unseen = self.parameters[0].device, list[tuple[int, Terms, Tensor]]()
        objective.plan(self.steps, self.items)

    @property
    def epoch(self) -> int:
        """The epoch under way, counted from 1."""
        return self.step // self.per_epoch + 1

    @property
    def batch(self) -> int:
        """Batches of the epoch under way that are done."""
        return self.step % self.per_epoch

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"step {self.step} (epoch {min(self.epoch, self.epochs)} of {self.epochs})"

    @property
    def prompt(self) -> bool:
        """Whether it costs nothing to look at every step's terms at once."""
        return self.device.type == "cpu"

    def advance(self, x: Tensor, items: int | None = None, context: Tensor | None = None) -> Terms:
        """One optimizer step on a batch in model units.

        Args:
            x: the batch, or this process's rows of it, shape (rows, *event).
            items: rows of the whole batch where there are several processes.
            context: that of the rows of x, for a conditional model, shape (rows, context).

        Raises:
            Diverged: a term or a gradient is not finite; nothing was changed, or on an accelerator, nothing is saved.
            OutOfMemory: the batch does not fit.
        """
        try:
            terms = self._gradients(x, items or len(x), context)
            doubt = self._ready()
            self.optimizer.step(schedules.learning_rate(self.settings, self.step, self.steps))
        except RuntimeError as error:
            raise self._explained(error, items or len(x)) from error
        self.step += 1
        if self.average is not None:
            self.average.update()
        self._unseen.append((self.step, terms, doubt))
        if len(self._unseen) >= LOOK_EVERY:
            self.look()
        return terms

    def _ready(self) -> Tensor:
        """Reduce the gradients, look at them, and clip them; what the guard saw, to be read later on an accelerator."""
        limit = self.settings.clip
        if self.shards:
            self.shards.reduce()
        doubt = self.guard.doubt()
        if self.prompt and not math.isfinite(doubt.item()):
            self.guard.gradients(self._where(self.step + 1))
        if self.shards and limit is not None:
            self.shards.clip(limit)
        elif limit is not None:
            nn.utils.clip_grad_norm_(self.parameters, limit, error_if_nonfinite=False)
        return doubt

    def _explained(self, error: RuntimeError, items: int) -> BaseException:
        where = f"{self.place}, {items} items"
        return explained(error, "a batch", where, model=self.model, settings=self.settings, items=items)

    def collect(self) -> None:
        """Before the model is validated or saved: look at everything that moves, and join weights that are cut."""
        self.look()
        self.guard.weights(self.step, moments=True)
        if self.shards:
            self.shards.collect()

    def look(self) -> None:
        """Count the terms of the latest steps, and look at the weights.

        Raises:
            Diverged: one of them is not finite.
        """
        if not self._unseen:
            return
        means = torch.stack([_means(terms) for _, terms, _ in self._unseen]).cpu().double()
        doubts = torch.stack([doubt for *_, doubt in self._unseen]).tolist() if not self.prompt else ()
        for number, ((step, terms, _), row) in enumerate(zip(self._unseen, means, strict=True)):
            if not self.prompt:
                self._check(terms, step)
                if not math.isfinite(doubts[number]):  # its gradient is gone: the weights tell whether it was finite
                    self.guard.sound = step - 1
                    self.guard.weights(step)
            self.sums += len(terms.reconstruction) * row
        self.guard.weights(self.step)
        self._unseen.clear()

    def _gradients(self, x: Tensor, items: int, context: Tensor | None) -> Terms:
        played = self.replay.gradients(x, self.step) if self.replay and context is None else None
        if played is not None:
            if self.prompt:
                self._check(played, self.step + 1)
            return played
        if self.execution is None:
            noise = generator(self.settings.seed, "noise", self.step)
            model = self.model if context is None else self.model.given(context)
            terms = self.objective(model, x, step=self.step, generator=noise)
        else:
            terms = self.execution(x, items, self.step, context)
        if self.prompt:
            self._check(terms, self.step + 1)
        terms.loss.backward()
        values = [value.detach() for value in (terms.loss, terms.reconstruction, terms.regularization)]
        return Terms(*values, extras=terms.extras)

    def _check(self, terms: Terms, step: int) -> None:
        try:
            check_finite(terms, self.objective, where=self._where(step))
        except Diverged:
            if self.prompt:  # the cause may be older: weights that an earlier step has spoilt
                self.guard.weights(step - 1)
            raise

    def _where(self, step: int) -> str:
        return f"step {step} (epoch {(step - 1) // self.per_epoch + 1}) of training"

    def close_epoch(self, epoch: Epoch) -> None:
        """Keep what an epoch measured, and its weights if they are the best so far."""
        self.history.append(epoch)
        self.sums.zero_()
        if not self.objective.comparable or best_epoch(self.history) is epoch:
            self.best = {name: value.detach().clone() for name, value in self._weights().items()}

    def keep_best(self) -> None:
        """End with the weights of the lowest held-out loss, or the last where losses cannot be compared."""
        if not self.best:  # time ran out before the first validation
            with self.average.swapped() if self.average else nullcontext():
                self.best = {name: value.detach().clone() for name, value in self._weights().items()}
        for prefix, module in self._modules().items():
            module.load_state_dict(_under(self.best, prefix))

    def snapshot(self, **facts: Any) -> Snapshot:
        """Everything there is, to go on from; `facts` are kept with it."""
        self.collect()
        moments = self.optimizer.state()
        tensors = {
            **self._weights(),
            **_prefixed("optimizer.", self.shards.whole(moments) if self.shards else moments),
            **_prefixed("best.", self.best),
            **({} if self.average is None else _prefixed("average.", self.average.state())),
            "sums": self.sums,
        }
        history = [epoch.to_dict() for epoch in self.history]
        return Snapshot(tensors, {"step": self.step, "history": history, **facts})

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot.

        Raises:
            DataError: it belongs to another model or objective.
        """
        tensors = snapshot.tensors
        try:
            for prefix, module in self._modules().items():
                module.load_state_dict(_under(tensors, prefix))
            moments = _under(tensors, "optimizer.")
            if self.shards:
                self.shards.distribute()
            self.optimizer.load(self.shards.own(moments) if self.shards else moments)
            if self.average is not None:
                self.average.load(_under(tensors, "average."))
            self.best, self.sums = _under(tensors, "best."), tensors["sums"].clone()
        except (RuntimeError, KeyError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise DataError(f"the checkpoint belongs to another model: {first}", fix="--fresh --force") from error
        self.step = self.guard.sound = snapshot.step
        self.history = [Epoch.from_dict(values) for values in snapshot.record["history"]]
        self.objective.plan(self.steps, self.items)

    def _modules(self) -> dict[str, nn.Module]:
        return {"model.": self.model, "objective.": self.objective}

    def _weights(self) -> dict[str, Tensor]:
        parts = (_prefixed(prefix, module.state_dict()) for prefix, module in self._modules().items())
        return {name: value for part in parts for name, value in part.items()}


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def check_finite(terms: Terms, objective: Objective, *, where: str) -> None:
    """Stop at a loss that is not finite.

    Raises:
        Diverged: it names the place and the first term that is not finite.
    """
    if math.isfinite(terms.loss.item()):
        return
    weighted = {
        "reconstruction": (getattr(objective, "reconstruction", 1.0), terms.reconstruction),
        "KL": (getattr(objective, "regularization", 1.0), terms.regularization),
    }
    guilty = [name for name, (weight, term) in weighted.items() if weight and not torch.isfinite(term).all()]
    term = guilty[0] if guilty else "loss"
    bad = int((~torch.isfinite(weighted[term][1])).sum()) if guilty else 0
    count = f" for {bad} of {len(terms.reconstruction)} items" if guilty else ""
    raise Diverged(
        f"the {term} is not finite{count}: training stopped",
        where=f"{where}, term {term}",
        fix=LOWER,
    )


def _means(terms: Terms) -> Tensor:
    columns = (terms.loss.detach(), terms.reconstruction.detach().mean(), terms.regularization.detach().mean())
    return torch.stack(columns)
