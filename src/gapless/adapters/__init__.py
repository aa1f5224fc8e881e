"""Autoencoders as audit subjects: our own models here, other people's in modules beside."""

from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from gapless import posteriors, priors
from gapless.audit import Law, Subject, laws, standard
from gapless.conditions import refuse_covariates
from gapless.data import Dataset, Items, batch
from gapless.distributions import DiagonalNormal, FullNormal, Mixture, PoincareNormal, UniformOnSphere
from gapless.distributions.flowing import Pushed
from gapless.distributions.hyperbolic import from_centre, mobius_sum
from gapless.errors import DataError, UsageError
from gapless.model import Model
from gapless.randomness import generator

__all__ = ["all_items", "audited_items", "check_auditable", "law_of", "subject", "suited_reference"]

ENOUGH_HELD_OUT = 1000
MOST_ITEMS = 20_000
PIECE = 8192


def subject(model: Model, *, reference: str = "declared") -> Subject:
    """A model as the audit sees it: two callables, the prior it declares, and draws of posteriors that are not normal.

    An autoencoder (point-mass posterior) declares no prior: nothing ties its codes to one.

    Args:
        model: in evaluation mode; items are given in model units.
        reference: what it will be audited under; the law of the prior is looked for under "declared" alone.

    Raises:
        UsageError: a conditional model without a label, or a declared prior without a law.
    """

    if not model.ready:
        raise UsageError(
            "this model is conditional: its latent space is another one for every label",
            fix="audit one of them: --label NAME, or subject(model.given(context))",
        )

    @torch.no_grad()
    def encode(x: Any) -> tuple[Tensor, Tensor | None]:
        q = model.encode(torch.as_tensor(x, dtype=torch.float32))
        return q.mean, None if isinstance(model.posterior, posteriors.PointMass) else q.stddev

    @torch.no_grad()
    def decode(z: np.ndarray) -> Tensor:
        return model.decode(torch.as_tensor(z, dtype=torch.float32)).mean

    @torch.no_grad()
    def draw(x: Any, rng: np.random.Generator) -> Tensor:
        q: Any = model.encode(torch.as_tensor(x, dtype=torch.float32))
        return q.sample(generator=generator(int(rng.integers(2**62)), "sample", 2))

    plain = isinstance(model.posterior, (posteriors.PointMass, posteriors.DiagonalNormal))
    return Subject(encode, decode, _law(model) if reference == "declared" else None, None if plain else draw)


def suited_reference(model: Model, reference: str) -> tuple[str, str | None]:
    """The reference law to audit a model under, and a sentence where it is not the one that was asked for.

    Codes of a codebook, for example, have a prior but no law that is walked along: they are judged by their moments.
    """
    if reference != "declared" or not model.ready:
        return reference, None
    try:
        _law(model)
    except UsageError as error:
        return "moments", f"{error.what}: the audit is under the moments of the codes (--reference moments)"
    return reference, None


def _law(model: Model) -> Law | None:
    if isinstance(model.posterior, posteriors.PointMass) and isinstance(model.prior, priors.StandardNormal):
        return None
    with torch.no_grad():
        return law_of(model.prior_distribution(), type(model.prior).__name__)


@singledispatch
def law_of(prior: Distribution, name: str) -> Law:
    """The reference law of a distribution of codes; `register` another kind of distribution here.

    Args:
        prior: p(z).
        name: how the card calls it.
    """
    raise UsageError(
        f"the prior {name}, of {type(prior).__name__}, has no reference law",
        fix="pass one: Subject(encode, decode, prior=PushForward(...)), or audit under reference='moments'",
    )


@law_of.register
def _normal(prior: DiagonalNormal, name: str) -> Law:
    if not prior.loc.any() and bool((prior.scale == 1).all()):
        return standard(len(prior.loc))
    return _gaussians(prior, name)[0]


@law_of.register
def _mixture(prior: Mixture, name: str) -> Law:
    if not isinstance(prior.components, (DiagonalNormal, FullNormal)):
        return law_of.dispatch(Distribution)(prior.components, name)
    return laws.Mixture(_array(prior.weights), _gaussians(prior.components, name), name=name)


