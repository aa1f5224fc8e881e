"""The aggregate posterior drawn to the prior by their samples, or to a normal prior itself.

The papers weigh against a squared error, `|x - D(z)|^2`; the weights here stand beside -log p(x|z) in nats. Under
`Normal(scale)` the effective weight of the papers is `2 scale^2` times the one given, the same for scale 0.707.

What the authors ran weighs more: the code of the WAE has 10 beside `0.05 |x - D(z)|^2`, which is 200 beside the squared
error; that of the SWAE has 10 beside errors averaged over the 784 pixels of MNIST, which is 7,840 beside their sum. The
defaults are 10 beside nats all the same, as the WAE's paper has it; raise them where draws of the prior decode badly.
The MMD of the WAE is that of its code. That of `wae-normal` has the mean square 1 for 128 draws of the prior, and
weighs 1 beside nats. Zhao et al. have lambda = 1,000 for MNIST; the Gaussian kernel that goes with it in public,
`exp(-r^2 / d^2)`, is all but flat for many latent features: here it is `exp(-r^2 / (2 d))`, the same for 2.
"""

from gapless import posteriors
from gapless.errors import UsageError
from gapless.objectives import ELBO
from gapless.recipes.recipe import Recipe, Sizes
from gapless.regularizers import MMD, NormalMMD, SlicedWasserstein

__all__ = ["RECIPES"]


def _info(sizes: Sizes, *, alpha: float, lam: float, kernel: str) -> ELBO:
    """Zhao et al. (2019): weight 1 - alpha for the KL, alpha + lambda - 1 for MMD(q(z), p(z))."""
    if not (alpha <= 1 and alpha + lam > 1):
        raise UsageError(
            f"an InfoVAE weighs the KL by 1 - alpha and the MMD by alpha + lam - 1, which may not be below 0; "
            f"got alpha={alpha}, lam={lam}",
            fix="choose alpha of at most 1 and lam above 1 - alpha",
        )
    return ELBO(1.0, 1 - alpha, penalties=(MMD(alpha + lam - 1, kernel=kernel, scales=(1.0,)),))


def _wae(sizes: Sizes, *, weight: float, kernel: str) -> ELBO:
    return ELBO(1.0, 0.0, penalties=(MMD(weight, kernel=kernel),))


def _normal_wae(sizes: Sizes, *, weight: float, scale: float) -> ELBO:
    return ELBO(1.0, 0.0, penalties=(NormalMMD(weight, scale=scale),))


def _swae(sizes: Sizes, *, weight: float, projections: int) -> ELBO:
    return ELBO(1.0, 0.0, penalties=(SlicedWasserstein(weight, projections=projections),))


RECIPES: dict[str, Recipe] = {
    "info-vae": Recipe(
        "VAE with 1 - alpha times the KL and alpha + lam - 1 times the MMD of codes and prior",
        "Zhao et al. (2019)",
        objective=_info,
        options={"alpha": 0.0, "lam": 1000.0, "kernel": "gaussian"},
    ),
    "wae-mmd": Recipe(
        "autoencoder whose codes are drawn to the prior by their MMD",
        "Tolstikhin et al. (2018)",
        posterior=lambda sizes: posteriors.PointMass(),
        objective=_wae,
        options={"weight": 10.0, "kernel": "inverse-multiquadric"},
    ),
    "wae-normal": Recipe(
        "autoencoder whose codes are drawn to the normal prior by their MMD from it, in standard deviations",
        "Rustamov (2021), without the normalization of codes",
        posterior=lambda sizes: posteriors.PointMass(),
        objective=_normal_wae,
        options={"weight": 1.0, "scale": 1.0},
    ),
    "swae": Recipe(
        "autoencoder whose codes are drawn to the prior by their sliced Wasserstein distance",
        "Kolouri et al. (2018)",
        posterior=lambda sizes: posteriors.PointMass(),
        objective=_swae,
        options={"weight": 10.0, "projections": 50},
    ),
}
