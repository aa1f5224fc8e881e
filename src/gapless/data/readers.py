"""Reading: any source to a dataset that is split, inspected and ready to be fed."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gapless.data import columnar, tars
from gapless.data.arrays import from_array, read_array, refuse_shape
from gapless.data.choice import choose
from gapless.data.covariates import standardised, taken
from gapless.data.dataset import Dataset, Items
from gapless.data.idx import holds_idx, is_idx, read_idx_file, read_idx_folder
from gapless.data.images import SUFFIXES, read_image_folder, read_image_zip
from gapless.data.inspection import refuse_unusable, survey
from gapless.data.numpy_files import read_npy, read_npz
from gapless.data.pieces import Pieces, from_raw
from gapless.data.raw import Raw, Request, printable
from gapless.data.requests import check_options, known_categories, names_of, request_of
from gapless.data.scaling import Scaling
from gapless.data.shards import holds_shards, read_shards
from gapless.data.shuffles import split
from gapless.data.sprites import read_sprites, sprite_factors
from gapless.data.tables import read_table
from gapless.errors import DataError, UsageError

__all__ = ["BUILT_IN", "Everything", "factors_of", "load_pieces", "read", "read_items"]

Reader = Callable[[Path, Request], Raw]

_BY_SUFFIX: dict[str, tuple[Reader, frozenset[str]]] = {
    ".npy": (read_npy, frozenset()),
    ".npz": (read_npz, frozenset({"array", "label"})),
    ".zip": (read_image_zip, frozenset({"resize"})),
    ".csv": (read_table, frozenset({"label", "drop"})),
    ".tsv": (read_table, frozenset({"label", "drop"})),
    **dict.fromkeys(columnar.SUFFIXES, (columnar.read_columnar, frozenset({"label", "drop", "resize"}))),
}
_CAN_READ = (
    "'digits', 'sprites', .npy, .npz, .csv, .tsv, .arrow, .feather, .parquet, .tar, idx and idx.gz files, a folder of "
    "them, a folder or .zip of images, a folder of shards or one saved by Hugging Face's datasets"
)


def read(
    source: Any,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    likelihood: str = "auto",
    scaling: str = "auto",
    array: str | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    resize: Sequence[int] | None = None,
    on_error: str = "stop",
    missing: str = "refuse",
    categories: Mapping[str, Sequence[str]] | None = None,
    covariates: Sequence[str] = (),
    covariate_scaling: Scaling | None = None,
    noise_scale: str = "shared",
) -> Dataset:
    """Read a source, split it, look at it, and choose the scaling and the likelihood that suit it.

    Args:
        source: "digits" (scikit-learn's, always; a file of that name is "./digits"), "sprites" (drawn from known
            factors), a path, an array or anything with `__array__`, or a pair (values, labels).
        held_out: fraction to hold out, inside (0, 1); not used where the source brings its own held-out part.
        seed: which split, from 0.
        likelihood: the name of a likelihood, kept as it is, or "auto".
        scaling: "none", "unit" (onto 0..1), "standard" (mean 0, standard deviation 1) or "auto".
        array: the member of an npz to learn from.
        label: the column of a table, the member of an npz, or the ending of files in a tar, that holds the classes.
        drop: columns of a table to leave out.
        resize: (height, width) to bring image files to.
        on_error: "stop" at an image file that cannot be read, or "skip" it and say so in the notes.
        missing: "refuse" values that are missing (NaN, empty cells, nulls), or "keep" them as not observed.
        categories: for columns of text whose categories are known, the names of their codes; others are found.
        covariates: columns of a table, or one-number-an-item members of an npz, that encoder and decoder are given.
        covariate_scaling: their raw units to those of a model that exists; by default that of the items to train on.
        noise_scale: of a likelihood that learns the scale of its noise: one that is "shared", or one a "feature".

    Returns:
        The dataset; `inspection.notes` has every decision taken.

    Raises:
        DataError: if the data cannot be read or learned from.
        UsageError: if an argument cannot be used.

    >>> read("digits").event_shape
    (1, 8, 8)
    """
    options = {
        "held_out": held_out,
        "seed": seed,
        "likelihood": likelihood,
        "scaling": scaling,
        "array": array,
        "label": label,
        "drop": [drop] if isinstance(drop, str) else list(drop),
        "resize": list(resize) if isinstance(resize, tuple) else resize,
        "on_error": on_error,
        "missing": missing,
    }
    given = names_of(covariates)
    options |= {"covariates": list(given)} if given else {}
    options |= {"noise_scale": noise_scale} if noise_scale != "shared" else {}
    check_options(options)
    request = request_of(array=array, label=label, drop=drop, resize=resize, on_error=on_error, missing=missing)
    raw, name = _load(source, replace(request, categories=known_categories(categories), covariates=given))
    return _dataset(raw, name, options, given, covariate_scaling)


@dataclass(frozen=True)
class Everything:
    """All items of a source in their order.

    Args:
        items: every item.
        columns: names of a table's columns, () for images.
        label_names: the classes.
        source: what was read, printable.
        categories: for each column the names of its codes, () where it holds numbers; () if all do.
    """

    items: Items
    columns: tuple[str, ...]
    label_names: tuple[str, ...]
    source: str
    categories: tuple[tuple[str, ...], ...] = ()


def read_items(
    source: Any,
    *,
    array: str | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    resize: Sequence[int] | None = None,
    on_error: str = "stop",
    missing: str = "refuse",
    categories: Mapping[str, Sequence[str]] | None = None,
    covariates: Sequence[str] | None = (),
    covariate_scaling: Scaling | None = None,
) -> Everything:
    """Read all items of a source, one or more, for a model that exists: no split, no choice of scaling.

    Args:
        source: as for `read`.
        array: as for `read`.
        label: as for `read`.
        drop: as for `read`.
        resize: as for `read`.
        on_error: as for `read`.
        missing: as for `read`.
        categories: for each column of text that the model was trained on, the names of its codes.
        covariates: as for `read`.
        covariate_scaling: their raw units to those of the model.

    Raises:
        DataError: if the data cannot be read or used.
        UsageError: if an argument cannot be used.
    """
    request = request_of(array=array, label=label, drop=drop, resize=resize, on_error=on_error, missing=missing)
    raw, name = _load(
        source, replace(request, categories=known_categories(categories), covariates=names_of(covariates))
    )
    refuse_shape(raw.values.shape, where=name)
    refuse_unusable(raw.values, columns=raw.columns, where=name, missing=request.keep_missing)
    everything = _items(raw, np.arange(len(raw.values)), covariate_scaling or Scaling())
    return Everything(everything, raw.columns, raw.label_names, name, raw.categories)


def _load(source: Any, request: Request) -> tuple[Raw, str]:
    raw, name = _loaded(source, request)
    return taken(raw, request.covariates, where=name), name


def _loaded(source: Any, request: Request) -> tuple[Raw, str]:
    if isinstance(source, str) and source in BUILT_IN:
        _refuse_options(request, frozenset(), source)
        return BUILT_IN[source](), source
    if isinstance(source, str | os.PathLike):
        return _load_path(source, request), printable(os.fspath(source))
    _refuse_options(request, frozenset(), "an array")
    if isinstance(source, tuple):
        if len(source) != 2:
            raise UsageError(f"a tuple needs (values, labels); it has {len(source)} parts")
        raw = read_array(*source)
    else:
        raw = read_array(source)
    return raw, f"array of shape {raw.values.shape}, {raw.values.dtype}"


def load_pieces(source: Any, request: Request) -> tuple[Pieces, str]:
    """A source in pieces, and its name; what has to be decoded is decoded piece by piece.

    Raises:
        DataError: if the data cannot be read.
        UsageError: if an argument cannot be used.
    """
    if isinstance(source, str | os.PathLike) and source not in BUILT_IN:
        path, name = Path(source), printable(os.fspath(source))
        with _told(path):
            reader, takes = _reader(path, name)
            _refuse_options(request, takes, name)
            return _BY_PIECES.get(reader, lambda *given: from_raw(reader(*given)))(path, request), name
    raw, name = _load(source, request)
    return from_raw(raw), name


_BY_PIECES: dict[Reader, Callable[[Path, Request], Pieces]] = {
    columnar.read_columnar: columnar.columnar_pieces,
    tars.read_tars: tars.tar_pieces,
}


def _read_digits() -> Raw:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = digits.images.astype(np.uint8)
    return from_array(images, digits.target, where="digits", full_scale=16.0)


BUILT_IN: dict[Any, Callable[[], Raw]] = {"digits": _read_digits, "sprites": read_sprites}
"""Data that needs no file."""
_FACTORS: dict[Any, Callable[[], dict[str, np.ndarray]]] = {"sprites": sprite_factors}


def factors_of(source: Any) -> dict[str, np.ndarray]:
    """What the items of a source were made from, where that is known: codes (n,) by name, in the order of the data.

    >>> list(factors_of("sprites")), factors_of("digits")
    (['shape', 'scale', 'orientation', 'x', 'y'], {})
    """
    return _FACTORS[source]() if isinstance(source, str) and source in _FACTORS else {}


def _load_path(source: Any, request: Request) -> Raw:
    path = Path(source)
    with _told(path):
        reader, takes = _reader(path, printable(os.fspath(source)))
        _refuse_options(request, takes, printable(str(path)))
        return reader(path, request)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the operating system raises, told as errors of the data."""
    where = printable(str(path))
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=where, fix="check the path") from error
    except MemoryError as error:
        fix = "save it as an uncompressed .npy, or write shards: they stay on disk"
        raise DataError("there is not enough memory for this data", where=where, fix=fix) from error


