"""What a run must know of its data: enough to read it again and to scale new items alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from gapless.data import BUILT_IN, Dataset, Everything, Items, Scaling, read, read_items
from gapless.errors import DataError, GaplessError

__all__ = ["DataCard"]

_TOGETHER = 4096


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
        arguments: what the likelihood was told of the data.
        missing: whether values that are not a number were not observed.
        categories: for each column the names of its codes, () where it holds numbers; () if all do.
        covariates: names of the numbers that are given beside each item.
        covariate_scaling: their raw units -> what the model is given.
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
    arguments: dict[str, Any] = field(default_factory=dict)
    missing: bool = False
    categories: tuple[tuple[str, ...], ...] = ()
    covariates: tuple[str, ...] = ()
    covariate_scaling: Scaling = field(default_factory=Scaling)

    @classmethod
    def of(cls, data: Dataset) -> "DataCard":
        """The card of a data set."""
        shared = {f.name: getattr(data, f.name) for f in fields(cls) if f.name not in ("items", "notes")}
        return cls(**shared, items=(len(data.train), len(data.held_out)), notes=data.inspection.notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        card = {**plain, "scaling": self.scaling.to_dict(), "categories": [list(names) for names in self.categories]}
        beside = {"covariates": card.pop("covariates"), "covariate_scaling": self.covariate_scaling.to_dict()}
        del card["covariate_scaling"]
        return card | beside if self.covariates else card

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataCard":
        """The card that `to_dict` wrote."""
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        known["categories"] = tuple(tuple(names) for names in values.get("categories", ()))
        scalings = {
            name: Scaling.from_dict(values[name]) for name in ("scaling", "covariate_scaling") if name in values
        }
        return cls(**{**known, **scalings})

    @property
    def categorical(self) -> tuple[int, ...]:
        """Columns whose values are codes of categories: their mean has no meaning, their most likely value has."""
        if self.likelihood == "Categorical" and self.kind == "table":
            return tuple(range(len(self.columns)))
        heads = self.arguments.get("columns", ())
        return tuple(column for column, head in enumerate(heads) if head["kind"] == "Categorical")

    def named(self, values: np.ndarray) -> np.ndarray:
        """Raw values of a table with the names of categories for their codes.

        Args:
            values: shape (n, columns), raw units.

        Returns:
            The same array where no column is text, else an array of objects; what is missing stays NaN.
        """
        if not any(self.categories):
            return values
        cells = values.astype(object)
        for column, names in enumerate(self.categories):
            for row in np.flatnonzero(~np.isnan(values[:, column])) if names else ():
                cells[row, column] = names[int(values[row, column])]
        return cells

    def check_classes(self, values: np.ndarray, *, where: str | None = None) -> None:
        """Refuse values that are the number of no class of a categorical feature.

        Args:
            values: raw units, shape (n, *event); what is missing is not a number.
            where: their source, for the message.

        Raises:
            DataError: with the first of them.
        """
        for at, classes in self._classes:
            codes = values.astype(np.float64)[:, at]  # which are not scaled
            wrong = ~np.isnan(codes) & ((codes < 0) | (codes > classes - 1) | (codes != np.floor(codes)))
            if wrong.any():
                column = f"column {self.columns[at]!r}" if isinstance(at, int) and self.columns else "a value"
                raise DataError(
                    f"{column} is one of the classes 0 to {classes - 1} that the model was trained with; here is "
                    f"{codes[wrong][0]:g}",
                    where=where,
                    fix="leave those items out, or train again on data in which every class occurs",
                )

    @property
    def _classes(self) -> list[tuple[Any, int]]:
        """Where there are numbers of classes, and how many classes: all features at once where they are alike."""
        if self.likelihood == "Categorical":
            return [(slice(None), self.arguments["classes"])]
        heads = enumerate(self.arguments.get("columns", ()))
        return [(column, head.get("classes", 2)) for column, head in heads if head["kind"] == "Categorical"]

    def read(self) -> Dataset:
        """The data of the run, split as it was, read again from where it was.

        Raises:
            DataError: it is gone, or it no longer has the shape the model was trained on.
        """
        self._find()
        data = read(self.source, **self._options(tuple(self.options)))
        self._check(data)
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
        options = self._options(tuple(self.options))
        data = read(source, **options, categories=self._known, covariate_scaling=self._beside)
        self._check(data)
        for part in (data.train, data.held_out):
            self._check_codes(part, data.source)
        return replace(data, scaling=self.scaling, arguments=self.arguments)

    def read_items(self, source: Any, *, missing: str | None = None) -> tuple[Items, tuple[str, ...]]:
        """All items of some data in their order, unsplit, read as the training data was, and the class names.

        Args:
            source: a file or folder, or arrays.
            missing: "refuse" or "keep"; as the training data was read when None.

        Raises:
            DataError: they cannot be read, or have another shape or other columns than the model was trained on.
        """
        if isinstance(source, str) and source == self.source:
            self._find()
        asked: dict[str, Any] = {"missing": missing or self.options.get("missing", "refuse"), "categories": self._known}
        asked |= {"covariates": self.covariates, "covariate_scaling": self._beside}
        wanted = ("array", "label", "drop", "resize", "on_error")
        try:
            part = read_items(source, **self._options(wanted), **asked)
        except GaplessError as error:  # new items need no classes: without the label column they may still be whole
            try:
                part = read_items(source, **self._options(("drop", "resize", "on_error")), **asked)
            except GaplessError:
                raise error from None
        self._check(part)
        self._check_codes(part.items, part.source)
        return part.items, part.label_names

    def _check_codes(self, items: Items, where: str) -> None:
        for start in range(0, len(items), _TOGETHER) if self._classes else ():
            self.check_classes(items.take(range(start, min(start + _TOGETHER, len(items)))), where=where)

    @property
    def _known(self) -> dict[str, tuple[str, ...]]:
        return {column: names for column, names in zip(self.columns, self.categories, strict=False) if names}

    @property
    def _beside(self) -> Scaling | None:
        return self.covariate_scaling if self.covariates else None

    def _options(self, names: Sequence[str]) -> dict[str, Any]:
        return {n: tuple(v) if isinstance(v := self.options.get(n), list) else v for n in names}

    def _check(self, data: Dataset | Everything) -> None:
        event_shape = data.event_shape if isinstance(data, Dataset) else data.items.event_shape
        columns, where = data.columns, data.source
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
        if data.categories != self.categories:
            theirs, mine = (known or ((),) * len(columns) for known in (data.categories, self.categories))
            other = [name for name, *both in zip(columns, theirs, mine, strict=True) if both[0] != both[1]]
            raise DataError(
                f"the model was trained on other categories in the column {', '.join(other[:5])}",
                where=where,
                fix="give the same kind of values: text where there was text, numbers where there were numbers",
            )
