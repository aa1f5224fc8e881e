"""Bijections with parameters, from zuko and in its style: called with a context, they give a transform."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, constraints
from torch.nn import functional

from gapless.errors import UsageError

_KEPT = {name: Distribution.__dict__[name] for name in ("_validate_args", "arg_constraints")}
import zuko  # noqa: E402

for _name, _value in _KEPT.items():  # zuko switches the checks of torch's own distributions off, for everybody
    setattr(Distribution, _name, _value)

__all__ = ["BIJECTIONS", "Planar", "stacked"]

LARGEST = 10_000_000
"""Most weights of one bijection's network: zuko makes it of real tensors even to learn its size."""
QUIET = 0.1
"""What a fresh network's last layer is multiplied by: flows start near the identity."""
MARGIN = 1e-3
"""Least stretch of a planar flow, as of zuko's affine and spline ones."""
HALVINGS = 60
BINS = 8


class PlanarTransform(Transform):
    """`f(x) = x + u tanh(w.x + b)` with `w.u >= -1`: Rezende & Mohamed (2015), eqs. 10 to 12 and appendix A.1.

    The inverse is the root v of `v + (w.u) tanh(v) = w.y + b`, an increasing scalar function, by bisection and one
    Newton step that carries the gradient; then `x = y - u tanh(v)`.

    Args:
        u: before the constraint, shape (*batch, d).
        w: shape (*batch, d).
        b: shape (*batch,).
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, u: Tensor, w: Tensor, b: Tensor):
        super().__init__()
        along = (w * u).sum(-1)
        # The appendix's m(x) = -1 + log(1 + e^x), with a margin: at w.u = -1 itself the map has no inverse.
        self.along = functional.softplus(along) - (1 - MARGIN)
        self.u = u + ((self.along - along) / w.square().sum(-1).clamp_min(1e-12))[..., None] * w
        self.w, self.b = w, b

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f(x) and log |det f'(x)| = log(1 + (w.u) (1 - tanh^2)), (*samples, *batch, d) and (*samples, *batch)."""
        bent = torch.tanh((self.w * x).sum(-1) + self.b)
        return x + self.u * bent[..., None], torch.log1p(self.along * (1 - bent.square()))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.call_and_ladj(x)[1]

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        target = (self.w * y).sum(-1) + self.b
        with torch.no_grad():
            found = self._root(target)
        slope = 1 + self.along * (1 - torch.tanh(found).square())
        found = found - (found + self.along * torch.tanh(found) - target) / slope.detach()
        return y - self.u * torch.tanh(found)[..., None]

    def _root(self, target: Tensor) -> Tensor:
        low, high = target - self.along.abs(), target + self.along.abs()
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = middle + self.along * torch.tanh(middle) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2


class Planar(nn.Module):
    """A planar bijection whose u, w and b are a linear function of the context.

    Args:
        features: d.
        context: features of the context, at least 1.
    """

    def __init__(self, features: int, context: int):
        super().__init__()
        self.features, self.hyper = features, nn.Linear(context, 2 * features + 1)

    def forward(self, context: Tensor) -> PlanarTransform:
        u, w, b = self.hyper(context).split([self.features, self.features, 1], dim=-1)
        return PlanarTransform(u, w, b[..., 0])


Maker = Callable[..., nn.Module]
SPLINE: dict[str, Any] = {
    "univariate": partial(zuko.transforms.MonotonicRQSTransform, slope=MARGIN),
    "shapes": [(BINS,), (BINS,), (BINS - 1,)],
}


def _autoregressive(number: int, features: int, context: int, hidden: Sequence[int], **univariate: Any) -> nn.Module:
    """Orders alternate, as in Kingma et al. (2016)."""
    order = torch.arange(features)
    return zuko.flows.MaskedAutoregressiveTransform(
        features, context, order=order if number % 2 == 0 else order.flip(0),  # pyright: ignore[reportArgumentType]
        hidden_features=hidden, activation=nn.ELU, **univariate,
    )  # fmt: skip


def _coupling(number: int, features: int, context: int, hidden: Sequence[int], **univariate: Any) -> nn.Module:
    """Odd and even features take turns."""
    mask: Any = torch.arange(features) % 2 == number % 2
    return zuko.flows.GeneralCouplingTransform(
        features, context, mask=mask, hidden_features=hidden, activation=nn.ELU, **univariate
    )


def _planar(number: int, features: int, context: int, hidden: Sequence[int]) -> nn.Module:
    return Planar(features, context)


BIJECTIONS: dict[str, Maker] = {
    "autoregressive": _autoregressive,
    "autoregressive-spline": partial(_autoregressive, **SPLINE),
    "coupling": _coupling,
    "coupling-spline": partial(_coupling, **SPLINE),
    "planar": _planar,
}
"""Makers of one bijection: (number in the stack, features, context, hidden units) -> module."""


def stacked(kind: str, features: int, *, context: int, transforms: int, hidden: Sequence[int]) -> nn.Module:
    """Bijections one after another: a module that gives the transform for a context (batch, context), or for none.

    Args:
        kind: a key of `BIJECTIONS`.
        features: d, at least 1.
        context: features of the context, 0 for none.
        transforms: how many, at least 1.
        hidden: units of each one's hidden layers.

    Raises:
        UsageError: sizes that cannot be, or too large.
    """
    if min(features, transforms, *hidden) < 1 or context < 0:
        raise UsageError(f"a flow needs sizes of at least 1; got {features=}, {transforms=}, hidden={tuple(hidden)}")
    widths = (features + context, *hidden, features * 3 * BINS)
    largest = max(a * b for a, b in pairwise(widths))
    if transforms > 1000 or largest > LARGEST:
        raise UsageError(
            f"{transforms} flows of layers of up to {largest:,} weights are too large; the limits are 1,000 and "
            f"{LARGEST:,}",
            fix="use fewer latent features, flows or hidden units",
        )
    with torch.device("cpu"):  # zuko looks at the values of its masks
        made = [BIJECTIONS[kind](number, features, context, tuple(hidden)) for number in range(transforms)]
    for part in made:
        _calm(part)
    return zuko.lazy.LazyComposedTransform(*made)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def _calm(part: nn.Module) -> None:
    """What its network puts out, or what stands in for it where there is no context, made small."""
    if isinstance(part, Planar):  # its u is far from 0 anyway
        return
    last = list(part.hyper)[-1] if hasattr(part, "hyper") else part  # pyright: ignore
    for parameter in last.parameters():
        parameter.mul_(QUIET)
