"""Options of ``evaluate``, and the command class that takes several files after one option."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

_WITH_FILES = "without CONFIG: "
Experiment = Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="experiment YAML; or give --prediction and --reference")]
Predictors = Annotated[
    bool,
    typer.Option("--predictors", help="with CONFIG: only how GCM and RCMu agree, channel by channel; needs no training"),
]
PredictionFiles = Annotated[
    list[str] | None, typer.Option("--prediction", metavar="FILE...", help="without CONFIG: files, globs or folders of what is judged")
]
ReferenceFiles = Annotated[
    list[str] | None, typer.Option("--reference", metavar="FILE...", help="without CONFIG: files, globs or folders of the truth")
]
ScoresOut = Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help=f"{_WITH_FILES}folder of the scores")]
ScoreProfile = Annotated[
    Literal["default", "mlbench"],
    typer.Option("--profile", help=f"{_WITH_FILES}default: scores and page as of a workspace; mlbench: those of CORDEX ML-Bench"),
]
VariablesOf = Annotated[
    list[str] | None,
    typer.Option("--variable", metavar="NAME", help=f"{_WITH_FILES}only this one; repeatable; default: all in both"),
]
Box = Annotated[str | None, typer.Option("--region", metavar="W,E,S,N", help=f"{_WITH_FILES}only cells in this box, degrees")]
Mask = Annotated[
    str | None, typer.Option("--mask", metavar="FILE:VARIABLE", help=f"{_WITH_FILES}only cells where the variable is at least one half")
]
Land = Annotated[Path | None, typer.Option("--land", metavar="FILE", help=f"{_WITH_FILES}only cells with at least half land by its sftlf")]
CommonDays = Annotated[
    bool, typer.Option("--common-days", help=f"{_WITH_FILES}judge the days that both have, and say how many are left out; else an error")
]
UnitsOf = Annotated[
    list[str] | None, typer.Option("--assume-units", metavar="VAR=UNITS", help=f"{_WITH_FILES}units that replace the files'; repeatable")
]
FillOf = Annotated[
    list[float] | None, typer.Option("--fill-value", metavar="NUMBER", help=f"{_WITH_FILES}a value that stands for missing; repeatable")
]
MemberOf = Annotated[str | None, typer.Option("--member", metavar="LABEL", help=f"{_WITH_FILES}of an ensemble dimension, the one to judge")]
Judges = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="with CONFIG: processes, default 1; without: threads, default all cores; "
                 "with --scheduler: its processes"),
]  # fmt: skip
JudgesScheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS|local", help="tcp://HOST:PORT or scheduler file of a running Dask, whose workers do blocks"
                 " of rows; local: processes of one's own"),
]  # fmt: skip
MemoryOf = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help=f"{_WITH_FILES}series beyond it go to scratch files; default 2GiB"),
]
_MANY = ("--prediction", "--reference")


class ManyFiles(TyperCommand):
    """``--prediction A B C`` is read as ``--prediction A --prediction B --prediction C``, as a shell writes a glob out."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """The arguments that are left."""
        return super().parse_args(ctx, spell_out(args))


def spell_out(args: list[str]) -> list[str]:
    """The arguments with the option before each of its files."""
    result: list[str] = []
    option = ""
    for text in args:
        if text.startswith("-"):
            option = text if text in _MANY else ""
            result.append(text)
        elif option and result[-1] != option:
            result += [option, text]
        else:
            result.append(text)
    return result


def not_with(given: dict[str, Any], hint: str) -> None:
    """Refuse options that do not go with the others.

    Raises:
        ConfigError: naming them.
    """
    from downscale.errors import ConfigError

    unwanted = [flag for flag, value in given.items() if value not in (None, False, [], (), "default")]
    if unwanted:
        raise ConfigError(f"{', '.join(unwanted)}: not in this use of evaluate", where="command line", hint=hint)
