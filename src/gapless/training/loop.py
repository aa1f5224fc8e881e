"""The loop: batches from memory, one seed, the same objective for training and validation."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gapless.data import Feed
from gapless.errors import Diverged
from gapless.model import Model
from gapless.objectives import Objective, Terms
from gapless.randomness import generator
from gapless.settings import Settings
from gapless.training.callbacks import Callback
from gapless.training.evaluation import Evaluation, evaluate

__all__ = ["Epoch", "best_epoch", "fit"]


@dataclass(frozen=True)
class Epoch:
    """What one epoch measured; all values in nats per example.

    Attributes:
        epoch: counted from 1.
        step: optimizer steps taken so far.
        seconds: wall-clock seconds since training began, validation included.
        train: means of loss, reconstruction and kl over the epoch's steps, while the weights moved.
        held_out: the same objective on the held-out items, after the epoch.
    """

    epoch: int
    step: int
    seconds: float
    train: Evaluation
    held_out: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Plain data; infinite values become None."""
        return {**asdict(self), "train": self.train.to_dict(), "held_out": self.held_out.to_dict()}


def fit(
    model: Model,
    objective: Objective,
    train: Feed,
    held_out: Feed,
    *,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
) -> list[Epoch]:
    """Train a model in place; it ends with the weights of the epoch whose held-out loss was lowest.

    The order of the data is a function of (seed, epoch) and the noise of (seed, step): on one device, with one number
    of threads and one version of torch, two runs end in the same bits.

    Args:
        model: the model; it ends in evaluation mode.
        objective: what is minimised.
        train: training items.
        held_out: items for validation only.
        settings: epochs, batch size, learning rate and seed are used here.
        callbacks: told of every step and epoch.

    Returns:
        One record an epoch.

    Raises:
        Diverged: a term became infinite or not a number; the message names the step and the term.
    """
    parameters = [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=settings.device != "mps")
    epochs, started, history = settings.epochs_for(len(train)), time.monotonic(), []
    per_epoch = math.ceil(len(train) / settings.batch_size)
    best: list[dict[str, Tensor]] = []
    try:
        for callback in callbacks:
            callback.on_start(epochs, per_epoch)
        for epoch in range(1, epochs + 1):
            seen = _one_epoch(model, objective, train, optimizer, settings, epoch, (epoch - 1) * per_epoch, callbacks)
            step = epoch * per_epoch
            validated = _validate(model, objective, held_out, settings, epoch, step)
            history.append(Epoch(epoch, step, time.monotonic() - started, seen, validated))
            if best_epoch(history) is history[-1]:
                best = [_copied(module) for module in (model, objective)]
            for callback in callbacks:
                callback.on_epoch(history[-1])
    finally:
        for callback in callbacks:
            callback.on_end()
    for module, state in zip((model, objective), best, strict=True):
        module.load_state_dict(state)
    model.eval()
    return history


def _copied(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The first epoch of lowest held-out loss, the trained objective: the one whose weights are kept."""
    return min(history, key=lambda epoch: epoch.held_out.loss)


def _one_epoch(
    model: Model,
    objective: Objective,
    train: Feed,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    epoch: int,
    step: int,
    callbacks: Sequence[Callback],
) -> Evaluation:
    """Every training item once, in the order of (seed, epoch); means over the epoch while the weights moved."""
    model.train()
    sums = torch.zeros(3, dtype=torch.float64)
    for positions in train.order(settings.seed, epoch).split(settings.batch_size):
        x = train.batch(positions)
        terms = objective(model, x, step=step, generator=generator(settings.seed, "noise", step))
        step += 1
        check_finite(terms, objective, where=f"step {step} (epoch {epoch}) of training")
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        sums += len(x) * _means(terms)
        for callback in callbacks:
            callback.on_step(step, terms)
    return Evaluation(*(sums / len(train)).tolist(), items=len(train))


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
        fix="lower --learning-rate (a tenth of it), or look for extreme values with `gapless inspect`",
    )


def _validate(
    model: Model, objective: Objective, held_out: Feed, settings: Settings, epoch: int, step: int
) -> Evaluation:
    result = evaluate(model, objective, held_out, seed=settings.seed, step=step)
    if not math.isfinite(result.loss):
        raise Diverged(
            "the loss of the held-out items is not finite: training stopped",
            where=f"step {step} (validation after epoch {epoch}), term loss",
            fix="lower --learning-rate (a tenth of it), or look for extreme values with `gapless inspect`",
        )
    return result


def _means(terms: Terms) -> Tensor:
    columns = (terms.loss.detach(), terms.reconstruction.detach().mean(), terms.regularization.detach().mean())
    return torch.stack(columns).double().cpu()
