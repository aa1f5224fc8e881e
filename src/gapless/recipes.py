"""Published models by name: which parts, which weights, which paper."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gapless import likelihoods, networks, posteriors, priors
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives import ELBO, Objective
from gapless.parts import named
from gapless.randomness import seed_of

__all__ = ["RECIPES", "Recipe", "build", "named_recipe"]


@dataclass(frozen=True)
class Recipe:
    """A choice of parts.

    Attributes:
        summary: what it is, one line.
        paper: authors and year.
        posterior: makes the posterior head.
        prior: makes the prior from the number of latent features.
        objective: makes the objective; its keyword arguments are the recipe's options.
        options: the options' default values.
    """

    summary: str
    paper: str
    posterior: Callable[[], posteriors.Posterior] = posteriors.DiagonalNormal
    prior: Callable[[int], priors.Prior] = priors.StandardNormal
    objective: Callable[..., Objective] = ELBO
    options: dict[str, float] = field(default_factory=dict)


def _beta(beta: float) -> ELBO:
    return ELBO(regularization=beta)


RECIPES: dict[str, Recipe] = {
    "ae": Recipe(
        "autoencoder: reconstruction alone, every code a point",
        "Hinton & Salakhutdinov (2006)",
        posterior=posteriors.PointMass,
        objective=lambda: ELBO(1.0, 0.0),
    ),
    "kl-only": Recipe(
        "the regularization alone: every posterior becomes the prior",
        "the KL term of Kingma & Welling (2014), eq. 7, alone",
        objective=lambda: ELBO(0.0, 1.0),
    ),
    "vae": Recipe("variational autoencoder: both terms, weight 1", "Kingma & Welling (2014); Rezende et al. (2014)"),
    "beta-vae": Recipe("VAE with beta times the KL", "Higgins et al. (2017)", objective=_beta, options={"beta": 4.0}),
}


def named_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise UsageError(f"there is no recipe called {name!r}", fix=f"use one of {', '.join(RECIPES)}")
    return RECIPES[name]


def build(
    name: str,
    event_shape: Sequence[int],
    *,
    latent: int = 16,
    likelihood: str = "Bernoulli",
    network: str = "auto",
    hidden: Sequence[int] = (512, 256),
    channels: Sequence[int] = (32, 64),
    activation: str = "relu",
    options: dict[str, float] | None = None,
    seed: int = 0,
) -> tuple[Model, Objective]:
    """A fresh model and its objective.

    Encoder and decoder are seeded apart, so recipes that differ in their heads start from the same hidden weights.

    Args:
        name: a key of `RECIPES`.
        event_shape: (channels, height, width) of an image or (columns,) of a table.
        latent: number of latent features, at least 1.
        likelihood: name of a likelihood.
        network: "mlp", "residual", "convolutional" or "auto": convolutional for images of more than 1,024 values
            (32 x 32 grey), else mlp.
        hidden: units of an mlp encoder's hidden layers; the decoder mirrors them.
        channels: channels of a convolutional encoder's levels; the decoder mirrors them.
        activation: one of the activations of `networks`.
        options: the recipe's options, for example {"beta": 4.0}.
        seed: seed of the initial weights.

    Raises:
        UsageError: an unknown name or option, or sizes that cannot be.
    """
    recipe = named_recipe(name)
    event = tuple(int(size) for size in event_shape)
    if latent < 1:
        raise UsageError(f"a model needs at least 1 latent feature; got {latent}")
    posterior, head = recipe.posterior(), _likelihood(likelihood)
    codes, values = (posterior.parameters_per_code * latent,), head.parameter_shape(event)
    encoder, decoder = _networks(network, event)
    sizes: dict[str, Any] = {"hidden": tuple(hidden), "channels": tuple(channels), "activation": activation}
    back = {**sizes, "hidden": tuple(hidden)[::-1]}
    model = Model(
        encoder=_seeded(encoder, event, codes, sizes, seed_of(seed, "encoder")),
        posterior=posterior,
        prior=recipe.prior(latent),
        decoder=_quiet(_seeded(decoder, (latent,), values, back, seed_of(seed, "decoder"))),
        likelihood=head,
    )
    return model, _objective(name, recipe, options or {})


def resolve_network(network: str, event_shape: Sequence[int]) -> str:
    """What "auto" means for this kind of data; any other name is itself."""
    if network != "auto":
        return network
    image = len(event_shape) == 3
    small = math.prod(event_shape) <= 32 * 32
    return "convolutional" if image and not small else "mlp"


def _networks(network: str, event: tuple[int, ...]) -> tuple[type[networks.Network], type[networks.Network]]:
    pairs: dict[str, tuple[type[networks.Network], type[networks.Network]]] = {
        "mlp": (networks.MLP, networks.MLP),
        "residual": (networks.ResidualMLP, networks.ResidualMLP),
        "convolutional": (networks.ConvolutionalEncoder, networks.ConvolutionalDecoder),
    }
    chosen = resolve_network(network, event)
    if chosen not in pairs:
        raise UsageError(f"there is no network called {network!r}", fix=f"use one of auto, {', '.join(pairs)}")
    return pairs[chosen]


def _seeded(
    kind: type[networks.Network], inputs: Sequence[int], outputs: Sequence[int], sizes: dict[str, Any], seed: int
) -> networks.Network:
    accepted = {name: value for name, value in sizes.items() if name in inspect.signature(kind).parameters}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(inputs, outputs, **accepted)


def _quiet(decoder: networks.Network) -> networks.Network:
    """The decoder with a last layer a tenth its size: it starts near the model's offset, the mean of the data."""
    *_, last = (module for module in decoder.modules() if any(True for _ in module.parameters(recurse=False)))
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(0.1)
    return decoder


def _likelihood(name: str) -> likelihoods.Likelihood:
    part = named(name, likelihoods)
    return part()  # pyright: ignore[reportReturnType]


def _objective(name: str, recipe: Recipe, options: dict[str, float]) -> Objective:
    unknown = sorted(set(options) - set(recipe.options))
    if unknown:
        having = [other for other, its in RECIPES.items() if set(options) <= set(its.options)]
        raise UsageError(
            f"the recipe {name!r} has no option {', '.join(unknown)}",
            fix=f"recipes that have it: {', '.join(having) or 'none'}",
        )
    return recipe.objective(**{**recipe.options, **options})
