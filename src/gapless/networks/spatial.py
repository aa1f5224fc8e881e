"""Fully convolutional networks: a code is a small image, and every place of it looks at its part of the item alone.

The code of an image (channels, height, width) under `levels` halvings is (features, height / 2^levels,
width / 2^levels), flattened in this order. Residual blocks with group norm: Esser et al. (2021), Rombach et al. (2022).
"""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gapless.errors import UsageError
from gapless.networks.network import Network, activation_of, checked_shape

__all__ = ["SpatialDecoder", "SpatialEncoder"]


class SpatialEncoder(Network):
    """An image to a small image of features: residual blocks and halvings, attention between places at the last level.

    Args:
        inputs: (channels, height, width) of an image, height and width divisible by 2 to the number of levels.
        outputs: shape of one output; its values are shared out among the places, (features, height, width) flattened.
        channels: channels after each halving, at least one level.
        blocks: residual blocks at each level, at least 1.
        activation: one of elu, gelu, relu, silu, softplus, tanh.
        attention: whether places look at one another at the last level.

    >>> import torch
    >>> SpatialEncoder((3, 16, 8), (4 * 4 * 2,), channels=(8, 16))(torch.zeros(2, 3, 16, 8)).shape
    torch.Size([2, 32])
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        channels: Sequence[int] = (32, 64),
        blocks: int = 1,
        activation: str = "silu",
        attention: bool = True,
    ):
        super().__init__()
        self.inputs, self.outputs, self.channels = checked_shape(inputs), checked_shape(outputs), _levels(channels)
        self.blocks, self.activation, self.attention = blocks, activation, attention
        features, *_ = _small(self.inputs, math.prod(self.outputs), self.channels)
        layers: list[nn.Module] = [_convolution(self.inputs[0], self.channels[0])]
        for before, after in zip((self.channels[0], *self.channels), self.channels, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1)]
            layers += [_Residual(after, activation) for _ in range(blocks)]
        layers += [_Attention(self.channels[-1])] if attention else []
        self.layers = nn.Sequential(*layers, *_end(self.channels[-1], features, activation))

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.layers(x).reshape(-1, *self.outputs)


class SpatialDecoder(Network):
    """The mirror of `SpatialEncoder`: a small image of features to an image, by doublings of the nearest place.

    Args:
        inputs: shape of one input; its values are (features, height, width) of the small image, flattened.
        outputs: (channels, height, width) of an image; with more axes before the last two, their product is the
            number of channels.
        channels: channels of each level, from the image inwards, as given to the encoder.
        blocks: residual blocks at each level, at least 1.
        activation: one of elu, gelu, relu, silu, softplus, tanh.
        attention: whether places look at one another at the first level.

    >>> import torch
    >>> SpatialDecoder((4 * 4 * 2,), (3, 16, 8), channels=(8, 16))(torch.zeros(2, 32)).shape
    torch.Size([2, 3, 16, 8])
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        channels: Sequence[int] = (32, 64),
        blocks: int = 1,
        activation: str = "silu",
        attention: bool = True,
    ):
        super().__init__()
        self.inputs, self.outputs, self.channels = checked_shape(inputs), checked_shape(outputs), _levels(channels)
        self.blocks, self.activation, self.attention = blocks, activation, attention
        self._small = _small(self.outputs, math.prod(self.inputs), self.channels)
        inner, out = self.channels[::-1], math.prod(self.outputs[:-2])
        layers: list[nn.Module] = [_convolution(self._small[0], inner[0])]
        layers += [_Attention(inner[0])] if attention else []
        for before, after in zip(inner, (*inner[1:], inner[-1]), strict=True):
            layers += [_Residual(before, activation) for _ in range(blocks)]
            layers += [nn.Upsample(scale_factor=2.0, mode="nearest"), _convolution(before, after)]
        self.layers = nn.Sequential(*layers, *_end(inner[-1], out, activation))

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.layers(x.reshape(-1, *self._small)).reshape(-1, *self.outputs)


class _Residual(nn.Module):
    """`h + conv(act(norm(conv(act(norm(h))))))`."""

    def __init__(self, channels: int, activation: str):
        super().__init__()
        self.body = nn.Sequential(*_end(channels, channels, activation), *_end(channels, channels, activation))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.body(h)


class _Attention(nn.Module):
    """`h + W softmax(q k' / sqrt(channels)) v` over the places of an image: Vaswani et al. (2017), eq. 1, one head."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.heads = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = (part.flatten(2).mT[:, None] for part in self.heads(self.norm(h)).chunk(3, 1))
        seen = functional.scaled_dot_product_attention(q, k, v)  # one head; ONNX knows no attention without heads
        return h + self.out(seen[:, 0].mT.reshape(h.shape))


def _end(channels: int, out: int, activation: str) -> list[nn.Module]:
    return [_norm(channels), activation_of(activation), _convolution(channels, out)]


def _norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups of at least 4 channels: of one channel at one place nothing but 0 would be left."""
    count = max(n for n in range(1, 33) if channels % n == 0 and (channels // n >= 4 or n == 1))
    return nn.GroupNorm(count, channels, eps=1e-6)


def _convolution(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _levels(channels: Sequence[int]) -> tuple[int, ...]:
    if not channels:
        raise UsageError("a spatial network needs at least one level; got channels=()")
    return checked_shape(channels)


def _small(image: tuple[int, ...], values: int, channels: tuple[int, ...]) -> tuple[int, int, int]:
    """(features, height, width) of the small image that so many values make.

    Raises:
        UsageError: no image, or one that cannot be halved so often, or values that do not fill the places alike.
    """
    if len(image) < 3:
        raise UsageError(
            f"a spatial network needs images (channels, height, width); got the shape {image}",
            fix="use the network 'mlp' for tables",
        )
    factor = 2 ** len(channels)
    height, width = image[-2:]
    if height % factor or width % factor:
        raise UsageError(
            f"{len(channels)} levels halve an image {len(channels)} times: height and width must be multiples of "
            f"{factor}; got {height} x {width}",
            fix="give fewer --channels, or pad the images",
        )
    places = (height // factor) * (width // factor)
    if values % places:
        raise UsageError(
            f"a code of {height // factor} x {width // factor} places needs as many numbers at each; "
            f"got {values} in all",
            fix=f"use latent features in multiples of {places}, for example --latent {4 * places}",
        )
    return values // places, height // factor, width // factor
