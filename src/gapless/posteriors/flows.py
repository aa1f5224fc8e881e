"""Flow posteriors: a normal pushed through bijections that the encoder steers."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from gapless import distributions
from gapless.distributions.bijections import stacked
from gapless.errors import UsageError
from gapless.posteriors.normals import bounded
from gapless.posteriors.posterior import Posterior

__all__ = ["Flow"]

KINDS = {
    "iaf": "autoregressive", "planar": "planar", "coupling": "coupling", "spline": "coupling-spline",
}  # fmt: skip
"""Inverse autoregressive, Kingma et al. (2016); planar, Rezende & Mohamed (2015); affine couplings, Dinh et al. (2017);
spline couplings, Durkan et al. (2019)."""


class Flow(Posterior):
    """`z = loc + scale * f(u; c)`, u ~ N(0, I); loc, log scale and the context c are put out by the encoder.

    Draws and their densities take one pass for every kind (`distributions.Flowed`). Estimators that look at the
    density of a given z (sticking the landing, doubly reparameterized, the score function, PIWAE) invert f, exactly:
    at the price of a pass a latent feature for "iaf", of a scalar root for "planar", of one pass for couplings. The
    embedding is the mean over fixed points of the noise, the same at every call.

    Args:
        latent: number of latent features, at least 1.
        bijection: iaf, planar, coupling or spline.
        transforms: how many bijections, one after another, at least 1.
        context: numbers of c, at least 1; bounded like the log scale.
        hidden: units of each bijection's hidden layers; planar ones have none.
        bound: the largest absolute log scale in nats and the largest |c|, above 0.

    >>> Flow(3, "planar", context=8).parameter_shape(3)
    (14,)
    """

    def __init__(
        self,
        latent: int,
        bijection: str = "iaf",
        *,
        transforms: int = 2,
        context: int = 32,
        hidden: Sequence[int] = (64, 64),
        bound: float = 10.0,
    ):
        super().__init__()
        if bijection not in KINDS:
            raise UsageError(f"there is no flow posterior {bijection!r}", fix=f"use one of {', '.join(KINDS)}")
        if context < 1:
            raise UsageError(f"a flow posterior needs a context of at least 1 number; got {context}")
        self.latent, self.bijection, self.transforms, self.context = latent, bijection, transforms, context
        self.hidden, self.bound = tuple(hidden), bound
        self.flow = stacked(KINDS[bijection], latent, context=context, transforms=transforms, hidden=hidden)

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        if latent != self.latent:
            raise UsageError(f"this flow posterior was made for {self.latent} latent features; the prior has {latent}")
        return (2 * latent + self.context,)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.Flowed:
        loc, raw, context = parameters.split([self.latent, self.latent, self.context], dim=-1)
        transform = self.flow(bounded(context, self.bound))
        return distributions.Flowed(loc, bounded(raw, self.bound).exp(), transform)
