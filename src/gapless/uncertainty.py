"""What a model does not know of its own weights: predictions by many draws of them."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.draws import draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.networks.bayesian import bayesian_layers, weights_drawn

__all__ = ["Prediction", "anomaly_score", "decoded"]


class Prediction(NamedTuple):
    """Decodes of codes under many draws of the weights, in model units.

    Attributes:
        mean: mean over the draws of the mean of p(x|z, w), shape (batch, *event).
        scale: its standard deviation over the draws: what the weights leave open, shape (batch, *event).
    """

    mean: Tensor
    scale: Tensor


@torch.no_grad()
def decoded(model: Model, z: Tensor, *, samples: int = 32, generator: torch.Generator | None = None) -> Prediction:
    """Decodes of codes, and how far the distribution of the decoder's weights leaves them open.

    Args:
        model: a model whose decoder has weights with a distribution (the recipe `bayesian-vae`).
        z: codes, shape (batch, latent).
        samples: draws of the weights, at least 2.
        generator: source of the noise; the global one when None.

    Raises:
        UsageError: no weight of the decoder has a distribution.
    """
    if not bayesian_layers(model.decoder) or samples < 2:
        raise UsageError(
            f"a decoder with a distribution of weights and at least 2 samples are needed; got {samples} samples and "
            f"{type(model.decoder).__name__}",
            fix="train the recipe bayesian-vae",
        )
    means = []
    for _ in range(samples):
        with weights_drawn(model.decoder, generator):
            means.append(model.decode(z).mean)
    drawn = torch.stack(means)
    return Prediction(drawn.mean(0), drawn.std(0))


@torch.no_grad()
def anomaly_score(
    model: Model, x: Tensor, *, samples: int = 64, generator: torch.Generator | None = None
) -> Float[Tensor, " batch"]:
    """`-log 1/S sum_s p(x|z_s, w_s) p(z_s) / q(z_s|x)` in nats: how unlikely each item is.

    Weights and codes are drawn anew for every s.

    Higher is stranger. Without a distribution of weights it is minus the importance-weighted bound of S draws.

    Args:
        model: any model with a posterior that has a density.
        x: items in model units, shape (batch, *event).
        samples: S, at least 1.
        generator: source of the noise; the global one when None.
    """
    log_weights = []
    for _ in range(samples):
        with weights_drawn(model, generator):
            log_weights.append(draw(model, x, generator=generator).log_weights()[0])
    stacked = torch.stack(log_weights)
    return -(stacked.logsumexp(0) - math.log(samples))
