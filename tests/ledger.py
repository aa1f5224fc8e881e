"""The ledger of correctness: every row is an assertion that ran, so that docs/ledger.md cannot drift from the tests."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "ledger.md"
HEAD = """# Ledger of correctness

Every estimator, bound, divergence and measure, the oracle it is held to, and what was measured. Written by the tests
(`make ledger`), never by hand: each row is an assertion that passed. Values are rounded to four digits. The last
column says what software in use elsewhere gives for the same quantity, where it errs: computed by the tests from the
formula it uses. Rows of the slow tests are those of their last run.

| part | quantity | oracle | truth | measured | tolerance | why this tolerance | given elsewhere |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, order=True)
class Row:
    part: str
    quantity: str
    oracle: str
    truth: float
    measured: float
    tolerance: float
    why: str
    elsewhere: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return _key(self.line())

    def line(self) -> str:
        numbers = (f"{value:.4g}" for value in (self.truth, self.measured, self.tolerance))
        cells = (self.part, self.quantity, self.oracle, *numbers, self.why, self.elsewhere)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


class Ledger:
    """Asserts and records: `ledger(part, quantity, oracle=..., truth=..., measured=..., tolerance=..., why=...)`.

    `elsewhere` says what other software gives for the same quantity, where it errs.
    """

    def __init__(self, rows: list[Row]):
        self.rows = rows

    def __call__(self, part, quantity, *, oracle, truth, measured, tolerance, why, elsewhere=""):
        row = Row(part, quantity, oracle, *map(_number, (truth, measured, tolerance)), why, elsewhere)
        self.rows.append(row)
        assert abs(row.measured - row.truth) <= row.tolerance, row.line()


def _number(value) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)


def write(rows: list[Row], *, whole: bool) -> None:
    """Write the page; unless all tests ran, rows of those that did not stay as they were."""
    lines = {row.key: row.line() for row in rows}
    if not whole:
        before = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")][1:]
        lines = {_key(line): line for line in before} | lines
    PAGE.write_text(HEAD + "".join(line + "\n" for line in sorted(lines.values())), encoding="utf-8")


def _key(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:4])
