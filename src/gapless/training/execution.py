"""How the networks of a training step are run: in bf16, part by part, on several processes.

Only the networks are. Posterior, prior, likelihood and objective see the whole batch in float32, on every process, so
an objective that looks at the batch as a whole has the value and the gradient it has on one process, whatever it is.
"""

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from gapless import processes
from gapless.errors import UsageError
from gapless.likelihoods import Likelihood
from gapless.model import Model
from gapless.networks import Network
from gapless.networks.bayesian import bayesian_layers
from gapless.objectives import Objective, Terms
from gapless.priors import Prior
from gapless.randomness import generator
from gapless.settings import Settings
from gapless.training.sharding import Shards

__all__ = ["Execution", "arranged", "cut", "in_parts"]


def arranged(model: Model, objective: Objective, settings: Settings, shards: Shards | None = None) -> nn.Module | None:
    """What runs a step: a map (x, items, step) -> Terms; None where the objective can simply be called.

    Args:
        model: the model, on its device.
        objective: the objective, on the same.
        settings: precision, accumulation, seed.
        shards: the networks, where their weights are cut over the processes.
    """
    if settings.accumulate > 1 and bayesian_layers(model):
        raise UsageError(
            "weights that are drawn cannot be computed part by part: every part would draw others",
            fix="leave --accumulate out",
        )
    if shards and objective.freezes:
        raise UsageError(f"{type(objective).__name__} needs whole weights on every process", fix="leave --use_fsdp out")
    plain = settings.precision == "float32" and settings.accumulate == 1
    if processes.size() == 1 and plain:
        return None
    execution = Execution(model, objective, settings, networks=shards.networks if shards else {})
    return execution if shards or processes.size() == 1 else _distributed(execution)


def in_parts(model: Model, settings: Settings) -> Model:
    """The model as it is validated: where a batch is cut into parts, its networks take no more rows at once either.

    The numbers are the same up to their last bits, whatever the noise and whatever looks at a whole batch.
    """
    if settings.accumulate == 1:
        return model
    view, rows = copy.copy(model), -(-settings.batch_size // settings.accumulate)
    networks = {name: _Parted(getattr(model, name), rows) for name in ("encoder", "decoder")}
    view._modules = {**model._modules, **networks}
    return view


def cut(model: Model, settings: Settings) -> Shards | None:
    """The networks cut over the processes, where `accelerate launch --use_fsdp` asks for it."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")
    return Shards(model, settings) if asked and processes.size() > 1 else None


def _distributed(execution: nn.Module) -> nn.Module:
    """Gradients are averaged over the processes by torch's DDP, prepared by accelerate."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # Terms of weight 0 leave networks unused. This setting also keeps the order of the sums the same from the first
    # step on, which a resumed run needs.
    kwargs = DistributedDataParallelKwargs(find_unused_parameters=True)
    device = next(execution.parameters()).device
    accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[kwargs], mixed_precision="no")
    return accelerator.prepare_model(execution)


