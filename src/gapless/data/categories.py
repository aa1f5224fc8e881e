"""Categories: columns of text as codes 0, 1, ... into their names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gapless.data.labels import encode
from gapless.data.raw import printable
from gapless.errors import DataError

__all__ = ["MOST", "Spellings", "few", "note"]

MOST = 100  # categories of one column
_FEW = 20  # spellings that need no more rows than twice as many


@dataclass
class Spellings:
    """The spellings of one column of text, as they are met, and in the end their names and ranks.

    Args:
        column: its name.
        known: the names of the codes 0, 1, ... where a model was trained on them.
        where: the source, for messages.
    """

    column: str
    known: Sequence[str]
    where: str

    def __post_init__(self):
        self._codes: dict[str, int] = {name: code for code, name in enumerate(self.known)}

    def code(self, text: str) -> float:
        """The code of a spelling, in the order they were met.

        Raises:
            DataError: if the model does not know it.
        """
        name = printable(text.strip())
        if self.known and name not in self._codes:
            shown = ", ".join(self.known[:12]) + (" ..." if len(self.known) > 12 else "")
            what = f"column {printable(self.column)!r} has {name[:40]!r}, which the model was not trained on"
            raise DataError(what, where=self.where, fix=f"it knows: {shown}")
        return float(self._codes.setdefault(name, len(self._codes)))

    def __len__(self) -> int:
        return len(self._codes)

    def ranked(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The final code of every code given, float64, and the names they point to: text in its order."""
        if self.known:
            return np.arange(len(self.known), dtype=np.float64), tuple(self.known)
        rank, names = encode(np.array(list(self._codes)), items=len(self._codes), where=self.where)
        return rank.astype(np.float64), names


def few(spellings: int, rows: int) -> bool:
    """Whether text repeats often enough to be categories."""
    return 0 < spellings <= min(MOST, max(_FEW, rows // 10)) and spellings <= rows // 2


def note(column: str, names: Sequence[str]) -> str:
    """A sentence about a column of categories."""
    shown = ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
    return f"column {printable(column)!r} is text: {len(names)} categories ({shown})"
