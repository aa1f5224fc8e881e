"""Features that are independent of each other: the KL's total correlation, or the covariance, weighted by itself.

Weights are per nat of the ELBO at weight 1, the reconstruction summed over pixels, as in the papers. The defaults lie
within the sweeps of Locatello et al. (2019): beta 1 to 10 for the total correlation, gamma 10 to 100 for the critic (of
the paper's 6 layers of 1,000 units), 1 to 50 for covariances off the diagonal, and 10 times as much (I) or as much (II)
on it.
"""

from functools import partial

from gapless import networks
from gapless.objectives import ELBO
from gapless.recipes.recipe import Recipe, Sizes
from gapless.regularizers import Covariance, Decomposition, DensityRatio

__all__ = ["RECIPES"]


def _beta_tc(sizes: Sizes, *, beta: float, mutual_information: float, dimension: float, estimator: str) -> ELBO:
    """The three parts add up to the KL, which stands at weight 1 in closed form; the penalty has what exceeds 1."""
    excess = (weight - 1 for weight in (mutual_information, beta, dimension))
    return ELBO(penalties=(Decomposition(*excess, estimator=estimator),))


def _factor(sizes: Sizes, *, gamma: float, layers: int, units: int) -> ELBO:
    critic = networks.MLP((sizes.latent,), (1,), hidden=(units,) * layers)
    return ELBO(penalties=(DensityRatio(critic, weight=gamma),))


def _dip(sizes: Sizes, *, of: str, off_diagonal: float, diagonal: float) -> ELBO:
    return ELBO(penalties=(Covariance(off_diagonal, diagonal, of=of),))


RECIPES: dict[str, Recipe] = {
    "beta-tc-vae": Recipe(
        "VAE with beta times the total correlation, by minibatch stratified sampling",
        "Chen et al. (2018)",
        objective=_beta_tc,
        options={"beta": 6.0, "mutual_information": 1.0, "dimension": 1.0, "estimator": "stratified"},
    ),
    "factor-vae": Recipe(
        "VAE with gamma more of the total correlation, by a critic of shuffled codes",
        "Kim & Mnih (2018)",
        objective=_factor,
        options={"gamma": 35.0, "layers": 6, "units": 1000},
    ),
    "dip-vae-1": Recipe(
        "VAE whose means have a covariance near the identity",
        "Kumar et al. (2018), DIP-VAE-I",
        objective=partial(_dip, of="means"),
        options={"off_diagonal": 10.0, "diagonal": 100.0},
    ),
    "dip-vae-2": Recipe(
        "VAE whose codes have a covariance near the identity",
        "Kumar et al. (2018), DIP-VAE-II",
        objective=partial(_dip, of="aggregate"),
        options={"off_diagonal": 10.0, "diagonal": 10.0},
    ),
}
