"""Convolutional networks."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gapless.errors import UsageError
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
    smaller of weights and rows.
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
            act = _Transposed.apply if _by_parts(h, self.weight) else _transposed
            return act(h, self.weight, self.bias, self.padding)  # pyright: ignore[reportReturnType]
        shares = functional.conv2d(h, self.weight.flatten(1).T[:, :, None, None])
        every = shares.reshape(1, -1, shares[0, 0].numel())  # an item a channel: torch goes through items one by one
        return functional.fold(every, self.size, 3, padding=1, stride=2).movedim(0, 1) + self.bias


def _transposed(h: Tensor, weight: Tensor, bias: Tensor, output_padding: tuple[int, int]) -> Tensor:
    return functional.conv_transpose2d(h, weight, bias, stride=2, padding=1, output_padding=output_padding)


def _by_parts(h: Tensor, weight: Tensor) -> bool:
    """Whether gradients are wanted of what `_Transposed` is for."""
    return (
        torch.is_grad_enabled() and h.device.type == "cpu" and h.dtype == weight.dtype
        and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
    )  # fmt: skip


class _Transposed(torch.autograd.Function):
    """A transposed convolution whose gradients are those of the convolution it transposes, a sixth faster so."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor, weight: Tensor, bias: Tensor, output_padding: tuple[int, int]) -> Tensor:  # pyright: ignore
        return _transposed(h, weight, bias, output_padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, tuple[int, int]], output: Tensor) -> None:
        h, weight, _, ctx.output_padding = inputs
        ctx.save_for_backward(h, weight)
        ctx.save_for_forward(h, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        (h, weight), (by_h, by_weight, by_bias, _) = ctx.saved_tensors, ctx.needs_input_grad
        how = ([2, 2], [1, 1], [1, 1], False, [0, 0], 1)
        return (
            functional.conv2d(gradient, weight, stride=2, padding=1) if by_h else None,
            torch.ops.aten.convolution_backward(h, gradient, weight, None, *how, [False, True, False])[1]
            if by_weight
            else None,
            gradient.sum((0, 2, 3)) if by_bias else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, by_h: Tensor, by_weight: Tensor | None, by_bias: Tensor | None, _: None) -> Tensor:  # pyright: ignore
        (h, weight), none = ctx.saved_tensors, ctx.saved_tensors[1].new_zeros(ctx.saved_tensors[1].shape[1])
        moved = 0.0 if by_h is None else _transposed(by_h, weight, none, ctx.output_padding)
        turned = 0.0 if by_weight is None else _transposed(h, by_weight, none, ctx.output_padding)
        return moved + turned + (0.0 if by_bias is None else by_bias[:, None, None])  # pyright: ignore[reportReturnType]


class _Rectified(nn.Module):
    """ReLU between two layers that nothing else reads: in both directions it overwrites what it is given.

    Passes over images larger than the caches cost as much as the convolutions around them.
    """

    def forward(self, h: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return functional.relu(h, inplace=True)
        if h._is_view():  # autograd would copy what a view is of, forth and back
            return functional.relu(h)
        return _Overwrite.apply(h)  # pyright: ignore[reportReturnType]


class _Overwrite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        kept = h.relu_()
        ctx.mark_dirty(kept)
        ctx.save_for_backward(kept)
        return kept

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (kept,), (gradient,) = ctx.saved_tensors, gradients
        if torch.is_grad_enabled():  # a penalty is of this gradient, too
            return torch.where(kept > 0, gradient, 0.0)
        return torch.ops.aten.threshold_backward.grad_input(gradient, kept, 0, grad_input=gradient)


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
