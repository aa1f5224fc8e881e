"""What the commands that use a trained model do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gapless import runs
from gapless.cli.output import say, write_columns, write_items, write_raw
from gapless.conditions import classified, context_of, given, given_values, labelled
from gapless.data import Feed, Items
from gapless.errors import DataError, UsageError
from gapless.model import Model
from gapless.randomness import generator

__all__ = ["decode", "encode", "impute", "interpolate", "reconstruct", "sample"]

BATCH = 512


def sample(
    folder: Path,
    *,
    count: int,
    output: Path | None,
    seed: int,
    json: bool,
    label: str | None = None,
    values: tuple[str, ...] = (),
) -> None:
    """Decodes of draws from the prior."""
    if not 1 <= count <= 1_000_000:
        raise UsageError(f"--count takes 1 to 1,000,000; got {count}")
    if seed < 0:
        raise UsageError(f"--seed takes 0 or more; got {seed}")
    run = runs.load_run(folder)
    run.model = given_values(run, label, _numbers(values))
    codes = run.model.sample_codes(count, generator=generator(seed, "sample"))
    write_items(_decode(run, codes), output, card=run.data, as_json=json)


def encode(folder: Path, source: str | None, *, output: Path | None, json: bool) -> None:
    """Means and standard deviations of the codes of all items, in the order of the data."""
    run = runs.load_run(folder)
    items, label_names = _items(run, source)
    with torch.no_grad():
        posteriors = [model.encode(x) for model, x in _batches(run, items)]
    loc = torch.cat([posterior.mean for posterior in posteriors]).numpy()
    extra = {"scale": torch.cat([posterior.stddev for posterior in posteriors]).numpy()}
    extra |= _labels(items, label_names)
    if source is None:
        extra["part"] = _parts(run, len(loc))
    names = [f"z_{feature}" for feature in range(loc.shape[1])]
    write_columns(loc, names, output, as_json=json, extra=extra)


def decode(
    folder: Path,
    codes: Path,
    *,
    output: Path | None,
    json: bool,
    label: str | None = None,
    values: tuple[str, ...] = (),
) -> None:
    """Decodes of codes from a file."""
    run = runs.load_run(folder)
    run.model = given_values(run, label, _numbers(values))
    write_items(_decode(run, _read_codes(codes, run.model.latent)), output, card=run.data, as_json=json)


def reconstruct(folder: Path, source: str | None, *, output: Path | None, json: bool) -> None:
    """Decodes of the embeddings of all items, in the order of the data."""
    run = runs.load_run(folder)
    items, _ = _items(run, source)
    with torch.no_grad():
        values = [_decode(run, model.embed(x), model) for model, x in _batches(run, items)]
    write_items(np.concatenate(values), output, card=run.data, as_json=json)


def impute(folder: Path, source: str | None, *, samples: int, output: Path | None, seed: int, json: bool) -> None:
    """All items with the expected values in the place of those that are missing, in the order of the data."""
    from gapless.imputation import fill

    if seed < 0:
        raise UsageError(f"--seed takes 0 or more; got {seed}")
    run = runs.load_run(folder)
    items, label_names = _items(run, source, missing="keep")
    raw = items.take(np.arange(len(items)))
    missing = int(np.isnan(raw).sum()) if raw.dtype.kind == "f" else 0
    told = classified(run.model, run.objective, Feed(items, run.scaling)).items
    context = context_of(run.model, told, range(len(told)))
    filled = fill(run, raw, samples=samples, seed=seed, context=context)
    say(f"{missing} of {raw.size} values were missing" + ("" if missing else ": nothing to fill"))
    if missing:
        low, middle = np.quantile(filled.effective, [0.05, 0.5])
        say(f"effective draws of {samples}: {middle:.0f} (median), {low:.0f} (5 % of the items have fewer)")
    write_raw(filled.values, output, card=run.data, as_json=json, extra=_labels(items, label_names))


def interpolate(
    folder: Path, source: str | None, *, start: int, end: int, steps: int, output: Path | None, json: bool
) -> None:
    """Decodes of the straight line between the embeddings of two items."""
    if not 2 <= steps <= 10_000:
        raise UsageError(f"--steps takes 2 to 10,000; got {steps}")
    run = runs.load_run(folder)
    items, _ = _items(run, source)
    for name, position in (("--from", start), ("--to", end)):
        if not 0 <= position < len(items):
            raise UsageError(f"{name} takes 0 to {len(items) - 1}; got {position}")
    feed = classified(run.model, run.objective, Feed(items, run.scaling))
    first, last = feed.batch(torch.tensor([start, end]))
    model = given(run.model, feed.items, [start])  # of the class of the first, where that matters
    with torch.no_grad():
        begin, finish = model.embed(torch.stack([first, last]))
    codes = torch.lerp(begin, finish, torch.linspace(0, 1, steps)[:, None])
    write_items(_decode(run, codes, model), output, card=run.data, as_json=json, columns=steps)


def _numbers(texts: tuple[str, ...]) -> dict[str, float]:
    """`age=40` as a name and a number, each."""
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            name = ""
        if not name.strip() or not np.isfinite(found[name.strip()]):
            raise UsageError(f"--given takes NAME=NUMBER; got {text!r}", fix="for example --given age=40")
    return found


def _items(run: runs.Run, source: str | None, *, missing: str | None = None) -> tuple[Items, tuple[str, ...]]:
    items, names = run.data.read_items(run.data.source if source is None else source, missing=missing)
    # Codes of a conditional model's classes are those it was trained with, whatever classes these items have.
    return labelled(run, items, names), run.data.label_names if run.model.context else names


def _labels(items: Items, label_names: tuple[str, ...]) -> dict[str, np.ndarray]:
    if items.labels is None:
        return {}
    return {"label": np.array([*label_names, ""])[items.labels] if label_names else items.labels}  # -1: unknown


def _parts(run: runs.Run, items: int) -> np.ndarray:
    """Which items of the run's own data were trained on, and which held out: shape (n,)."""
    part = np.full(items, "train", dtype="U8")
    part[run.data.read().held_out.index] = "held-out"
    return part


