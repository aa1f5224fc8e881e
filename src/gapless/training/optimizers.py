"""Optimizers behind one small interface: Adam and AdamW without the import that torch.optim costs, and Muon.

Making a stock optimizer imports torch's compiler: 1.6 s and 70 MB before the first step. Adam here is a few lines over
the same fused kernel; where torch does not offer it, torch.optim serves, by the same names of the same state.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gapless.errors import UsageError

__all__ = ["NAMES", "Optimizer", "fused_is_available", "make"]

NAMES = ("adam", "adamw", "muon")
BETAS, EPS = (0.9, 0.999), 1e-8
_ADAM = ("step", "exp_avg", "exp_avg_sq")


class Optimizer(ABC):
    """Turns gradients into steps; its whole state is a flat dictionary of tensors.

    Names of the state are "0.exp_avg": the number of the parameter in the order given, and what is kept of it.

    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = make("adam", [weight])
    >>> weight.sum().backward()
    >>> optimizer.step(0.1)
    >>> weight.grad is None, sorted(optimizer.state())
    (True, ['0.exp_avg', '0.exp_avg_sq', '0.step'])
    """

    def __init__(self, parameters: list[Tensor]):
        self.parameters = parameters

    @abstractmethod
    def _apply(self, learning_rate: float) -> None:
        """Move every parameter that has a gradient."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """The state itself, by name."""

    def step(self, learning_rate: float) -> None:
        """Apply the gradients and clear them; a parameter without a gradient stays, and so does its state.

        Args:
            learning_rate: the step size, at least 0.
        """
        with torch.no_grad():
            self._apply(learning_rate)
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """A copy of the state, contiguous tensors by name."""
        return {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in self._tensors().items()}

    def unsound(self) -> list[Tensor]:
        """The parameters of which something is kept that is not finite."""
        kept = self._tensors().items()
        return [self.parameters[int(name.split(".")[0])] for name, value in kept if not torch.isfinite(value).all()]

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` gave.

        Raises:
            UsageError: a name is missing or foreign, or a shape is another.
        """
        own = self._tensors()
        wrong = sorted(
            own.keys() ^ state.keys() | {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}
        )
        if wrong:
            raise UsageError(
                f"this state belongs to another optimizer or model: {', '.join(wrong[:5])}",
                fix="continue with the optimizer and the networks the run was started with",
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])


def make(name: str, parameters: Iterable[Tensor], *, weight_decay: float = 0.0) -> Optimizer:
    """The optimizer of that name.

    adam: Kingma & Ba (2015), algorithm 1, a weight decay being added to the gradient. adamw: Loshchilov & Hutter
    (2019), algorithm 2. muon: Jordan et al. (2024) for the matrices, its step scaled to the size of Adam's (Liu et al.
    2025, eq. 4) so that one learning rate suits both, and adamw for everything else.

    Args:
        name: adam, adamw or muon.
        parameters: what is moved, on the device it will stay on; those that need no gradient are left out.
        weight_decay: at least 0.

    Raises:
        UsageError: there is none of that name, or this torch does not have it.
    """
    moved = [parameter for parameter in parameters if parameter.requires_grad]
    if not weight_decay >= 0:
        raise UsageError(f"weight_decay must be at least 0; got {weight_decay}")
    if name == "muon":
        return _muon(moved, weight_decay)
    if name not in NAMES:
        raise UsageError(f"there is no optimizer {name!r}", fix=f"use one of {', '.join(NAMES)}")
    decoupled = name == "adamw"
    kinds = {(parameter.device, parameter.dtype) for parameter in moved}
    if all(fused_is_available(device, dtype, decoupled=decoupled) for device, dtype in kinds):
        return _FusedAdam(moved, weight_decay, decoupled)
    stock = torch.optim.AdamW if decoupled else torch.optim.Adam
    return _Stock(moved, [stock(moved, betas=BETAS, eps=EPS, weight_decay=weight_decay)], [_ADAM] * len(moved))


