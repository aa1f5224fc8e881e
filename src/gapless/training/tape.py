"""What torch did in one training step, as calls that do the same again into memory that stays where it is.

A call here is a call that was recorded: the same kernel on the same numbers in the same order, so the same bits. Left
out is what changes no number: views (their memory is where it was), results nobody reads or that never change, and
copies whose original is not needed otherwise.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Recorder", "Refused", "Tape"]

_aten = torch.ops.aten
_UNFILLED = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_BY_SHAPE = {"full", "full_like", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "zeros", "zeros_like"}
_REFUSED = {
    "_local_scalar_dense": "a number was read out of a tensor",
    "convolution": "convolutions bring their own memory, and nothing is gained",
}


LARGEST = 1 << 28
"""Bytes of all tensors of a step that are recorded at most; larger ones have little to gain."""
_SHORT = {"add", "addmm", "div", "exp", "log", "mean", "mm", "mul", "neg", "pow", "sigmoid", "sub", "sum", "tanh"}
"""What torch's own functions do sooner than the operations under them."""


class Refused(Exception):  # noqa: N818 - it is no error
    """This step cannot be played again; why."""


class Recorder(TorchDispatchMode):
    """Keeps every call, forward and backward, with all its tensors, so that no memory is used twice meanwhile.

    Under it a call raises `Refused` where what it does cannot be played, or too much was kept.

    >>> x = torch.zeros(2)
    >>> with Recorder() as recorder:
    ...     y = x.exp().sum()
    >>> [call.name for call in recorder.calls]
    ['exp', 'sum']
    """

    def __init__(self):
        super().__init__()
        self.calls: list[_Call] = []
        self._bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep it away, torch would import its compiler, 1.2 seconds and 75 MB."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        results = func(*args, **(kwargs or {}))
        call = _Call(func, args, kwargs or {}, results)
        self._bytes += sum(call.sizes[place] for place in call.made)
        if call.name not in _REFUSED and _sized_by_values(func, args):
            raise Refused(f"the size of what {call.name} gives depends on values")
        if call.name in _REFUSED or self._bytes > LARGEST:
            raise Refused(_REFUSED.get(call.name, f"it takes more than {LARGEST >> 20} MiB to record"))
        self.calls.append(call)
        return results


def _sized_by_values(func: Any, args: tuple) -> bool:
    """Whether the shape of the result may be another one for other numbers: that of `unique`, or of a mask's choice."""
    if {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output} & set(func.tags):
        return True
    chosen = args[1] if func.overloadpacket.__name__ in ("index", "index_put", "index_put_") else ()
    return any(place is not None and place.dtype in (torch.bool, torch.uint8) for place in chosen)


