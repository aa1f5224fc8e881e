"""Likelihoods made of others: columns of several kinds, and values of which some are missing."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import distributions
from gapless.errors import UsageError
from gapless.likelihoods.likelihood import Likelihood
from gapless.parts import describe

__all__ = ["Masked", "Mixed"]


class Mixed(Likelihood):
    """A table whose columns each have their own likelihood: `log p(x|z) = sum_j log p_j(x_j|z)`.

    Nazabal et al. (2020), without its own network for every column. Equal heads that keep nothing of their own
    are evaluated together: a hundred columns of three kinds cost three densities.

    Args:
        columns: the likelihood of every column, in their order.

    >>> from gapless import likelihoods
    >>> mixed = Mixed((likelihoods.Normal(), likelihoods.Bernoulli(), likelihoods.Normal()))
    >>> mixed.parameter_shape((3,)), mixed(torch.zeros(5, 3)).mean[0]
    ((3,), tensor([0.0000, 0.5000, 0.0000]))
    """

    order: Tensor
    places: Tensor

    def __init__(self, columns: Sequence[Likelihood]):
        super().__init__()
        if not columns:
            raise UsageError("a mixed likelihood needs at least one column")
        self.columns = nn.ModuleList(columns)
        self._groups = _together(columns)
        self.missing = any(column.missing for column in columns)
        order = torch.tensor([column for group in self._groups for column in group])
        self.register_buffer("order", order, persistent=False)  # of the columns, group after group
        self.register_buffer("places", order.argsort(), persistent=False)  # of each column in that order

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """What the decoder must put out for one example: as many numbers as all columns need, group after group."""
        self._check(event_shape)
        return (sum(math.prod(shape) for shape in self._parameter_shapes),)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.Mixed:
        shapes = self._parameter_shapes
        parts = parameters.split([math.prod(shape) for shape in shapes], -1)
        heads = zip(self._heads, parts, shapes, strict=True)
        return distributions.Mixed([head(part.unflatten(-1, shape)) for head, part, shape in heads], self.places)

    def view(self, x: Float[Tensor, "batch columns"]) -> Tensor:
        """What each column's likelihood shows of it, side by side."""
        parts = zip(self._heads, self._split(x), strict=True)
        return torch.cat([head.view(some).flatten(1) for head, some in parts], 1)

    def view_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check(event_shape)
        return (sum(math.prod(head.view_shape((len(g),))) for head, g in zip(self._heads, self._groups, strict=True)),)

    def seen(self, observed: Bool[Tensor, "batch columns"]) -> Tensor:
        parts = zip(self._heads, self._split(observed), strict=True)
        return torch.cat([head.seen(some).flatten(1) for head, some in parts], 1)

    def supports(self, event_shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        self._check(event_shape)
        low, high, whole = zip(*(head.supports((1,)) for head in self._columns), strict=True)
        return torch.cat(low), torch.cat(high), torch.cat(whole)

    def offset(self, mean: Float[Tensor, " columns"]) -> Tensor:
        parts = zip(self._heads, self._split(mean), strict=True)
        return torch.cat([head.offset(some).flatten() for head, some in parts])

    def calibrate(self, distribution: Distribution, x: Tensor) -> Distribution:
        assert isinstance(distribution, distributions.Mixed)
        parts = zip(self._heads, distribution.parts, distribution.split(x), strict=True)
        calibrated = [head.calibrate(part, some) for head, part, some in parts]
        return distributions.Mixed(calibrated, self.places)  # pyright: ignore[reportArgumentType]

    @property
    def _columns(self) -> list[Likelihood]:
        return list(self.columns)  # pyright: ignore[reportReturnType]

    @property
    def _heads(self) -> list[Likelihood]:
        columns = self._columns
        return [columns[group[0]] for group in self._groups]

    @property
    def _parameter_shapes(self) -> list[tuple[int, ...]]:
        return [head.parameter_shape((len(g),)) for head, g in zip(self._heads, self._groups, strict=True)]

    def _split(self, values: Tensor) -> list[Tensor]:
        ordered = values.index_select(-1, self.order)
        return list(ordered.split([len(group) for group in self._groups], -1))

    def _check(self, event_shape: tuple[int, ...]) -> None:
        if event_shape != (len(self.columns),):
            raise UsageError(f"this mixed likelihood is for {len(self.columns)} columns; the items have {event_shape}")


class Masked(Likelihood):
    """Values that are not a number were not observed: `log p(x_obs|z)`, Mattei & Frellsen (2019).

    The encoder is shown the mean of the data in their place.

    Args:
        likelihood: of all features; any whose features are independent given z.

    >>> from gapless import likelihoods
    >>> x = torch.tensor([[0.0, torch.nan]])
    >>> Masked(likelihoods.Normal())(torch.zeros(1, 1, 2)).log_prob(x)
    tensor([-0.9189])
    """

    missing = True

    def __init__(self, likelihood: Likelihood):
        super().__init__()
        self.likelihood = likelihood
        self.support, self.whole = likelihood.support, likelihood.whole
        for head in likelihood.modules():  # what they take from x themselves, they take from what was observed
            if isinstance(head, Likelihood):
                head.missing = True

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.likelihood.parameter_shape(event_shape)

    def forward(self, parameters: Tensor) -> distributions.Masked:
        p = self.likelihood(parameters)
        if not isinstance(p, distributions.Factorized):
            raise UsageError(
                f"missing values need a likelihood of independent features; {type(self.likelihood).__name__} is none"
            )
        return distributions.Masked(p)

    def view(self, x: Tensor) -> Tensor:
        """What the likelihood shows of x, not a number where the value was not observed."""
        observed = ~x.isnan()
        shown = self.likelihood.view(x.nan_to_num(0.0))
        return shown.masked_fill(~self.likelihood.seen(observed), math.nan)

    def view_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.likelihood.view_shape(event_shape)

    def seen(self, observed: Tensor) -> Tensor:
        return self.likelihood.seen(observed)

    def supports(self, event_shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        return self.likelihood.supports(event_shape)

    def offset(self, mean: Tensor) -> Tensor:
        return self.likelihood.offset(mean)

    def calibrate(self, distribution: Distribution, x: Tensor) -> Distribution:
        assert isinstance(distribution, distributions.Masked)
        calibrated = self.likelihood.calibrate(distribution.likelihood, x)
        return distributions.Masked(calibrated)  # pyright: ignore[reportArgumentType]


def _together(columns: Sequence[Likelihood]) -> list[list[int]]:
    """Columns that one head can serve: described alike, and without anything learned or kept."""
    groups: dict[str, list[int]] = {}
    for number, column in enumerate(columns):
        own = f" {number}" if column.state_dict() else ""
        groups.setdefault(f"{describe(column)}{own}", []).append(number)
    return list(groups.values())
