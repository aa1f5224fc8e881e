"""Missing values: what a model expects in their place, given what was observed of the item."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from gapless import likelihoods
from gapless.draws import Draws, draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.randomness import generator
from gapless.runs import Run

__all__ = ["Imputed", "expectation", "fill", "impute"]

_DECODED = 1 << 14  # draws that are decoded at once
_MOST = 100_000


@dataclass(frozen=True)
class Imputed:
    """Items whose missing values were filled.

    Attributes:
        values: the items in raw units, shape (n, *event); what was observed is what it was.
        effective: the effective number of draws, `1 / sum_l w_l^2`, of each item that had values missing.
    """

    values: np.ndarray
    effective: np.ndarray


def impute(run: Run, values: np.ndarray, *, samples: int = 1000, seed: int = 0) -> np.ndarray:
    """Items with the expected values in the place of those that are missing (not a number).

    `E[x_mis | x_obs] ~ sum_l w_l E[x_mis | z_l]`, `w_l ~ p(x_obs|z_l) p(z_l) / q(z_l|x_obs)`, by self-normalised
    importance sampling: Mattei & Frellsen (2019). Any run can: of one that was trained on whole items the
    encoder is shown the mean for what is missing, and the weights make up for it.

    Args:
        run: a trained run.
        values: raw units, shape (n, *event); categories as their codes.
        samples: draws of q(z|x) an item.
        seed: seed of the draws.

    Returns:
        The same array with numbers in the place of what is missing: the mean (of bits the probability of a 1), or of
        categories the most probable one. What was observed stays exactly what it was.

    Raises:
        UsageError: values of another shape, a number of draws out of range, or a model without importance weights.
        DataError: the number of a class that the model does not know.
    """
    return fill(run, values, samples=samples, seed=seed).values


def fill(run: Run, values: np.ndarray, *, samples: int = 1000, seed: int = 0, context: Tensor | None = None) -> Imputed:
    """`impute`, with the effective number of draws of each item.

    Args:
        run: as for `impute`.
        values: as for `impute`.
        samples: as for `impute`.
        seed: as for `impute`.
        context: of a conditional model, one row an item, shape (n, context).
    """
    values = np.array(values)
    if values.shape[1:] != run.data.event_shape:
        raise UsageError(f"the items of this run have the shape {run.data.event_shape}; got {values.shape[1:]}")
    if not 1 <= samples <= _MOST:
        raise UsageError(f"samples takes 1 to {_MOST:,}; got {samples}")
    run.data.check_classes(values)
    if values.dtype.kind != "f":
        return Imputed(values, np.empty(0))
    model, effective = masked(run.model), []
    rows = np.flatnonzero(np.isnan(values).reshape(len(values), -1).any(axis=1))
    step = max(1, _DECODED // samples)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        x = torch.from_numpy(run.scaling(values[some])).to(model.offset)
        noise = generator(seed, "imputation", start)
        bound = model if context is None else model.given(context[some])
        expected, least = expectation(
            bound, x, samples=samples, categorical=run.data.categorical, generator=noise
        )  # fmt: skip
        raw = run.scaling.inverse(expected.numpy(force=True))
        values[some] = np.where(np.isnan(values[some]), raw, values[some])
        effective.append(least.numpy(force=True))
    return Imputed(values, np.concatenate([np.empty(0), *effective]))


@torch.no_grad()
def expectation(
    model: Model,
    x: Float[Tensor, " batch *event"],
    *,
    samples: int,
    categorical: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Float[Tensor, " batch"]]:
    """`sum_l w_l E[x | z_l]` of every feature in model units, and the effective number of draws.

    Args:
        model: whose likelihood takes what is not a number as not observed.
        x: items, model units.
        samples: draws an item.
        categorical: columns of categories: the most probable one in the place of a mean.
        generator: source of the noise.
    """
    draws = draw(model, x, samples=samples, generator=generator)
    log_weights = draws.log_weights()
    if not torch.isfinite(log_weights).all():
        raise UsageError(
            "this model has no importance weights: its codes are points, or its values are no densities",
            fix="fill in with a vae, or with the recipe miwae-missing",
        )
    weights = log_weights.softmax(0)
    means = draws.likelihood.mean.unflatten(0, (samples, -1))
    expected = torch.einsum("sb,sb...->b...", weights, means)
    if categorical:
        expected[:, list(categorical)] = _most_probable(draws, weights, list(categorical))
    return expected, 1 / weights.square().sum(0)


def masked(model: Model) -> Model:
    """A model with the same parts and weights that takes what is not a number as not observed."""
    if model.likelihood.missing:
        return model
    head = copy.deepcopy(model.likelihood)  # `Masked` tells what it holds that values may be missing
    again = Model(
        encoder=model.encoder, posterior=model.posterior, prior=model.prior, decoder=model.decoder,
        likelihood=likelihoods.Masked(head), event_shape=model.event_shape, context=model.context,
    )  # fmt: skip
    again.offset, again.shift, again.spread = model.offset, model.shift, model.spread
    return again.train(model.training)


def _most_probable(draws: Draws, weights: Tensor, columns: list[int]) -> Float[Tensor, "batch columns"]:
    """The category with the highest `sum_l w_l p(x_j = c | z_l)` of each column j."""
    _, highest, _ = draws.model.likelihood.supports(draws.model.event_shape)
    classes = highest[columns].to(weights)
    scores = [
        torch.einsum("sb,sbj->bj", weights, _chances(draws.likelihood, columns, classes.clamp_max(code), len(weights)))
        .masked_fill(classes < code, -1.0)
        for code in range(int(classes.max()) + 1)
    ]  # fmt: skip
    return torch.stack(scores).argmax(0).to(weights)


def _chances(
    p: Distribution, columns: list[int], codes: Tensor, samples: int
) -> Float[Tensor, "samples batch columns"]:
    """The probability of one code in each column under every draw."""
    value = p.mode.clone()
    value[:, columns] = codes
    chances = p.log_prob_per_feature(value)[:, columns].exp()  # pyright: ignore[reportAttributeAccessIssue]
    return chances.unflatten(0, (samples, -1))
