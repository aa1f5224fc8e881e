"""Training steps that are recorded once and played again: the same bits without autograd's bookkeeping.

A step of a small network is a hundred small operations, and half their time goes to finding out what to do next. The
second step is therefore recorded, the third is done both ways, and if loss, gradients and buffers agree in every bit,
all further ones are played. Where they do not, or where a step depends on something that is not a tensor (its number
but by `of_step`, a value read out, noise from elsewhere), nothing changes: every step is done the plain way.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from gapless import machine
from gapless.model import Model
from gapless.objectives import Objective, Terms
from gapless.randomness import generator, seed_of
from gapless.training.tape import Recorder, Refused, Tape

__all__ = ["Replay"]

_SEEDS, _FUNCTIONS = 256, 16


class Replay:
    """Gradients of an objective, played from a tape where that is proven to give the same bits.

    Args:
        model: the model, on a CPU.
        objective: what is minimised.
        seed: of the noise.
    """

    def __init__(self, model: Model, objective: Objective, seed: int):
        self.model, self.objective, self.seed = model, objective, seed
        self.why, self.proven = _why_not(model, objective), False
        self._parameters = [p for module in (model, objective) for p in module.parameters() if p.requires_grad]
        self._buffers = self._present()
        self._kind: Any = None
        self._seen, self._tape, self._number = False, None, None
        self._moved, self._extras, self._seeds = list[Tensor](), list[str](), dict[int, int]()

    @property
    def active(self) -> bool:
        """Whether steps are played."""
        return self.proven and not self.why

    def gradients(self, x: Tensor, step: int) -> Terms | None:
        """Terms of a batch without their graph, the gradients being where `backward` leaves them.

        Args:
            x: the batch, shape (batch, *event).
            step: optimizer steps taken so far.

        Returns:
            None where the step has to be done the plain way.
        """
        if self.why or not self._expected(x):
            return None
        if self._tape is None:
            return self._record(x, step)
        return self._play(x, step) if self.proven else self._prove(x, step)

    def _expected(self, x: Tensor) -> bool:
        """Whether it is a batch like the first, which is done the plain way: it should come quickly."""
        places = tuple(value.data_ptr() for value in self._values())
        modes = (self.model.training, self.objective.training, torch.is_grad_enabled())
        kind = (x.shape, x.stride(), x.dtype, modes, places)
        self._kind = self._kind or kind
        first, self._seen = not self._seen, True
        return not first and kind == self._kind and all(p.grad is None and p.requires_grad for p in self._parameters)

    def _values(self) -> Iterator[Tensor]:
        yield from self._parameters
        yield from self._buffers

    def _record(self, x: Tensor, step: int) -> Terms | None:
        """A plain step, recorded; of its number only functions can be had."""
        before = [value.clone() for value in self._buffers]
        noise = generator(self.seed, "noise", step)
        self._number = _Number(step)
        try:
            with Recorder() as recorder:
                terms = self._plain(x, self._number, noise)
            self._moved = [parameter for parameter in self._parameters if parameter.grad is not None]
            self._tape = Tape(recorder.calls, x, noise, [*_all(terms), *self._gradients()])
        except (Refused, RuntimeError, TypeError, IndexError, ValueError) as error:
            self.why = str(error) or type(error).__name__
            self._restore(before)
            self._clear()
            return None
        self._extras = list(terms.extras)
        return terms

    def _prove(self, x: Tensor, step: int) -> Terms:
        """A plain step, and the same from the tape: it serves from now on if all of it agrees in every bit."""
        before = [value.clone() for value in self._buffers]
        terms = self._plain(x, step, generator(self.seed, "noise", step))
        gradients = [parameter.grad for parameter in self._parameters]
        truth = [*_all(terms), *self._gradients(), *(value.clone() for value in self._buffers)]
        self._restore(before)
        try:
            played = self._play(x, step)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            self.why = f"the tape cannot be played: {error}"
        else:
            mine = [*_all(played), *self._gradients(), *self._buffers]
            kept = all(map(operator.is_, self._present(), self._buffers))  # changed in place, not replaced
            self.proven = kept and len(mine) == len(truth) and all(map(torch.equal, mine, truth))
            self.why = "" if self.proven else "the tape gives other bits"
        self._tape = self._tape if self.proven else None
        self._restore(truth[len(truth) - len(before) :])
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return terms

    def _plain(self, x: Tensor, step: int, noise: torch.Generator) -> Terms:
        terms = self.objective(self.model, x, step=step, generator=noise)
        terms.loss.backward()
        return _mapped(terms, torch.Tensor.detach)

    def _play(self, x: Tensor, step: int) -> Terms:
        tape, number = self._tape, self._number
        assert tape is not None
        assert number is not None
        number.fill(step)
        tape.play(x, self._seed(step))
        found = iter(tape.results)
        values = [next(found).clone() for _ in range(3 + len(self._extras))]  # the caller's own
        for parameter, gradient in zip(self._moved, found, strict=True):
            parameter.grad = gradient
        return Terms(*values[:3], extras=dict(zip(self._extras, values[3:], strict=True)))

    def _seed(self, step: int) -> int:
        """That of a step's noise; many are made at once, for one made between two steps costs 0.1 ms."""
        if step not in self._seeds:
            self._seeds = {n: seed_of(self.seed, "noise", n) for n in range(step, step + _SEEDS)}
        return self._seeds[step]

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _present(self) -> list[Tensor]:
        return [value for module in (self.model, self.objective) for value in module.buffers()]

    def _restore(self, values: list[Tensor]) -> None:
        for buffer, value in zip(self._buffers, values, strict=True):
            buffer.copy_(value)

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def _mapped(terms: Terms, change: Callable[[Tensor], Tensor]) -> Terms:
    loss, reconstruction, regularization, extras = terms
    return Terms(
        change(loss), change(reconstruction), change(regularization), {k: change(v) for k, v in extras.items()}
    )


