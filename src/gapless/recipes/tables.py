"""Tables with values that were not observed."""

from gapless.objectives import IWAE
from gapless.recipes.recipe import Recipe

__all__ = ["RECIPES"]


RECIPES: dict[str, Recipe] = {
    "miwae-missing": Recipe(
        "importance-weighted autoencoder for data with missing values (--missing keep); fills them: gapless impute",
        "Mattei & Frellsen (2019)",
        objective=lambda sizes, *, samples, estimator: IWAE(samples, estimator=estimator),
        # An optimal scale is that of unweighted draws: under many of them it stays too wide.
        likelihood="NormalWithLearnedScale",
        options={"samples": 20, "estimator": "reparameterized"},
    ),
}
