"""Models that are given what is known of an item."""

from gapless.recipes.recipe import CONTROLS, Recipe, elbo

__all__ = ["RECIPES"]


RECIPES: dict[str, Recipe] = {
    "conditional-vae": Recipe(
        "VAE whose encoder and decoder are given the class of each item",
        "Sohn et al. (2015), with a prior that does not depend on the class",
        objective=elbo,
        conditional=True,
        also=("beta", *CONTROLS),
    ),
}
