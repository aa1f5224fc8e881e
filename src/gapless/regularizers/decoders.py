"""What keeps a deterministic decoder smooth, and its codes together: Ghosh et al. (2020)."""

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.draws import Draws
from gapless.errors import UsageError
from gapless.randomness import noise
from gapless.regularizers.regularizer import Penalty, Regularizer, checked_weight

__all__ = ["CodeNorm", "CodeSparsity", "DecoderJacobian", "DecoderWeights"]


class CodeNorm(Regularizer):
    """`1/2 |z|^2`, mean over the batch: -log p(z) under N(0, I) but for a constant. Ghosh et al. (2020), eq. 11.

    Args:
        weight: in the loss, at least 0.

    >>> CodeNorm(0.5).weight
    0.5
    """

    def __init__(self, weight: float = 0.01):
        super().__init__()
        self.weight = checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        return Penalty(0.5 * draws.z.square().sum(-1).mean())


class CodeSparsity(Regularizer):
    """`|z|_1`, mean over the batch: -log p(z) under independent Laplaces but for a constant; few features are used.

    The penalty of sparse coding, Olshausen & Field (1996), with S(x) = |x|, on the draws of the codes.

    Args:
        weight: in the loss, at least 0.

    >>> CodeSparsity(0.5).weight
    0.5
    """

    def __init__(self, weight: float = 0.1):
        super().__init__()
        self.weight = checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        return Penalty(draws.z.abs().sum(-1).mean())


class DecoderWeights(Regularizer):
    """`|theta|^2` of all parameters of the decoder: Ghosh et al. (2020), section 3.1. It moves the decoder alone.

    Args:
        weight: in the loss, beside nats per example; at least 0.

    >>> DecoderWeights(1e-4).weight
    0.0001
    """

    whole = True

    def __init__(self, weight: float = 1e-4):
        super().__init__()
        self.weight = checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        squares = [parameter.square().sum() for parameter in draws.model.decoder.parameters()]
        return Penalty(torch.stack(squares).sum())


class DecoderJacobian(Regularizer):
    """`|dD(z)/dz|^2`, squared Frobenius norm at the codes, mean over the batch: Ghosh et al. (2020), section 3.1.

    D(z) is the mean of p(x|z) in model units. The authors' published code penalises the gradient of `|D(z)|^2` instead,
    which grows with the brightness of an image.
    Hutchinson's estimate, unbiased: `|J|_F^2 = E |J^T v|^2` for random signs v of the shape of an item, one backward
    pass a probe.

    Args:
        weight: in the loss, at least 0.
        probes: vectors v an item, at least 1.

    >>> DecoderJacobian(probes=2).probes
    2
    """

    whole = True

    def __init__(self, weight: float = 1e-4, *, probes: int = 1):
        super().__init__()
        if probes < 1:
            raise UsageError(f"the norm of a Jacobian needs at least 1 probe; got {probes}")
        self.weight, self.probes = checked_weight(weight), probes

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        found = [_squared_norm(draws, generator).mean() for _ in range(self.probes)]
        return Penalty(torch.stack(found).mean())


def _squared_norm(draws: Draws, generator: torch.Generator | None) -> Float[Tensor, "samples batch"]:
    """|J^T v|^2 at each code; with a gradient where gradients are kept."""
    learning = torch.is_grad_enabled()
    with torch.enable_grad():
        z = draws.z if learning and draws.z.requires_grad else draws.z.detach().requires_grad_()
        decoded = draws.model.decode(z.flatten(0, 1)).mean.unflatten(0, (len(z), len(draws.x)))
        items = draws.whole(decoded, axis=1)
        signs = noise(torch.randn, items.shape, like=items, generator=generator).sign()
        (pulled,) = torch.autograd.grad(items, z, signs, create_graph=learning)
    return pulled.square().sum(-1)
