"""The errors a user meets: what was found, where, what to do, and the exit code that goes with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class DownscaleError(Exception):
    """An error with its remedy.

    Args:
        message: what was found, one line.
        where: file, variable, date or YAML path, one line.
        hint: what to do about it, one line.
        findings: one line per single finding when there are many (all bad files, all unequal channels).
    """

    code = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "", findings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.findings = list(findings)

    def lines(self) -> list[str]:
        """The error as at most three lines, without the findings."""
        return [line for line in (self.message, self.where, self.hint) if line]

    def __str__(self) -> str:
        return "\n".join([*self.lines(), *self.findings])


class ConfigError(DownscaleError):
    """The command line or the config is wrong (exit code 2)."""

    code = 2


class OutputExistsError(DownscaleError):
    """Something else already stands where the output would go (exit code 3)."""

    code = 3


class InputDataError(DownscaleError):
    """The input data were rejected (exit code 4)."""

    code = 4
    parts: Sequence[InputDataError] = ()
    """The single rejections, where Problems made one of several."""


class Problems:
    """Rejections of input data collected one after the other, so that all are told at once.

    ``with problems.caught(): ...`` keeps an InputDataError and goes on; ``raise_any()`` raises the only one as it is, or all as one.
    """

    def __init__(self) -> None:
        self.errors: list[InputDataError] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep an InputDataError raised inside."""
        try:
            yield
        except InputDataError as error:
            self.errors += error.parts or [error]

    def raise_any(self) -> None:
        """Raise what was caught; nothing when there was nothing."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            whole = InputDataError(
                f"{len(self.errors)} problems in the input data",
                where=self.errors[0].where,
                hint="mend all of them, nothing was written; the remedy stands at the end of each line",
                findings=[line for error in self.errors for line in _as_findings(error)],
            )
            whole.parts = tuple(self.errors)
            raise whole


def _as_findings(error: InputDataError) -> list[str]:
    where = f" [{error.where}]" if error.where else ""
    return [f"{error.message}{where}: {error.hint}" if error.hint else f"{error.message}{where}", *(f"  {line}" for line in error.findings)]


class EnvironmentMissingError(DownscaleError):
    """A dependency is missing, or an artefact is newer than this version (exit code 5)."""

    code = 5


class DiskFullError(DownscaleError):
    """There is no room for what is to be written (exit code 1)."""


class TransferabilityError(DownscaleError):
    """More days than the config allows are far from those that a run has learned from (exit code 7); the files are written."""

    code = 7


class Stopped(DownscaleError):
    """Stopped by a signal with everything saved: the same command continues (exit code 75)."""

    code = 75
