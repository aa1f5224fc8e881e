"""Convolutional networks."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gapless.errors import UsageError
from gapless.networks import derivatives
from gapless.networks.network import Network, activation_of, checked_shape
from gapless.networks.perceptrons import Residual

__all__ = ["ConvolutionalDecoder", "ConvolutionalEncoder"]


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
        self.inputs, self.outputs = _image_shape(inputs), checked_shape(outputs)
        self.channels, self.blocks, self.activation = checked_shape(channels), blocks, activation
        sizes = _sizes(self.inputs[1:], len(self.channels))
        layers: list[nn.Module] = []
        for before, after in zip((self.inputs[0], *self.channels), self.channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1)]
            layers += [Residual(_convolution, after, activation) for _ in range(blocks)]
            layers += [_overwriting(activation)]
        self.layers = nn.Sequential(*layers, _Rows(), _OfRows(self.channels[-1], sizes[-1], math.prod(self.outputs)))

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
        self.inputs, self.outputs = checked_shape(inputs), _image_shape(outputs)
        self.channels, self.blocks, self.activation = checked_shape(channels), blocks, activation
        sizes = _sizes(self.outputs[-2:], len(self.channels))[::-1]
        inner, out = self.channels[::-1], math.prod(self.outputs[:-2])
        layers: list[nn.Module] = [
            nn.Flatten(),
            _ToRows(math.prod(self.inputs), inner[0], sizes[0]),
            _Image((inner[0], *sizes[0])),
        ]
        for level, (before, after) in enumerate(zip(inner, (*inner[1:], out), strict=True)):
            layers += [Residual(_convolution, before, activation) for _ in range(blocks)]
            layers += [_overwriting(activation)]
            layers += [_Doubled(before, after, sizes[level + 1])]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.layers(x).contiguous().reshape(-1, *self.outputs)


class _ToRows(nn.Linear):
    """An affine layer to the rows of images that lie with the channels innermost.

    Its weights are ordered as if they lay outermost. What is turned into the other order, in every step, is the
    smaller of weights and rows; the rows where it is compiled or exported.
    """

    def __init__(self, inputs: int, channels: int, size: Sequence[int]):
        super().__init__(inputs, channels * math.prod(size))
        self.channels = channels

    def forward(self, input: Tensor) -> Tensor:
        split = (self.channels, -1)
        if torch.compiler.is_compiling() or len(input) < self.in_features:
            return super().forward(input).unflatten(1, split).mT.flatten(1)
        weight = self.weight.unflatten(0, split).transpose(0, 1).flatten(0, 1)
        return functional.linear(input, weight, self.bias.unflatten(0, split).mT.flatten())


class _OfRows(nn.Linear):
    """The mirror of `_ToRows`: an affine layer of the rows of such images."""

    def __init__(self, channels: int, size: Sequence[int], outputs: int):
        super().__init__(channels * math.prod(size), outputs)
        self.channels = channels

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or len(input) < self.out_features:
            return super().forward(input.unflatten(1, (-1, self.channels)).mT.flatten(1))
        return functional.linear(input, self.weight.unflatten(1, (self.channels, -1)).mT.flatten(1), self.bias)


class _Image(nn.Module):
    """Rows of features, the channels innermost, to images of a shape."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = shape

    def forward(self, h: Tensor) -> Tensor:
        channels, *size = self.shape
        return h.unflatten(1, (*size, channels)).movedim(-1, 1)


class _Doubled(nn.Module):
    """A transposed convolution to an image of twice the size.

    With kernel 3, stride 2 and padding 1 an axis of n becomes 2 n - 1 + (output padding). To one channel it is done as
    nine products a pixel, summed where they meet: oneDNN takes twice as long for it.
    """

    def __init__(self, before: int, after: int, size: Sequence[int]):
        super().__init__()
        height, width = self.size = (size[0], size[1])
        self.padding = (1 - height % 2, 1 - width % 2)
        layer = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1)
        assert layer.bias is not None
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, h: Tensor) -> Tensor:
        if self.weight.shape[1] > 1 or h.device.type != "cpu" or torch.compiler.is_compiling() or not len(h):
            return derivatives.doubled(h, self.weight, self.bias, self.padding)
        shares = functional.conv2d(h, self.weight.flatten(1).T[:, :, None, None])
        every = shares.reshape(1, -1, shares[0, 0].numel())  # an item a channel: torch goes through items one by one
        return functional.fold(every, self.size, 3, padding=1, stride=2).movedim(0, 1) + self.bias


class _Rectified(nn.Module):
    """ReLU between two layers that nothing else reads: in both directions it overwrites what it is given.

    Passes over images larger than the caches cost as much as the convolutions around them.
    """

    def forward(self, h: Tensor) -> Tensor:
        return derivatives.rectified(h)


def _overwriting(activation: str) -> nn.Module:
    """That activation, between two layers that nothing else reads."""
    return _Rectified() if activation == "relu" else activation_of(activation)


class _Rows(nn.Module):
    """Images to rows of features, the channels innermost; the gradient goes back as the images came."""

    def forward(self, h: Tensor) -> Tensor:
        if h.requires_grad:
            h.register_hook(_channels_last)  # else the activation's gradient meets two orders, 20 times slower
        return h.movedim(1, -1).flatten(1)


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


def _image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) < 3:
        raise UsageError(
            f"a convolutional network needs images (channels, height, width); got the shape {tuple(shape)}",
            fix="use the network 'mlp' for tables",
        )
    return checked_shape(shape)


def _sizes(image: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Height and width at every level, the image first."""
    if levels < 1:
        raise UsageError("a convolutional network needs at least one level; got channels=()")
    sizes = [tuple(image)]
    for _ in range(levels):
        sizes.append(tuple((size + 1) // 2 for size in sizes[-1]))
    return sizes
