"""What commands print and the files they write."""

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gapless.errors import UsageError

__all__ = ["cards_table", "held_out_table", "print_json", "say", "write_columns", "write_items", "write_raw"]

TITLES = {"ae": "AE", "kl-only": "KL only", "vae": "VAE", "ppca": "pPCA", "collapsed": "collapsed null"}


def print_json(values: dict[str, Any]) -> None:
    """One JSON object on the standard output; values that are not finite are null."""
    print(json.dumps(_finite(values), ensure_ascii=False, allow_nan=False))


def say(text: str) -> None:
    """A remark, on the standard error."""
    print(text, file=sys.stderr)


def held_out_table(held_out: dict[str, dict[str, Any]]) -> None:
    """The held-out values of some models, one row a model, on the standard output."""
    from rich.table import Table

    table = Table(title="held-out items, nats per item (lower reconstruction, higher ELBO is better)")
    for name in ("model", "reconstruction", "KL", "ELBO", "live latent features", "effective β", "KL per feature"):
        table.add_column(name, justify="left" if name in ("model", "KL per feature") else "right")
    for name, values in held_out.items():
        live, per_feature = values["live"], values["kl_per_feature"]
        table.add_row(
            TITLES.get(name, name),
            number(values["reconstruction"]),
            number(values["kl"]),
            number(values["elbo"], "-"),
            f"{sum(live)} of {len(live)} ({values['live_share']:.0%})",
            number(values["effective_beta"]),
            _features(per_feature, values["kl"]),
        )
    _console().print(table)


def cards_table(cards: dict[str, Any]) -> None:
    """The seven numbers of some scorecards with their 95 % intervals, one column a model, and the verdicts."""
    from rich.table import Table

    laws = list(dict.fromkeys(card.reference for card in cards.values()))
    table = Table(title=f"audit: 0 to 1, with 95 % intervals; codes drawn from {' or '.join(laws)}")
    table.add_column("number")
    for name in cards:
        table.add_column(TITLES.get(name, name), justify="right")
    for measure in next(iter(cards.values())).measures:
        table.add_row(measure.replace("_", "-"), *(_interval(card.measures[measure]) for card in cards.values()))
    table.add_row("sensitivity", *(_interval(card.sensitivity) for card in cards.values()))
    console = _console()
    console.print(table)
    for name, card in cards.items():
        console.print(f"{TITLES.get(name, name)}: {card.verdict}", highlight=False)


def _interval(measure: Any) -> str:
    if measure.value is None:
        return "n/a"
    return f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"


def _features(values: Sequence[float] | None, kl: float | None) -> str:
    if values is None:
        infinite = kl is None or not math.isfinite(kl)
        return "∞ (a point has no density)" if infinite else "does not split into features"
    ordered = sorted(values, reverse=True)
    return " ".join(number(value) for value in ordered[:4]) + (f" … {number(ordered[-1])}" if len(ordered) > 4 else "")


def _console() -> Any:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=160, highlight=False)


def number(value: float | None, sign: str = "") -> str:
    """A value in nats for reading; infinite where it is None."""
    if value is None or not math.isfinite(value):
        return f"{sign}∞"
    return f"{value:.1e}" if 0 < abs(value) < 0.005 else f"{value:.2f}"


def write_items(
    values: np.ndarray, output: Path | None, *, card: Any, as_json: bool, columns: int | None = None
) -> None:
    """Items in the units of the source: to a .npy, .csv or .png file, or as CSV to the standard output.

    Args:
        values: shape (n, *event), in model units.
        output: the file; its ending says the form. None prints CSV.
        card: the run's data card: scaling, kind and column names.
        as_json: print a JSON object with the path and shape, or with the values where there is no file.
        columns: pictures a row of a .png.
    """
    if output is not None and output.suffix.lower() == ".png":
        _save(output, lambda file: file.write(_contact_sheet(values, card, columns)))
        return _report_file(output, values.shape, as_json)
    raw = np.asarray(card.scaling.inverse(values), dtype=np.float32)
    return write_raw(raw, output, card=card, as_json=as_json)


