"""A measure of likeness in the place of a density."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gapless.distributions.factorized import Factorized
from gapless.errors import UsageError

__all__ = ["StructuralSimilarity", "ms_ssim"]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first: Wang et al. (2003), section 3.2."""
_WINDOW, _SPREAD = 11, 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
"""C1 and C2 of Wang et al. (2004) for values in [0, 1]."""
_FLOOR = 1e-6
"""A contrast below it, pictures in opposition, counts as it: a power of 0 has no gradient."""


class StructuralSimilarity(Factorized):
    """`log p(x) = -weight (1 - MS-SSIM(x, picture))`: no density, for it is not normalised; Snell et al. (2017).

    It splits into neither pixels nor nats: differences between models with the same weight can be compared, nothing
    else. A draw is the picture itself.

    Args:
        picture: values in [0, 1], shape (*batch, channels, height, width).
        weight: what complete unlikeness costs, above 0.

    >>> picture = torch.rand(2, 1, 16, 16)
    >>> StructuralSimilarity(picture, weight=3.0).log_prob(picture).abs().max() < 1e-5
    tensor(True)
    """

    def __init__(self, picture: Tensor, *, weight: float):
        self.picture, self.weight = picture, weight
        super().__init__(picture, 3)

    @property
    def mean(self) -> Tensor:
        return self.picture

    @property
    def mode(self) -> Tensor:
        return self.picture

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.picture)

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """The picture itself: nothing is known of what lies about it."""
        return self.picture.detach().expand((*sample_shape, *self.picture.shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """-weight (1 - MS-SSIM), shape (*samples, *batch)."""
        value, picture = torch.broadcast_tensors(value, self.picture)
        alike = ms_ssim(value.flatten(0, -4), picture.flatten(0, -4))
        return -self.weight * (1 - alike).reshape(value.shape[:-3])

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """There is none.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "the structural similarity of a picture is no sum over its pixels: there is no log-density per feature",
            fix="use log_prob, or a likelihood that is a density",
        )


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale structural similarity: Wang et al. (2003), section 3, the mean over the channels.

    `MS-SSIM = l_M^w_M prod_j (c_j s_j)^w_j`, each the mean over the places of a Gaussian window of 11 x 11 pixels and
    spread 1.5; every scale halves the last. There are as many scales, up to 5, as the window has room in, their
    weights brought to sum to 1; a picture smaller than the window gets a smaller, odd one and a single scale.

    Args:
        x: values in [0, 1], shape (batch, channels, height, width).
        y: of the same shape.

    Returns:
        1 for equal pictures, at least 0, shape (batch,).
    """
    kernel = _kernel(x)
    weights = _weights(min(x.shape[-2:]), len(kernel))
    product = x.new_ones(x.shape[:2])
    for scale, weight in enumerate(weights):
        if scale:
            x, y = (functional.avg_pool2d(v, 2) for v in (x, y))
        luminance, contrast = _compared(x, y, kernel)
        last = scale == len(weights) - 1
        alike = (luminance * contrast if last else contrast).mean((-2, -1))
        product = product * alike.clamp_min(_FLOOR) ** weight
    return product.mean(1)


def _compared(x: Tensor, y: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance l and contrast times structure c s at every place of the window: Wang et al. (2004), section III."""
    blurred = _blurred(torch.cat([x, y, x * x, y * y, x * y], 1), kernel).chunk(5, 1)
    mean_x, mean_y, square_x, square_y, both = blurred
    products = mean_x.square() + mean_y.square()
    contrast = (2 * (both - mean_x * mean_y) + _CONTRAST) / (square_x + square_y - products + _CONTRAST)
    return (2 * mean_x * mean_y + _LUMINANCE) / (products + _LUMINANCE), contrast


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    rows = functional.conv2d(x.flatten(0, 1)[:, None], kernel[None, None, :, None])
    return functional.conv2d(rows, kernel[None, None, None, :]).unflatten(0, x.shape[:2])[:, :, 0]


def _kernel(x: Tensor) -> Tensor:
    side = min(x.shape[-2:])
    size = min(_WINDOW, side - 1 + side % 2)
    places = torch.arange(size, dtype=x.dtype, device=x.device) - size // 2
    weights = torch.exp(-0.5 * (places / _SPREAD).square())
    return weights / weights.sum()


def _weights(side: int, window: int) -> tuple[float, ...]:
    room = sum(side >> scale >= window for scale in range(len(_WEIGHTS))) if window == _WINDOW else 1
    used = _WEIGHTS[:room]
    return tuple(weight / sum(used) for weight in used)
