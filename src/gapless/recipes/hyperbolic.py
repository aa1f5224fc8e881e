"""Models whose latent space is curved."""

from gapless import posteriors, priors
from gapless.recipes.recipe import WHOLE, Recipe, elbo

__all__ = ["RECIPES"]


RECIPES: dict[str, Recipe] = {
    "poincare": Recipe(
        "VAE whose latent space is a Poincare ball, with the room that trees need; the decoder sees its coordinates",
        "Mathieu et al. (2019), wrapped normal, without the gyroplane layer",
        posterior=lambda sizes, *, curvature: posteriors.PoincareNormal(curvature),
        prior=lambda sizes, *, curvature: priors.PoincareNormal(sizes.latent, curvature=curvature),
        objective=elbo,
        options={"curvature": 1.0},
        also=WHOLE,
    ),
}