@law_of.register
def _pushed(prior: Pushed, name: str) -> Law:
    @torch.no_grad()
    def push(u: np.ndarray) -> np.ndarray:
        rows = torch.as_tensor(u, dtype=torch.float32).split(PIECE)
        return np.concatenate([_array(prior.push(piece)) for piece in rows])

    return laws.PushForward(push, noise=prior.noise, dimension=prior.event_shape[0], name=name)


@law_of.register
def _sphere(prior: UniformOnSphere, name: str) -> Law:
    return laws.Sphere(prior.dimension)


@law_of.register
def _ball(prior: PoincareNormal, name: str) -> Law:
    @torch.no_grad()
    def push(u: np.ndarray) -> np.ndarray:
        moved = from_centre(prior.scale * torch.as_tensor(u, dtype=torch.float32), prior.curvature)
        return _array(mobius_sum(prior.loc, moved, prior.curvature))

    return laws.PushForward(push, noise=len(prior.loc), dimension=len(prior.loc), name=name)


def _gaussians(normals: DiagonalNormal | FullNormal, name: str) -> list[laws.Gaussian]:
    """One an item of the batch, or the only one."""
    factors = normals.factor if isinstance(normals, FullNormal) else torch.diag_embed(normals.stddev)
    d = normals.event_shape[0]
    pairs = zip(_array(normals.loc.reshape(-1, d)), _array(factors.reshape(-1, d, d)), strict=True)
    return [laws.Gaussian(loc, factor, name=name) for loc, factor in pairs]


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def audited_items(data: Dataset) -> tuple[Tensor, np.ndarray | None, str]:
    """The items an audit of a trained run rests on: held out, or all where fewer than 1,000 are held out.

    Returns:
        Items in model units (n, *event), their labels or None, and a sentence for the card.
    """
    if len(data.held_out) >= ENOUGH_HELD_OUT:
        chosen, said = data.held_out, f"{len(data.held_out):,} held-out items"
        return _whole(batch(chosen, data.scaling), data), chosen.labels, said
    items, labels, said = all_items(data)
    return items, labels, f"{said}, training items among them: only {len(data.held_out):,} are held out"


def all_items(data: Dataset) -> tuple[Tensor, np.ndarray | None, str]:
    """All items of both parts, held-out ones first, at most 20,000; as `audited_items`."""
    index = np.concatenate([data.held_out.index, data.train.index])[:MOST_ITEMS]
    labels = None
    if data.train.labels is not None and data.held_out.labels is not None:
        labels = np.concatenate([data.held_out.labels, data.train.labels])[:MOST_ITEMS]
    chosen = Items(data.train.values, labels, index)
    return _whole(batch(chosen, data.scaling), data), labels, f"{len(chosen):,} items"


def _whole(x: Tensor, data: Dataset) -> Tensor:
    """The items, if nothing is missing: what was not observed has no distance from anything."""
    broken = int(x.isnan().flatten(1).any(1).sum()) if data.missing else 0
    if broken:
        raise DataError(
            f"{broken:,} of {len(x):,} items have missing values: an audit compares whole items",
            where=data.source,
            fix="use --audit none; then fill them, gapless impute RUN -o FILE, and audit the run on that file",
        )
    return x


def check_auditable(data: Dataset, *, condition: bool = False) -> None:
    """Refuse what an audit of models yet to be trained would refuse, before they are.

    Args:
        data: what they are to be trained on and judged by.
        condition: whether they will be given the class of each item.

    Raises:
        DataError: values are missing.
        UsageError: the models will be conditional.
    """
    refuse_covariates(data.covariates, "an audit judges")
    if condition:
        raise UsageError(
            "conditional models are not compared: their latent space is another one for every label",
            fix="leave --condition out; or train them one by one, and audit each for one label: --label NAME",
        )
    if data.missing:
        audited_items(data)
