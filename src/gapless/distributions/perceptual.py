"""Measures of likeness in the place of a density."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gapless.distributions.factorized import Factorized
from gapless.errors import UsageError

__all__ = ["FeatureDistance", "StructuralSimilarity", "ms_ssim"]

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first: Wang et al. (2003), section 3.2."""
_WINDOW, _SPREAD = 11, 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
"""C1 and C2 of Wang et al. (2004) for values in [0, 1]."""
_FLOOR = 1e-6
"""A contrast below it, pictures in opposition, counts as it: a power of 0 has no gradient."""


class Likeness(Factorized):
    """`log p(x) = -cost(x, picture)`: a measure of likeness in the place of a density, for it is not normalised.

    It splits into neither pixels nor nats: differences between models with the same measure can be compared, nothing
    else. A draw is the picture itself. To add one: write `cost`.

    Args:
        picture: values in [0, 1], shape (*batch, *event).
        event_dims: how many trailing axes make one example.
    """

    def __init__(self, picture: Tensor, event_dims: int):
        self.picture = picture
        super().__init__(picture, event_dims)

    @abstractmethod
    def cost(self, x: Tensor, picture: Tensor) -> Tensor:
        """What it costs to be unlike the picture, 0 for the same: shape (batch,), of two of shape (batch, *event)."""

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
        """-cost, shape (*samples, *batch)."""
        both = torch.broadcast_tensors(value, self.picture)
        x, picture = (v.reshape(-1, *self.event_shape) for v in both)
        return -self.cost(x, picture).reshape(both[0].shape[: -self.event_dims])

    def log_prob_per_feature(self, value: Tensor) -> Tensor:
        """There is none.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "the likeness of two pictures is no sum over their pixels: there is no log-density per feature",
            fix="use log_prob, or a likelihood that is a density",
        )


class StructuralSimilarity(Likeness):
    """`log p(x) = -weight (1 - MS-SSIM(x, picture))`: no density, for it is not normalised; Snell et al. (2017).

    Args:
        picture: values in [0, 1], shape (*batch, channels, height, width).
        weight: what complete unlikeness costs, above 0.

    >>> picture = torch.rand(2, 1, 16, 16)
    >>> StructuralSimilarity(picture, weight=3.0).log_prob(picture).abs().max() < 1e-5
    tensor(True)
    """

    def __init__(self, picture: Tensor, *, weight: float):
        self.weight = weight
        super().__init__(picture, 3)

    def cost(self, x: Tensor, picture: Tensor) -> Tensor:
        return self.weight * (1 - ms_ssim(x, picture))


class FeatureDistance(Likeness):
    """`log p(x) = -weight/2 |f(x) - f(picture)|^2 - pixels/2 |x - picture|^2`, f a fixed map: Hou et al. (2017).

    Sums over all features and all values. With weight 1 and no pixels it is the log-density of f(x) under
    N(f(picture), I) but for its constant; of x itself it is no density, for f may take many x to one place.

    Args:
        picture: values in [0, 1], shape (*batch, *event).
        features: f, a map of (batch, *event) to (batch, *features).
        event_dims: how many trailing axes make one example.
        weight: of the features, at least 0.
        pixels: of the values themselves, at least 0.

    >>> twice = FeatureDistance(torch.zeros(2, 3), lambda x: 2 * x, event_dims=1)
    >>> twice.log_prob(torch.ones(2, 3))
    tensor([-6., -6.])
    """

    def __init__(
        self,
        picture: Tensor,
        features: Callable[[Tensor], Tensor],
        *,
        event_dims: int,
        weight: float = 1.0,
        pixels: float = 0.0,
    ):
        self.features, self.weight, self.pixels = features, weight, pixels
        super().__init__(picture, event_dims)

    def cost(self, x: Tensor, picture: Tensor) -> Tensor:
        cost = self.weight * _half_square(self.features(x) - self.features(picture))
        return cost + self.pixels * _half_square(x - picture) if self.pixels else cost


def _half_square(difference: Tensor) -> Tensor:
    return 0.5 * difference.square().flatten(1).sum(1)


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