def write_raw(
    raw: np.ndarray, output: Path | None, *, card: Any, as_json: bool, extra: dict[str, np.ndarray] | None = None
) -> None:
    """Items in raw units, where text is written with the names of categories.

    Args:
        raw: shape (n, *event).
        output: a .npy, .npz or .csv file; None prints CSV.
        card: the run's data card: the columns and their categories.
        as_json: print a JSON object with the path and shape, or with the values where there is no file.
        extra: further arrays of n rows.
    """
    names = list(card.columns) or [f"x{i}" for i in range(math.prod(raw.shape[1:]))]
    text = output is None or output.suffix.lower() == ".csv"
    return write_columns(card.named(raw) if text else raw, names, output, as_json=as_json, extra=extra)


def _contact_sheet(values: np.ndarray, card: Any, columns: int | None) -> bytes:
    from gapless.report.thumbnails import labelled, png, sheet, thumbnails, value_range

    low, high = value_range([values])
    if card.likelihood == "Bernoulli" or card.scaling.name == "unit":
        low, high = 0.0, 1.0
    pictures = thumbnails(values, kind=card.kind, low=low, high=high)
    picture = sheet(pictures, columns or math.ceil(math.sqrt(len(pictures))))
    return png(labelled(picture, card.columns) if card.columns else picture)


def write_columns(
    values: np.ndarray,
    names: Sequence[str],
    output: Path | None,
    *,
    as_json: bool,
    extra: dict[str, np.ndarray] | None = None,
) -> None:
    """An array as .npy, .npz or .csv, or as CSV to the standard output.

    Args:
        values: shape (n, ...); a CSV has one flattened row each.
        names: names of the CSV's columns.
        output: the file, or None.
        as_json: print a JSON object instead of a remark or a CSV.
        extra: further arrays of n rows: members of an .npz, further columns of a CSV.
    """
    extra = extra or {}
    if output is None and as_json:
        arrays = {"values": values, **extra}
        return print_json({"shape": list(values.shape), **{name: array.tolist() for name, array in arrays.items()}})
    if output is None:
        sys.stdout.write(_csv(values, names, extra))
        return None
    suffix = output.suffix.lower()
    writers = {
        ".npy": lambda file: np.save(file, values, allow_pickle=False),
        ".npz": lambda file: np.savez(file, allow_pickle=False, values=values, **extra),
        ".csv": lambda file: file.write(_csv(values, names, extra).encode("utf-8")),
    }
    if suffix not in writers:
        raise UsageError(
            f"cannot write a {suffix or 'file without an ending'}",
            where=str(output),
            fix=f"use {', '.join(writers)}, or .png for decoded items",
        )
    _save(output, writers[suffix])
    return _report_file(output, values.shape, as_json)


def _csv(values: np.ndarray, names: Sequence[str], extra: dict[str, np.ndarray]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    flat = [values.reshape(len(values), -1), *(array.reshape(len(array), -1) for array in extra.values())]
    header = list(names)
    for name, array in zip(extra, flat[1:], strict=True):
        header += [name] if array.shape[1] == 1 else [f"{name}_{i}" for i in range(array.shape[1])]
    writer.writerow(header)
    writer.writerows([*(cell for part in flat for cell in part[row].tolist())] for row in range(len(values)))
    return buffer.getvalue()


def _save(output: Path, write: Any) -> None:
    from gapless.files import write_atomic

    buffer = io.BytesIO()
    write(buffer)
    try:
        write_atomic(output, buffer.getvalue())
    except OSError as error:
        raise UsageError(f"cannot write: {error.strerror}", where=str(output), fix="choose another -o") from error


def _report_file(output: Path, shape: Sequence[int], as_json: bool) -> None:
    if as_json:
        print_json({"path": str(output), "shape": list(shape)})
    else:
        print(output)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
