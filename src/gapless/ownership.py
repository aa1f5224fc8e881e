"""Whose parameters a loss may move: a part called through `frozen` gets no gradient, but passes it on to its inputs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["frozen", "log_prob_of"]


def frozen(module: nn.Module, *parts: str) -> Callable[..., Any]:
    """The module as a function whose own parameters are constants; inputs keep their gradients.

    A player's loss is computed on the frozen modules of the other players, so it cannot move them.

    Args:
        module: the module.
        parts: names of those modules in it that are constants, where not all are.

    >>> layer = nn.Linear(2, 1)
    >>> import torch
    >>> frozen(layer)(torch.ones(1, 2)).requires_grad
    False
    """
    within = tuple(f"{part}." for part in parts) or ("",)
    constants = {name: value.detach() for name, value in module.named_parameters() if name.startswith(within)}
    return lambda *inputs: functional_call(module, constants, inputs)


def log_prob_of(part: nn.Module) -> nn.Module:
    """A module (value, *inputs) -> log-density of `value` under `part(*inputs)`.

    Some densities (flows) use their parameters only when they are evaluated: `frozen` must cover that, too.
    """
    return _LogProb(part)


class _LogProb(nn.Module):
    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, value: Tensor, *inputs: Any) -> Tensor:
        return self.part(*inputs).log_prob(value)
