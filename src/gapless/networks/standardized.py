"""A network that is shown values in units of their spread."""

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.networks.network import Network

__all__ = ["Standardized"]


class Standardized(Network):
    """`network((x - shift) / spread)`: what a model's encoder makes of an item, for whoever has the item alone.

    A model shows its encoder deviations from the mean of the data in units of their spread. Shift and spread are
    buffers, 0 and 1 until `show` is called.

    Args:
        network: from (*event) to anything.

    >>> from gapless.networks import MLP
    >>> Standardized(MLP((2,), (3,))).show(torch.ones(2), 0.5)(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    shift: Tensor
    spread: Tensor

    def __init__(self, network: Network):
        super().__init__()
        self.network, self.inputs, self.outputs = network, network.inputs, network.outputs
        self.register_buffer("shift", torch.zeros(self.inputs))
        self.register_buffer("spread", torch.ones(()))

    def show(self, shift: Tensor, spread: Tensor | float) -> "Standardized":
        """The same network, which from now on subtracts this shift, shape (*inputs), and divides by this spread."""
        self.shift.copy_(shift)
        self.spread.copy_(torch.as_tensor(spread))
        return self

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.network((x - self.shift) / self.spread)
