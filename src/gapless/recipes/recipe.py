"""What a recipe is."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gapless import posteriors, priors
from gapless.errors import UsageError
from gapless.objectives import ELBO, Objective
from gapless.schedules import RAMPS

__all__ = ["CONTROLS", "WHOLE", "Recipe", "Sizes", "elbo"]

CONTROLS = ("kl_schedule", "kl_warmup", "kl_cycles", "capacity", "free_bits")
"""Options of the KL's control, wherever there is a KL beside a reconstruction."""
WHOLE = ("beta", "kl_schedule", "kl_warmup", "kl_cycles", "capacity")
"""The weight and all controls but free bits, of a KL that does not split into latent features."""


class Sizes(NamedTuple):
    """What the parts of a recipe may need to know of the model.

    Attributes:
        latent: number of latent features.
        event_shape: shape of one item.
        shown: shape of what networks are shown of one item; the item's own where it is ().
        context: numbers given beside each item (its class), 0 for an unconditional model.
    """

    latent: int
    event_shape: tuple[int, ...]
    shown: tuple[int, ...] = ()
    context: int = 0


@dataclass(frozen=True)
class Recipe:
    """A choice of parts.

    Each maker is called with the `Sizes` and those options that it names among its keyword arguments.

    Attributes:
        summary: what it is, one line.
        paper: authors and year.
        posterior: makes the posterior head.
        prior: makes the prior.
        objective: makes the objective.
        likelihood: the likelihood it is about; None leaves the choice to the data.
        network: the networks it is about; None leaves the choice to the data.
        conditional: whether encoder and decoder are given the label of each item.
        semi_supervised: whether the label of an item may be unknown.
        options: default values of the options that the recipe is about.
        also: further options it takes; their makers know the default values.
    """

    summary: str
    paper: str
    posterior: Callable[..., posteriors.Posterior] = lambda sizes: posteriors.DiagonalNormal()
    prior: Callable[..., priors.Prior] = lambda sizes: priors.StandardNormal(sizes.latent)
    objective: Callable[..., Objective] = lambda sizes: ELBO()
    likelihood: str | None = None
    network: str | None = None
    conditional: bool = False
    semi_supervised: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of all its options."""
        return (*self.options, *(name for name in self.also if name not in self.options))

    def made(self, box: str, sizes: Sizes, options: Mapping[str, Any]) -> Any:
        """The posterior, the prior or the objective for these sizes; an option not given has its default value."""
        maker, chosen = getattr(self, box), {**self.options, **options}
        named = inspect.signature(maker).parameters
        return maker(sizes, **{name: value for name, value in chosen.items() if name in named})


def elbo(
    sizes: Sizes,
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
