"""What is observed: recipes about the likelihood."""

import math
from collections.abc import Callable
from functools import partial

import torch

from gapless import likelihoods, networks
from gapless.recipes.recipe import CONTROLS, Recipe, elbo

__all__ = ["HEADS", "RECIPES"]

FEATURES, PRECISION = 256, 100.0
"""How many random features there are; the inverse variance of the normal of pixels that they are about as strict as."""


def random_features(known: likelihoods.Known) -> likelihoods.Perceptual:
    """The likelihood of random features: convolutions of an image, a perceptron of a table.

    Liu et al. (2021): it is the structure of the network that matters, more than what it was trained on. The weights of
    He et al. (2015) keep the mean square of a difference from layer to layer, and `weight` makes up for the number of
    features.
    """
    kind = networks.ConvolutionalEncoder if len(known.event_shape) == 3 else networks.MLP
    network = kind(known.event_shape, (FEATURES,))
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        else:
            torch.nn.init.zeros_(parameter)
    return likelihoods.Perceptual(network, weight=PRECISION * math.prod(known.event_shape) / FEATURES)


HEADS: dict[str, Callable[[likelihoods.Known], likelihoods.Likelihood]] = {"Perceptual": random_features}
"""Likelihoods that need more than is known of data: what is made where nothing but their name is given."""

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
    "perceptual-vae": _vae(
        "VAE of the features of a fixed network, random unless another is given: a metric in the place of a density",
        "Hou et al. (2017), with the random features of Liu et al. (2021)",
        likelihood="Perceptual",
    ),
}
