"""Options that many commands share, each written once, and the decorator that gives a command its talk options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from downscale.cli.console import Options, ProgressLine, run_stage

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="experiment YAML")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="override a config value; repeatable")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace an existing result of another recipe")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and say what would be done; write nothing")]
ForceUnlock = Annotated[bool, typer.Option("--force-unlock", help="take over the lock of a job that is gone")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="auto: CUDA when there is a GPU")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="processes that read headers; default: all usable cores where it pays")
]
Runs = Annotated[
    list[str] | None, typer.Option("--run", metavar="RUN", help="with CONFIG: name in the workspace or path; repeatable; default all runs")
]
Sources = Annotated[list[str] | None, typer.Option("--source", metavar="NAME", help="with CONFIG: only these sources; repeatable")]
Inputs = Annotated[list[Path] | None, typer.Option("--input", metavar="FILE", help="with RUN: NetCDF files of a GCM or RCM; one or many")]
OutputFolder = Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="with RUN: folder for the predictions")]
Forcings = Annotated[
    Path | None, typer.Option("--forcings", metavar="CSV", help="with RUN: forcings of the scenario, where the run uses them")
]
AssumeUnits = Annotated[
    list[str] | None, typer.Option("--assume-units", metavar="VAR=UNITS", help="with RUN: units that replace the files'; repeatable")
]
Members = Annotated[
    list[str] | None,
    typer.Option("--member", metavar="LABEL", help="with RUN: member of files with an ensemble dimension; repeatable, a folder for each"),
]
PerRun = Annotated[
    bool, typer.Option("--per-run", help="with RUN: the files are of several model runs, experiments or forecasts: a folder for each")
]
FillValues = Annotated[
    list[float] | None, typer.Option("--fill-value", metavar="NUMBER", help="with RUN: a value that stands for missing; repeatable")
]
Aggregate = Annotated[Literal["none", "mean", "cell_methods"], typer.Option("--aggregate", help="with RUN: how files of hours become days")]
Layouts = Annotated[Literal["cf", "cordex", "zarr"], typer.Option("--profile", help="with RUN: layout of the output")]
Facets = Annotated[
    list[str] | None,
    typer.Option(
        "--facet", metavar="NAME=VALUE", help="with RUN: what names the output; --profile cordex asks for what it needs; repeatable"
    ),
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="debug log, tracebacks, all findings")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="warnings and errors only")]
LogFormat = Annotated[Literal["text", "json"], typer.Option("--log-format", help="form of the log on stderr")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout: stage, artefact, seconds, summary")]

_TALK = {"verbose": (Verbose, False), "quiet": (Quiet, False), "log_format": (LogFormat, "text"), "json_output": (Json, False)}


def stage(name: str) -> Callable[[Callable[..., dict[str, Any]]], Callable[..., None]]:
    """Make a command of a function that takes ``progress`` and returns a summary with ``artefact``.

    The command has the function's other parameters, -v, -q, --log-format and --json, and talks as run_stage says.
    """

    def decorate(work: Callable[..., dict[str, Any]]) -> Callable[..., None]:
        signature = inspect.signature(work, eval_str=True)

        @functools.wraps(work)
        def command(**values: Any) -> None:
            options = Options(*(values.pop(key) for key in _TALK))

            def run(progress: ProgressLine) -> dict[str, Any]:
                return work(**values, progress=progress)

            run_stage(name, options, run)

        own = [parameter for parameter in signature.parameters.values() if parameter.name != "progress"]
        talk = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind) for key, (kind, value) in _TALK.items()
        ]
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + talk
        command.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
        return command

    return decorate
