"""The linear-Gaussian VAE: the one whose answer is known."""

from gapless.objectives import ELBO
from gapless.recipes.recipe import Recipe, Sizes

__all__ = ["RECIPES"]


def _objective(sizes: Sizes, *, beta: float, samples: int) -> ELBO:
    return ELBO(regularization=beta, samples=samples)


RECIPES: dict[str, Recipe] = {
    "linear-gaussian": Recipe(
        "probabilistic PCA as a VAE: affine networks, one learned scale of the noise; its best ELBO is known exactly",
        "Tipping & Bishop (1999); Lucas et al. (2019)",
        objective=_objective,
        likelihood="NormalWithLearnedScale",
        network="affine",
        options={"beta": 1.0, "samples": 8},
    ),
}
