"""Fresh models of a recipe."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gapless import likelihoods, networks
from gapless.errors import OutOfMemory, UsageError, is_out_of_memory
from gapless.model import Model, check_budget
from gapless.objectives import Objective
from gapless.parts import build as make
from gapless.parts import named
from gapless.randomness import seed_of
from gapless.recipes import (
    adversarial,
    basics,
    bounds,
    conditional,
    densities,
    discrete,
    disentangling,
    hyperbolic,
    linear,
    matching,
    observations,
    regularized,
    spheres,
    tables,
    tokenizers,
    weights,
)
from gapless.recipes.recipe import Recipe, Sizes

__all__ = ["RECIPES", "build", "likelihood_of", "named_recipe", "resolve_network"]

RECIPES: dict[str, Recipe] = {
    **basics.RECIPES,
    **bounds.RECIPES,
    **adversarial.RECIPES,
    **conditional.RECIPES,
    **densities.RECIPES,
    **discrete.RECIPES,
    **disentangling.RECIPES,
    **hyperbolic.RECIPES,
    **linear.RECIPES,
    **matching.RECIPES,
    **observations.RECIPES,
    **regularized.RECIPES,
    **spheres.RECIPES,
    **tables.RECIPES,
    **tokenizers.RECIPES,
    **weights.RECIPES,
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
    likelihood: str | Mapping[str, Any] | likelihoods.Likelihood = "Bernoulli",
    network: str = "auto",
    hidden: Sequence[int] = (512, 256),
    channels: Sequence[int] = (32, 64),
    activation: str = "relu",
    options: Mapping[str, Any] | None = None,
    context: int = 0,
    known: likelihoods.Known | None = None,
    seed: int = 0,
) -> tuple[Model, Objective]:
    """A fresh model and its objective.

    Encoder and decoder are seeded apart, so recipes that differ in their heads start from the same hidden weights.

    Args:
        name: a key of `RECIPES`.
        event_shape: (channels, height, width) of an image or (columns,) of a table.
        latent: number of latent features, at least 1.
        likelihood: name of a likelihood, its description, as `Dataset.head` has it, or one that was made.
        network: a key of `NETWORKS`, or "auto": that of the recipe, or convolutional for images of more than 1,024
            values (32 x 32 grey), else mlp.
        hidden: units of an mlp encoder's hidden layers; the decoder mirrors them.
        channels: channels of a convolutional encoder's levels; the decoder mirrors them.
        activation: one of the activations of `networks`.
        options: the recipe's options, for example {"beta": 4.0}; the names of `Recipe.accepted`.
        context: numbers given beside each item (its class), for a conditional model.
        known: what is known of the data beyond its shape, for likelihoods that need it.
        seed: seed of the initial weights.

    Raises:
        UsageError: an unknown name or option, sizes that cannot be, or more parameters than the budget allows, which
            is said before anything is allocated.
        OutOfMemory: they do not fit this machine.
    """
    recipe = named_recipe(name)
    event = tuple(int(size) for size in event_shape)
    if latent < 1:
        raise UsageError(f"a model needs at least 1 latent feature; got {latent}")
    head = likelihood_of(likelihood, known or likelihoods.Known(event))
    sizes = Sizes(latent, event, head.view_shape(event), context)
    given = _checked(name, recipe, options or {})
    widths = {"hidden": tuple(hidden), "channels": tuple(channels), "activation": activation}
    kinds = _networks(recipe.network if network == "auto" and recipe.network else network, event)
    return _within_budget(lambda: _made(recipe, sizes, given, head, kinds, {**widths, **recipe.options, **given}, seed))


def _within_budget(make: Callable[[], tuple[Model, Objective]]) -> tuple[Model, Objective]:
    """What is made, if its parameters fit the budget and the machine."""
    try:
        with torch.device("meta"):  # sizes without memory
            check_budget(*make())
    except (RuntimeError, OverflowError) as error:
        raise UsageError(f"a model of these sizes cannot be: {str(error).splitlines()[0]}") from error
    try:
        return make()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory("there is not enough memory for the model", fix="give smaller sizes") from error


def _made(
    recipe: Recipe,
    asked: Sizes,
    given: Mapping[str, Any],
    head: likelihoods.Likelihood,
    kinds: Sequence[Callable[..., networks.Network]],
    sizes: dict[str, Any],
    seed: int,
) -> tuple[Model, Objective]:
    """The model and its objective; `sizes` are of the networks, and some options are among them."""
    latent, event, shown, context = asked
    posterior, prior = (_seeded_part(recipe, box, asked, given, seed) for box in ("posterior", "prior"))
    codes, values = posterior.parameter_shape(latent), head.parameter_shape(event)
    encoder, decoder = kinds
    back = {**sizes, "hidden": sizes["hidden"][::-1]}
    model = Model(
        encoder=_seeded(encoder, (shown[0] + context, *shown[1:]), codes, sizes, seed_of(seed, "encoder")),
        posterior=posterior,
        prior=prior,
        decoder=_quiet(_seeded(decoder, (latent + context,), values, back, seed_of(seed, "decoder"))),
        likelihood=head,
        event_shape=event,
        context=context,
    )
    return model, _seeded_part(recipe, "objective", asked, given, seed)


def _affine(inputs: Sequence[int], outputs: Sequence[int]) -> networks.Network:
    """A perceptron without hidden layers."""
    return networks.MLP(inputs, outputs, hidden=())


NETWORKS: dict[str, tuple[Callable[..., networks.Network], Callable[..., networks.Network]]] = {
    "affine": (_affine, _affine),
    "mlp": (networks.MLP, networks.MLP),
    "residual": (networks.ResidualMLP, networks.ResidualMLP),
    "bayesian": (networks.MLP, networks.BayesianMLP),
    "convolutional": (networks.ConvolutionalEncoder, networks.ConvolutionalDecoder),
    "spatial": (networks.SpatialEncoder, networks.SpatialDecoder),
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


def _networks(network: str, event: tuple[int, ...]) -> tuple[Callable[..., networks.Network], ...]:
    return NETWORKS[resolve_network(network, event)]


def _seeded(
    kind: Callable[..., networks.Network],
    inputs: Sequence[int],
    outputs: Sequence[int],
    sizes: dict[str, Any],
    seed: int,
) -> networks.Network:
    accepted = {name: value for name, value in sizes.items() if name in inspect.signature(kind).parameters}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(inputs, outputs, **accepted)


def _quiet(decoder: networks.Network) -> networks.Network:
    """The decoder with a last layer a tenth its size: it starts near the model's offset, the mean of the data."""
    *_, last = (module for module in decoder.modules() if any(True for _ in module.parameters(recurse=False)))
    with torch.no_grad():
        for name, parameter in last.named_parameters(recurse=False):
            if name != "log_scale":
                parameter.mul_(0.1)
    return decoder


