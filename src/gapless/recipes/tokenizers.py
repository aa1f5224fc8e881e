"""First stages of latent diffusion: images to small images of features, and back.

The perceptual loss and the patch critic of Rombach et al. (2022) are penalties beside the terms below: where there is
a regularizer for images, it belongs into `penalties`.
"""

import math

from gapless import posteriors
from gapless.recipes.discrete import code_prior, committed
from gapless.recipes.recipe import Recipe, Sizes, elbo

__all__ = ["RECIPES"]


def _places(sizes: Sizes, factor: int) -> int:
    """Places of the small image; 1 for what is no image, which the network refuses."""
    return max(1, math.prod(size // factor for size in sizes.event_shape[1:]))


def _vectors(sizes: Sizes, *, codes: int, factor: int) -> posteriors.VectorQuantized:
    return posteriors.VectorQuantized(codes, max(1, sizes.latent // _places(sizes, factor)))


RECIPES: dict[str, Recipe] = {
    # Rombach et al. weigh the KL, summed over the features, by 1e-6 against a reconstruction summed over the pixels:
    # both are sums here, too, so that 1e-6 is the effective beta, of a Laplace likelihood of scale 1 there.
    "kl-tokenizer": Recipe(
        "first stage of latent diffusion: fully convolutional, codes are small images, the KL weighs next to nothing",
        "Rombach et al. (2022)",
        objective=elbo,
        network="spatial",
        options={"beta": 1e-6},
    ),
    "vq-tokenizer": Recipe(
        "first stage of latent diffusion with a codebook: one code a place of a small image",
        "Esser et al. (2021); Rombach et al. (2022)",
        posterior=_vectors,
        prior=lambda sizes, *, codes, factor, learned: code_prior(
            sizes, _vectors(sizes, codes=codes, factor=factor), learned
        ),
        objective=committed,
        network="spatial",
        options={"codes": 512, "factor": 4, "commitment": 0.25, "learned": False},
    ),
}
