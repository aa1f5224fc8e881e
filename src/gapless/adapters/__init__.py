"""Autoencoders as audit subjects: our own models here, other people's in modules beside."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gapless import posteriors, priors
from gapless.audit import Law, Subject, standard
from gapless.data import Dataset, Items, batch
from gapless.errors import UsageError
from gapless.model import Model

__all__ = ["all_items", "audited_items", "subject"]

ENOUGH_HELD_OUT = 1000
MOST_ITEMS = 20_000


def subject(model: Model) -> Subject:
    """A model as the audit sees it: two callables, and the prior it declares.

    An autoencoder (point-mass posterior) declares none: nothing ties its codes to one.

    Args:
        model: in evaluation mode; items are given in model units.
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

    return Subject(encode, decode, _law(model))


def _law(model: Model) -> Law | None:
    if isinstance(model.posterior, posteriors.PointMass):
        return None
    if isinstance(model.prior, priors.StandardNormal):
        return standard(model.latent)
    raise UsageError(
        f"the prior {type(model.prior).__name__} has no reference law yet",
        fix="pass one: Subject(encode, decode, prior=PushForward(...)), or audit under reference='moments'",
    )


def audited_items(data: Dataset) -> tuple[Tensor, np.ndarray | None, str]:
    """The items an audit of a trained run rests on: held out, or all where fewer than 1,000 are held out.

    Returns:
        Items in model units (n, *event), their labels or None, and a sentence for the card.
    """
    if len(data.held_out) >= ENOUGH_HELD_OUT:
        chosen, said = data.held_out, f"{len(data.held_out):,} held-out items"
        return batch(chosen, data.scaling), chosen.labels, said
    items, labels, said = all_items(data)
    return items, labels, f"{said}, training items among them: only {len(data.held_out):,} are held out"


def all_items(data: Dataset) -> tuple[Tensor, np.ndarray | None, str]:
    """All items of both parts, held-out ones first, at most 20,000; as `audited_items`."""
    index = np.concatenate([data.held_out.index, data.train.index])[:MOST_ITEMS]
    labels = None
    if data.train.labels is not None and data.held_out.labels is not None:
        labels = np.concatenate([data.held_out.labels, data.train.labels])[:MOST_ITEMS]
    chosen = Items(data.train.values, labels, index)
    return batch(chosen, data.scaling), labels, f"{len(chosen):,} items"
