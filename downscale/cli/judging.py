"""Options of ``evaluate``, and the command class that takes several files after one option."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from downscale.errors import ConfigError

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
    list[str] | None,
    typer.Option("--assume-units", metavar="[SIDE:]VAR=UNITS", help=f"{_WITH_FILES}units where the files state none that can be read; with "
                 "SIDE (prediction or reference) also in place of what its files state; repeatable"),
]  # fmt: skip
FillOf = Annotated[
    list[str] | None,
    typer.Option("--fill-value", metavar="[SIDE:]NUMBER", help=f"{_WITH_FILES}a value that stands for missing, in both or in SIDE; "
                 "repeatable"),
]  # fmt: skip
YearStarts = Annotated[
    int | None,
    typer.Option("--year-starts", min=1, max=12, metavar="MONTH", help=f"{_WITH_FILES}month in which a year begins; default 1, for files "
                 "of winters only 12"),
]  # fmt: skip
December = Annotated[
    Literal["calendar", "next"],
    typer.Option("--december", help=f"{_WITH_FILES}winter of a December: that of its year, or that of the January after it"),
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
SIDES = ("prediction", "reference")
FLAGS = {"variables": "--variable", "fill_values": "--fill-value"}
"""Options that have another name than their values."""
UNSAID: tuple[Any, ...] = (None, False, [], (), "default", "calendar")
"""Values of options that were not given."""
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


def command_of(given: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """The command line that asks for an evaluation of files, with the options that were given."""
    words = ["downscale", "evaluate", "--prediction", *given["prediction"], "--reference", *given["reference"], "-o", str(given["output"])]
    for name, value in {**given, "workers": shared.get("workers"), "scheduler": shared.get("scheduler")}.items():
        flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
        if name in ("prediction", "reference", "output") or value in UNSAID:
            continue
        words += [flag] if value is True else [word for one in (value if isinstance(value, list) else [value]) for word in (flag, str(one))]
    return shlex.join(words)


def parse_units(texts: Sequence[str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """VAR=UNITS by variable, and those with a side by side and variable; ConfigError for anything else."""
    plain: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {}
    for text in texts:
        side, rest = _side(text)
        name, _, units = rest.partition("=")
        if not (name and units):
            raise ConfigError(
                f"--assume-units: '{text}' is not [SIDE:]VAR=UNITS", hint="e.g. --assume-units pr=mm/day, or prediction:pr=mm/day"
            )
        (own.setdefault(side, {}) if side else plain)[name] = units
    return plain, own


def parse_fill_values(texts: Sequence[str]) -> tuple[tuple[float, ...], dict[str, tuple[float, ...]]]:
    """Numbers, and those with a side by side; ConfigError for anything else."""
    plain: tuple[float, ...] = ()
    own: dict[str, tuple[float, ...]] = {}
    for text in texts:
        side, rest = _side(text)
        try:
            number = float(rest)
        except ValueError:
            hint = "e.g. --fill-value -9999, or --fill-value prediction:-9999"
            raise ConfigError(f"--fill-value: '{text}' is not [SIDE:]NUMBER", hint=hint) from None
        if side:
            own[side] = (*own.get(side, ()), number)
        else:
            plain = (*plain, number)
    return plain, own


def _side(text: str) -> tuple[str, str]:
    """The side that a value is of, empty for both, and the rest."""
    side, colon, rest = text.partition(":")
    return (side, rest) if colon and side in SIDES else ("", text)


def not_with(given: dict[str, Any], hint: str) -> None:
    """Refuse options that do not go with the others.

    Raises:
        ConfigError: naming them.
    """
    unwanted = [flag for flag, value in given.items() if value not in UNSAID]
    if unwanted:
        raise ConfigError(f"{', '.join(unwanted)}: not in this use of evaluate", where="command line", hint=hint)