class Execution(nn.Module):
    """A training step's forward pass on this process's rows of the batch.

    Args:
        model: the model.
        objective: the objective; it is given a model of the same parts, whose networks run as asked.
        settings: precision, accumulation, seed.
        networks: what runs instead of the model's own encoder or decoder.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        settings: Settings,
        *,
        networks: Mapping[str, Network] = MappingProxyType({}),
    ):
        super().__init__()
        self.model, self.objective, self.seed = model, objective, settings.seed
        self._batch = _Batch(settings.precision, settings.accumulate)
        self._view = [_view(model, self._batch, networks)]  # in a list: its parameters are the model's own

    def forward(self, x: Tensor, items: int, step: int, context: Tensor | None = None) -> Terms:
        """Terms of the whole batch.

        Args:
            x: this process's rows, shape (rows, *event).
            items: rows of the whole batch.
            step: optimizer steps taken so far.
            context: that of this process's rows, for a conditional model, shape (rows, context).
        """
        self._batch.items = items
        noise, view = generator(self.seed, "noise", step), self._view[0]
        if context is not None:
            whole = context if processes.size() == 1 else processes.gather(context, items)
            view = view.given(context, of_codes=whole)
        terms = self.objective(view, x, step=step, generator=noise)
        # Only the loss has a gradient: DDP waits for the parameters of all that has one.
        extras = {name: value.detach() for name, value in terms.extras.items()}
        return Terms(terms.loss, terms.reconstruction.detach(), terms.regularization.detach(), extras)


@dataclass
class _Batch:
    """How networks are run, and how large the batch under way is."""

    precision: str
    parts: int
    items: int = 0
    draws: int = 1

    def run(self, network: Network, x: Tensor) -> Tensor:
        """The network's value in float32; part by part nothing is kept but the parts' inputs."""
        network_call = _held(network) if self.parts > 1 else network
        call = _in_bf16(network_call) if self.precision == "bf16" else network_call
        if self.parts == 1:
            return call(x)
        return torch.cat([checkpoint(call, part, use_reentrant=False) for part in x.chunk(self.parts)])  # pyright: ignore


def _held(network: Network) -> Callable[[Tensor], Tensor]:
    """The network with the parameters it has now: a frozen one must be frozen when it is computed again, too."""
    if any(parameter.requires_grad for parameter in network.parameters()):
        return network
    constants: dict[str, Tensor] = dict(network.named_parameters())
    return lambda x: functional_call(network, constants, (x,))


def _in_bf16(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return network(x).to(x.dtype)

    return call


def _view(model: Model, batch: _Batch, networks: Mapping[str, Network]) -> Model:
    """The same model with its networks run as asked; its buffers are the model's own."""
    view = copy.copy(model)
    view.shared = processes.size() > 1
    view._modules = {
        **model._modules,
        "encoder": _Encoder(networks.get("encoder", model.encoder), batch),
        "prior": _Prior(model),
        "decoder": _Decoder(networks.get("decoder", model.decoder), batch),
        "likelihood": model.likelihood if processes.size() == 1 else _Likelihood(model.likelihood, batch),
    }
    return view


class _Parted(Network):
    def __init__(self, network: Network, rows: int):
        super().__init__()
        self.network, self.rows, self.inputs, self.outputs = network, rows, network.inputs, network.outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.network(part) for part in x.split(self.rows)])


class _Encoder(Network):
    def __init__(self, network: Network, batch: _Batch):
        super().__init__()
        self.network, self.batch, self.inputs, self.outputs = network, batch, network.inputs, network.outputs

    def forward(self, x: Tensor) -> Tensor:
        codes = self.batch.run(self.network, x)
        return codes if processes.size() == 1 else processes.gather(codes, self.batch.items)


class _Decoder(Network):
    def __init__(self, network: Network, batch: _Batch):
        super().__init__()
        self.network, self.batch, self.inputs, self.outputs = network, batch, network.inputs, network.outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.batch.run(self.network, x if processes.size() == 1 else self._own(x))

    def _own(self, z: Tensor) -> Tensor:
        self.batch.draws = len(z) // self.batch.items
        return processes.scatter(z.unflatten(0, (self.batch.draws, self.batch.items)), axis=1).flatten(0, 1)


class _Prior(Prior):
    """The prior, given the plain encoder: what it encodes is no part of the batch."""

    def __init__(self, model: Model):
        super().__init__()
        self.prior, self.latent, self._encode = model.prior, model.latent, [model.encode]

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> Distribution:
        return self.prior(self._encode[0])


class _Likelihood(Likelihood):
    def __init__(self, head: Likelihood, batch: _Batch):
        super().__init__()
        self.head, self.batch = head, batch
        self.missing = head.missing  # pyright: ignore[reportAttributeAccessIssue]

    def parameter_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.head.parameter_shape(event_shape)

    def view(self, x: Tensor) -> Tensor:
        return self.head.view(x)

    def offset(self, mean: Tensor) -> Tensor:
        return self.head.offset(mean)

    def forward(self, parameters: Tensor) -> Distribution:
        return _Shared(self.head(parameters), self.batch)

    def calibrate(self, distribution: Any, x: Tensor, *, like: Any = None) -> Distribution:
        return _Shared(self.head.calibrate(distribution.own, x, like=like and like.own), self.batch)


class _Shared(Distribution):
    """p(x|z) of all rows, of which this process holds its own."""

    def __init__(self, own: Distribution, batch: _Batch):
        self.own, self.batch = own, batch
        shape = torch.Size((batch.draws * batch.items,))
        super().__init__(shape, own.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means of this process's rows, shape (draws * rows, *event)."""
        return self.own.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of all rows in nats, shape (draws * items,), of this process's rows of x."""
        own = self.own.log_prob(value)
        return processes.gather(own.reshape(self.batch.draws, -1), self.batch.items, axis=1).flatten()
