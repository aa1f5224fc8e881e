"""Generators whose state is a function of counters alone: (seed, stream, counter, ...), never of what ran before."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["generator", "noise", "seed_of"]

# One number a use, so that two uses of one seed never share a stream.
STREAMS = {
    "encoder": 1, "decoder": 2, "noise": 3, "evaluation": 4, "sample": 5, "picture": 6, "order": 7,
    "posterior": 8, "prior": 9, "objective": 10, "weights": 11, "likelihood": 12, "density": 20, "imputation": 21,
}  # fmt: skip


def seed_of(seed: int, stream: str, *counters: int) -> int:
    """A 64-bit seed mixed from a user's seed, the name of a stream and any number of counters.

    Args:
        seed: the user's seed, 0 or more.
        stream: what the numbers are for, a key of `STREAMS`.
        counters: for example (epoch,) or (step,).
    """
    words = [seed, STREAMS[stream], len(counters), *counters]  # the count, for SeedSequence pads with zeros
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def generator(seed: int, stream: str, *counters: int) -> torch.Generator:
    """A CPU generator seeded by `seed_of`; the same counters give the same numbers in any process."""
    return torch.Generator().manual_seed(seed_of(seed, stream, *counters))


def noise(
    draw: Callable[..., Tensor], shape: Sequence[int], *, like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Noise of `draw`, torch.rand or torch.randn, on the device and in the precision of `like`.

    A CPU generator serves every device, so that the same seed gives the same noise everywhere.
    """
    device = generator.device if generator is not None else like.device
    return draw(tuple(shape), generator=generator, device=device, dtype=like.dtype).to(like.device, non_blocking=True)
