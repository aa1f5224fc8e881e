"""Regularized autoencoders and equivariant codes.

The RAE's weights are those of the authors' configuration for MNIST (1e-4 for the mean of z^2 over 16 features, 1e-7 and
0.5e-7, beside the mean error of 1,024 pixels), as sums beside `|x - D(z)|^2`: `1e-4 * 1,024 / 16` for |z|^2, twice that
for its half, `1e-7 * 1,024` and `0.5e-7 * 1,024`. For the Jacobian the number alone is theirs: in its place their code
has the gradient of `|D(z)|^2`, averaged over the 16 features. Under `Normal(scale)` the effective weights are
`2 scale^2` times those given.
"""

from gapless import posteriors
from gapless.objectives import ELBO
from gapless.recipes.recipe import Recipe, Sizes
from gapless.regularizers import CodeNorm, DecoderJacobian, DecoderWeights, Equivariance

__all__ = ["RECIPES"]


def _weights(sizes: Sizes, *, codes: float, decoder: float) -> ELBO:
    return ELBO(1.0, 0.0, penalties=(CodeNorm(codes), DecoderWeights(decoder)))


def _gradient(sizes: Sizes, *, codes: float, decoder: float, probes: int) -> ELBO:
    return ELBO(1.0, 0.0, penalties=(CodeNorm(codes), DecoderJacobian(decoder, probes=probes)))


def _equivariant(sizes: Sizes, *, beta: float, weight: float, side: int | None = None) -> ELBO:
    side = side or max(s for s in range(1, sizes.latent + 1) if sizes.latent % s**2 == 0 and s <= LARGEST_SIDE)
    grid = (sizes.latent // side**2, side, side)
    return ELBO(1.0, beta, penalties=(Equivariance(grid, weight=weight),))


LARGEST_SIDE = 8
"""No code is read as a larger grid unless it is asked for."""

RECIPES: dict[str, Recipe] = {
    "rae-l2": Recipe(
        "autoencoder with small codes and small weights of the decoder",
        "Ghosh et al. (2020), RAE-L2",
        posterior=lambda sizes: posteriors.PointMass(),
        objective=_weights,
        options={"codes": 0.0128, "decoder": 1e-4},
    ),
    "rae-gp": Recipe(
        "autoencoder with small codes and a small Jacobian of the decoder",
        "Ghosh et al. (2020), RAE-GP",
        posterior=lambda sizes: posteriors.PointMass(),
        objective=_gradient,
        options={"codes": 0.0128, "decoder": 5e-5, "probes": 1},
    ),
    "eq-vae": Recipe(
        "VAE of images whose codes, read as a grid, turn with them (--latent a multiple of a square)",
        "Kouzelis et al. (2025)",
        objective=_equivariant,
        options={"beta": 1.0, "weight": 1.0},
        also=("side",),
    ),
}
