"""Models whose weights have a distribution."""

from gapless.objectives import ELBO, Bayesian
from gapless.recipes.recipe import Recipe

__all__ = ["RECIPES"]


RECIPES: dict[str, Recipe] = {
    "bayesian-vae": Recipe(
        "VAE whose decoder's weights are drawn, too: it knows what it does not know",
        "Kingma & Welling (2014), appendix F; Kingma et al. (2015)",
        objective=lambda sizes: Bayesian(ELBO()),
        network="bayesian",
        options={"drawn": "local", "prior_scale": 1.0, "initial_scale": 0.01},
    ),
}
