"""What a part is: a module whose constructor arguments, kept under their own names, are its whole configuration."""

import inspect
from types import ModuleType
from typing import Any

from torch import nn

from gapless.errors import UsageError

__all__ = ["Part", "build", "describe"]


class Part(nn.Module):
    """A network, head, prior or objective. Its constructor arguments are its configuration, as in scikit-learn.

    To add one: subclass the abstract class of its module, keep every constructor argument under its own name, write
    `forward`, and put the name in that module's `__all__`. Nothing else registers it.
    """

    @classmethod
    def argument_names(cls) -> tuple[str, ...]:
        """The constructor's argument names, in order."""
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return tuple(n for n, p in inspect.signature(cls).parameters.items() if p.kind not in variadic)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return {name: getattr(self, name) for name in self.argument_names()}

    def extra_repr(self) -> str:
        return ", ".join(
            f"{name}={value!r}" for name, value in self.arguments().items() if not isinstance(value, nn.Module)
        )


def describe(part: Part) -> dict[str, Any]:
    """A part as plain data, `{"kind": class name, **arguments}`, fit for JSON and for `build`.

    >>> from gapless import posteriors
    >>> describe(posteriors.PointMass())
    {'kind': 'PointMass'}
    """
    return {"kind": type(part).__name__, **{name: _plain(value) for name, value in part.arguments().items()}}


def build(description: Any, module: ModuleType, *inner: ModuleType) -> Any:
    """The part that `describe` described, looked up in the closed list `module.__all__` and nowhere else.

    Args:
        description: `{"kind": name, **arguments}`.
        module: one of networks, posteriors, priors, likelihoods, regularizers, objectives.
        inner: further modules whose parts may stand among the arguments, beside those of `module` itself.

    Raises:
        UsageError: the kind is not in the list, or an argument is unknown, missing or of the wrong kind.
    """
    where = module.__name__
    if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
        raise UsageError(f"a part is described as {{'kind': name, ...}}; got {_short(description)}", where=where)
    part = named(description["kind"], module)
    arguments = {name: _rebuild(value, (module, *inner)) for name, value in description.items() if name != "kind"}
    unknown = sorted(set(arguments) - set(part.argument_names()))
    if unknown:
        raise UsageError(
            f"{part.__name__} has no argument {', '.join(map(repr, unknown))}",
            where=where,
            fix=f"it takes {', '.join(part.argument_names()) or 'none'}",
        )
    try:
        return part(**arguments)
    except (TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise UsageError(f"{part.__name__} cannot be made from these arguments: {error}", where=where) from error


def named(kind: str, module: ModuleType) -> type[Part]:
    """The concrete part called `kind` in `module.__all__`.

    Raises:
        UsageError: there is none of that name; the message lists those there are.
    """
    known = concrete(module)
    if kind not in known:
        raise UsageError(
            f"there is no {_singular(module)} called {kind!r}",
            fix=f"use one of {', '.join(known)}",
        )
    return known[kind]


def _singular(module: ModuleType) -> str:
    return module.__name__.rsplit(".", 1)[-1].removesuffix("s")


def concrete(module: ModuleType) -> dict[str, type[Part]]:
    """The parts of a module that can be made: the classes in its `__all__` that are not abstract."""
    candidates = {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in candidates.items()
        if isinstance(value, type) and issubclass(value, Part) and not inspect.isabstract(value)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return describe(value)
    if isinstance(value, (tuple, list, nn.ModuleList)):
        return [_plain(item) for item in value]
    return value


def _rebuild(value: Any, modules: tuple[ModuleType, ...]) -> Any:
    if isinstance(value, dict):
        return build(value, _home(value.get("kind"), modules), *modules)
    if isinstance(value, list):
        return tuple(_rebuild(item, modules) for item in value)
    return value


def _home(kind: Any, modules: tuple[ModuleType, ...]) -> ModuleType:
    """The first of the modules that has a part of that kind, or the first of all, which refuses it."""
    having = [module for module in modules if isinstance(kind, str) and kind in concrete(module)]
    return (*having, modules[0])[0]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
