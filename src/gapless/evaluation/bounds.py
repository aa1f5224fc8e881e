"""The ELBO by terms and features, and the importance-weighted bound of log p(x), both by the same draws."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.conditions import given
from gapless.data import Feed
from gapless.distributions import PointMass, divergence_per_feature
from gapless.draws import Draws, draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.randomness import generator

__all__ = ["MEMORY", "Bounds", "Evidence", "chosen_items", "measured_bounds"]

MEMORY = 256 << 20
"""Bytes that the decoder and the density may use at a time."""
TOGETHER = 32
DECODES = 4096
"""Items, and decodes, that are at work at a time at most: more is no faster, and leaves the cache of a core."""
DOMINATED = 0.5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evidence:
    """The importance-weighted bound of log p(x) in nats, and how far it can be trusted.

    `L_S = log 1/S sum_s p(x, z_s) / q(z_s|x)`, `z_s ~ q(z|x)`: Burda et al. (2016), eq. 8. In expectation it lies below
    log p(x), by about half the relative variance of the mean weight (delta method).

    Attributes:
        per_item: L_S of each item, shape (items,), float64.
        samples: S, draws an item.
        variance: of each item's L_S over repetitions of its draws (delta method), shape (items,); NaN for one draw.
        effective: effective sample size `(sum w)^2 / sum w^2` of each item, between 1 and S, shape (items,).
        largest: share of the total weight that the heaviest draw of each item carries, shape (items,).
    """

    per_item: Float[Tensor, " items"]
    samples: int
    variance: Float[Tensor, " items"]
    effective: Float[Tensor, " items"]
    largest: Float[Tensor, " items"]

    @property
    def value(self) -> float:
        """Mean over items, nats."""
        return float(self.per_item.mean())

    @property
    def standard_error(self) -> float | None:
        """Of the mean, over items: what other items of the same kind would give; None for a single item."""
        return _standard_error(self.per_item)

    @property
    def monte_carlo_error(self) -> float | None:
        """Standard error of the mean over repetitions of the draws, for these items; None for a single draw."""
        return float(self.variance.sum().sqrt() / len(self.variance)) if self.samples > 1 else None

    @property
    def looseness(self) -> float | None:
        """About how far the bound still lies below log p(x), nats: half the mean variance; None for a single draw."""
        return float(self.variance.mean() / 2) if self.samples > 1 else None

    @property
    def dominated(self) -> int:
        """Items whose heaviest of 10 draws or more carries over half of the weight: do not trust their errors above."""
        return int((self.largest > DOMINATED).sum()) if self.samples >= 10 else 0


@dataclass(frozen=True)
class Bounds:
    """The terms of the ELBO in nats, and the tighter bound.

    Attributes:
        reconstruction: -E_q log p(x|z) of each item, the mean over its draws, shape (items,).
        kl: KL(q(z|x) || p(z)) of each item, in closed form where one is known, shape (items,).
        reconstruction_per_feature: mean over items, shape (*event); None where the likelihood does not split so.
        kl_per_feature: mean over items, shape (latent,); None where the KL does not split so.
        evidence: the importance-weighted bound; None where posterior (an autoencoder) or likelihood have no density.
    """

    reconstruction: Float[Tensor, " items"]
    kl: Float[Tensor, " items"]
    reconstruction_per_feature: Tensor | None
    kl_per_feature: Tensor | None
    evidence: Evidence | None

    @property
    def elbo(self) -> float:
        """-(reconstruction + KL), mean over items; minus infinity for an autoencoder."""
        return -float((self.reconstruction + self.kl).mean())

    @property
    def elbo_standard_error(self) -> float | None:
        """Of the mean ELBO over items."""
        return _standard_error(self.reconstruction + self.kl)


def chosen_items(count: int, items: int | None, *, seed: int) -> Tensor:
    """Positions of a random subset in their order, shape (min(items, count),); all of them for None.

    Raises:
        UsageError: fewer than one item is asked for.
    """
    if items is not None and items < 1:
        raise UsageError(f"an evaluation needs at least 1 item; got {items}", where="items")
    if items is None or items >= count:
        return torch.arange(count)
    return torch.randperm(count, generator=generator(seed, "evaluation", 0))[:items].sort().values


@torch.no_grad()
def measured_bounds(
    model: Model,
    feed: Feed,
    positions: Tensor,
    *,
    samples: int = 5000,
    seed: int = 0,
    memory: int = MEMORY,
    bin_width: Tensor | None = None,
    progress: Progress | None = None,
) -> Bounds:
    """Both bounds by `samples` draws an item, in bounded memory; the model is left in its mode.

    Draws come from the seed alone and are decoded some at a time; of their weights only the running `log sum w`,
    `log sum w^2` and the largest are kept.

    Args:
        model: the model.
        feed: the items.
        positions: which of them, (items,) int64.
        samples: S, draws z ~ q(z|x) an item, at least 1.
        seed: of the draws.
        memory: bytes for decoding, above 0; the values depend on it as on another seed.
        bin_width: add uniform noise of this width, model units, to every value: the bound of dequantised data.
        progress: told of (items done, items).

    Raises:
        UsageError: fewer than one draw, no item, or no memory.
    """
    if samples < 1 or not len(positions) or memory < 1:
        raise UsageError(
            f"bounds need samples, items and memory of at least 1; got {samples}, {len(positions)} and {memory}"
        )
    training = model.training
    model.eval()
    decodes = max(1, min(DECODES, memory // _bytes_of_a_decode(model, feed)))
    together = min(TOGETHER, decodes)
    parts = []
    for number, some in enumerate(positions.split(together)):
        x = feed.batch(some)
        noise = generator(seed, "evaluation", 1, number)
        if bin_width is not None:
            x = x + (torch.rand(x.shape, generator=noise).to(x) - 0.5) * bin_width.to(x)
        parts.append(_block(given(model, feed.items, some), x, samples, max(1, decodes // len(some)), noise))
        if progress is not None:
            progress(min((number + 1) * together, len(positions)), len(positions))
    model.train(training)
    return _joined(parts, samples)


@dataclass(frozen=True)
class _Part:
    """What was measured of some items; sums over items where there is one value a feature."""

    rows: Float[Tensor, "6 items"]  # reconstruction, KL, L_S, its variance, effective sample size, largest share
    values: Tensor | None
    codes: Tensor | None


def _block(model: Model, x: Tensor, samples: int, at_once: int, noise: torch.Generator) -> _Part:
    """Both bounds of a few items, `at_once` draws at a time."""
    weights, explained, kl = _Weights(len(x)), torch.zeros(len(x), dtype=torch.float64), None
    values = codes = None
    for drawn in _draws(model, x, samples, at_once, noise):
        share = len(drawn.z) / samples
        if values is None:  # by the first draws alone: it costs the density twice
            values, codes = _values(drawn), divergence_per_feature(drawn.posterior, drawn.prior)
        kl = _add(kl, share * drawn.divergence().double().cpu())
        explained += drawn.log_likelihood.double().sum(0).cpu()
        if model.likelihood.density and not isinstance(drawn.posterior, PointMass):
            weights.add(drawn.log_weights())
    assert kl is not None
    rows = torch.stack([-explained / samples, kl, *weights.measured()])
    return _Part(rows, values, None if codes is None else codes.double().sum(0).cpu())


def _draws(model: Model, x: Tensor, samples: int, at_once: int, noise: torch.Generator) -> Iterator[Draws]:
    """So many draws of each item, some at a time; the items are encoded once."""
    first = draw(model, x, samples=min(at_once, samples), generator=noise)
    yield first
    for start in range(at_once, samples, at_once):
        count = min(at_once, samples - start)
        yield first.at(first.posterior.sample((count,), generator=noise))  # pyright: ignore[reportCallIssue]


def _values(drawn: Draws) -> Tensor | None:
    """-E_q log p(x_i|z) of each data feature in nats, summed over items, shape (*event); None where it is not split."""
    split = getattr(drawn.likelihood, "log_prob_per_feature", None)
    if split is None or not drawn.model.likelihood.density:  # a metric is no sum over the features
        return None
    repeated = drawn.x.expand(len(drawn.z), *drawn.x.shape).flatten(0, 1)
    return -split(repeated).double().sum(0).cpu() / len(drawn.z)


class _Weights:
    """`log sum w`, `log sum w^2` and the largest log w of each item so far, in float64."""

    def __init__(self, items: int):
        nothing = torch.full((items,), -math.inf, dtype=torch.float64)
        self.total, self.squares, self.largest, self.count = nothing, nothing, nothing, 0

    def add(self, log_weights: Float[Tensor, "samples items"]) -> None:
        log_w = log_weights.double().cpu()
        self.total = torch.logaddexp(self.total, log_w.logsumexp(0))
        self.squares = torch.logaddexp(self.squares, (2 * log_w).logsumexp(0))
        self.largest = torch.maximum(self.largest, log_w.amax(0))
        self.count += len(log_w)

    def measured(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The bound, its variance, the effective sample size and the largest share of each item."""
        effective = (2 * self.total - self.squares).exp()
        # Var(mean w) / (mean w)^2 with the unbiased variance of w, which is that of log mean w to first order
        variance = (1 / effective - 1 / max(self.count, 1)) * self.count / (self.count - 1 or math.nan)
        bound = self.total - math.log(max(self.count, 1))
        return bound, variance.clamp_min(0), effective, (self.largest - self.total).exp()


