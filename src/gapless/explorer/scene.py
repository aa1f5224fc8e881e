"""The scene: what the explorer's page shows, as plain data and named arrays; little endian, C order."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gapless
from gapless.conditions import given_label, labelled_data, of_label, refuse_covariates
from gapless.data import Dataset
from gapless.errors import DataError, UsageError
from gapless.explorer.items import Shown, quantised, shown_items
from gapless.explorer.ladder import Decoder, decoder_of
from gapless.explorer.panels import panel_of
from gapless.imputation import masked
from gapless.report.maps import TITLES
from gapless.runs import Run, load_run
from gapless.study import COMPARED
from gapless.workplaces import STUDY

__all__ = ["AUDITS", "MOST_PANELS", "Scene", "build", "load_runs", "open_data", "tell_paths"]

VERSION = 1
AUDITS = ("none", "quick", "default")
MOST_PANELS = 4
ITEMS = 10_000


@dataclass
class Scene:
    """What the page shows.

    Attributes:
        document: plain data, fit for JSON.
        blobs: arrays by name.
        decoders: one a panel; the server decodes with them.
    """

    document: dict[str, Any]
    blobs: dict[str, bytes]
    decoders: list[Decoder] = field(default_factory=list)

    @property
    def choices(self) -> list[str]:
        """Where each panel is decoded and why, one sentence a panel."""
        panels = self.document["panels"]
        return [f"{panel['title']}: {one.said}" for panel, one in zip(panels, self.decoders, strict=True)]

    def write(self, folder: Path) -> None:
        """scene.json and one file NAME.bin an array; for looking at and for the development of the page."""
        from gapless.files import write_json

        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "scene.json", self.document)
        for name, content in self.blobs.items():
            (folder / f"{name}.bin").write_bytes(content)


def load_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """The runs of some folders by a short name; a study of `compare` gives AE, KL-only and VAE.

    Raises:
        UsageError: none or more than four models.
        DataError: a folder is no whole run.
    """
    found = [path for folder in folders for path in _members(Path(folder))]
    if not 1 <= len(found) <= MOST_PANELS:
        raise UsageError(
            f"the explorer shows 1 to {MOST_PANELS} models; got {len(found)}", fix="give fewer run folders"
        )
    runs: dict[str, Run] = {}
    for path in found:
        runs[_name(path, runs)] = load_run(path)
    return runs


def tell_paths(scene: Scene, folders: Sequence[Path]) -> None:
    """Write into each panel where its run lies, as it was given: what "Copy as Python" loads."""
    found = [path for folder in folders for path in _members(Path(folder))]
    for panel, path in zip(scene.document["panels"], found, strict=True):
        panel["path"] = str(path)


def _members(folder: Path) -> list[Path]:
    if not (folder / STUDY).is_file():
        return [folder]
    return [folder / name for name in COMPARED if (folder / name).is_dir()]


def _name(path: Path, taken: Mapping[str, Any]) -> str:
    """A name of letters, digits and dashes that no other panel has: it goes into addresses."""
    plain = re.sub(r"[^a-z0-9]+", "-", path.resolve().name.lower()).strip("-")[:40] or "run"
    number = 1
    while (name := plain if number == 1 else f"{plain}-{number}") in taken:
        number += 1
    return name


def open_data(runs: Mapping[str, Run], source: str | None) -> Dataset:
    """The data the runs were trained on, or other data read alike.

    Raises:
        DataError: it cannot be read, or does not fit the models.
        UsageError: the runs were trained on data of different shape or scaling.
    """
    cards = [run.data for run in runs.values()]
    first = cards[0]
    for card in cards[1:]:
        if (card.event_shape, card.columns, card.scaling) != (first.event_shape, first.columns, first.scaling):
            raise UsageError(
                f"models side by side need one kind of item: {first.source} and {card.source} differ in shape, "
                "columns or scaling",
                fix="explore them one by one",
            )
    return first.read() if source is None else first.read_like(source)


def labelled_runs(runs: Mapping[str, Run], data: Dataset, label: str | None) -> tuple[dict[str, Run], Dataset]:
    """The runs with one label bound to those that are conditional, and the items of that label alone.

    Args:
        runs: by name.
        data: what is shown.
        label: a class; None where no run is conditional.

    Raises:
        UsageError: a conditional run without a label, or a label that no run has a use for.
        DataError: no item has that label.
    """
    for run in runs.values():
        refuse_covariates(run.data.covariates, "the explorer shows")
    conditional = [run for run in runs.values() if run.model.context]
    if not conditional and label is None:
        return dict(runs), data
    given = {
        name: replace(run, model=given_label(run.model, run.data.label_names, label))
        for name, run in runs.items()
        if run.model.context or not conditional
    }
    return {name: given.get(name, run) for name, run in runs.items()}, of_label(
        labelled_data(conditional[0], data), str(label)
    )


def build(
    runs: Mapping[str, Run],
    data: Dataset,
    *,
    label: str | None = None,
    items: int = ITEMS,
    audit: str = "quick",
    new: bool = False,
    static: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Scene:
    """The scene of one to four models on one data set.

    Args:
        runs: models by name, letters, digits and dashes.
        data: what is shown; what is missing of it is shown as the first model expects it.
        label: the class that conditional models are given; items of that class alone are shown.
        items: at most so many of it, held-out ones first.
        audit: none, quick or default.
        new: whether the models have seen none of the data.
        static: whether the page must do without a server.
        seed: of everything drawn.
        tell: gets remarks on what is being done.

    Raises:
        UsageError: an unknown audit or a number of items out of range.
        DataError: values that are not finite.
    """
    if audit not in AUDITS:
        raise UsageError(f"--audit takes {', '.join(AUDITS)}; got {audit!r}")
    runs, data = labelled_runs(runs, data, label)
    shown = shown_items(data, limit=items, new=new, seed=seed)
    scene = Scene(_about(shown), {})
    missing = _add_items(scene, shown, next(iter(runs.values()), None))
    if missing:
        audit = "none"
        tell(
            f"{missing:,} values are missing: shown is what the first model expects in their place, and there is no "
            "audit, which compares whole items"
        )
    if label is not None:
        tell(f"conditional models are given the label {label}; items of that label alone are shown")
    several = len(runs) > 1
    if not all(re.fullmatch(r"[a-z0-9-]{1,60}", name) for name in runs) or not 1 <= len(runs) <= MOST_PANELS:
        raise UsageError(f"1 to {MOST_PANELS} models need names of small letters, digits and dashes; got {list(runs)}")
    for name, run in runs.items():
        title = _title(name, run, runs) + (f" ({label})" if run.model.context else "")
        tell(f"{title}: encoding {len(shown):,} items" + ("" if audit == "none" else f", {audit} audit"))
        panel = panel_of(
            name, title, run, shown, audit=audit, reference="moments" if several else "declared", seed=seed
        )
        decoder = decoder_of(name, run.model, panel.planes[0], display=shown.display(), kind=data.kind, static=static)
        panel.document["decoder"] = decoder.document
        scene.document["panels"].append(panel.document)
        scene.blobs |= panel.blobs | decoder.blobs
        scene.decoders.append(decoder)
    return scene


def _title(name: str, run: Run, runs: Mapping[str, Run]) -> str:
    alone = sum(other.recipe == run.recipe for other in runs.values()) == 1
    return TITLES.get(run.recipe, run.recipe) if alone else name


def _about(shown: Shown) -> dict[str, Any]:
    data = shown.data
    low, high = shown.display()
    return {
        "version": VERSION,
        "gapless": gapless.__version__,
        "title": Path(data.source).stem or data.source,
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "kind": data.kind,
        "event_shape": list(data.event_shape),
        "columns": list(data.columns) if data.kind != "image" else [],
        "columns_range": [],
        "scaling": {"shift": list(data.scaling.shift), "scale": list(data.scaling.scale)},
        "display": {"low": low, "high": high},
        "label_names": list(data.label_names),
        "items": {"count": len(shown), "labels": None, "values": "items.values", "held_out": "items.held_out"},
        "panels": [],
    }


def _add_items(scene: Scene, shown: Shown, run: Run | None) -> int:
    """Values as the page reads them: bytes for images, model units for tables; in pieces, never all as floats.

    Values that were not observed are the mean of p(x|z) at the item's code; gives back how many there are.
    """
    import numpy as np

    low, high = shown.display()
    image = shown.data.kind == "image"
    pieces, least, most, missing = [], [], [], 0
    for x in shown.feed.batches(4096):
        gaps = int(x.isnan().sum()) if shown.data.missing else 0
        missing += gaps
        values = (x if run is None or not gaps else _expected(run, x)).numpy()
        if not np.isfinite(values).all():
            raise DataError("the items are not all finite", where=shown.data.source, fix="remove or repair them")
        pieces.append((quantised(values, low, high) if image else values.astype("<f4")).tobytes())
        least.append(values.min(0))
        most.append(values.max(0))
    if not image:
        ends = shown.data.scaling.inverse(np.stack([np.min(least, 0), np.max(most, 0)]))
        scene.document["columns_range"] = ends.T.tolist()
    scene.blobs["items.values"] = b"".join(pieces)
    scene.blobs["items.held_out"] = shown.held_out.astype(np.uint8).tobytes()
    labels = shown.labels()
    if labels is not None:
        scene.blobs["items.labels"] = labels
        scene.document["items"]["labels"] = "items.labels"
    return missing


@torch.no_grad()
def _expected(run: Run, x: Tensor) -> Tensor:
    """The items with the model's reconstruction where nothing was observed."""
    return torch.where(x.isnan(), masked(run.model).reconstruct(x), x)


def main(arguments: Sequence[str]) -> None:
    """`python -m gapless.explorer.scene RUN ... FOLDER` writes the scene of some runs to a folder."""
    *folders, target = (Path(word) for word in arguments)
    runs = load_runs(folders)
    scene = build(runs, open_data(runs, None), tell=print)
    scene.write(target)
    print("\n".join(scene.choices))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
