"""Codes of which there are finitely many: categorical variables and codebooks.

512 codes and the commitment of 0.25 are van den Oord's; capacities, beta and temperature of the joint VAE are those of
Dupont's code for MNIST, which lets them rise over 25,000 steps. The temperature is fixed, 2/3 as in Maddison et al.;
Jang et al. lower it while training.
"""

import math

from gapless import posteriors, priors
from gapless.errors import UsageError
from gapless.objectives import ELBO
from gapless.recipes.recipe import WHOLE, Recipe, Sizes, elbo
from gapless.regularizers import Commitment, Perplexity

__all__ = ["RECIPES", "code_prior", "committed"]

CLASSES, WIDTH = 10, 4
"""The most classes of a variable and features of a vector that are taken where none are given."""
_RECOMMENDED = ((8, 5, 5, 5), (8, 6, 5), (7, 5, 5, 5, 5), (5,))
"""Levels of finite scalars: Mentzer et al. (2024), table 1, and the least level they advise for any number of them."""


def _divisor(latent: int, most: int) -> int:
    """The largest whole number up to `most` that divides the latent features."""
    return max(size for size in range(1, most + 1) if latent % size == 0)


def _classes(sizes: Sizes, classes: int | None) -> int:
    found = classes or _divisor(sizes.latent, CLASSES)
    if found < 2:
        raise UsageError(
            f"{sizes.latent} latent features make no categorical variables of 2 to {CLASSES} classes",
            fix=f"use --latent {sizes.latent + 1}, or --option classes={sizes.latent}",
        )
    return found


def _categorical(
    sizes: Sizes, *, classes: int | None = None, temperature: float = 0.67
) -> posteriors.RelaxedCategorical:
    return posteriors.RelaxedCategorical(_classes(sizes, classes), temperature)


def _joint_classes(sizes: Sizes, classes: int | None) -> int:
    found = classes or min(CLASSES, sizes.latent - 1)
    if not 2 <= found < sizes.latent:
        raise UsageError(
            f"joint-vae needs at least 2 classes and 1 continuous feature; got {sizes.latent} latent features"
            + (f" and {classes} classes" if classes else ""),
            fix="use --latent 3 or more, and fewer --option classes=",
        )
    return found


def _joint_posterior(sizes: Sizes, *, classes: int | None = None, temperature: float = 0.67) -> posteriors.Product:
    count = _joint_classes(sizes, classes)
    parts = (posteriors.DiagonalNormal(), posteriors.RelaxedCategorical(count, temperature))
    return posteriors.Product(parts, (sizes.latent - count, count))


def _joint_prior(sizes: Sizes, *, classes: int | None = None) -> priors.Product:
    count = _joint_classes(sizes, classes)
    return priors.Product((priors.StandardNormal(sizes.latent - count), priors.UniformCodes(count)))


def _joint_objective(
    sizes: Sizes,
    *,
    beta: float,
    continuous: float,
    discrete: float,
    classes: int | None = None,
    kl_schedule: str = "linear",
    kl_warmup: float = 0.5,
) -> ELBO:
    reachable = min(discrete, math.log(_joint_classes(sizes, classes)))  # a class carries no more
    return ELBO(regularization=beta, capacity=(continuous, reachable), schedule=kl_schedule, warmup=kl_warmup)


def code_prior(sizes: Sizes, posterior: posteriors.Coded, learned: bool) -> priors.Prior:
    """The prior over the codes of a posterior: uniform, or with learned shares."""
    if learned:
        return priors.LearnedCodes(sizes.latent, posterior.symbols(sizes.latent))
    return priors.UniformCodes(sizes.latent)


def committed(sizes: Sizes, *, commitment: float) -> ELBO:
    """The ELBO with the losses of a codebook."""
    return ELBO(penalties=(Commitment(beta=commitment), Perplexity()))


def _vectors(sizes: Sizes, *, codes: int, width: int | None = None) -> posteriors.VectorQuantized:
    return posteriors.VectorQuantized(codes, width or _divisor(sizes.latent, WIDTH))


def _residual(sizes: Sizes, *, codes: int, levels: int, width: int | None = None) -> posteriors.ResidualQuantized:
    return posteriors.ResidualQuantized(codes, width or _divisor(sizes.latent, WIDTH), levels=levels)


def _scalars(sizes: Sizes, *, levels: list[int] | None = None) -> posteriors.FSQ:
    return posteriors.FSQ(levels or next(known for known in _RECOMMENDED if sizes.latent % len(known) == 0))


RECIPES: dict[str, Recipe] = {
    "gumbel": Recipe(
        "VAE of categorical variables, relaxed by Gumbel-softmax while training",
        "Jang et al. (2017); Maddison et al. (2017)",
        posterior=_categorical,
        prior=lambda sizes: priors.UniformCodes(sizes.latent),
        objective=elbo,
        options={"classes": None, "temperature": 0.67},
        also=WHOLE,
    ),
    "joint-vae": Recipe(
        "VAE of continuous features and one class, each part's KL drawn to a capacity of its own",
        "Dupont (2018)",
        posterior=_joint_posterior,
        prior=_joint_prior,
        objective=_joint_objective,
        options={"beta": 30.0, "continuous": 5.0, "discrete": 5.0, "classes": None, "temperature": 0.67},
        also=("kl_schedule", "kl_warmup"),
    ),
    "vq-vae": Recipe(
        "codes of a learned codebook, straight-through gradient (the KL is constant)",
        "van den Oord et al. (2017)",
        posterior=_vectors,
        prior=lambda sizes, *, codes, width, learned: code_prior(
            sizes, _vectors(sizes, codes=codes, width=width), learned
        ),
        objective=committed,
        options={"codes": 512, "width": None, "commitment": 0.25, "learned": False},
    ),
    "rvq-vae": Recipe(
        "sums of codes of several codebooks, each for what those before it left over",
        "Zeghidour et al. (2021); Lee et al. (2022)",
        posterior=_residual,
        prior=lambda sizes, *, codes, levels, width, learned: code_prior(
            sizes, _residual(sizes, codes=codes, levels=levels, width=width), learned
        ),
        objective=committed,
        options={"codes": 64, "levels": 4, "width": None, "commitment": 0.25, "learned": False},
    ),
    "fsq": Recipe(
        "finite scalars: features rounded to a few levels, no codebook to learn",
        "Mentzer et al. (2024)",
        posterior=_scalars,
        prior=lambda sizes, *, learned, levels: code_prior(sizes, _scalars(sizes, levels=levels), learned),
        objective=lambda sizes: ELBO(penalties=(Perplexity(),)),
        options={"levels": None, "learned": False},
    ),
}
