"""What a model is worth on given items: both terms of the bound in nats, and what each latent feature carries."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gapless import processes
from gapless.conditions import given
from gapless.data import Feed
from gapless.distributions import divergence_per_feature
from gapless.model import Model
from gapless.objectives import Objective
from gapless.randomness import generator

__all__ = ["Evaluation", "LatentStatistics", "evaluate", "latent_statistics"]

BATCH = 512
LIVE_NATS = 0.01
"""A latent feature that carries less than this about an item is called dead."""


@dataclass(frozen=True)
class Evaluation:
    """Means over items, nats per example.

    Attributes:
        loss: the trained objective.
        reconstruction: -E_q log p(x|z), lower is better.
        kl: KL(q(z|x) || p(z)); infinite for a point-mass posterior.
        items: how many items.
        elbo_standard_error: standard error of the mean ELBO over items; None where it is infinite or not measured.
    """

    loss: float
    reconstruction: float
    kl: float
    items: int
    elbo_standard_error: float | None = None

    @property
    def elbo(self) -> float:
        """The evidence lower bound at weights (1, 1): -(reconstruction + kl); minus infinity for a point mass."""
        return -(self.reconstruction + self.kl)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; infinite values become None, for JSON has none."""
        values = {**asdict(self), "elbo": self.elbo}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Evaluation":
        """The values that `to_dict` wrote; a KL of None is infinite."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "kl": math.inf if known["kl"] is None else known["kl"]})


@torch.no_grad()
def evaluate(
    model: Model,
    objective: Objective,
    feed: Feed,
    *,
    seed: int = 0,
    step: int = 0,
    samples: int = 1,
    first: int = 0,
    shared: bool = False,
) -> Evaluation:
    """Both terms on all items, with noise that depends on the seed alone; the model is left in its mode.

    Args:
        model: the model.
        objective: the trained objective.
        feed: the items.
        seed: seed of the noise.
        step: optimizer steps taken, for weights that change with it.
        samples: passes with fresh noise over the items, at least 1.
        first: number of the first pass; other numbers, other noise.
        shared: the processes of the job share the work, each calling this; the result is the same to the bit.

    Returns:
        Means over items and passes.
    """
    training, learning = model.training, objective.training
    model.eval()
    objective.eval()
    per_item = torch.zeros(3, len(feed), dtype=torch.float64)
    for number in range(first, first + samples):
        for chunk, x in _chunks(feed, shared):
            bound = given(model, feed.items, _positions(chunk, x))
            terms = objective(bound, x, step=step, generator=generator(seed, "evaluation", number, chunk))
            rows = torch.stack([terms.loss.expand(len(x)), terms.reconstruction, terms.regularization])
            per_item[:, chunk * BATCH : chunk * BATCH + len(x)] += rows.cpu().double() / samples
    if shared:
        processes.total(per_item)
    model.train(training)
    objective.train(learning)
    loss, reconstruction, kl = per_item.mean(1).tolist()
    return Evaluation(loss, reconstruction, kl, len(feed), _standard_error(per_item[1] + per_item[2]))


def _chunks(feed: Feed, shared: bool) -> Iterator[tuple[int, Tensor]]:
    """The items in chunks with their numbers; of a shared work, every so many-th."""
    if not shared:
        yield from enumerate(feed.batches(BATCH))
        return
    for chunk in range(processes.rank(), math.ceil(len(feed) / BATCH), processes.size()):
        yield chunk, feed.batch(torch.arange(chunk * BATCH, min((chunk + 1) * BATCH, len(feed))))


def _positions(chunk: int, x: Tensor) -> Tensor:
    return torch.arange(chunk * BATCH, chunk * BATCH + len(x))


def _standard_error(values: Tensor) -> float | None:
    if len(values) < 2 or not torch.isfinite(values).all():
        return None
    return float(values.std() / math.sqrt(len(values)))


@dataclass(frozen=True)
class LatentStatistics:
    """Codes of all items and what each latent feature carries.

    Attributes:
        loc: means of q(z|x), shape (n, latent), float32.
        scale: standard deviations, same shape; 0 for a point mass.
        kl: mean KL of each latent feature in nats, shape (latent,); None for a point mass.
    """

    loc: Tensor
    scale: Tensor
    kl: Tensor | None

    @property
    def reliability(self) -> Tensor:
        """Var(loc) / (Var(loc) + E[scale^2]) of each latent feature: the share of its spread that tells items apart."""
        spread = self.loc.double().var(0, unbiased=False)
        return torch.nan_to_num(spread / (spread + self.scale.double().square().mean(0)))

    @property
    def live(self) -> Tensor:
        """Which latent features carry more than 0.01 nats, by the normal channel: -1/2 log(1 - reliability)."""
        return -0.5 * torch.log1p(-self.reliability) > LIVE_NATS

    @property
    def importance(self) -> Tensor:
        """Order of use: the features of highest KL, or of widest loc where there is no KL; indices, best first."""
        score = self.kl if self.kl is not None else self.loc.var(0, unbiased=False)
        return torch.argsort(score, descending=True, stable=True)


@torch.no_grad()
def latent_statistics(model: Model, feed: Feed, *, limit: int | None = None) -> LatentStatistics:
    """Encode all items, or the first `limit`; the model is left in its mode."""
    training = model.training
    model.eval()
    loc, scale, kl, prior = [], [], [], model.prior_distribution()
    for chunk, x in enumerate(itertools.islice(feed.batches(BATCH), limit and math.ceil(limit / BATCH))):
        posterior = given(model, feed.items, _positions(chunk, x)).encode(x)
        loc.append(posterior.mean.cpu())
        scale.append(posterior.stddev.cpu())
        per_feature = divergence_per_feature(posterior, prior)
        if per_feature is not None:
            kl.append(per_feature.cpu().double())
    model.train(training)
    return LatentStatistics(torch.cat(loc), torch.cat(scale), torch.cat(kl).mean(0) if kl else None)
