"""KL between two distributions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence, register_kl

from gapless.distributions.normals import Correlated, DiagonalNormal
from gapless.distributions.points import PointMass
from gapless.errors import UsageError

__all__ = ["divergence", "divergence_per_feature"]


def divergence(q: Distribution, p: Distribution, z: Tensor | None = None) -> Float[Tensor, " *batch"]:
    """KL(q || p) in nats: in closed form where one is registered, else estimated by the samples `z`.

    `KL(q || p) = E_q[log q(z) - log p(z)]`; the estimate is the mean of that difference over `z ~ q`.

    Args:
        q: batch_shape (*batch,), event_shape (latent,).
        p: batch_shape () or (*batch,), event_shape (latent,).
        z: samples of q, shape (samples, *batch, latent); needed only where no closed form is known.

    Returns:
        One value an example, at least 0 in closed form, infinite for a point mass.

    Raises:
        UsageError: no closed form is known and no samples were given.
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        if z is None:
            raise UsageError(
                f"no closed form of KL({type(q).__name__} || {type(p).__name__}) is known and no samples were given",
                fix="pass z, samples of q of shape (samples, *batch, latent)",
            ) from None
        return (q.log_prob(z) - p.log_prob(z)).mean(0)


def divergence_per_feature(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q || p) for each latent feature in nats, shape (*batch, *event); None where it does not split so."""
    if isinstance(q, DiagonalNormal) and isinstance(p, DiagonalNormal):
        ratio = q.scale / p.scale
        return 0.5 * (ratio.square() + ((q.loc - p.loc) / p.scale).square() - 1) - ratio.log()
    return None


@register_kl(DiagonalNormal, DiagonalNormal)
def _normal_normal(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    per_feature = divergence_per_feature(q, p)
    assert per_feature is not None
    return q._sum(per_feature)


@register_kl(PointMass, Distribution)
def _point_density(q: PointMass, p: Distribution) -> Tensor:
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    return torch.full(shape, math.inf, dtype=q.loc.dtype, device=q.loc.device)


@register_kl(Correlated, DiagonalNormal)
def _correlated_normal(q: Correlated, p: DiagonalNormal) -> Tensor:
    """`1/2 sum_j (S_jj + (m_j - p_j)^2) / s_j^2 - 1/2 log det S + sum_j log s_j - d/2`, S the covariance of q."""
    squares = (q.variance + (q.loc - p.loc).square()) / p.scale.square()
    return (0.5 * (squares - 1) + p.scale.log()).sum(-1) - q.log_volume
