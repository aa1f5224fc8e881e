"""Posteriors and priors beyond the diagonal and the standard normal."""

from gapless import posteriors, priors
from gapless.objectives import ELBO
from gapless.recipes.recipe import Recipe, Sizes

__all__ = ["RECIPES"]


def _elbo(sizes: Sizes, *, beta: float = 1.0) -> ELBO:
    return ELBO(regularization=beta)


RECIPES: dict[str, Recipe] = {
    "full-covariance": Recipe(
        "VAE whose posteriors have full covariances",
        "Kingma & Welling (2019), section 2.5.1",
        posterior=lambda sizes: posteriors.FullNormal(),
        objective=_elbo,
        also=("beta",),
    ),
    "low-rank": Recipe(
        "VAE whose posteriors have a covariance of low rank beside a diagonal",
        "Ong et al. (2018)",
        posterior=lambda sizes, *, rank: posteriors.LowRankNormal(rank),
        objective=_elbo,
        options={"rank": 2},
        also=("beta",),
    ),
    "planar-flow": Recipe(
        "VAE whose posteriors are normals bent by planar flows",
        "Rezende & Mohamed (2015)",
        posterior=lambda sizes, *, flows: posteriors.Flow(sizes.latent, "planar", transforms=flows),
        objective=_elbo,
        options={"flows": 10},
        also=("beta",),
    ),
    "iaf": Recipe(
        "VAE whose posteriors are inverse autoregressive flows",
        "Kingma et al. (2016)",
        posterior=lambda sizes, *, flows: posteriors.Flow(sizes.latent, "iaf", transforms=flows),
        objective=_elbo,
        options={"flows": 2},
        also=("beta",),
    ),
    "learned-prior": Recipe(
        "VAE whose prior is a mixture of normals that is trained with it",
        "Tomczak & Welling (2018), section 3, the mixture it is compared with",
        prior=lambda sizes, *, components: priors.Mixture(sizes.latent, components),
        objective=_elbo,
        options={"components": 10},
        also=("beta",),
    ),
    "vampprior": Recipe(
        "VAE whose prior is a mixture of its own posteriors at learned pseudo-inputs",
        "Tomczak & Welling (2018)",
        prior=lambda sizes, *, components: priors.VampPrior(sizes.latent, sizes.event_shape, components),
        objective=_elbo,
        options={"components": 100},
        also=("beta",),
    ),
    "flow-prior": Recipe(
        "VAE whose prior is an autoregressive flow that is trained with it",
        "Chen et al. (2017)",
        prior=lambda sizes, *, bijection, flows: priors.Flow(sizes.latent, bijection, transforms=flows),
        objective=_elbo,
        options={"bijection": "maf", "flows": 3},
        also=("beta",),
    ),
    "two-stage": Recipe(
        "VAE of learned noise; `gapless density RUN --kind second-stage` then trains the second VAE, on its codes",
        "Dai & Wipf (2019)",
        objective=_elbo,
        likelihood="NormalWithOptimalScale",
    ),
}