class Tape:
    """The calls of a recorded step, fit to be played.

    Args:
        calls: what was recorded.
        x: the batch it was recorded with; others of its shape are played.
        noise: the generator it was recorded with.
        wanted: tensors of the recorded step to be had after playing, in `results`; playing again overwrites them.

    Raises:
        Refused: it depends on something that is no tensor, or cannot be played.
    """

    def __init__(self, calls: list["_Call"], x: Tensor, noise: torch.Generator, wanted: list[Tensor]):
        for call in calls:
            call.refuse(noise)
        self.noise, self.input = torch.Generator(), torch.empty_like(x)
        self._fixed = _fixed(calls)
        self._inner = {place for call in calls for place in call.made} - self._fixed
        self._joined = _joined(calls, self._fixed)
        self._memory = {_place(x): self.input.untyped_storage()}
        kept = {self._home(_place(value)) for value in wanted}
        self.calls = self._program(self._needed(calls, kept), kept)
        self.results = [self._mapped(value) for value in wanted]

    @torch.no_grad()
    def play(self, x: Tensor, seed: int) -> None:
        """Do it again with another batch and other noise."""
        self.input.copy_(x)
        self.noise.manual_seed(seed)
        for call in self.calls:
            call()

    def _home(self, place: int) -> int:
        while place in self._joined:
            place = self._joined[place]
        return place

    def _needed(self, calls: list["_Call"], kept: set[int]) -> list["_Call"]:
        """Calls that make or change what is wanted, or what was there before the step (buffers of the model)."""
        read, needed = set(kept), []
        for call in reversed(calls):
            if call.idle or call.made & self._fixed or self._is_joined(call):
                continue
            targets = {self._home(place) for place in call.made | call.writes}
            if targets & read or call.writes - self._inner:
                needed.append(call)
                read |= {self._home(place) for place in call.reads}
        return needed[::-1]

    def _is_joined(self, call: "_Call") -> bool:
        """What it makes, or what it copies into, is the original itself."""
        results = call.writes if call.name == "copy_" else call.made
        return bool(results) and results <= self._joined.keys()

    def _program(self, calls: list["_Call"], kept: set[int]) -> list[Callable[[], Any]]:
        """The calls, on memory that is used again as soon as its last reader is done."""
        touched = [{self._home(place) for place in call.made | call.writes | call.reads} for call in calls]
        last = {place: number for number, places in enumerate(touched) for place in places}
        free: dict[int, list[Any]] = defaultdict(list)
        program: list[Callable[[], Any]] = []
        for number, call in enumerate(calls):
            ending = {place for place in touched[number] & self._inner - kept if last[place] == number}
            for place, size in call.sizes.items():
                home = self._home(place)
                if home in self._inner and home not in self._memory:
                    replaced = sorted(ending & self._overwritten(call))[:1]
                    ending -= set(replaced)
                    spare = [self._memory[place] for place in replaced if place in self._memory] or free[size]
                    self._memory[home] = spare.pop() if spare else torch.UntypedStorage(size)
            program += self._played(call)
            for place in ending:
                free[self._memory[place].nbytes()].append(self._memory[place])
        return program

    def _overwritten(self, call: "_Call") -> set[int]:
        """Places of arguments the result may lie in: what is done number by number reads each before it writes."""
        if torch.Tag.pointwise not in call.op.tags or len(call.results) != 1 or call.writes:
            return set()
        result, given = call.results[0], list(_tensors((call.arguments, call.options)))
        layout = (result.shape, result.stride())
        other = {self._home(_place(v)) for v in given if (v.shape, v.stride()) != layout or not _same_layout(v, result)}
        return {self._home(_place(value)) for value in given} - other

    def _played(self, call: "_Call") -> list[Callable[[], Any]]:
        arguments, options = self._mapped(call.arguments), self._mapped(call.options)
        if call.writes:
            return [partial(call.op, *arguments, **options)]
        results = [self._mapped(value) for value in call.results]
        found = _into(call.op)
        if found is None:
            return [partial(_copied, partial(call.op, *arguments, **options), results)]
        op, names, dropped = found
        options = {name: value for name, value in options.items() if name not in dropped}
        if call.name in _SHORT and not options and call.op is not _aten.sum.default:
            arguments = _without_numbers(call.name, arguments, results[0].dtype)
            return [partial(getattr(torch, call.name), *arguments, out=results[0])]
        return [partial(op, *arguments, **options, **dict(zip(names, results, strict=True)))]

    def _mapped(self, value: Any) -> Any:
        """The same with recorded tensors replaced by those of the tape."""
        if isinstance(value, Tensor):
            memory = self._memory.get(self._home(_place(value)))
            if memory is None:
                return value.detach()
            blank = torch.empty(0, dtype=value.dtype)
            return blank.set_(memory, value.storage_offset(), value.size(), value.stride())  # pyright: ignore
        if isinstance(value, torch.Generator):
            return self.noise
        if isinstance(value, dict):
            return {name: self._mapped(item) for name, item in value.items()}
        return type(value)(map(self._mapped, value)) if isinstance(value, list | tuple) else value


