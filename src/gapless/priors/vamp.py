"""Priors made of posteriors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import distributions
from gapless.errors import UsageError
from gapless.priors.prior import Prior

__all__ = ["VampPrior"]


class VampPrior(Prior):
    """`p(z) = 1/K sum_k q(z | u_k)` with pseudo-inputs u_k that are trained: Tomczak & Welling (2018).

    The pseudo-inputs start at training items and are clamped to the range of the items seen then, as the paper's are
    to [0, 1]: one range for a whole channel of images, one for each column of a table. The posteriors are the
    encoder's own, so it is trained through its prior, too.

    In a conditional model each pseudo-input has a context c_k of its own, `q(z | u_k, c_k)`, which starts at that of
    its item, is trained with it, and stays within the range of the contexts seen then: the prior is the same for every
    class and covariate.

    Args:
        latent: number of latent features, at least 1.
        event_shape: shape of one item.
        components: K, at least 1.
        context: numbers of context of the model, 0 for an unconditional one.

    >>> prior = VampPrior(2, (4,), 3)
    >>> prior.start(torch.rand(10, 4))
    >>> prior(lambda u: distributions.DiagonalNormal(u[:, :2], u[:, 2:] + 1)).sample((5,)).shape
    torch.Size([5, 2])
    """

    low: Tensor
    high: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, latent: int, event_shape: Sequence[int], components: int = 100, *, context: int = 0):
        super().__init__()
        if components < 1:
            raise UsageError(f"a VampPrior needs at least 1 pseudo-input; got {components}")
        self.latent, self.event_shape, self.components = latent, tuple(event_shape), components
        self.context = context
        self.inputs = nn.Parameter(torch.rand(components, *self.event_shape))
        if context:
            self.contexts = nn.Parameter(torch.full((components, context), 1 / context))
            self.register_buffer("least", torch.zeros(context))
            self.register_buffer("most", torch.ones(context))
        ends = (self.event_shape[0], *[1] * (len(self.event_shape) - 1))
        self.register_buffer("low", torch.zeros(ends))
        self.register_buffer("high", torch.ones(ends))

    @torch.no_grad()
    def start(self, x: Tensor, context: Tensor | None = None) -> None:
        """Begin at the first of these items, again and again if there are fewer than pseudo-inputs."""
        known = x.nan_to_num(0.0)  # a pseudo-input has no missing values
        self.inputs.copy_(known[torch.arange(self.components) % len(known)])
        if self.context and context is not None:
            self.contexts.copy_(context[torch.arange(self.components) % len(context)])
            self.least.copy_(context.amin(0))
            self.most.copy_(context.amax(0))
        others = [axis for axis in range(x.dim()) if axis != 1]
        self.low.copy_(known.amin(others).reshape(self.low.shape))
        self.high.copy_(known.amax(others).reshape(self.high.shape))

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.Mixture:
        if encode is None:
            raise UsageError("a VampPrior is made of posteriors: it needs the model's encode")
        inputs = torch.clamp(self.inputs, self.low, self.high)
        given = (torch.clamp(self.contexts, self.least, self.most),) if self.context else ()
        return distributions.Mixture(self.inputs.new_zeros(self.components), encode(inputs, *given))
