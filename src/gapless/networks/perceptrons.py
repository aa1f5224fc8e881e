"""Perceptrons.

While they learn on a CPU their values lie in memory feature by feature, not item by item: a layer is then the product
`W h` instead of `h W'`. The threads share a product by its rows, so each reads and changes its own rows of the weights
alone, as the optimizer does. Item by item every thread reads all weights in every step, and where two processors have
no cache in common (as those of a virtual machine may at any time) that is a third of the step.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapless.networks.network import ACTIVATIONS, Network, activation_of, checked_shape

__all__ = ["MLP", "ResidualMLP"]


def _run(layers: nn.Sequential, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, "batch outputs"]:
    """The layers' value; the first of them flattens."""
    learns = layers.training and torch.is_grad_enabled() and x.device.type == "cpu"
    if not learns or not all(map(_is_plain, list(layers)[1:])):
        return layers(x)
    return _by_feature(list(layers)[1:], x.flatten(1).t()).t()


def _is_plain(layer: nn.Module) -> bool:
    """Whether it is one of ours as it was made, and nobody looks at what goes through it: else it is called."""
    known = (type(layer) is nn.Linear and layer.bias is not None) or type(layer) in (Residual, *ACTIVATIONS.values())
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return known and not any(hooks) and all(map(_is_plain, layer.body if isinstance(layer, Residual) else ()))


def _by_feature(layers: Iterable[nn.Module], h: Float[Tensor, "inputs batch"]) -> Float[Tensor, "outputs batch"]:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            h = torch.addmm(layer.bias[:, None], layer.weight, h)
        elif isinstance(layer, Residual):
            h = h + _by_feature(layer.body, h)
        else:
            h = layer(h)
    return h


class MLP(Network):
    """A multi-layer perceptron; inputs are flattened, outputs are shaped.

    Args:
        inputs: shape of one input, without the batch axis.
        outputs: shape of one output, without the batch axis.
        hidden: units of each hidden layer, each at least 1; () is an affine map.
        activation: one of elu, gelu, relu, silu, softplus, tanh.

    >>> MLP((1, 8, 8), (4,), hidden=(16,))(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 4])
    """

    by_feature = True

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        hidden: Sequence[int] = (512, 256),
        activation: str = "relu",
    ):
        super().__init__()
        self.inputs, self.outputs, self.hidden = checked_shape(inputs), checked_shape(outputs), tuple(hidden)
        self.activation = activation
        sizes = (math.prod(self.inputs), *checked_shape(hidden), math.prod(self.outputs))
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(before, after), activation_of(activation, overwrites=True)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return _run(self.layers, x).unflatten(1, self.outputs)


class ResidualMLP(Network):
    """A perceptron of residual blocks `h + W2 act(W1 act(h))` (He et al. 2016, pre-activation, fully connected).

    Args:
        inputs: shape of one input, without the batch axis.
        outputs: shape of one output, without the batch axis.
        width: units of the trunk, at least 1.
        blocks: number of residual blocks, at least 0.
        activation: one of elu, gelu, relu, silu, softplus, tanh.

    >>> ResidualMLP((10,), (4,), width=16)(torch.zeros(3, 10)).shape
    torch.Size([3, 4])
    """

    by_feature = True

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        width: int = 256,
        blocks: int = 2,
        activation: str = "relu",
    ):
        super().__init__()
        self.inputs, self.outputs, self.width, self.blocks = (
            checked_shape(inputs),
            checked_shape(outputs),
            width,
            blocks,
        )
        self.activation = activation
        trunk = [Residual(nn.Linear, width, activation) for _ in range(blocks)]
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(self.inputs), width),
            *trunk,
            activation_of(activation),
            nn.Linear(width, math.prod(self.outputs)),
        )

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return _run(self.layers, x).unflatten(1, self.outputs)


class Residual(nn.Module):
    """`h + layer2(act(layer1(act(h))))`."""

    def __init__(self, layer, width: int, activation: str):
        super().__init__()
        self.body = nn.Sequential(
            activation_of(activation), layer(width, width), activation_of(activation), layer(width, width)
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)
