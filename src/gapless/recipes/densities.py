"""Posteriors and priors beyond the diagonal and the standard normal.

Tomczak & Welling's code has 500 pseudo-inputs; here are 100, for all are encoded at every step.
"""

from functools import partial

from gapless import posteriors, priors
from gapless.recipes.recipe import WHOLE, Recipe, elbo

__all__ = ["RECIPES"]

_plain = partial(Recipe, objective=elbo, also=WHOLE)
_warmed_up = partial(Recipe, objective=partial(elbo, kl_schedule="linear"), also=WHOLE)
"""The KL's weight rises from 0 to 1, as in Rezende & Mohamed (2015) and Tomczak & Welling (2018): with a KL by
draws, or a prior that moves, training from weight 1 ends in collapse where the signal is weak."""

RECIPES: dict[str, Recipe] = {
    "full-covariance": _plain(
        "VAE whose posteriors have full covariances",
        "Kingma & Welling (2019), section 2.5.1",
        posterior=lambda sizes: posteriors.FullNormal(),
    ),
    "low-rank": _plain(
        "VAE whose posteriors have a covariance of low rank beside a diagonal",
        "Ong et al. (2018)",
        posterior=lambda sizes, *, rank: posteriors.LowRankNormal(rank),
        options={"rank": 2},
    ),
    "planar-flow": _warmed_up(
        "VAE whose posteriors are normals bent by planar flows",
        "Rezende & Mohamed (2015)",
        posterior=lambda sizes, *, flows: posteriors.Flow(sizes.latent, "planar", transforms=flows),
        options={"flows": 10},
    ),
    "iaf": _warmed_up(
        "VAE whose posteriors are inverse autoregressive flows",
        "Kingma et al. (2016)",
        posterior=lambda sizes, *, flows: posteriors.Flow(sizes.latent, "iaf", transforms=flows),
        options={"flows": 2},
    ),
    "learned-prior": _plain(
        "VAE whose prior is a mixture of normals that is trained with it",
        "Tomczak & Welling (2018), the mixture theirs is compared with",
        prior=lambda sizes, *, components: priors.Mixture(sizes.latent, components),
        options={"components": 10},
    ),
    "vampprior": _warmed_up(
        "VAE whose prior is a mixture of its own posteriors at learned pseudo-inputs",
        "Tomczak & Welling (2018)",
        prior=lambda sizes, *, components: priors.VampPrior(
            sizes.latent, sizes.event_shape, components, context=sizes.context
        ),
        options={"components": 100},
    ),
    "flow-prior": _warmed_up(
        "VAE whose prior is an autoregressive flow that is trained with it",
        "Chen et al. (2017)",
        prior=lambda sizes, *, bijection, flows: priors.Flow(sizes.latent, bijection, transforms=flows),
        options={"bijection": "maf", "flows": 3},
    ),
    "two-stage": Recipe(
        "VAE of learned noise; `gapless density RUN --kind second-stage` then trains the second VAE, on its codes",
        "Dai & Wipf (2019)",
        objective=elbo,
        also=("beta",),
        likelihood="NormalWithOptimalScale",
    ),
}
