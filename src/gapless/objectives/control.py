"""How much of the KL is charged: all of it, its distance from a capacity, or what exceeds the free bits."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from gapless.distributions import Product, divergence_of_parts, divergence_per_feature
from gapless.draws import Draws
from gapless.errors import UsageError

__all__ = []


class Control:
    """R of an objective: `r KL`, `|KL - r C|` or `r sum_j max(l, KL_j)`, r the share of its schedule.

    Args:
        capacity: C, nats an item, at least 0, or one number a part of a product posterior; not with free bits.
        free_bits: l, nats of each latent feature, at least 0.
    """

    def __init__(self, capacity: float | Sequence[float] | None, free_bits: float | None):
        if capacity is not None and free_bits is not None:
            raise UsageError("a capacity and free bits both set the least KL", fix="give one of them")
        self.capacity, self.free_bits = _capacities(capacity), _nats("free_bits", free_bits)

    def charged(self, draws: Draws, kl: Float[Tensor, " batch"], share: Tensor | float) -> Tensor:
        """R, shape (batch,), or () where it is of the batch's mean; the share is 1.0, or a tensor of shape ()."""
        if isinstance(self.capacity, tuple):
            return (_of_parts(draws.posterior, draws.prior) - share * kl.new_tensor(self.capacity)).abs().sum()
        if self.capacity is not None:
            return (kl.mean() - share * self.capacity).abs()
        if self.free_bits is not None:
            return share * _per_feature(draws.posterior, draws.prior).mean(0).clamp_min(self.free_bits).sum()
        return share * kl if isinstance(share, Tensor) else kl

    def shown(self, beta: float, share: Tensor | float) -> dict[str, Tensor]:
        """What rises with the share, by name: the capacity, or the effective beta where there is none."""
        if not isinstance(share, Tensor):
            return {}
        capacity = sum(self.capacity) if isinstance(self.capacity, tuple) else self.capacity
        return {"beta": share * beta} if capacity is None else {"capacity": share * capacity}


def of_step(function: Callable[[int], float], step: int, like: Tensor) -> Tensor:
    """A number that depends on the step, as a tensor of shape () and of the kind of another.

    A step that is recorded to be played again keeps the function, and the tensor gets its value before every play.

    Args:
        function: number of the step -> value; it may depend on nothing else that changes.
        step: optimizer steps taken so far.
        like: says type and device.
    """
    kept = getattr(step, "kept", None)
    value = torch.tensor(function(step), dtype=torch.float64) if kept is None else kept(function)
    return value.to(like, copy=True)


def _nats(name: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise UsageError(f"{name} is a number of nats, at least 0 and finite; got {value}")
    return value


def _capacities(value: float | Sequence[float] | None) -> float | tuple[float, ...] | None:
    if isinstance(value, Sequence):
        return tuple(_nats("capacity", part) or 0.0 for part in value)
    return _nats("capacity", value)


def _of_parts(posterior: Distribution, prior: Distribution) -> Float[Tensor, " parts"]:
    """The batch's mean KL of each part."""
    if not (isinstance(posterior, Product) and isinstance(prior, Product)):
        raise UsageError(
            f"a capacity a part needs products; got {type(posterior).__name__} and {type(prior).__name__}",
            fix="give one capacity",
        )
    return divergence_of_parts(posterior, prior).mean(1)


def _per_feature(posterior: Distribution, prior: Distribution) -> Float[Tensor, "batch latent"]:
    kl = divergence_per_feature(posterior, prior)
    if kl is None:
        raise UsageError(
            f"free bits need a KL that splits into latent features; "
            f"KL({type(posterior).__name__} || {type(prior).__name__}) does not",
            fix="use a capacity, or a diagonal normal posterior with a standard normal prior",
        )
    return kl
