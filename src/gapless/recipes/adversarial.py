"""Models with a critic, which learns beside them by a loss of its own.

The critic's charges are in nats, at most a few; the reconstruction is summed over features. The papers' weights are
kept: 1 for the adversarial autoencoder (its critic of two layers of 1,000 units, too), and Larsen's sum of KL, likeness
of the critic's features and verdict; his gamma, `similarity`, is for him to weigh the decoder's likeness alone. The
likelihood stays beside it with the weight `pixels`; Larsen leaves it out, which is `pixels=0`. With small features the
likeness alone is no match for the KL then: give it a larger `similarity`.
"""

import math

from gapless import networks, posteriors
from gapless.objectives import ELBO
from gapless.recipes.recipe import Recipe, Sizes
from gapless.regularizers import ImageCritic, PriorCritic

__all__ = ["RECIPES"]

SMALL = 32 * 32
"""Images of more values have a convolutional critic."""


def _adversarial(sizes: Sizes, *, weight: float, layers: int, units: int) -> ELBO:
    critic = networks.MLP((sizes.latent,), (1,), hidden=(units,) * layers)
    return ELBO(1.0, 0.0, penalties=(PriorCritic(critic, weight=weight),))


def _vae_gan(sizes: Sizes, *, pixels: float, similarity: float, weight: float, units: int) -> ELBO:
    features, critic = _seeing(sizes.event_shape, units), networks.MLP((units,), (1,), hidden=(units,))
    return ELBO(pixels, 1.0, penalties=(ImageCritic(features, critic, similarity=similarity, weight=weight),))


def _seeing(event: tuple[int, ...], units: int) -> networks.Network:
    if len(event) == 3 and math.prod(event) > SMALL:
        return networks.ConvolutionalEncoder(event, (units,))
    return networks.MLP(event, (units,), hidden=(2 * units,))


RECIPES: dict[str, Recipe] = {
    "aae": Recipe(
        "autoencoder whose codes a critic cannot tell from the prior's draws",
        "Makhzani et al. (2016)",
        posterior=lambda sizes: posteriors.PointMass(),
        objective=_adversarial,
        options={"weight": 1.0, "layers": 2, "units": 1000},
    ),
    "vae-gan": Recipe(
        "VAE with the likeness of a critic's features, whose decodes the critic cannot tell from items",
        "Larsen et al. (2016)",
        objective=_vae_gan,
        options={"pixels": 1.0, "similarity": 1.0, "weight": 1.0, "units": 256},
    ),
}
