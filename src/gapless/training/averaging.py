"""An exponential moving average of a module's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gapless.errors import UsageError

__all__ = ["Average"]


class Average:
    """`average <- d * average + (1 - d) * weights` after every step: Polyak & Juditsky (1992) with a short memory.

    At update t (from 0) `d = min(decay, (1 + t) / (10 + t))`: the initial weights, where the average starts, are
    forgotten within a few steps, so nothing has to be divided by `1 - decay^t`. Parameters and floating-point buffers
    (the running scale of a likelihood) are averaged; counters are not.

    Args:
        module: whose weights are followed; it is not changed by `update`.
        decay: weight of the past, between 0 and 1.

    >>> layer = nn.Linear(2, 1)
    >>> average = Average(layer, 0.999)
    >>> average.update()
    >>> with average.swapped():
    ...     evaluated = layer(torch.zeros(1, 2))
    """

    def __init__(self, module: nn.Module, decay: float):
        if not 0 < decay < 1:
            raise UsageError(f"the decay of averaged weights lies between 0 and 1; got {decay}")
        self.module, self.decay, self.updates = module, decay, 0
        self.values = {name: value.detach().clone() for name, value in _weights(module)}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module's weights; after every optimizer step."""
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in _weights(self.module):
            self.values[name].lerp_(value, weight)
        self.updates += 1

    def state(self) -> dict[str, Tensor]:
        """All there is to resume from: the averaged weights and the number of updates."""
        values = {f"average.{name}": value.clone() for name, value in self.values.items()}
        return {"updates": torch.tensor(self.updates), **values}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from `state()`.

        Raises:
            UsageError: it is the state of another module.
        """
        wanted = self.state()
        if {name: value.shape for name, value in state.items()} != {n: v.shape for n, v in wanted.items()}:
            raise UsageError("these averaged weights belong to another model")
        self.updates = int(state["updates"])
        for name, value in self.values.items():
            value.copy_(state[f"average.{name}"])

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The module has the averaged weights inside, and its own again, to the bit, after."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in _weights(self.module):
            own = value.detach().clone()
            value.copy_(self.values[name])
            self.values[name].copy_(own)


def _weights(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters that are learned, and floating-point buffers; no integer can be averaged."""
    learned = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    named = [*learned, *module.named_buffers()]
    return [(name, value) for name, value in named if value.is_floating_point()]