def _reader(path: Path, where: str) -> tuple[Reader, frozenset[str]]:
    if not where or "\0" in str(path):
        raise UsageError("a source needs a name", where=repr(where), fix=f"give {_CAN_READ}")
    if not path.exists():
        raise DataError("there is no such file or folder", where=where, fix=f"check the path; can be read: {_CAN_READ}")
    if path.is_dir():
        return _reader_of_folder(path)
    if not path.is_file():
        raise DataError("this is no regular file", where=where, fix="copy its content to a file first")
    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=where, fix="write the data again")
    return _reader_of_file(path, where)


def _reader_of_folder(path: Path) -> tuple[Reader, frozenset[str]]:
    if holds_shards(path):
        return read_shards, frozenset()
    if columnar.holds_columns(path):
        return columnar.read_columnar, frozenset({"label", "drop", "resize"})
    if tars.holds_tars(path):
        return tars.read_tars, frozenset({"label", "resize"})
    if holds_idx(path):
        return read_idx_folder, frozenset()
    return read_image_folder, frozenset({"resize"})


def _reader_of_file(path: Path, where: str) -> tuple[Reader, frozenset[str]]:
    if is_idx(path):
        return read_idx_file, frozenset()
    suffix = path.suffix.lower()
    if path.name.lower().endswith(tars.SUFFIXES):
        return tars.read_tars, frozenset({"label", "resize"})
    if suffix in SUFFIXES:
        raise DataError("one image is one item; many are needed", where=where, fix="give the folder it lies in")
    if suffix not in _BY_SUFFIX:
        what = (
            f"files with the ending {suffix!r} cannot be read" if suffix else "a file without an ending cannot be read"
        )
        raise DataError(what, where=where, fix=f"can be read: {_CAN_READ}")
    return _BY_SUFFIX[suffix]


