"""A run folder: `config.json`, `model.safetensors`, `metrics.jsonl`, `environment.json`; no pickle."""

import json
import math
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

import gapless
from gapless import objectives
from gapless.data import Dataset, Items, Scaling, read, read_items
from gapless.errors import DataError, GaplessError, UsageError
from gapless.files import sync_folder, write_atomic, write_json
from gapless.model import Model
from gapless.objectives import Objective
from gapless.parts import build, describe
from gapless.settings import Settings

__all__ = ["DataCard", "Run", "is_ours", "load", "load_run", "staged"]

SCHEMA = 1
CONFIG, WEIGHTS, METRICS, ENVIRONMENT = "config.json", "model.safetensors", "metrics.jsonl", "environment.json"
STUDY = "study.json"
CONFIG_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class DataCard:
    """What a run must know of its data: enough to read it again and to scale new items alike.

    Attributes:
        source: what was read.
        kind: "image" or "table".
        event_shape: shape of one item.
        likelihood: name of the likelihood.
        scaling: raw values -> model units.
        options: keyword arguments of `gapless.read` that give the same data again.
        columns: names of a table's columns.
        label_names: names of the classes.
        items: number of training and of held-out items.
        notes: what the inspection decided, in sentences.
    """

    source: str
    kind: str
    event_shape: tuple[int, ...]
    likelihood: str
    scaling: Scaling
    options: dict[str, Any]
    columns: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    items: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Dataset) -> "DataCard":
        """The card of a data set."""
        shared = {f.name: getattr(data, f.name) for f in fields(cls) if f.name not in ("items", "notes")}
        return cls(**shared, items=(len(data.train), len(data.held_out)), notes=data.inspection.notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {**plain, "scaling": self.scaling.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataCard":
        """The card that `to_dict` wrote."""
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**{**known, "scaling": Scaling.from_dict(values["scaling"])})

    def read(self) -> Dataset:
        """The data of the run, split as it was, read again from where it was.

        Raises:
            DataError: it is gone, or it no longer has the shape the model was trained on.
        """
        self._find()
        data = read(self.source, **self._options(tuple(self.options)))
        self._check(data.event_shape, data.columns, data.source)
        return data

    def _find(self) -> None:
        """The source is kept as it was given: a relative path holds in the folder it was given in."""
        if self.source != "digits" and not Path(self.source).exists():
            raise DataError(
                "the data this run was trained on is not here",
                where=str(Path(self.source).absolute()),
                fix="give the data as the second argument, or run this in the folder the run was trained from",
            )

    def read_like(self, source: Any) -> Dataset:
        """Other data, read and split with the same options but scaled as the training data was.

        Raises:
            DataError: it cannot be read, or has another shape or other columns than the model was trained on.
        """
        data = read(source, **self._options(tuple(self.options)))
        self._check(data.event_shape, data.columns, data.source)
        return replace(data, scaling=self.scaling)

    def read_items(self, source: Any) -> tuple[Items, tuple[str, ...]]:
        """All items of some data in their order, unsplit, read as the training data was, and the class names.

        Raises:
            DataError: they cannot be read, or have another shape or other columns than the model was trained on.
        """
        if source == self.source:
            self._find()
        wanted = ("array", "label", "drop", "resize", "on_error")
        try:
            part = read_items(source, **self._options(wanted))
        except GaplessError as error:  # new items need no classes: without the label column they may still be whole
            try:
                part = read_items(source, **self._options(("drop", "resize", "on_error")))
            except GaplessError:
                raise error from None
        self._check(part.items.event_shape, part.columns, part.source)
        return part.items, part.label_names

    def _options(self, names: Sequence[str]) -> dict[str, Any]:
        return {n: tuple(v) if isinstance(v := self.options.get(n), list) else v for n in names}

    def _check(self, event_shape: tuple[int, ...], columns: tuple[str, ...], where: str) -> None:
        if event_shape != self.event_shape:
            raise DataError(
                f"the model was trained on items of shape {self.event_shape}; these have {event_shape}",
                where=where,
                fix="give items of the same columns or image size",
            )
        if columns != self.columns:
            missing = [name for name in self.columns if name not in columns]
            how = f"missing: {', '.join(missing[:5])}" if missing else "their order differs"
            raise DataError(
                f"the model was trained on other columns; {how}",
                where=where,
                fix=f"give the columns {', '.join(self.columns[:12])}{' ...' if len(self.columns) > 12 else ''}",
            )


@dataclass
class Run:
    """A trained model with everything that made it.

    Attributes:
        model: the model, in evaluation mode.
        objective: what was minimised.
        recipe: name of the recipe.
        data: what is known of the data.
        settings: how it was trained.
        held_out: what was measured on the held-out items at the end, plain data in nats.
        history: one plain record an epoch.
    """

    model: Model
    objective: Objective
    recipe: str
    data: DataCard
    settings: Settings
    held_out: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def scaling(self) -> Scaling:
        """Raw values -> model units."""
        return self.data.scaling

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction, both in nats."""
        return float(getattr(self.objective, "effective_beta", math.nan))

    def to_dict(self) -> dict[str, Any]:
        """The content of config.json."""
        beta = self.effective_beta
        return {
            "schema": SCHEMA,
            "gapless": gapless.__version__,
            "recipe": self.recipe,
            "effective_beta": beta if math.isfinite(beta) else None,
            "model": self.model.describe(),
            "objective": describe(self.objective),
            "settings": self.settings.to_dict(),
            "data": self.data.to_dict(),
            "held_out": self.held_out,
        }

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the run folder: all of it or nothing.

        Args:
            folder: a new folder, or an earlier run with `force`.
            force: replace an earlier run.
        """
        with staged(Path(folder), force=force) as partial:
            self.write_into(partial)
        return Path(folder)

    def write_into(self, folder: Path) -> None:
        """Write the run's files into an existing folder, each atomically, the weights last."""
        from safetensors.torch import save

        folder.mkdir(exist_ok=True)
        write_json(folder / CONFIG, self.to_dict())
        write_json(folder / ENVIRONMENT, environment())
        write_atomic(folder / METRICS, "".join(json.dumps(line) + "\n" for line in self.history).encode())
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        write_atomic(folder / WEIGHTS, save(tensors, metadata={"format": "gapless", "schema": str(SCHEMA)}))


def load(folder: str | Path) -> Model:
    """The model of a run folder, in evaluation mode.

    Args:
        folder: what `gapless train -o` or `Run.save` wrote.

    Raises:
        DataError: the folder is not a whole run; the message names the file.
    """
    return load_run(folder).model


def load_run(folder: str | Path) -> Run:
    """A run folder with its model, objective, settings, scaling and history.

    Raises:
        DataError: the folder is not a whole run; the message names the file.
    """
    folder = Path(folder)
    config = _read_config(folder)
    try:
        model = Model.from_description(config["model"])
        run = Run(
            model=model,
            objective=build(config["objective"], objectives),
            recipe=str(config["recipe"]),
            data=DataCard.from_dict(config["data"]),
            settings=_settings(config["settings"]),
            held_out=config.get("held_out", {}),
            history=_read_metrics(folder / METRICS),
        )
    except (UsageError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"this configuration does not describe a run: {str(error).splitlines()[0]}", where=str(folder / CONFIG)
        ) from error
    _load_weights(model, folder / WEIGHTS)
    model.eval()
    return run


def _settings(values: dict[str, Any]) -> Settings:
    from pydantic import TypeAdapter

    return TypeAdapter(Settings).validate_json(json.dumps(values), strict=True)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        study = (folder / STUDY).is_file()
        fix = f"give one of its runs: {folder / 'vae'}" if study else "give a folder written by `gapless train -o`"
        raise DataError(f"no run here: there is no {CONFIG}", where=str(folder), fix=fix)
    if path.stat().st_size > CONFIG_LIMIT:
        raise DataError(f"a configuration of {path.stat().st_size} bytes is no configuration of ours", where=str(path))
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"the configuration is not JSON: {error}", where=str(path)) from error
    if not isinstance(config, dict) or config.get("schema") != SCHEMA:
        found = config.get("schema") if isinstance(config, dict) else type(config).__name__
        raise DataError(
            f"this version reads run folders of schema {SCHEMA}; found {found!r}",
            where=str(path),
            fix="use the version of gapless that wrote it",
        )
    return config


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def _load_weights(model: Model, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise DataError(f"the run has no {WEIGHTS}: it did not finish", where=str(path.parent), fix="train it again")
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"the weights cannot be read: {error}", where=str(path)) from error
    wanted = model.state_dict()
    wrong = sorted(
        set(wanted) ^ set(tensors) | {k for k in wanted.keys() & tensors.keys() if wanted[k].shape != tensors[k].shape}
    )
    if wrong:
        raise DataError(f"the weights do not belong to this configuration: {', '.join(wrong[:5])}", where=str(path))
    bad = sorted(name for name, value in tensors.items() if not torch.isfinite(value).all())
    if bad:
        raise DataError(f"the weights are not finite: {', '.join(bad[:5])}", where=str(path))
    model.load_state_dict(tensors)


