"""Models that are given what is known of an item."""

from collections.abc import Sequence

from gapless.errors import UsageError
from gapless.networks import MLP
from gapless.objectives import SemiSupervised
from gapless.recipes.recipe import CONTROLS, Recipe, Sizes, elbo

__all__ = ["RECIPES"]


def _semi_supervised(
    sizes: Sizes, *, alpha: float, beta: float = 1.0, samples: int = 1, classifier: Sequence[int] = (256,)
) -> SemiSupervised:
    if not sizes.context:
        raise UsageError("m2 needs the number of classes", fix="give context, one number a class")
    network = MLP(sizes.shown or sizes.event_shape, (sizes.context,), hidden=classifier)
    return SemiSupervised(network, alpha=alpha, regularization=beta, samples=samples)


RECIPES: dict[str, Recipe] = {
    "conditional-vae": Recipe(
        "VAE whose encoder and decoder are given the class of each item",
        "Sohn et al. (2015), with a prior that does not depend on the class",
        objective=elbo,
        conditional=True,
        also=("beta", *CONTROLS),
    ),
    "m2": Recipe(
        "VAE that learns classes from few labels: an unknown class is a latent variable, too",
        "Kingma, Mohamed, Rezende & Welling (2014), M2",
        objective=_semi_supervised,
        conditional=True,
        semi_supervised=True,
        options={"alpha": 1.0},
        also=("beta", "samples", "classifier"),
    ),
}
