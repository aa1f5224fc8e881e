"""Errors that say what was wrong, where, and what to do; each carries the exit code of the command line."""


class GaplessError(Exception):
    """An error a user can act on: what was wanted and what arrived, where, and the fix.

    Args:
        what: what was wanted and what arrived instead.
        where: the file, row, column, step or argument it arose at.
        fix: what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None):
        self.what, self.where, self.fix = what, where, fix
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """The message, one clause a line; clauses that are not known are left out."""
        clauses = [self.what]
        if self.where:
            clauses.append(f"where: {self.where}")
        if self.fix:
            clauses.append(f"fix: {self.fix}")
        return clauses


class UsageError(GaplessError, ValueError):
    """An argument that cannot be used: a wrong name, shape or combination."""

    exit_code = 2


class DataError(GaplessError, ValueError):
    """Data that cannot be read or cannot be learned from."""

    exit_code = 3


class AuditBelowBar(GaplessError):  # noqa: N818 - it says what happened
    """An audit found a number below a stated bar."""

    exit_code = 4


class Diverged(GaplessError, ArithmeticError):  # noqa: N818 - the field's word for it
    """Training met a value that is not finite."""

    exit_code = 5


class MissingExtra(GaplessError, ImportError):  # noqa: N818 - it names what is missing
    """An optional library is needed and not installed."""

    exit_code = 6


class StorageError(GaplessError):
    """The disk, or the system that guards it, refused to take what was to be saved."""

    exit_code = 7


class OutOfMemory(GaplessError, MemoryError):  # noqa: N818 - the field's word for it
    """The machine or the accelerator has not enough memory for what was asked."""

    exit_code = 8


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out: torch has an error of its own for accelerators, and only words for a CPU."""
    text = str(error).lower()
    words = "can't allocate memory" in text or "out of memory" in text
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and words)


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, has saved where it was, and stops.

    Args:
        message: where it was and where that is saved.
    """
