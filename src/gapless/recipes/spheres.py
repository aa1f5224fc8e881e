"""Codes on a sphere."""

from functools import partial

from gapless import posteriors, priors
from gapless.recipes.recipe import WHOLE, Recipe, elbo

__all__ = ["RECIPES"]


RECIPES: dict[str, Recipe] = {
    "hyperspherical": Recipe(
        "VAE whose codes are directions: von Mises-Fisher posterior, uniform prior on the sphere, KL warmed up",
        "Davidson et al. (2018)",
        posterior=lambda sizes: posteriors.VonMisesFisher(),
        prior=lambda sizes: priors.UniformOnSphere(sizes.latent),
        objective=partial(elbo, kl_schedule="linear"),
        also=WHOLE,
    ),
}