def _batches(run: runs.Run, items: Items) -> Iterator[tuple[Model, Tensor]]:
    """Batches in model units, each with the model that is given the items' classes if it is conditional."""
    feed = classified(run.model, run.objective, Feed(items, run.scaling))
    for number, x in enumerate(feed.batches(BATCH)):
        yield given(run.model, feed.items, range(number * BATCH, number * BATCH + len(x))), x


@torch.no_grad()
def _decode(run: runs.Run, codes: Tensor, model: Model | None = None) -> np.ndarray:
    """Means, and of categories the most probable ones, in model units."""
    decoded, columns = [], list(run.data.categorical)
    for part in codes.split(BATCH):
        p = (model or run.model).decode(part)
        values = p.mean
        if columns:
            values = values.index_copy(1, torch.tensor(columns), p.mode[:, columns])
        decoded.append(values)
    return torch.cat(decoded).numpy()


def _read_codes(path: Path, latent: int) -> Tensor:
    """Codes of shape (n, latent) from a .npy, .npz or .csv file as `encode` writes it."""
    values = _code_array(path)
    if values.ndim != 2 or values.shape[1] != latent or not len(values):
        raise DataError(
            f"codes of this model have the shape (n, {latent}); got {values.shape}", where=str(path),
            fix="give one row a code, one column a latent feature",
        )  # fmt: skip
    if not np.isfinite(values).all():
        raise DataError("codes must be finite", where=f"{path}, row {int(np.argwhere(~np.isfinite(values))[0, 0])}")
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _code_array(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), fix="give a .npy, .npz or .csv file of codes")
    try:
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig") as file:
                header = file.readline().strip().split(",")
                wanted = [i for i, name in enumerate(header) if name.startswith("z_")]
                first = 1 if wanted else 0
            return np.loadtxt(
                path, delimiter=",", skiprows=first, usecols=wanted or None, ndmin=2, encoding="utf-8-sig"
            )
        loaded: Any = np.load(path, allow_pickle=False)
        return np.asarray(loaded["values"] if path.suffix.lower() == ".npz" else loaded, dtype=np.float64)
    except (ValueError, KeyError, TypeError, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"no codes can be read from this file: {str(error).splitlines()[0]}", where=str(path),
            fix="give a .npy, .npz or .csv file as `gapless encode` writes it",
        ) from error  # fmt: skip
