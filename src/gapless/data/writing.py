"""Writing: a source of any kind to shards, once."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gapless.data.readers import load_pieces
from gapless.data.requests import request_of
from gapless.data.shards import write_pieces

__all__ = ["write_shards"]


def write_shards(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    array: str | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    resize: Sequence[int] | None = None,
    on_error: str = "stop",
    missing: str = "refuse",
) -> dict[str, Any]:
    """Write any source that `read` takes as Arrow shards, which are mapped: for data that is slow to read or large.

    Image files, also those in tar files, Parquet files and folders of Hugging Face's `datasets`, are decoded once.
    The folder is there whole, with a manifest, or not at all; an interrupted writing starts again.

    Args:
        source: as for `read`.
        folder: where to; it must not be there.
        array: as for `read`.
        label: as for `read`.
        drop: as for `read`.
        resize: as for `read`.
        on_error: as for `read`.
        missing: as for `read`.

    Returns:
        The manifest: items, event shape, dtype, columns, and the name, items, bytes and sha256 of every shard.

    Raises:
        DataError: if the data cannot be read.
        UsageError: if an argument cannot be used, or the folder is there.
        MissingExtra: if pyarrow is not installed.
    """
    request = request_of(array=array, label=label, drop=drop, resize=resize, on_error=on_error, missing=missing)
    pieces, name = load_pieces(source, request)
    return write_pieces(pieces, Path(folder), source=name)