def fused_is_available(device: torch.device, dtype: torch.dtype, *, decoupled: bool = False) -> bool:
    """Whether the fused kernel serves this device and type: it is private, so it is tried on a known answer.

    The first step of Adam from 0 with gradient 1 goes to -learning_rate, whatever the betas.
    """
    try:
        probe = torch.zeros(1, device=device, dtype=dtype)
        _fused([probe], [torch.ones_like(probe)], _fresh([probe]), 0.5, 0.0, decoupled)
        return abs(probe.item() + 0.5) < 1e-2
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False


class _FusedAdam(Optimizer):
    def __init__(self, parameters: list[Tensor], weight_decay: float, decoupled: bool):
        super().__init__(parameters)
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.kept = _fresh(parameters)

    def _apply(self, learning_rate: float) -> None:
        # The kernel takes tensors of one device and type, and counts on equal strides of all that belongs together.
        groups: dict[Any, list[int]] = defaultdict(list)
        for number, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                groups[parameter.device, parameter.dtype].append(number)
        for numbers in groups.values():
            parameters = [self.parameters[number] for number in numbers]
            kept = [[tensors[number] for number in numbers] for tensors in self.kept]
            _fused(
                parameters, [_grad_of(p) for p in parameters], kept, learning_rate, self.weight_decay, self.decoupled
            )

    def _tensors(self) -> dict[str, Tensor]:
        pairs = zip(_ADAM, self.kept, strict=True)
        return {f"{number}.{name}": value for name, values in pairs for number, value in enumerate(values)}


class _Stock(Optimizer):
    """One or more of torch.optim, each holding some of the parameters; `names` says what is kept of each."""

    def __init__(self, parameters: list[Tensor], stock: list[Any], names: list[tuple[str, ...]]):
        super().__init__(parameters)
        self.stock, self.names = stock, names
        homes = {id(p): optimizer for optimizer in stock for group in optimizer.param_groups for p in group["params"]}
        self.kept = [homes[id(parameter)].state[parameter] for parameter in parameters]
        # torch fills its state at the first step; filled beforehand, its names do not depend on what has happened.
        for parameter, kept, known in zip(parameters, self.kept, names, strict=True):
            kept.update({name: _zero(parameter, name) for name in known})

    def _apply(self, learning_rate: float) -> None:
        for optimizer in self.stock:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()

    def _tensors(self) -> dict[str, Tensor]:
        return {f"{i}.{name}": self.kept[i][name] for i, known in enumerate(self.names) for name in known}


def _muon(parameters: list[Tensor], weight_decay: float) -> Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise UsageError(f"torch {torch.__version__} has no Muon", fix="use --optimizer adamw, or torch 2.9 or newer")
    matrices = [p for p in parameters if p.dim() == 2]
    others = [p for p in parameters if p.dim() != 2]
    stock: list[Any] = []
    if matrices:
        stock.append(torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    if others:
        stock.append(torch.optim.AdamW(others, betas=BETAS, eps=EPS, weight_decay=weight_decay))
    return _Stock(parameters, stock, [("momentum_buffer",) if p.dim() == 2 else _ADAM for p in parameters])


def _fresh(parameters: list[Tensor]) -> list[list[Tensor]]:
    # The fused kernel wants its counter where the parameter is.
    return [[_zero(parameter, name, counter=parameter.device) for parameter in parameters] for name in _ADAM]


def _zero(parameter: Tensor, name: str, *, counter: Any = "cpu") -> Tensor:
    if name == "step":
        return torch.zeros((), dtype=torch.float32, device=counter)
    return torch.zeros_like(parameter, memory_format=torch.preserve_format, requires_grad=False)


def _grad_of(parameter: Tensor) -> Tensor:
    grad = parameter.grad
    assert grad is not None
    return grad if grad.stride() == parameter.stride() else torch.empty_like(parameter).copy_(grad)


def _fused(
    parameters: list[Tensor],
    grads: list[Tensor],
    kept: list[list[Tensor]],
    learning_rate: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    # Private to torch, hence the probe of `fused_is_available`; looked up by name, for it may be gone.
    function = getattr(torch, "_fused_adamw_" if decoupled else "_fused_adam_")
    steps, averages, squares = kept
    torch._foreach_add_(steps, 1)  # pyright: ignore[reportPrivateImportUsage]
    function(
        parameters, grads, averages, squares, [], steps,
        lr=learning_rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=weight_decay, eps=EPS,
        amsgrad=False, maximize=False,
    )  # fmt: skip
