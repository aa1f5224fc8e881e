"""Draws of given codes: what a regularizer that looks at codes alone needs, and nothing else."""

from functools import cache

import torch

from gapless import distributions, recipes
from gapless.draws import Draws


def normal(loc, scale):
    return distributions.DiagonalNormal(*torch.broadcast_tensors(loc, torch.as_tensor(scale, dtype=loc.dtype)))


@cache
def _model(latent, dtype):
    return recipes.build("ae", (2,), latent=latent, hidden=())[0].to(dtype)


def drawn(z, *, posterior=None, prior=None):
    """Draws with these codes, shape (samples, batch, latent), of a model that does nothing else."""
    samples, batch, latent = z.shape
    x = torch.zeros(batch, 2, dtype=z.dtype)
    return Draws(
        model=_model(latent, z.dtype),
        x=x,
        encoded=z[0],
        posterior=posterior or distributions.PointMass(z[0]),
        prior=prior or normal(z.new_zeros(latent), 1.0),
        z=z,
        likelihood=normal(x.repeat(samples, 1), 1.0),
        log_likelihood=z.new_zeros(samples, batch),
    )


def noise(seed=0):
    return torch.Generator().manual_seed(seed)