def _refuse_options(request: Request, takes: frozenset[str], where: str) -> None:
    for key in ("array", "label", "drop", "resize"):
        if getattr(request, key) and key not in takes:
            raise UsageError(f"{key} has no meaning for this source", where=where, fix=f"leave {key} out")


def _dataset(
    raw: Raw, name: str, options: dict[str, Any], covariates: tuple[str, ...], covariate_scaling: Scaling | None
) -> Dataset:
    refuse_shape(raw.values.shape, where=name, least=2)
    refuse_unusable(raw.values, columns=raw.columns, where=name, missing=options["missing"] == "keep")
    train_index, held_index = _parts(raw, options["held_out"], options["seed"])
    train = survey(raw.values, train_index)
    choice = choose(
        raw,
        train_index,
        train=train,
        whole=train.merge(survey(raw.values, held_index)),
        likelihood=options["likelihood"],
        scaling=options["scaling"],
        where=name,
        missing=options["missing"] == "keep",
        noise_scale=options.get("noise_scale", "shared"),
    )
    beside = covariate_scaling or standardised(raw.covariates, train_index)
    return Dataset(
        source=name,
        kind=raw.kind,
        train=_items(raw, train_index, beside),
        held_out=_items(raw, held_index, beside),
        columns=raw.columns,
        label_names=raw.label_names,
        scaling=choice.scaling,
        likelihood=choice.likelihood,
        inspection=choice.inspection,
        options=options,
        arguments=choice.arguments,
        missing=options["missing"] == "keep",
        categories=raw.categories,
        covariates=covariates,
        covariate_scaling=beside,
    )


def _parts(raw: Raw, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    items = len(raw.values)
    if raw.train_items is None:
        return split(items, held_out=held_out, seed=seed)
    return np.arange(raw.train_items), np.arange(raw.train_items, items)


def _items(raw: Raw, index: np.ndarray, beside: Scaling) -> Items:
    labels, covariates = (None if known is None else known[index] for known in (raw.labels, raw.covariates))
    return Items(raw.values, labels, index, None if covariates is None else beside(covariates))
