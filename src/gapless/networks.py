"""Networks from tensors to tensors; they know nothing of probability."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapless.errors import UsageError
from gapless.parts import Part

__all__ = ["MLP", "ConvolutionalDecoder", "ConvolutionalEncoder", "Network", "ResidualMLP"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU, "gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus, "tanh": nn.Tanh,
}  # fmt: skip


class Network(Part, ABC):
    """A map from (batch, *inputs) to (batch, *outputs).

    To add one: keep `inputs` and `outputs` (shapes without the batch axis) and write `forward`.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @abstractmethod
    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        """The network's value, any real number."""


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

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        hidden: Sequence[int] = (512, 256),
        activation: str = "relu",
    ):
        super().__init__()
        self.inputs, self.outputs, self.hidden = _shape(inputs), _shape(outputs), tuple(hidden)
        self.activation = activation
        sizes = (math.prod(self.inputs), *_shape(hidden), math.prod(self.outputs))
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(before, after), _activation(activation)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.layers(x).unflatten(1, self.outputs)


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
        self.inputs, self.outputs, self.width, self.blocks = _shape(inputs), _shape(outputs), width, blocks
        self.activation = activation
        trunk = [_Residual(nn.Linear, width, activation) for _ in range(blocks)]
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(self.inputs), width),
            *trunk,
            _activation(activation),
            nn.Linear(width, math.prod(self.outputs)),
        )

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.layers(x).unflatten(1, self.outputs)


class ConvolutionalEncoder(Network):
    """Convolutions of stride 2, each followed by residual blocks, then one affine layer; any image size.

    An axis of n pixels becomes ceil(n / 2) at every level.

    Args:
        inputs: (channels, height, width) of an image.
        outputs: shape of one output, without the batch axis.
        channels: channels after each halving, at least one level.
        blocks: residual blocks at each level, at least 0.
        activation: one of elu, gelu, relu, silu, softplus, tanh.

    >>> ConvolutionalEncoder((3, 17, 5), (4,), channels=(8, 16))(torch.zeros(2, 3, 17, 5)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        channels: Sequence[int] = (32, 64),
        blocks: int = 0,
        activation: str = "relu",
    ):
        super().__init__()
        self.inputs, self.outputs = _image_shape(inputs), _shape(outputs)
        self.channels, self.blocks, self.activation = _shape(channels), blocks, activation
        sizes = _sizes(self.inputs[1:], len(self.channels))
        layers: list[nn.Module] = []
        for before, after in zip((self.inputs[0], *self.channels), self.channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1)]
            layers += [_Residual(_convolution, after, activation) for _ in range(blocks)] + [_activation(activation)]
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(self.channels[-1] * math.prod(sizes[-1]), math.prod(self.outputs))
        )

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.layers(_channels_last(x)).unflatten(1, self.outputs)


class ConvolutionalDecoder(Network):
    """The mirror of `ConvolutionalEncoder`: one affine layer, then transposed convolutions to the exact image size.

    Args:
        inputs: shape of one input, without the batch axis.
        outputs: (channels, height, width) of an image; with more axes before the last two, their product is the
            number of channels.
        channels: channels before each doubling, from the image inwards, as given to the encoder.
        blocks: residual blocks at each level, at least 0.
        activation: one of elu, gelu, relu, silu, softplus, tanh.

    >>> ConvolutionalDecoder((4,), (3, 17, 5), channels=(8, 16))(torch.zeros(2, 4)).shape
    torch.Size([2, 3, 17, 5])
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        channels: Sequence[int] = (32, 64),
        blocks: int = 0,
        activation: str = "relu",
    ):
        super().__init__()
        self.inputs, self.outputs = _shape(inputs), _image_shape(outputs)
        self.channels, self.blocks, self.activation = _shape(channels), blocks, activation
        sizes = _sizes(self.outputs[-2:], len(self.channels))[::-1]
        inner, out = self.channels[::-1], math.prod(self.outputs[:-2])
        layers: list[nn.Module] = [
            nn.Flatten(),
            nn.Linear(math.prod(self.inputs), inner[0] * math.prod(sizes[0])),
            _Image((inner[0], *sizes[0])),
        ]
        for level, (before, after) in enumerate(zip(inner, (*inner[1:], out), strict=True)):
            layers += [_Residual(_convolution, before, activation) for _ in range(blocks)] + [_activation(activation)]
            # With kernel 3, stride 2 and padding 1 an axis of n becomes 2 n - 1 + (output padding).
            height, width = sizes[level + 1]
            layers += [
                nn.ConvTranspose2d(
                    before, after, 3, stride=2, padding=1, output_padding=(1 - height % 2, 1 - width % 2)
                )
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.layers(x).contiguous().reshape(-1, *self.outputs)


class _Image(nn.Module):
    """Rows of features to images of a shape."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = shape

    def forward(self, h: Tensor) -> Tensor:
        return _channels_last(h.unflatten(1, self.shape))


class _Residual(nn.Module):
    """`h + layer2(act(layer1(act(h))))`."""

    def __init__(self, layer, width: int, activation: str):
        super().__init__()
        self.body = nn.Sequential(
            _activation(activation), layer(width, width), _activation(activation), layer(width, width)
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)


def _channels_last(x: Tensor) -> Tensor:
    """The same images with the channels innermost in memory: convolutions are faster so, and keep it up to the end.

    Only the values change their place: the weights stay as they are, so nothing saved depends on it.
    """
    if x.device.type not in ("cpu", "cuda"):
        return x
    if x.shape[1] == 1:  # both orders are one, and torch would take it for the other
        return x.reshape(len(x), *x.shape[2:], 1).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise UsageError(f"there is no activation {name!r}", fix=f"use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(shape)
    if not all(isinstance(size, int) and size >= 1 for size in shape):
        raise UsageError(f"sizes are whole numbers of at least 1; got {shape}")
    return shape


def _image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) < 3:
        raise UsageError(
            f"a convolutional network needs images (channels, height, width); got the shape {tuple(shape)}",
            fix="use the network 'mlp' for tables",
        )
    return _shape(shape)


def _sizes(image: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Height and width at every level, the image first."""
    if levels < 1:
        raise UsageError("a convolutional network needs at least one level; got channels=()")
    sizes = [tuple(image)]
    for _ in range(levels):
        sizes.append(tuple((size + 1) // 2 for size in sizes[-1]))
    return sizes
