"""Weights cut over the processes: FSDP of the two networks, so that gradients and moments need a share of the memory.

The model itself stays whole and plain beside them; it is brought up to date where it is validated or saved, and so
nothing that is written depends on how it was trained. Heads and objectives are small and stay whole.
"""

import copy
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gapless import processes
from gapless.errors import UsageError
from gapless.model import Model
from gapless.settings import Settings

__all__ = ["NETWORKS", "Shards"]

NETWORKS = ("encoder", "decoder")


class Shards:
    """The networks of a model, cut over the processes.

    Args:
        model: the model; it stays whole.
        settings: how it is trained.

    Raises:
        UsageError: these settings need whole weights at every step.
    """

    def __init__(self, model: Model, settings: Settings):
        _refuse(settings)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # Said of every network whose output is a view; nobody changes it in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        device = next(model.parameters()).device.type
        self.mesh = init_device_mesh(device, (processes.size(),))
        self.networks: dict[str, Any] = {name: copy.deepcopy(getattr(model, name)) for name in NETWORKS}
        for network in self.networks.values():
            fully_shard(network, mesh=self.mesh)
        pairs = [
            (whole, cut)
            for name, network in self.networks.items()
            for whole, cut in zip(getattr(model, name).parameters(), network.parameters(), strict=True)
        ]
        self._cut: dict[int, Any] = {id(whole): cut for whole, cut in pairs}
        self._whole = [whole for whole, _ in pairs]

    def moved(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """What the optimizer moves for each parameter: this process's part of it, or all of a head's."""
        self._parameters = list(parameters)
        self._moved = [nn.Parameter(_local(self._cut[id(p)])) if id(p) in self._cut else p for p in self._parameters]
        return self._moved

    def reduce(self) -> None:
        """Hand the gradients to what is moved; FSDP has averaged its own, those of the heads are averaged here."""
        from torch import distributed

        for whole, moved in zip(self._parameters, self._moved, strict=True):
            cut = self._cut.get(id(whole))
            if cut is not None:
                moved.grad = None if cut.grad is None else cut.grad.to_local()
                cut.grad = None
            elif moved.grad is not None:
                distributed.all_reduce(moved.grad)
                moved.grad /= processes.size()

    def clip(self, largest: float) -> None:
        """`torch.nn.utils.clip_grad_norm_` for gradients that are cut."""
        from torch import distributed

        squares = torch.zeros(2, device=self._moved[0].device)
        for whole, moved in zip(self._parameters, self._moved, strict=True):
            if moved.grad is not None:
                squares[int(id(whole) not in self._cut)] += moved.grad.square().sum()
        distributed.all_reduce(squares[:1])
        share = (largest / (squares.sum().sqrt() + 1e-6)).clamp(max=1.0)
        for moved in self._moved:
            if moved.grad is not None:
                moved.grad *= share

    @torch.no_grad()
    def collect(self) -> None:
        """Bring the whole model up to date."""
        for whole in self._whole:
            whole.copy_(self._cut[id(whole)].full_tensor())

    @torch.no_grad()
    def distribute(self) -> None:
        """Take over what was loaded into the whole model."""
        for whole in self._whole:
            cut = self._cut[id(whole)]
            _local(cut).copy_(self._own(whole.detach(), cut))

    def whole(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The optimizer's state as one process would have it."""
        from torch.distributed.tensor import DTensor

        def joined(value: Tensor, cut: Any) -> Tensor:
            if cut is None or not value.dim():
                return value
            parts = DTensor.from_local(
                value, self.mesh, cut.placements, run_check=False, shape=cut.shape, stride=cut.stride()
            )
            return parts.full_tensor()

        # In one order on all processes: a loaded dictionary has any.
        return {name: joined(state[name], self._of(name)) for name in sorted(state)}

    def own(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of the optimizer's state."""
        cuts = {name: self._of(name) for name in state}
        return {
            name: value if cuts[name] is None or not value.dim() else self._own(value, cuts[name])
            for name, value in state.items()
        }

    def _of(self, name: str) -> Any:
        return self._cut.get(id(self._parameters[int(name.split(".")[0])]))

    def _own(self, value: Tensor, cut: Any) -> Tensor:
        from torch.distributed.tensor import distribute_tensor

        # Every process has read the whole checkpoint: nothing is sent.
        return distribute_tensor(value.to(cut.device), self.mesh, cut.placements, src_data_rank=None).to_local()


def _local(cut: Any) -> Tensor:
    with torch.no_grad():
        return cut.to_local().detach()


def _refuse(settings: Settings) -> None:
    refused = {"--ema": settings.ema is not None, "--optimizer muon": settings.optimizer == "muon"}
    for option, given in refused.items():
        if given:
            raise UsageError(f"{option} needs whole weights at every step", fix="leave it out, or leave --use_fsdp out")
