"""The errors a user meets: what was found, where, what to do, and the exit code that goes with it."""

from __future__ import annotations

from collections.abc import Sequence


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


class EnvironmentMissingError(DownscaleError):
    """A dependency is missing, or an artefact is newer than this version (exit code 5)."""

    code = 5


class Stopped(DownscaleError):
    """Stopped by a signal with everything saved: the same command continues (exit code 75)."""

    code = 75