def _all(terms: Terms) -> list[Tensor]:
    return [terms.loss, terms.reconstruction, terms.regularization, *terms.extras.values()]


def _why_not(model: Model, objective: Objective) -> str:
    """Why steps are not recorded at all; empty where they are."""
    modules = [*model.modules(), *objective.modules()]
    foreign = [type(module).__name__ for module in modules if type(module).__module__.split(".")[0] not in _KNOWN]
    if foreign:
        return f"{foreign[0]} is not of gapless: it may keep numbers outside of tensors"
    if any(value.device.type != "cpu" for module in (model, objective) for value in module.state_dict().values()):
        return "not on a CPU"
    return "" if machine.tuned() else "GAPLESS_TUNE=0 is set"


_KNOWN = ("gapless", "torch")


class _Number(int):
    """The number of a recorded step. Any use of it refuses, for a step that is played again cannot depend on it.

    But functions of it may be had: the value of each is in memory that is filled before every play.
    """

    def __init__(self, step: int):
        self.now, self.functions, self.values = int(step), list[Callable[[int], float]](), np.zeros(_FUNCTIONS)
        self.tensor = torch.from_numpy(self.values)  # of the same memory

    def kept(self, function: Callable[[int], float]) -> Tensor:
        """Its value, shape (), float64: now that of this step, later that of any that is played."""
        if len(self.functions) == _FUNCTIONS:
            raise Refused(f"it has more than {_FUNCTIONS} functions of the number of the step")
        self.functions.append(function)
        self.values[len(self.functions) - 1] = function(self.now)
        return self.tensor[len(self.functions) - 1]

    def fill(self, step: int) -> None:
        """Give all of them their values at a step."""
        for place, function in enumerate(self.functions):
            self.values[place] = function(step)

    def _refuse(self, *_: Any) -> NoReturn:
        raise Refused("it depends on the number of the step")


_USES = (
    "add sub mul truediv floordiv mod divmod pow radd rsub rmul rtruediv rfloordiv rmod rdivmod rpow lshift rshift and "
    "or xor rlshift rrshift rand ror rxor neg pos abs invert int float index bool complex round trunc floor ceil lt le "
    "eq ne gt ge hash str repr format"
)
for _name in _USES.split():
    setattr(_Number, f"__{_name}__", _Number._refuse)
