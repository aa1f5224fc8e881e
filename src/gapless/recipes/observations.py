"""What is observed: recipes about the likelihood."""

from functools import partial

from gapless.recipes.recipe import CONTROLS, Recipe, elbo

__all__ = ["RECIPES"]

_vae = partial(Recipe, objective=elbo, also=("beta", *CONTROLS))

RECIPES: dict[str, Recipe] = {
    "sigma-vae": _vae(
        "VAE whose normal has the scale of its own errors: no weight to choose",
        "Rybkin et al. (2021)",
        likelihood="NormalWithOptimalScale",
    ),
    "laplace-vae": _vae(
        "VAE of the absolute error: few large errors cost less than many small ones",
        "Kingma & Welling (2014), with a Laplace",
        likelihood="LaplaceWithLearnedScale",
    ),
    "continuous-bernoulli-vae": _vae(
        "VAE of grey values in [0, 1] with the density that a Bernoulli leaves out",
        "Loaiza-Ganem & Cunningham (2019)",
        likelihood="ContinuousBernoulli",
    ),
    "discretised-logistic-vae": _vae(
        "VAE of intensities in levels: a true probability of every image",
        "Kingma et al. (2016); Salimans et al. (2017)",
        likelihood="DiscretisedLogistic",
    ),
    "categorical-vae": _vae(
        "VAE of classes: every value the number of one",
        "Kingma & Welling (2014), with a categorical",
        likelihood="Categorical",
    ),
    "poisson-vae": _vae(
        "VAE of counts whose variance is their mean",
        "Kingma & Welling (2014), with a Poisson",
        likelihood="Poisson",
    ),
    "negative-binomial-vae": _vae(
        "VAE of overdispersed counts, their dispersion learned for each feature",
        "Lopez et al. (2018), without library size and further zeros",
        likelihood="NegativeBinomial",
    ),
    "scvi": _vae(
        "VAE of single cells' counts, given each cell's total: shares, dispersion, further zeros",
        "Lopez et al. (2018)",
        likelihood="ZeroInflatedNegativeBinomial",
    ),
    "ms-ssim-vae": _vae(
        "VAE of structural similarity at several scales: a metric in the place of a density",
        "Snell et al. (2017)",
        likelihood="MSSSIM",
    ),
}
