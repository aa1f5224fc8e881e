"""The wishes of the user, checked before anything is read."""

from collections.abc import Mapping, Sequence
from typing import Any

from gapless.data.raw import Request
from gapless.data.scaling import NAMES
from gapless.errors import UsageError

__all__ = ["check_options", "known_categories", "names_of", "request_of"]


def request_of(
    *,
    array: str | None,
    label: str | None,
    drop: Sequence[str],
    resize: Sequence[int] | None,
    on_error: str,
    missing: str = "refuse",
) -> Request:
    """The wishes of the user, checked.

    Raises:
        UsageError: if one cannot be used.
    """
    _check_choice("on_error", on_error, ("stop", "skip"))
    _check_choice("missing", missing, ("refuse", "keep"))
    return Request(array, label, names_of(drop), _size(resize), on_error == "skip", missing == "keep")


def names_of(given: Sequence[str] | None) -> tuple[str, ...]:
    """Names of columns, however they were given."""
    return (given,) if isinstance(given, str) else tuple(given or ())


def known_categories(categories: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """For each column of text the names of its codes, where they are known."""
    return {column: tuple(names) for column, names in (categories or {}).items()}


def _check_choice(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{key} needs one of {', '.join(allowed)}; got {value!r}", where=key)


def check_options(options: dict[str, Any]) -> None:
    """Refuse what `read` cannot be told.

    Raises:
        UsageError: with the option.
    """
    _check_split(options["held_out"], options["seed"])
    _check_choice("scaling", options["scaling"], NAMES)
    if not isinstance(options["likelihood"], str) or not options["likelihood"]:
        raise UsageError(f"likelihood needs a name or 'auto'; got {options['likelihood']!r}", where="likelihood")
    _size(options["resize"])


def _check_split(held_out: Any, seed: Any) -> None:
    if isinstance(held_out, bool) or not isinstance(held_out, int | float) or not 0 < held_out < 1:
        what = f"held_out is a fraction inside (0, 1); got {held_out!r}"
        raise UsageError(what, where="held_out", fix="for instance 0.1: one item in ten")
    if not _whole(seed) or seed < 0:
        raise UsageError(f"seed is a whole number from 0; got {seed!r}", where="seed")


def _size(resize: Any) -> tuple[int, int] | None:
    if resize is None:
        return None
    pair = isinstance(resize, list | tuple) and len(resize) == 2
    if not pair or not all(_whole(v) and 1 <= v <= 65535 for v in resize):
        raise UsageError(f"resize needs (height, width) in pixels, 1 to 65535; got {resize}", where="resize")
    return (resize[0], resize[1])


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
