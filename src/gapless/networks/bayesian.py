"""The reparameterization trick on weights: networks whose weights have a normal distribution of their own.

Outside `weights_drawn` such a network uses the means of its weights and gives the same output at every call.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gapless import processes
from gapless.distributions import DiagonalNormal, divergence
from gapless.errors import UsageError
from gapless.networks.network import Network, activation_of, checked_shape

__all__ = ["BayesianMLP"]

ESTIMATORS = ("reparameterized", "local", "flipout")


class BayesianLinear(nn.Module):
    """An affine map with weights `w ~ q = N(loc, scale^2)`, one normal a weight, and the prior `N(0, prior_scale^2)`.

    How a draw is made while weights are drawn, with gradients of the same mean and different variance:
    `reparameterized`: one `w = loc + scale * eps` for all rows, Blundell et al. (2015);
    `local`: the outputs `N(x loc, x^2 scale^2)` of each row, Kingma, Salimans & Welling (2015);
    `flipout`: one `eps` for all rows, with random signs of inputs and outputs of each, Wen et al. (2018).

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
        drawn: one of the three.
        prior_scale: standard deviation of the prior of each weight and bias, above 0.
        initial_scale: standard deviation of q at first, above 0.
    """

    def __init__(
        self, inputs: int, outputs: int, *, drawn: str = "local", prior_scale: float = 1.0, initial_scale: float = 0.01
    ):
        super().__init__()
        if drawn not in ESTIMATORS:
            raise UsageError(f"weights cannot be drawn {drawn!r}", fix=f"use {', '.join(ESTIMATORS)}")
        if not (prior_scale > 0 and initial_scale > 0):
            raise UsageError(f"scales of weights are above 0; got {prior_scale} and {initial_scale}")
        start = nn.Linear(inputs, outputs)
        self.drawn, self.prior_scale = drawn, prior_scale
        # The bias is the weight of an input that is always 1: the last column.
        self.loc = nn.Parameter(torch.cat([start.weight.detach(), start.bias.detach()[:, None]], 1))
        self.log_scale = nn.Parameter(torch.full_like(self.loc, initial_scale).log())
        self._noise: torch.Generator | None = None

    def weights(self) -> DiagonalNormal:
        """q(w), event_shape (outputs, inputs + 1); the last column is the bias."""
        return DiagonalNormal(self.loc, self.log_scale.exp(), event_dims=2)

    def divergence(self) -> Tensor:
        """KL(q(w) || p(w)) in nats, shape ()."""
        prior = DiagonalNormal(torch.zeros_like(self.loc), self.loc.new_tensor(self.prior_scale), event_dims=2)
        return divergence(self.weights(), prior)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        if self._noise is None:
            return functional.linear(x, self.loc[:, :-1], self.loc[:, -1])
        return getattr(self, f"_{self.drawn}")(torch.cat([x, x.new_ones(len(x), 1)], 1), self._noise)

    def _reparameterized(self, x: Tensor, noise: torch.Generator) -> Tensor:
        return x @ self.weights().rsample(generator=noise).T

    def _local(self, x: Tensor, noise: torch.Generator) -> Tensor:
        variance = x.square() @ (2 * self.log_scale).exp().T
        # The derivative of the root is infinite at 0; a row of zeros has no variance and none is missed.
        outputs = DiagonalNormal(x @ self.loc.T, variance.clamp_min(torch.finfo(x.dtype).tiny).sqrt())
        return outputs.rsample(generator=noise)

    def _flipout(self, x: Tensor, noise: torch.Generator) -> Tensor:
        deviation = self.weights().rsample(generator=noise) - self.loc
        ins, outs = (_signs((len(x), size), x, noise) for size in (x.shape[1], len(self.loc)))
        return x @ self.loc.T + ((x * ins) @ deviation.T) * outs


def _signs(shape: tuple[int, ...], like: Tensor, noise: torch.Generator) -> Tensor:
    bits = torch.randint(2, shape, generator=noise, device=noise.device)
    return (2 * bits - 1).to(like)


class BayesianMLP(Network):
    """A perceptron whose weights are drawn: `BayesianLinear` layers with an activation between them.

    Args:
        inputs: shape of one input, without the batch axis.
        outputs: shape of one output, without the batch axis.
        hidden: units of each hidden layer, each at least 1; () is an affine map.
        activation: one of elu, gelu, relu, silu, softplus, tanh.
        drawn: how weights are drawn: reparameterized, local or flipout.
        prior_scale: standard deviation of the prior of each weight, above 0.
        initial_scale: standard deviation of each weight at first, above 0.

    >>> network = BayesianMLP((3,), (2,), hidden=(4,))
    >>> with weights_drawn(network, torch.Generator().manual_seed(0)):
    ...     network(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        hidden: Sequence[int] = (512, 256),
        activation: str = "relu",
        drawn: str = "local",
        prior_scale: float = 1.0,
        initial_scale: float = 0.01,
    ):
        super().__init__()
        self.inputs, self.outputs, self.hidden = checked_shape(inputs), checked_shape(outputs), tuple(hidden)
        self.activation, self.drawn = activation, drawn
        self.prior_scale, self.initial_scale = prior_scale, initial_scale
        sizes = (torch.Size(self.inputs).numel(), *checked_shape(hidden), torch.Size(self.outputs).numel())
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(sizes):
            layer = BayesianLinear(before, after, drawn=drawn, prior_scale=prior_scale, initial_scale=initial_scale)
            layers += [layer, activation_of(activation)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Float[Tensor, " batch *inputs"]) -> Float[Tensor, " batch *outputs"]:
        return self.layers(x).unflatten(1, self.outputs)


def bayesian_layers(module: nn.Module) -> list[BayesianLinear]:
    """The layers with a distribution of weights, in the order of the module."""
    return [layer for layer in module.modules() if isinstance(layer, BayesianLinear)]


def weight_divergence(module: nn.Module) -> Tensor:
    """KL of all weights from their priors in nats, shape (); 0 where none has a distribution."""
    return torch.stack([layer.divergence() for layer in bayesian_layers(module)] or [torch.zeros(())]).sum()


@contextmanager
def weights_drawn(module: nn.Module, generator: torch.Generator | None) -> Iterator[None]:
    """Inside, every layer with a distribution of weights draws them anew at each call.

    Args:
        module: whose layers.
        generator: source of the noise; the global one when None. It moves by one number only, so that what is drawn
            from it afterwards is the same on every process, however many rows each has.
    """
    layers = bayesian_layers(module)
    seed = int(torch.randint(2**62, (), generator=generator)) if layers else 0
    try:
        for number, layer in enumerate(layers):
            own = 0 if layer.drawn == "reparameterized" else processes.rank()  # rows of their own, noise of their own
            layer._noise = torch.Generator().manual_seed((seed + 1_000_003 * number + 7_919 * own) % 2**63)
        yield
    finally:
        for layer in layers:
            layer._noise = None