class _Call:
    """One call that was recorded; a place is the memory of a tensor, which several may share."""

    def __init__(self, op: Any, arguments: tuple, options: dict[str, Any], results: Any):
        self.op, self.arguments, self.options, self.name = op, arguments, options, op.overloadpacket.__name__
        self.results = list(_tensors(results))
        given = list(_tensors((arguments, options)))
        self.reads = {_place(value) for value in given}
        self.writes = {_place(value) for value in self._written()}
        self.made = {_place(value) for value in self.results} - self.reads
        self.sizes = {_place(value): value.untyped_storage().nbytes() for value in (*self.results, *given)}

    @property
    def idle(self) -> bool:
        """It fills no memory: a view, or memory for others to fill."""
        return not self.writes and (not self.made or self.name in _UNFILLED)

    def refuse(self, noise: torch.Generator) -> None:
        """Raise where its result is no function of tensors and of this generator."""
        source = self.options.get("generator")
        seeded = torch.Tag.nondeterministic_seeded in self.op.tags
        own = source is not None and _identity(source) == _identity(noise)
        if not own and (source is not None or seeded):
            raise Refused(f"{self.name} takes its noise elsewhere")

    def _written(self) -> Iterator[Tensor]:
        for number, argument in enumerate(self.op._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = self.arguments[number] if number < len(self.arguments) else self.options.get(argument.name)
                yield from _tensors(given)


def _identity(source: torch.Generator) -> int:
    return source._cdata  # torch wraps it anew for every call  # pyright: ignore[reportAttributeAccessIssue]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _place(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _fixed(calls: list[_Call]) -> set[int]:
    """Places made of nothing that changes, which nothing changes afterwards: they keep what was recorded."""
    written, fixed = {place for call in calls for place in call.writes}, set[int]()
    for call in calls:
        steady = call.name in _BY_SHAPE or (call.reads <= fixed and call.reads)
        if steady and not call.writes and "generator" not in call.options and not call.made & written:
            fixed |= call.made
    return fixed


def _joined(calls: list[_Call], fixed: set[int]) -> dict[int, int]:
    """Copies, and what they are copies of, where both can be one and the same memory."""
    writes = Counter(place for call in calls for place in call.writes)
    unfilled = {place for call in calls if call.name in _UNFILLED for place in call.made}
    inner, joined = {place for call in calls for place in call.made}, dict[int, int]()
    for call in calls:
        pair = _SAME.get(call.name, lambda call, fixed: None)(call, fixed)
        if pair is None:
            continue
        copy, original = pair
        fresh = (call.name != "copy_" or _place(copy) in unfilled) and writes[_place(copy)] == len(call.writes)
        if fresh and _place(original) in inner and not writes[_place(original)] and _same_layout(copy, original):
            joined[_place(copy)] = _place(original)
    return joined


def _same_layout(one: Tensor, other: Tensor) -> bool:
    sizes = [value.untyped_storage().nbytes() for value in (one, other)]
    return one.dtype == other.dtype and sizes[0] == sizes[1] and one.storage_offset() == other.storage_offset() == 0


def _copy(call: _Call, fixed: set[int]) -> tuple[Tensor, Tensor] | None:
    copy, original = call.arguments[:2]
    return (copy, original) if copy.shape == original.shape and copy.stride() == original.stride() else None


def _only_choice(call: _Call, fixed: set[int]) -> tuple[Tensor, Tensor] | None:
    """The gradient by x of x[:, 0] where the axis has length 1: the gradient itself."""
    gradient, sizes, axis, _ = call.arguments
    whole = sizes[axis] == 1 and gradient.is_contiguous() and call.results[0].is_contiguous()
    return (call.results[0], gradient) if whole else None


def _by_one(call: _Call, fixed: set[int]) -> tuple[Tensor, Tensor] | None:
    """x * 1, x / 1 and x ** 1."""
    if len(call.arguments) != 2 or call.options:
        return None
    value, by = call.arguments
    one = _place(by) in fixed and bool((by == 1).all()) if isinstance(by, Tensor) else by == 1
    result = call.results[0]
    return (result, value) if one and (result.shape, result.stride()) == (value.shape, value.stride()) else None


_SAME = {"copy_": _copy, "select_backward": _only_choice, "mul": _by_one, "div": _by_one, "pow": _by_one}


def _without_numbers(name: str, arguments: tuple, dtype: torch.dtype) -> list[Any]:
    """Numbers as tensors: torch makes one of each anyway, every time."""
    if name not in ("add", "sub", "mul", "div"):
        return list(arguments)
    return [torch.tensor(value, dtype=dtype) if isinstance(value, int | float) else value for value in arguments]


def _copied(call: Callable[[], Any], results: list[Tensor]) -> None:
    for result, value in zip(results, _tensors(call()), strict=True):
        result.copy_(value)


def _into(op: Any) -> tuple[Any, list[str], set[str]] | None:
    """The same operation into given memory, the names of its results, and the options it does not take."""
    mine = {argument.name: str(argument.type) for argument in op._schema.arguments}
    for name in op.overloadpacket.overloads():
        other = getattr(op.overloadpacket, name)
        outs = [argument.name for argument in other._schema.arguments if argument.is_out]
        its = {a.name: str(a.type) for a in other._schema.arguments if not a.is_out}
        dropped = mine.keys() - its.keys()
        same = all(mine.get(key) == kind for key, kind in its.items())
        if outs and same and dropped <= {"dtype", "layout", "device", "pin_memory"}:
            return other, outs, dropped
    return None
