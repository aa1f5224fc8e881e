"""Files and folders that are there whole or not at all, with checksums, and one writer a folder."""

import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gapless.errors import DataError, StorageError, UsageError

__all__ = [
    "LOCK", "MANIFEST", "damages", "discard", "json_of", "locked", "make_folder", "manifest_of", "publish",
    "read_bounded", "sync_folder", "write_atomic", "write_json", "write_manifest", "writing",
]  # fmt: skip

MANIFEST = "manifest.json"
LOCK = ".lock"
SCHEMA = 1
_CHUNK = 1 << 20
_MANIFEST_LIMIT = 16 * 2**20
_DEEPEST = 100  # containers inside of each other; what we write has a dozen


@contextmanager
def writing(where: str | Path) -> Iterator[None]:
    """What goes wrong while writing becomes one sentence with the place and the cause.

    Raises:
        StorageError: the operating system refused; disk full, quota, no permission, input/output error.
    """
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise StorageError(f"cannot write: {cause}", where=str(where), fix=_fix(error)) from error


def _fix(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there and run the same command again: what was saved before is whole"
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter -o"
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
        return "choose an -o on a disk of this machine: this file system cannot lock, and one run has one writer"
    return "make the folder writable, or choose another -o, and run the same command again"


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        _write_durably(partial, content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)  # on a full disk the part would keep its room
        raise
    sync_folder(path.parent)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write plain data as JSON, atomically; a value that is not finite is an error of the caller."""
    write_atomic(path, json_bytes(values))


def json_bytes(values: dict[str, Any]) -> bytes:
    """Plain data as indented JSON; a value that is not finite is an error of the caller."""
    return (json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sync_folder(folder: Path) -> None:
    """Make what happened to a folder's names durable."""
    with suppress(OSError):  # some systems cannot sync a folder; the files themselves are synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> bool:
    """Make a folder and those above it, durably; False where it is there already."""
    if folder.is_dir():
        return False
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False  # another process was faster
    sync_folder(folder.parent)
    return True


def discard(path: Path) -> None:
    """Remove a file, a link or a folder; a kill meanwhile leaves no half folder under its name."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    trash = path.with_name(f".{path.name.removeprefix('.')}.old.partial")
    shutil.rmtree(trash, ignore_errors=True)  # of a removal that was killed
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def publish(folder: Path, contents: Mapping[str, bytes], *, kind: str) -> None:
    """Make a new folder of files with its manifest: written beside, synced, then renamed into place.

    Args:
        folder: where it goes; what stands there is replaced only once the new one is whole.
        contents: content by file name.
        kind: what the folder is, kept in the manifest.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        for name, content in contents.items():
            _write_durably(partial / name, content)
        sums = {name: _entry(hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()}
        _write_durably(partial / MANIFEST, json_bytes(_manifest(kind, sums, {})))
        sync_folder(partial)
        if folder.is_symlink() or folder.exists():  # damaged, or a leftover that nothing points to
            discard(folder)
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def write_manifest(folder: Path, names: list[str], *, kind: str, facts: dict[str, Any] | None = None) -> None:
    """Seal a folder: the checksum and size of every named file; written last, atomically.

    Args:
        folder: where the files lie.
        names: files in it.
        kind: what the folder is.
        facts: further plain data to keep, for instance whether training is complete.
    """
    sums = {name: _entry(sha256(folder / name), (folder / name).stat().st_size) for name in names}
    write_json(folder / MANIFEST, _manifest(kind, sums, facts or {}))


def _manifest(kind: str, sums: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    from gapless import __version__

    return {"schema": SCHEMA, "kind": kind, "gapless": __version__, **facts, "files": sums}


def _entry(digest: str, size: int) -> dict[str, Any]:
    return {"sha256": digest, "bytes": size}


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where there is none.

    Raises:
        DataError: it cannot be read or is none of ours.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    content = read_bounded(path, _MANIFEST_LIMIT)
    try:
        found = json_of(content)
    except ValueError as error:
        raise DataError(f"the manifest is not JSON: {error}", where=str(path)) from error
    if not _well_formed(found):
        raise DataError(
            f"no manifest of schema {SCHEMA}", where=str(path), fix="use the version of gapless that wrote it"
        )
    return found


def _well_formed(found: Any) -> bool:
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or not isinstance(found.get("files"), dict):
        return False
    names_stay_inside = all(name == Path(name).name and name not in ("", "..") for name in found["files"])
    return names_stay_inside and all(
        isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and isinstance(entry.get("bytes"), int)
        for entry in found["files"].values()
    )


def damages(folder: Path) -> list[str]:
    """What is wrong with a sealed folder, one sentence a file; [] where every file is as it was written."""
    try:
        manifest = manifest_of(folder)
    except DataError as error:
        return [f"{MANIFEST}: {error.what}"]
    if manifest is None:
        return [f"{MANIFEST}: missing"]
    found = (_damage(folder / name, entry) for name, entry in manifest["files"].items())
    return [damage for damage in found if damage]


def _damage(path: Path, entry: dict[str, Any]) -> str | None:
    if path.is_symlink() or not path.is_file():
        return f"{path.name}: {'a link' if path.is_symlink() else 'missing'}"
    try:
        if path.stat().st_size != entry["bytes"]:
            return f"{path.name}: {path.stat().st_size} bytes, {entry['bytes']} were written"
        if sha256(path) != entry["sha256"]:
            return f"{path.name}: its content changed (SHA-256 differs)"
    except OSError as error:
        return f"{path.name}: cannot be read: {error.strerror or error}"
    return None


def json_of(content: str | bytes) -> Any:
    """Plain data from JSON.

    Raises:
        ValueError: it is no JSON, or containers lie too deep inside of each other to be worked on.
    """
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = _containers([found])
    for _ in range(_DEEPEST):
        if not level:
            return found
        level = [
            inner for outer in level for inner in _containers(outer.values() if isinstance(outer, dict) else outer)
        ]
    raise ValueError("it is nested too deeply")


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


def read_bounded(path: Path, limit: int) -> bytes:
    """A small file's content.

    Raises:
        DataError: it is a link, no regular file, larger than `limit` bytes, or may not be read.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise DataError("this is no regular file", where=str(path), fix="copy the file itself there")
        size = path.stat().st_size
        if size > limit:
            raise DataError(f"{size} bytes are too many for such a file; the limit is {limit}", where=str(path))
        return path.read_bytes()
    except OSError as error:
        cause = error.strerror or str(error)
        raise DataError(f"this cannot be read: {cause}", where=str(path), fix="make it readable") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder; the kernel releases the lock when the process dies, however it dies.

    Raises:
        UsageError: another process holds it; the message says which.
        StorageError: it cannot be written, or its file system has no locks.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    with writing(folder):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        with writing(folder):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _held(folder, os.pread(descriptor, 4096, 0)) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _holder(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder() -> bytes:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    words = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    holder = {"process": os.getpid(), "host": socket.gethostname(), "since": since, "command": words[:1000]}
    return json.dumps(holder).encode()


def _held(folder: Path, content: bytes) -> UsageError:
    try:
        holder = json_of(content)
        who = f"process {holder['process']} on {holder['host']} since {holder['since']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return UsageError(
        f"somebody is writing here: {who}", where=str(folder), fix="wait until it ends, or choose another -o"
    )