def environment() -> dict[str, Any]:
    """What the numbers depend on besides the configuration: versions, machine kind, threads."""
    import numpy

    return {
        "gapless": gapless.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
    }


@contextmanager
def staged(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """A folder to write into that becomes `folder` when the block ends well; what was there stays until then.

    Args:
        folder: where the result goes.
        force: replace an earlier result of gapless. A folder that holds anything else is never replaced.

    Yields:
        The folder to write into, `folder` with `.partial` behind its name. After an error it stays if it holds
        metrics, for what they tell.

    Raises:
        UsageError: there is something at `folder` that may not be replaced, or it cannot be written.
    """
    folder = Path(folder)
    _check_target(folder, force)
    partial = folder.with_name(folder.name + ".partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.mkdir()
    except OSError as error:
        raise UsageError(f"cannot write here: {error.strerror}", where=str(folder), fix="choose another -o") from error
    try:
        yield partial
    except BaseException:
        if not any(partial.rglob(METRICS)):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    _replace(folder, partial)


def _check_target(folder: Path, force: bool) -> None:
    if not folder.exists():
        return
    ours = folder.is_dir() and (not any(folder.iterdir()) or is_ours(folder))
    if not ours:
        raise UsageError(
            "there is something here that gapless did not write", where=str(folder), fix="choose another -o"
        )
    if any(folder.iterdir()) and not force:
        raise UsageError(
            "there is a finished run here", where=str(folder), fix="choose another -o, or --force to replace it"
        )


def is_ours(folder: Path) -> bool:
    """Whether a folder is a run or a study of gapless."""
    return (folder / CONFIG).is_file() or (folder / STUDY).is_file()


def _replace(folder: Path, partial: Path) -> None:
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
        partial.replace(folder)
        shutil.rmtree(old)
    else:
        partial.replace(folder)
    sync_folder(folder.parent)
