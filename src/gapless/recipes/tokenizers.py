"""First stages of latent diffusion: images to small images of features, and back.

The patch critic of Rombach et al. (2022) is the option `critic`, its weight; 0, no critic, unless it is given: a weight
that is right depends on the reconstruction, which is summed over an image, where the verdict is a mean over patches.
Their perceptual loss, beside one of pixels, needs a network that was trained elsewhere, and no recipe has it: it is the
likelihood `Perceptual(network, pixels=...)`, given to `gapless.train`, for values in [0, 1]; their pixels' is absolute.
"""

import math

from gapless import networks, posteriors
from gapless.errors import UsageError
from gapless.objectives import ELBO
from gapless.recipes.discrete import code_prior
from gapless.recipes.recipe import Recipe, Sizes
from gapless.regularizers import Commitment, PatchCritic, Perplexity

__all__ = ["RECIPES"]


def _places(sizes: Sizes, factor: int) -> int:
    """Places of the small image; 1 for what is no image, which the network refuses."""
    return max(1, math.prod(size // factor for size in sizes.event_shape[1:]))


def _vectors(sizes: Sizes, *, codes: int, factor: int) -> posteriors.VectorQuantized:
    return posteriors.VectorQuantized(codes, max(1, sizes.latent // _places(sizes, factor)))


def _weighed(sizes: Sizes, *, beta: float, critic: float, critic_levels: int | None = None) -> ELBO:
    return ELBO(regularization=beta, penalties=_critics(sizes, critic, critic_levels))


def _committed(sizes: Sizes, *, commitment: float, critic: float, critic_levels: int | None = None) -> ELBO:
    critics = _critics(sizes, critic, critic_levels)
    return ELBO(penalties=(Commitment(beta=commitment), Perplexity(), *critics))


def _critics(sizes: Sizes, weight: float, levels: int | None) -> tuple[PatchCritic, ...]:
    """The critic of that weight; none at 0."""
    if weight == 0:
        if levels is not None:
            raise UsageError("critic_levels does nothing without a critic", fix="use --option critic=0.5")
        return ()
    return (PatchCritic(_patches(sizes.event_shape, 1 if levels is None else levels), weight=weight),)


def _patches(event: tuple[int, ...], levels: int) -> networks.SpatialEncoder:
    """A logit for each patch of an image, of 17 x 17 pixels at 1 level, 41 at 2, 89 at 3; attention would see all.

    Isola et al. (2017) compare patches of 16 and of 70 pixels. The norm is over an image, not over the batch: an item's
    verdict does not depend on its neighbours, and depends on its other patches through their mean and scale alone.
    """
    factor = 2**levels
    if len(event) != 3 or any(size % factor for size in event[1:]):
        raise UsageError(
            f"a critic of patches with {levels} levels needs images (channels, height, width), height and width "
            f"multiples of {factor}; got the shape {event}",
            fix="give fewer --option critic_levels, or --option critic=0",
        )
    places = (1, *(size // factor for size in event[1:]))
    return networks.SpatialEncoder(event, places, channels=[32 * 2**n for n in range(levels)], attention=False)


RECIPES: dict[str, Recipe] = {
    # Rombach et al. weigh the KL, summed over the features, by 1e-6 against a reconstruction summed over the pixels:
    # both are sums here, too, so that 1e-6 is the effective beta, of a Laplace likelihood of scale 1 there, for values
    # in [-1, 1], beside their perceptual loss.
    "kl-tokenizer": Recipe(
        "first stage of latent diffusion: fully convolutional, codes are small images, the KL weighs next to nothing",
        "Rombach et al. (2022)",
        objective=_weighed,
        network="spatial",
        options={"beta": 1e-6, "critic": 0.0},
        also=("critic_levels",),
    ),
    "vq-tokenizer": Recipe(
        "first stage of latent diffusion with a codebook: one code a place of a small image",
        "Esser et al. (2021); Rombach et al. (2022)",
        posterior=_vectors,
        prior=lambda sizes, *, codes, factor, learned: code_prior(
            sizes, _vectors(sizes, codes=codes, factor=factor), learned
        ),
        objective=_committed,
        network="spatial",
        options={"codes": 512, "factor": 4, "commitment": 0.25, "learned": False, "critic": 0.0},
        also=("critic_levels",),
    ),
}
