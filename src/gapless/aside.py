"""What a new run replaces: it stands aside, with `.old` behind its name, until the new one is complete.

Two marks with one token say which folder a run has set aside: one in what stands aside, one in the run that replaces
it. Only what bears the token is removed or put back; a folder that somebody else named so is never touched.
"""

import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from gapless.errors import UsageError
from gapless.files import discard, locked, sync_folder, write_atomic

__all__ = [
    "MARKS", "aside_of", "forget", "has_predecessor", "in_place", "mark", "put_back", "refuse_in_the_way", "set_aside",
    "stands_aside",
]  # fmt: skip

_ASIDE, _REPLACES = ".set-aside", ".replaces"
MARKS = (_ASIDE, _REPLACES)


def aside_of(folder: Path) -> Path:
    """Where what is replaced stands."""
    named = folder if folder.name else Path(os.path.abspath(folder))  # "." has no name
    return named.parent / f"{named.name}.old"


def stands_aside(folder: Path) -> bool:
    """Whether something of this name was set aside, by whatever run."""
    return _token(aside_of(folder) / _ASIDE) is not None


def has_predecessor(folder: Path) -> bool:
    """Whether this folder's run has set something aside that still stands there."""
    return _pair(folder) is not None


def refuse_in_the_way(folder: Path) -> None:
    """Stop where something stands aside that no run of this folder has put there.

    Raises:
        UsageError: it would have to be removed.
    """
    old = aside_of(folder)
    if os.path.lexists(old) and not has_predecessor(folder):
        raise UsageError(
            "what is replaced is set aside there, and something stands there that this run did not put there",
            where=str(old),
            fix="move it away, or choose another -o",
        )


def set_aside(folder: Path, *, finished: bool) -> str:
    """Clear a folder's place: what is finished, or stands alone, is renamed; the unfinished successor of it goes.

    Args:
        folder: what is replaced.
        finished: whether it is complete.

    Returns:
        The token that `mark` writes into what comes in its place.

    Raises:
        UsageError: something else stands aside.
    """
    refuse_in_the_way(folder)
    token = _pair(folder)
    if token and not finished:
        discard(folder)
        return token
    forget(folder)
    token = secrets.token_hex(16)
    write_atomic(folder / _ASIDE, token.encode())
    folder.rename(aside_of(folder))
    sync_folder(folder.parent)
    return token


def mark(folder: Path, token: str) -> None:
    """Say in a new folder what it replaces."""
    write_atomic(folder / _REPLACES, token.encode())


def put_back(folder: Path, *, leftovers: Iterable[str]) -> None:
    """Undo `set_aside`, if there is something to undo: nothing was saved in its place.

    Args:
        folder: where nothing is, or a folder with nothing but leftovers.
        leftovers: names of files that are removed with it.

    Raises:
        UsageError: another process is about to write there.
    """
    if not stands_aside(folder):
        return
    with locked(aside_of(folder)):
        if folder.is_dir():
            for name in leftovers:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        aside_of(folder).rename(folder)
        sync_folder(folder.parent)
    in_place(folder)


def in_place(folder: Path) -> None:
    """It does not stand aside any more."""
    (folder / _ASIDE).unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Remove what this folder has replaced: it is complete."""
    if _token(folder / _REPLACES) is None:
        return
    old = aside_of(folder)
    if has_predecessor(folder):
        discard(old)
    shutil.rmtree(old.with_name(f".{old.name}.old.partial"), ignore_errors=True)  # of a removal that was killed
    (folder / _REPLACES).unlink()


def _pair(folder: Path) -> str | None:
    token = _token(folder / _REPLACES)
    return token if token and token == _token(aside_of(folder) / _ASIDE) else None


def _token(path: Path) -> str | None:
    if path.is_symlink() or not os.path.isfile(path):
        return None
    with path.open("rb") as file:
        return file.read(64).decode("ascii", "replace")
