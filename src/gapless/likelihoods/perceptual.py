"""Measures of likeness in the place of a density."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gapless import distributions
from gapless.errors import UsageError
from gapless.likelihoods.likelihood import Known, Likelihood
from gapless.parts import Part

__all__ = ["MSSSIM", "Perceptual"]


class Metric(Likelihood):
    """A head that measures how like an item is to a picture, the sigmoid of what the decoder puts out.

    No density: it is not normalised, its nats are nats in name only and cannot be compared with another likelihood's
    (`density` is False). Values lie in [0, 1]. To add one: return a `Likeness` from `forward`.
    """

    support = (0.0, 1.0)
    density = False

    def offset(self, mean: Float[Tensor, " *event"]) -> Float[Tensor, " parameters *event"]:
        return torch.logit(mean.clamp(1e-3, 1 - 1e-3))[None]


class MSSSIM(Metric):
    """`log p(x|z) = -weight (1 - MS-SSIM(x, sigmoid(decoder(z))))`: a metric as pseudo-likelihood, Snell et al. (2017).

    Images alone have it.

    Args:
        weight: what complete unlikeness costs an image, above 0: against the KL it is what 1 / beta is elsewhere.

    >>> MSSSIM(50.0)(torch.zeros(5, 1, 1, 28, 28)).log_prob(torch.full((5, 1, 28, 28), 0.5)).abs().max() < 1e-3
    tensor(True)
    """

    def __init__(self, weight: float = 100.0):
        super().__init__()
        if not weight > 0:
            raise UsageError(f"a metric needs a weight above 0; got {weight}")
        self.weight = weight

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The picture's logits: (1, channels, height, width)."""
        if len(event_shape) != 3:
            raise UsageError(
                f"MSSSIM compares images of shape (channels, height, width); got items of shape {event_shape}",
                fix="use a likelihood of single values, for example NormalWithOptimalScale",
            )
        return super().parameter_shape(event_shape)

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.StructuralSimilarity:
        return distributions.StructuralSimilarity(torch.sigmoid(parameters.squeeze(1)), weight=self.weight)


class Perceptual(Metric):
    """`log p(x|z) = -weight/2 |f(x) - f(y)|^2 - pixels/2 |x - y|^2`, y = sigmoid(decoder(z)): Hou et al. (2017).

    f is a network whose features are compared instead of pixels; it is fixed. It is copied when the head is made, and
    from then on its weights are constants of the model: saved, restored and moved to a device with it, but no gradient
    reaches them, no optimizer and no average moves them, and f stays in evaluation mode while the model trains. The
    gradient passes through f to y. Like all heads f sees the whole batch at once, in float32.

    Both squares are sums, over the features and over the values of an item: with weight 1 and no pixels it is the
    log-density of f(x) under N(f(y), I) but for its constant, the likeness of Larsen et al. (2016), whose f learns. A
    mean over the features, as of other authors, is `weight=1 / number of features`. For several layers, as those of
    Hou et al. or of Zhang et al. (2018), let f put out all of them side by side, each in its scale.

    A trained model supplies its encoder, which is shown items as that model shows them:
    `networks.Standardized(model.encoder).show(model.shift, model.spread)`.

    Args:
        network: f, of items to any shape of features. What it does not see of an item, nothing explains: give `pixels`
            where it puts out fewer numbers than an item has values.
        weight: of the features, above 0: against the KL it is what 1 / beta is elsewhere.
        pixels: of the values themselves, at least 0: the inverse of the variance of a normal beside the features.

    >>> from gapless import networks
    >>> head = Perceptual(networks.ConvolutionalEncoder((1, 28, 28), (16,)), weight=50.0)
    >>> head(torch.zeros(5, 1, 1, 28, 28)).log_prob(torch.full((5, 1, 28, 28), 0.5)).abs().max() < 1e-3
    tensor(True)
    >>> any(parameter.requires_grad for parameter in head.parameters())
    False
    """

    def __init__(self, network: Part, *, weight: float = 1.0, pixels: float = 0.0):
        super().__init__()
        if not (weight > 0 and pixels >= 0):
            raise UsageError(f"a metric needs a weight above 0 and pixels of at least 0; got {weight} and {pixels}")
        self.weight, self.pixels = weight, pixels
        self.network: Any = copy.deepcopy(network).requires_grad_(False).eval()

    @classmethod
    def suited(cls, known: Known) -> "Perceptual":
        """None: no data says what its features are.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "a perceptual likelihood compares features, and data alone does not say of which network",
            fix="make one, likelihoods.Perceptual(network), or use the recipe perceptual-vae: its network is random",
        )

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The picture's logits: (1, *event)."""
        if tuple(self.network.inputs) != tuple(event_shape):
            raise UsageError(
                f"the features of this likelihood are of items of shape {self.network.inputs}; got {event_shape}",
                fix="give it a network that takes these items, or bring the items to that shape (--resize for images)",
            )
        return super().parameter_shape(event_shape)

    def forward(self, parameters: Float[Tensor, " batch parameters *event"]) -> distributions.FeatureDistance:
        return distributions.FeatureDistance(
            torch.sigmoid(parameters.squeeze(1)), self.network, event_dims=parameters.dim() - 2, weight=self.weight,
            pixels=self.pixels,
        )  # fmt: skip

    def train(self, mode: bool = True) -> "Perceptual":
        """As of any module, but for the network, which stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self
