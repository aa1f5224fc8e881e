"""Likelihoods made of others: columns of several kinds, and values of which some are missing."""

import math
from collections.abc import Sequence
from typing import Any

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

    def __init__(self, columns: Sequence[Likelihood]):
        super().__init__()
        self.groups = Groups(columns)
        self.columns = nn.ModuleList(columns)
        self.missing = any(column.missing for column in columns)

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """What the decoder must put out for one example: as many numbers as all columns need, group after group."""
        self.groups.check(event_shape)
        return (sum(math.prod(shape) for shape in self.groups.parameter_shapes),)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.Mixed:
        shapes = self.groups.parameter_shapes
        parts = parameters.split([math.prod(shape) for shape in shapes], -1)
        heads = zip(self.groups.heads, parts, shapes, strict=True)
        return distributions.Mixed([head(part.unflatten(-1, s)) for head, part, s in heads], self.groups.places)

    def view(self, x: Float[Tensor, "batch columns"]) -> Tensor:
        """What each column's likelihood shows of it, side by side."""
        return torch.cat([head.view(values).flatten(1) for head, values in self.groups.split(x)], 1)

    def view_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        self.groups.check(event_shape)
        return (sum(math.prod(head.view_shape((size,))) for head, size in self.groups.sizes()),)

    def seen(self, observed: Bool[Tensor, "batch columns"]) -> Tensor:
        return torch.cat([head.seen(values).flatten(1) for head, values in self.groups.split(observed)], 1)

    def supports(self, event_shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        self.groups.check(event_shape)
        columns: Any = self.columns
        low, high, whole = zip(*(column.supports((1,)) for column in columns), strict=True)
        return torch.cat(low), torch.cat(high), torch.cat(whole)

    def offset(self, mean: Float[Tensor, " columns"]) -> Tensor:
        return torch.cat([head.offset(values).flatten() for head, values in self.groups.split(mean)])

    def calibrate(self, distribution: Distribution, x: Tensor, *, like: Distribution | None = None) -> Distribution:
        assert isinstance(distribution, distributions.Mixed)
        before = like.parts if isinstance(like, distributions.Mixed) else (None,) * len(distribution.parts)
        parts = zip(self.groups.heads, distribution.parts, distribution.split(x), before, strict=True)
        calibrated: Any = [head.calibrate(part, some, like=one) for head, part, some, one in parts]
        return distributions.Mixed(calibrated, self.groups.places)


class Groups(nn.Module):
    """Columns of a table put together so that one head serves all that are alike: group after group.

    Args:
        columns: the likelihood of every column, in their order; kept by whoever asks.
    """

    order: Tensor
    places: Tensor

    def __init__(self, columns: Sequence[Likelihood]):
        super().__init__()
        if not columns:
            raise UsageError("a mixed likelihood needs at least one column")
        self.groups = _together(columns)
        self._columns = tuple(columns)  # no submodules here: they are the likelihood's
        order = torch.tensor([column for group in self.groups for column in group])
        self.register_buffer("order", order, persistent=False)  # of the columns, group after group
        self.register_buffer("places", order.argsort(), persistent=False)  # of each column in that order

    @property
    def heads(self) -> list[Likelihood]:
        """One for each group."""
        return [self._columns[group[0]] for group in self.groups]

    @property
    def parameter_shapes(self) -> list[tuple[int, ...]]:
        """What each head needs of the decoder for one example."""
        return [head.parameter_shape((size,)) for head, size in self.sizes()]

    def sizes(self) -> list[tuple[Likelihood, int]]:
        """Each head and the number of its columns."""
        return list(zip(self.heads, map(len, self.groups), strict=True))

    def split(self, values: Tensor) -> list[tuple[Likelihood, Tensor]]:
        """Each head and the values of its columns, of values of all columns along the last axis."""
        ordered = values.index_select(-1, self.order)
        return list(zip(self.heads, ordered.split([len(group) for group in self.groups], -1), strict=True))

    def check(self, event_shape: tuple[int, ...]) -> None:
        """Refuse items of another number of columns."""
        if event_shape != (len(self._columns),):
            raise UsageError(f"this mixed likelihood is for {len(self._columns)} columns; the items have {event_shape}")


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
        if not (isinstance(p, distributions.Factorized) and self.likelihood.density):
            raise UsageError(
                f"missing values need a likelihood of independent features; {type(self.likelihood).__name__} is none",
                fix="use a likelihood of single values, or leave --missing keep out",
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

    def calibrate(self, distribution: Distribution, x: Tensor, *, like: Distribution | None = None) -> Distribution:
        assert isinstance(distribution, distributions.Masked)
        before = like.likelihood if isinstance(like, distributions.Masked) else None
        calibrated = self.likelihood.calibrate(distribution.likelihood, x, like=before)
        return distributions.Masked(calibrated)  # pyright: ignore[reportArgumentType]


def _together(columns: Sequence[Likelihood]) -> list[list[int]]:
    """Columns that one head can serve: described alike, and without anything learned or kept."""
    groups: dict[str, list[int]] = {}
    for number, column in enumerate(columns):
        own = f" {number}" if column.state_dict() else ""
        groups.setdefault(f"{describe(column)}{own}", []).append(number)
    return list(groups.values())
