"""A run folder: `config.json`, `model.safetensors`, `metrics.jsonl`, `environment.json`; no pickle."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import gapless
from gapless import aside, networks, objectives, regularizers
from gapless.data import Scaling
from gapless.data_card import DataCard
from gapless.errors import DataError, UsageError
from gapless.files import (
    MANIFEST,
    damages,
    json_of,
    read_bounded,
    write_atomic,
    write_json,
    write_manifest,
    writing,
)  # fmt: skip
from gapless.model import Model
from gapless.objectives import Objective
from gapless.parts import build, describe
from gapless.settings import Settings
from gapless.training import is_complete
from gapless.workplaces import CONFIG, ENVIRONMENT, METRICS, PLAN, STUDY, WEIGHTS, environment, replacing

__all__ = ["DataCard", "Run", "load", "load_run"]

SCHEMA = 1
CONFIG_LIMIT = 64 * 2**20
UNFINISHED = "run the command that began it again: it goes on where it stopped"


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
    def complete(self) -> bool:
        """Whether training ended as planned; a run that ran out of time is whole but can be taken up again."""
        losses = [line["held_out"]["loss"] for line in self.history]
        return is_complete(losses, self.settings, self.data.items[0])

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
        with replacing(Path(folder), force=force) as partial:
            self.write_into(partial)
        return Path(folder)

    def _state(self) -> dict[str, torch.Tensor]:
        """Weights and buffers of the model, and of the objective where it has any."""
        learned = {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        return {**self.model.state_dict(), **learned}

    def _load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        learned = {n.removeprefix("objective."): v for n, v in tensors.items() if n.startswith("objective.")}
        self.objective.load_state_dict(learned)
        self.model.load_state_dict({n: v for n, v in tensors.items() if not n.startswith("objective.")})

    def write_into(self, folder: Path) -> None:
        """Write the run's files into an existing folder, each atomically, the manifest that seals them last.

        Raises:
            StorageError: they could not be written.
        """
        from safetensors.torch import save

        with writing(folder):
            folder.mkdir(exist_ok=True)
            write_json(folder / CONFIG, self.to_dict())
            write_json(folder / ENVIRONMENT, environment())
            write_atomic(folder / METRICS, "".join(json.dumps(line) + "\n" for line in self.history).encode())
            tensors = {name: value.detach().cpu().contiguous() for name, value in self._state().items()}
            # One key of metadata: several are written in a random order, and equal runs shall be equal files.
            write_atomic(folder / WEIGHTS, save(tensors, metadata={"format": "gapless"}))
            sealed = [CONFIG, ENVIRONMENT, METRICS, WEIGHTS]
            write_manifest(folder, sealed, kind="run", facts={"complete": self.complete})


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
    _refuse_damaged(folder)
    try:
        model = Model.from_description(config["model"])
        run = Run(
            model=model,
            objective=build(config["objective"], objectives, regularizers, networks),
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
    _load_weights(run, folder / WEIGHTS)
    model.eval()
    return run


def _settings(values: dict[str, Any]) -> Settings:
    from pydantic import TypeAdapter

    return TypeAdapter(Settings).validate_json(json.dumps(values), strict=True)


def _refuse_damaged(folder: Path) -> None:
    if not (folder / MANIFEST).is_file():
        raise DataError("this run did not finish", where=str(folder), fix=UNFINISHED)
    found = damages(folder)
    if found:
        raise DataError(
            f"this run is damaged: {'; '.join(found)}",
            where=str(folder),
            fix="restore the folder from a copy, or train it again with --force",
        )


def _no_run(folder: Path) -> DataError:
    if (folder / STUDY).is_file():
        what, fix = f"no run here: there is no {CONFIG}", f"give one of its runs: {folder / 'vae'}"
    elif (folder / PLAN).is_file():
        what, fix = "this run did not finish", UNFINISHED
    elif aside.stands_aside(folder) and not folder.exists():
        what, fix = f"this run was being replaced and stands in {aside.aside_of(folder)}", UNFINISHED
    else:
        what, fix = f"no run here: there is no {CONFIG}", "give a folder written by `gapless train -o`"
    return DataError(what, where=str(folder), fix=fix)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise _no_run(folder)
    content = read_bounded(path, CONFIG_LIMIT)
    try:
        config = json_of(content)
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
    return [json_of(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def _load_weights(run: Run, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise DataError(f"the run has no {WEIGHTS}: it did not finish", where=str(path.parent), fix="train it again")
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"the weights cannot be read: {error}", where=str(path)) from error
    wanted = run._state()
    wrong = sorted(
        set(wanted) ^ set(tensors) | {k for k in wanted.keys() & tensors.keys() if wanted[k].shape != tensors[k].shape}
    )
    if wrong:
        raise DataError(f"the weights do not belong to this configuration: {', '.join(wrong[:5])}", where=str(path))
    bad = sorted(name for name, value in tensors.items() if not torch.isfinite(value).all())
    if bad:
        raise DataError(f"the weights are not finite: {', '.join(bad[:5])}", where=str(path))
    run._load_state(tensors)
