"""Bounds by importance weights, and estimators of their gradient.

Rainforth et al. have 64 draws an item, 8 groups of 8; here are 16, 4 of 4, for the time they take. The authors' code of
the Hamiltonian VAE starts at step sizes of 0.2 and a temperature of 1.5; here steps are smaller, for a leap is unstable
from twice the scale of a narrow posterior on. All of them are learned.
"""

from gapless.objectives import CIWAE, IWAE, MIWAE, PIWAE, HamiltonianELBO
from gapless.recipes.recipe import Recipe

__all__ = ["RECIPES"]


RECIPES: dict[str, Recipe] = {
    "iwae": Recipe(
        "importance-weighted autoencoder: a tighter bound by several draws",
        "Burda et al. (2016)",
        objective=lambda sizes, *, samples, estimator: IWAE(samples, estimator=estimator),
        options={"samples": 5, "estimator": "reparameterized"},
    ),
    "dreg": Recipe(
        "importance-weighted autoencoder with doubly reparameterized gradients",
        "Tucker et al. (2019)",
        objective=lambda sizes, *, samples: IWAE(samples, estimator="doubly-reparameterized"),
        options={"samples": 5},
    ),
    "stl": Recipe(
        "VAE without the score of the posterior in its gradient (sticking the landing)",
        "Roeder et al. (2017)",
        objective=lambda sizes, *, samples: MIWAE(samples, 1, estimator="sticking-the-landing"),
        options={"samples": 1},
    ),
    "score-function": Recipe(
        "VAE without the reparameterization trick: shows why the trick is needed",
        "Williams (1992); Mnih & Gregor (2014)",
        objective=lambda sizes, *, samples: MIWAE(samples, 1, estimator="score-function"),
        options={"samples": 1},
    ),
    "miwae": Recipe(
        "mean of several importance-weighted bounds",
        "Rainforth et al. (2018)",
        objective=lambda sizes, *, outer, samples, estimator: MIWAE(outer, samples, estimator=estimator),
        options={"outer": 4, "samples": 4, "estimator": "reparameterized"},
    ),
    "ciwae": Recipe(
        "a mixture of the ELBO and the importance-weighted bound",
        "Rainforth et al. (2018)",
        objective=lambda sizes, *, samples, share, estimator: CIWAE(samples, share, estimator=estimator),
        options={"samples": 16, "share": 0.5, "estimator": "reparameterized"},
    ),
    "piwae": Recipe(
        "the encoder climbs a mean of bounds, the decoder the tightest",
        "Rainforth et al. (2018)",
        objective=lambda sizes, *, outer, samples, estimator: PIWAE(outer, samples, estimator=estimator),
        options={"outer": 4, "samples": 4, "estimator": "reparameterized"},
    ),
    "hvae": Recipe(
        "VAE whose codes are moved by the gradient of the model's own log p(x, z) before they are scored",
        "Caterini, Doucet & Sejdinovic (2018)",
        objective=lambda sizes, *, leaps, step_size, temperature: HamiltonianELBO(
            sizes.latent, leaps=leaps, step_size=step_size, temperature=temperature
        ),
        options={"leaps": 3, "step_size": 0.05, "temperature": 2.0},
    ),
}
