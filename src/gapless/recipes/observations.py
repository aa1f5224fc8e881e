"""What is observed: recipes about the likelihood."""

from gapless.recipes.recipe import CONTROLS, Recipe, elbo

__all__ = ["RECIPES"]


RECIPES: dict[str, Recipe] = {
    "sigma-vae": Recipe(
        "VAE whose normal has the scale of its own errors: no weight to choose",
        "Rybkin et al. (2021)",
        objective=elbo,
        likelihood="NormalWithOptimalScale",
        also=("beta", *CONTROLS),
    ),
    "laplace-vae": Recipe(
        "VAE of the absolute error: few large errors cost less than many small ones",
        "Kingma & Welling (2014), with a Laplace",
        objective=elbo,
        likelihood="LaplaceWithLearnedScale",
        also=("beta", *CONTROLS),
    ),
    "continuous-bernoulli-vae": Recipe(
        "VAE of grey values in [0, 1] with the density that a Bernoulli leaves out",
        "Loaiza-Ganem & Cunningham (2019)",
        objective=elbo,
        likelihood="ContinuousBernoulli",
        also=("beta", *CONTROLS),
    ),
    "discretised-logistic-vae": Recipe(
        "VAE of intensities in levels: a true probability of every image",
        "Kingma et al. (2016); Salimans et al. (2017)",
        objective=elbo,
        likelihood="DiscretisedLogistic",
        also=("beta", *CONTROLS),
    ),
    "categorical-vae": Recipe(
        "VAE of classes: every value the number of one",
        "Kingma & Welling (2014), with a categorical",
        objective=elbo,
        likelihood="Categorical",
        also=("beta", *CONTROLS),
    ),
    "poisson-vae": Recipe(
        "VAE of counts whose variance is their mean",
        "Kingma & Welling (2014), with a Poisson",
        objective=elbo,
        likelihood="Poisson",
        also=("beta", *CONTROLS),
    ),
    "negative-binomial-vae": Recipe(
        "VAE of overdispersed counts, their dispersion learned for each feature",
        "Lopez et al. (2018), without library size and further zeros",
        objective=elbo,
        likelihood="NegativeBinomial",
        also=("beta", *CONTROLS),
    ),
    "scvi": Recipe(
        "VAE of single cells' counts, given each cell's total: shares, dispersion, further zeros",
        "Lopez et al. (2018)",
        objective=elbo,
        likelihood="ZeroInflatedNegativeBinomial",
        also=("beta", *CONTROLS),
    ),
    "ms-ssim-vae": Recipe(
        "VAE of structural similarity at several scales: a metric in the place of a density",
        "Snell et al. (2017)",
        objective=elbo,
        likelihood="MSSSIM",
        also=("beta", *CONTROLS),
    ),
}
