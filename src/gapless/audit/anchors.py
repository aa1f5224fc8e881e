"""Anchors beside an audited model: probabilistic PCA in closed form, and the collapsed null."""

from typing import Any

import numpy as np

from gapless.audit.laws import standard
from gapless.audit.subject import Subject

__all__ = ["collapsed", "ppca"]

MOST_ITEMS, NOISE_FLOOR, TINY = 20_000, 1e-12, 1e-300


def ppca(x: Any, latent: int) -> Subject:
    """Probabilistic PCA with the exact posterior, fitted by its closed-form maximum (Tipping & Bishop 1999, eqs. 7-8).

    `x = W z + mean + noise`, W = U (Lambda - s2 I)^(1/2), s2 the mean of the eigenvalues left out;
    `q(z|x) = N(v W^T (x - mean) / s2, v)`, v_j = s2 / lambda_j: diagonal, for the columns of W are orthogonal.

    Args:
        x: items to fit, shape (n, *event); the first 20,000 are used.
        latent: number of latent features; at most the rank of the items, the rest is ignored by the decoder.
    """
    items = _items(x[:MOST_ITEMS])
    event, flat = items.shape[1:], items.reshape(len(items), -1).astype(np.float64)
    mean = flat.mean(0)
    _, singular, basis = np.linalg.svd(flat - mean, full_matrices=False)
    eigenvalues = np.square(singular) / len(flat)
    kept = min(latent, len(eigenvalues))
    left = flat.shape[1] - kept
    noise = max(eigenvalues[kept:].sum() / left if left else 0.0, NOISE_FLOOR * eigenvalues[0], TINY)
    strength = np.zeros(latent)
    strength[:kept] = np.sqrt(np.maximum(eigenvalues[:kept] - noise, 0))
    directions = np.zeros((latent, flat.shape[1]))
    directions[:kept] = basis[:kept]
    variance = noise / (np.square(strength) + noise)
    gain = strength * variance / noise

    def encode(batch: Any) -> tuple[np.ndarray, np.ndarray]:
        loc = (_items(batch).reshape(len(batch), -1) - mean) @ directions.T * gain
        return loc, np.broadcast_to(np.sqrt(variance), loc.shape)

    def decode(z: np.ndarray) -> np.ndarray:
        return (mean + (z * strength) @ directions).reshape(len(z), *event)

    return Subject(encode, decode, standard(latent))


def collapsed(x: Any, latent: int) -> Subject:
    """The collapsed null: every posterior is the prior, every decode is the mean item.

    Args:
        x: items, shape (n, *event); the mean of the first 20,000 is decoded.
        latent: number of latent features.
    """
    mean = _items(x[:MOST_ITEMS]).mean(0, dtype=np.float64)

    def encode(batch: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(batch), latent)), np.ones((len(batch), latent))

    def decode(z: np.ndarray) -> np.ndarray:
        return np.broadcast_to(mean, (len(z), *mean.shape))

    return Subject(encode, decode, standard(latent))


def _items(x: Any) -> np.ndarray:
    return np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)
