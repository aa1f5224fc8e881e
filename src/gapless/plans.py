"""The plan of a run or a study: everything its result depends on but the machine, kept in its folder as JSON."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from gapless.errors import DataError
from gapless.files import json_of, read_bounded

__all__ = ["differences", "identity_of", "read_plan"]

_LIMIT = 64 * 2**20


def identity_of(plan: dict[str, Any]) -> str:
    """The hexadecimal digest that stands for a plan."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def read_plan(path: Path) -> dict[str, Any] | None:
    """The plan in a file; None where there is no file.

    Raises:
        DataError: it cannot be read.
    """
    if not os.path.lexists(path):
        return None
    content = read_bounded(path, _LIMIT)
    try:
        plan = json_of(content)
        if not isinstance(plan, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise DataError(
            f"the plan of this run is not JSON: {error}", where=str(path), fix="make it again with --force"
        ) from error
    return plan


def differences(known: Any, asked: Any, name: str = "") -> list[str]:
    """What differs between two plans, one sentence a value."""
    if isinstance(known, dict) and isinstance(asked, dict):
        keys = [*known, *(key for key in asked if key not in known)]
        parts = (differences(known.get(k), asked.get(k), f"{name}.{k}" if name else k) for k in keys)
        return [line for part in parts for line in part]
    if known == asked:
        return []
    return [f"{name} was {_short(known)}, is now {_short(asked)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