def _joined(parts: list[_Part], samples: int) -> Bounds:
    rows = torch.cat([part.rows for part in parts], dim=1)
    evidence = Evidence(rows[2], samples, *rows[3:]) if torch.isfinite(rows[2]).all() else None
    items = rows.shape[1]
    values, codes = (_mean([getattr(part, name) for part in parts], items) for name in ("values", "codes"))
    return Bounds(rows[0], rows[1], values, codes, evidence)


def _mean(sums: list[Tensor | None], items: int) -> Tensor | None:
    known = [part for part in sums if part is not None]
    return torch.stack(known).sum(0) / items if len(known) == len(sums) else None


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _bytes_of_a_decode(model: Model, feed: Feed) -> int:
    """Bytes that one code takes on its way to a density: everything that the decoder's layers put out, and the item."""
    counted = [0]

    def count(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counted[0] += output.numel() if isinstance(output, Tensor) else 0

    leaves = [module for module in model.decoder.modules() if not any(True for _ in module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        first = torch.zeros(1, dtype=torch.int64)
        draws = draw(given(model, feed.items, first), feed.batch(first), generator=generator(0, "evaluation"))
    finally:
        for hook in hooks:
            hook.remove()
    # the item repeated, the parameters with their offset, and what the density computes of them
    return 4 * (counted[0] + 4 * math.prod(model.event_shape) + 2 * math.prod(model.parameter_shape) + draws.z.numel())


def _standard_error(values: Tensor) -> float | None:
    if len(values) < 2 or not torch.isfinite(values).all():
        return None
    return float(values.std() / math.sqrt(len(values)))
