"""Published models by name: which parts, which weights, which paper."""

from gapless.recipes.building import RECIPES, build, likelihood_of, named_recipe, resolve_network
from gapless.recipes.recipe import Recipe, Sizes

__all__ = ["RECIPES", "Recipe", "Sizes", "build", "likelihood_of", "named_recipe", "resolve_network"]
