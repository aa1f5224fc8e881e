"""The explorer from Python: the page as text, as a file, and inside a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapless.data import Dataset
from gapless.errors import UsageError
from gapless.explorer.export import LANGUAGES, frame, page, write_page
from gapless.explorer.scene import ITEMS, Scene, build, load_runs, open_data
from gapless.runs import Run
from gapless.study import Comparison

__all__ = ["View", "explore", "html"]


@dataclass(frozen=True)
class View:
    """A scene that shows itself in a notebook.

    Attributes:
        scene: what is shown.
        language: en, ko or None, the reader's.
    """

    scene: Scene
    language: str | None = None

    def html(self) -> str:
        """The page, one text that needs nothing else."""
        return page(self.scene, language=self.language)

    def save(self, path: str | Path) -> Path:
        """Write the page to a file.

        Raises:
            StorageError: it cannot be written.
        """
        write_page(self.scene, Path(path), language=self.language)
        return Path(path)

    def _repr_html_(self) -> str:
        return frame(self.html())


def explore(
    what: "Run | Comparison | str | Path | Sequence[str | Path] | Mapping[str, Run]",
    *,
    data: Dataset | str | None = None,
    items: int = ITEMS,
    audit: str = "quick",
    label: str | None = None,
    language: str | None = None,
) -> View:
    """One to four models on one page, to look at in a notebook or to save.

    Args:
        what: a run, a comparison, run or study folders, or runs by name.
        data: what is shown; by default the data of the first run, read again.
        items: at most so many items, held-out ones first.
        audit: none, quick or default.
        label: the class that conditional models are given; items of that class alone are shown.
        language: en or ko; None leaves it to the reader's browser.

    Raises:
        UsageError: an option that is not known, or models that do not go together.
        DataError: the data cannot be read.
    """
    if language not in (None, *LANGUAGES):
        raise UsageError(f"language takes {' or '.join(LANGUAGES)}; got {language!r}")
    runs = _runs(what)
    known = what.data if isinstance(what, Comparison) and data is None else data
    chosen = known if isinstance(known, Dataset) else open_data(runs, known)
    new = isinstance(data, str)
    return View(build(runs, chosen, label=label, items=items, audit=audit, new=new, static=True), language)


def html(
    what: "Run | Comparison | str | Path | Sequence[str | Path] | Mapping[str, Run]", *, language: str | None = None
) -> str:
    """`explore(what).html()`: the page as one text."""
    return explore(what, language=language).html()


def _runs(what: object) -> dict[str, Run]:
    if isinstance(what, Run):
        return {what.recipe: what}
    if isinstance(what, Comparison):
        return what.runs
    if isinstance(what, Mapping):
        return dict(what)
    return load_runs([Path(what)] if isinstance(what, str | Path) else [Path(one) for one in what])  # pyright: ignore
