"""The autoencoder, the VAE, and the controls of its KL.

The target of `geco` is the user's in its paper; here half of the variance is to be explained where none is given. Beta,
capacity, cycles and their warm-up are the papers'; 0.25 free nats a feature is `kl_min` of the authors' code.
"""

from functools import partial

from gapless import posteriors
from gapless.objectives import ELBO, GECO
from gapless.recipes.recipe import CONTROLS, Recipe, Sizes, elbo

__all__ = ["RECIPES"]


def _geco(sizes: Sizes, *, target: float | None = None, kl: float | None = None) -> GECO:
    return GECO(target, kl=kl)


RECIPES: dict[str, Recipe] = {
    "ae": Recipe(
        "autoencoder: reconstruction alone, every code a point",
        "Hinton & Salakhutdinov (2006)",
        posterior=lambda sizes: posteriors.PointMass(),
        objective=lambda sizes: ELBO(1.0, 0.0),
    ),
    "kl-only": Recipe(
        "the regularization alone: every posterior becomes the prior",
        "the KL term of Kingma & Welling (2014), eq. 7, alone",
        objective=lambda sizes: ELBO(0.0, 1.0),
    ),
    "vae": Recipe(
        "variational autoencoder: both terms, weight 1",
        "Kingma & Welling (2014); Rezende et al. (2014)",
        objective=elbo,
        also=CONTROLS,
    ),
    "beta-vae": Recipe(
        "VAE with beta times the KL",
        "Higgins et al. (2017)",
        objective=elbo,
        options={"beta": 4.0},
        also=CONTROLS,
    ),
    "capacity-vae": Recipe(
        "VAE whose KL is drawn to a capacity that rises, with weight beta",
        "Burgess et al. (2018)",
        objective=partial(elbo, kl_schedule="linear"),
        options={"beta": 1000.0, "capacity": 25.0},
        also=("kl_schedule", "kl_warmup", "kl_cycles"),
    ),
    "cyclical-vae": Recipe(
        "VAE whose KL's weight rises from 0 several times",
        "Fu et al. (2019)",
        objective=partial(elbo, kl_schedule="cyclic"),
        options={"kl_warmup": 0.5, "kl_cycles": 4},
        also=("beta", "free_bits"),
    ),
    "free-bits": Recipe(
        "VAE in which each latent feature may carry some nats for nothing",
        "Kingma et al. (2016)",
        objective=elbo,
        options={"free_bits": 0.25},
        also=("beta", "kl_schedule", "kl_warmup", "kl_cycles"),
    ),
    "geco": Recipe(
        "the smallest KL whose reconstruction meets a --target (default: half the variance explained), or a stated kl",
        "Rezende & Viola (2018)",
        objective=_geco,
        also=("target", "kl"),
    ),
}