def likelihood_of(
    asked: str | Mapping[str, Any] | likelihoods.Likelihood, known: likelihoods.Known
) -> likelihoods.Likelihood:
    """The head of that name, suited to the data, or exactly the described one, or the one that was made.

    A network of its own has the same weights at every call: what measures likeness does not depend on a run's seed.
    """
    if isinstance(asked, likelihoods.Likelihood):
        return asked
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(0, "likelihood"))
        return _likelihood(asked, known)


def _likelihood(asked: str | Mapping[str, Any], known: likelihoods.Known) -> likelihoods.Likelihood:
    kind, arguments = (asked, {}) if isinstance(asked, str) else (asked["kind"], {**asked})
    if kind == likelihoods.Masked.__name__:
        return likelihoods.Masked(_likelihood(arguments["likelihood"], known))
    if set(arguments) - {"kind"}:
        return make(arguments, likelihoods, networks)
    suited = named(kind, likelihoods).suited  # pyright: ignore[reportAttributeAccessIssue]
    return observations.HEADS.get(kind, suited)(known)  # pyright: ignore[reportOptionalCall]


def _checked(name: str, recipe: Recipe, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options, if the recipe has them all."""
    unknown = sorted(set(options) - set(recipe.accepted))
    if unknown:
        having = [other for other, its in RECIPES.items() if set(options) <= set(its.accepted)]
        raise UsageError(
            f"the recipe {name!r} has no option {', '.join(unknown)}",
            fix=f"recipes that have it: {', '.join(having) or 'none'}",
        )
    return options


def _seeded_part(recipe: Recipe, box: str, sizes: Sizes, options: Mapping[str, Any], seed: int) -> Any:
    """One of the recipe's own parts; what it draws when it is made comes from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, box))
        try:
            return recipe.made(box, sizes, options)
        except TypeError as error:
            given = ", ".join(f"{key}={value}" for key, value in options.items())
            first = str(error).splitlines()[0]
            raise UsageError(f"the {box} cannot be made with {given or 'these sizes'}: {first}") from error
