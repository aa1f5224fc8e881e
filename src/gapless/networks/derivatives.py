"""Operations of convolutional networks whose derivatives are written by hand, for speed alone."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["doubled", "rectified"]


def rectified(h: Tensor) -> Tensor:
    """ReLU of what nothing else reads, overwritten in both directions."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return functional.relu(h, inplace=True)
    if h._is_view():  # autograd would copy what a view is of, forth and back
        return functional.relu(h)
    return Overwrite.apply(h)  # pyright: ignore[reportReturnType]


def doubled(h: Tensor, weight: Tensor, bias: Tensor, output_padding: tuple[int, int]) -> Tensor:
    """A transposed convolution of stride 2 and padding 1 with kernels of 3 by 3."""
    act = Doubled.apply if by_parts(h, weight) else _doubled
    return act(h, weight, bias, output_padding)  # pyright: ignore[reportReturnType]


class Overwrite(torch.autograd.Function):
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


def _doubled(h: Tensor, weight: Tensor, bias: Tensor, output_padding: tuple[int, int]) -> Tensor:
    return functional.conv_transpose2d(h, weight, bias, stride=2, padding=1, output_padding=output_padding)


def by_parts(h: Tensor, weight: Tensor) -> bool:
    """Whether gradients are wanted of what `Doubled` is for."""
    return (
        torch.is_grad_enabled() and h.device.type == "cpu" and h.dtype == weight.dtype
        and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
    )  # fmt: skip


class Doubled(torch.autograd.Function):
    """A transposed convolution whose gradients are those of the convolution it transposes, a sixth faster so."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor, weight: Tensor, bias: Tensor, output_padding: tuple[int, int]) -> Tensor:  # pyright: ignore
        return _doubled(h, weight, bias, output_padding)

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
    def jvp(ctx: Any, by_h: Tensor, by_weight: Tensor, by_bias: Tensor, _: None) -> Tensor:  # pyright: ignore
        h, weight = ctx.saved_tensors
        turned = _doubled(h, by_weight, by_bias, ctx.output_padding)
        return _doubled(by_h, weight, torch.zeros_like(by_bias), ctx.output_padding) + turned
