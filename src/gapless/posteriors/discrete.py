"""Categorical codes."""

from abc import abstractmethod

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from gapless import distributions
from gapless.errors import UsageError
from gapless.posteriors.posterior import Posterior

__all__ = ["Coded", "RelaxedCategorical"]


class Coded(Posterior):
    """A head whose codes are finitely many: each is made of symbols, whole numbers, such as a later model can learn.

    To add one: write `symbols`, `vectors` and `indices`, besides what every posterior needs.

    Attributes:
        findable: whether `indices(vectors(k))` is k for every code.
    """

    findable: bool = True

    @abstractmethod
    def symbols(self, latent: int) -> tuple[int, ...]:
        """Number of values of each symbol of a code of so many features.

        Raises:
            UsageError: no code has so many features.
        """

    @abstractmethod
    def vectors(self, indices: Int[Tensor, "*samples symbols"]) -> Float[Tensor, "*samples latent"]:
        """Code vectors of symbols."""

    @abstractmethod
    def indices(self, z: Float[Tensor, "*samples latent"]) -> Int[Tensor, "*samples symbols"]:
        """Symbols of the nearest codes."""


def groups(latent: int, size: int, what: str) -> int:
    """How many groups of `size` features there are.

    Raises:
        UsageError: it is no whole number.
    """
    if latent % size:
        fitting = [number * size for number in (latent // size, latent // size + 1) if number]
        raise UsageError(
            f"{what} take {size} latent features each: {latent} is no multiple of {size}",
            fix=f"use --latent {' or '.join(map(str, fitting))}",
        )
    return latent // size


class RelaxedCategorical(Coded):
    """Categorical variables, relaxed while training: Gumbel-softmax, Jang et al. (2017); Maddison et al. (2017).

    In training mode draws are points of the simplex (`distributions.RelaxedCategorical`), so that gradients pass; the
    objective's KL is that of the discrete variables, as in both papers' experiments with a closed form: a training
    objective, and no bound. In evaluation mode draws are one-hot vectors with their probabilities
    (`distributions.OneHotCategorical`): every bound reported is one of the discrete model that the prior belongs to.
    The embedding is the probabilities of the classes.

    Args:
        classes: values of a variable, at least 2; the latent features are a multiple of it, channels before variables.
        temperature: of the relaxation, above 0.

    >>> import torch
    >>> RelaxedCategorical(3)(torch.zeros(5, 6)).mean.sum(-1).round()
    tensor([2., 2., 2., 2., 2.])
    """

    def __init__(self, classes: int = 10, temperature: float = 0.67):
        super().__init__()
        if classes < 2 or not temperature > 0:
            raise UsageError(
                "categorical variables need at least 2 classes and a temperature above 0; "
                f"got classes={classes}, temperature={temperature}"
            )
        self.classes, self.temperature = classes, temperature

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        self.symbols(latent)
        return (latent,)

    def symbols(self, latent: int) -> tuple[int, ...]:
        return (self.classes,) * groups(latent, self.classes, f"variables of {self.classes} classes")

    def vectors(self, indices: Int[Tensor, "*samples symbols"]) -> Float[Tensor, "*samples latent"]:
        return functional.one_hot(indices, self.classes).mT.flatten(-2).float()

    def indices(self, z: Float[Tensor, "*samples latent"]) -> Int[Tensor, "*samples symbols"]:
        return z.unflatten(-1, (self.classes, -1)).argmax(-2)

    def forward(
        self, parameters: Float[Tensor, "batch parameters"]
    ) -> distributions.RelaxedCategorical | distributions.OneHotCategorical:
        logits = parameters.unflatten(-1, (self.classes, -1))
        if self.training:
            return distributions.RelaxedCategorical(logits, self.temperature)
        return distributions.OneHotCategorical(logits)
