"""What a run must know of its data: enough to read it again and to scale new items alike."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gapless.data import BUILT_IN, Dataset, Items, Scaling, read, read_items
from gapless.errors import DataError, GaplessError

__all__ = ["DataCard"]


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
        if self.source not in BUILT_IN and not Path(self.source).exists():
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
