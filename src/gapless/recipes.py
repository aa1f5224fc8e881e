"""Published models by name: which parts, which weights, which paper."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from gapless import likelihoods, networks, posteriors, priors
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives import ELBO, GECO, Objective
from gapless.parts import named
from gapless.randomness import seed_of
from gapless.schedules import RAMPS

__all__ = ["RECIPES", "Recipe", "build", "named_recipe"]


CONTROLS = ("kl_schedule", "kl_warmup", "kl_cycles", "capacity", "free_bits")
"""Options of the KL's control, wherever there is a KL beside a reconstruction."""


@dataclass(frozen=True)
class Recipe:
    """A choice of parts.

    Attributes:
        summary: what it is, one line.
        paper: authors and year.
        posterior: makes the posterior head.
        prior: makes the prior from the number of latent features.
        objective: makes the objective; its keyword arguments are the recipe's options.
        options: default values of the options that the recipe is about.
        also: further options it takes; the objective knows their default values.
    """

    summary: str
    paper: str
    posterior: Callable[[], posteriors.Posterior] = posteriors.DiagonalNormal
    prior: Callable[[int], priors.Prior] = priors.StandardNormal
    objective: Callable[..., Objective] = ELBO
    options: dict[str, float] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of all its options."""
        return (*self.options, *(name for name in self.also if name not in self.options))


def _elbo(
    *,
    beta: float = 1.0,
    kl_schedule: str = "constant",
    kl_warmup: float | None = None,
    kl_cycles: int | None = None,
    capacity: float | None = None,
    free_bits: float | None = None,
) -> ELBO:
    """The ELBO with any control of its KL; an option that would do nothing is refused."""
    for name, value, shapes in (("kl_warmup", kl_warmup, RAMPS[1:]), ("kl_cycles", kl_cycles, ("cyclic",))):
        if value is not None and kl_schedule not in shapes:
            raise UsageError(
                f"{name} does nothing with the schedule {kl_schedule!r} of the KL",
                fix=f"use --kl-schedule {' or '.join(shapes)}",
            )
    given = {"warmup": kl_warmup, "cycles": kl_cycles, "capacity": capacity, "free_bits": free_bits}
    arguments: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return ELBO(regularization=beta, schedule=kl_schedule, **arguments)


def _geco(*, target: float | None = None) -> GECO:
    if target is None:
        raise UsageError(
            "geco needs the reconstruction to be met, in nats an item",
            fix="give --target; the held-out reconstruction of a trained vae says what can be met",
        )
    return GECO(target)


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
    "vae": Recipe(
        "variational autoencoder: both terms, weight 1",
        "Kingma & Welling (2014); Rezende et al. (2014)",
        objective=_elbo,
        also=CONTROLS,
    ),
    "beta-vae": Recipe(
        "VAE with beta times the KL",
        "Higgins et al. (2017)",
        objective=_elbo,
        options={"beta": 4.0},
        also=CONTROLS,
    ),
    "capacity-vae": Recipe(
        "VAE whose KL is drawn to a capacity that rises, with weight beta",
        "Burgess et al. (2018)",
        objective=partial(_elbo, kl_schedule="linear"),
        options={"beta": 1000.0, "capacity": 25.0},
        also=("kl_schedule", "kl_warmup", "kl_cycles"),
    ),
    "cyclical-vae": Recipe(
        "VAE whose KL's weight rises from 0 several times",
        "Fu et al. (2019)",
        objective=partial(_elbo, kl_schedule="cyclic"),
        options={"kl_warmup": 0.5, "kl_cycles": 4},
        also=("beta", "free_bits"),
    ),
    "free-bits": Recipe(
        "VAE in which each latent feature may carry some nats for nothing",
        "Kingma et al. (2016)",
        objective=_elbo,
        options={"free_bits": 0.25},
        also=("beta", "kl_schedule", "kl_warmup", "kl_cycles"),
    ),
    "geco": Recipe(
        "the smallest KL whose reconstruction meets a target in nats (--target, to be given)",
        "Rezende & Viola (2018)",
        objective=_geco,
        also=("target",),
    ),
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
    options: Mapping[str, Any] | None = None,
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
        options: the recipe's options, for example {"beta": 4.0}; the names of `Recipe.accepted`.
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


NETWORKS: dict[str, tuple[type[networks.Network], type[networks.Network]]] = {
    "mlp": (networks.MLP, networks.MLP),
    "residual": (networks.ResidualMLP, networks.ResidualMLP),
    "convolutional": (networks.ConvolutionalEncoder, networks.ConvolutionalDecoder),
}


def resolve_network(network: str, event_shape: Sequence[int]) -> str:
    """What "auto" means for this kind of data; any other name is itself.

    Raises:
        UsageError: there is no such network.
    """
    if network in NETWORKS:
        return network
    if network != "auto":
        raise UsageError(f"there is no network called {network!r}", fix=f"use one of auto, {', '.join(NETWORKS)}")
    image = len(event_shape) == 3
    small = math.prod(event_shape) <= 32 * 32
    return "convolutional" if image and not small else "mlp"


def _networks(network: str, event: tuple[int, ...]) -> tuple[type[networks.Network], type[networks.Network]]:
    return NETWORKS[resolve_network(network, event)]


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


def _objective(name: str, recipe: Recipe, options: Mapping[str, Any]) -> Objective:
    unknown = sorted(set(options) - set(recipe.accepted))
    if unknown:
        having = [other for other, its in RECIPES.items() if set(options) <= set(its.accepted)]
        raise UsageError(
            f"the recipe {name!r} has no option {', '.join(unknown)}",
            fix=f"recipes that have it: {', '.join(having) or 'none'}",
        )
    return recipe.objective(**{**recipe.options, **options})
