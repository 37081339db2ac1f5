"""Commands that only look: inspect, doctor, config schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from downscale.cli.console import Options, guarded
from downscale.cli.options import Verbose

Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="files, folders or globs; a store, run, prediction or config")]
LookJson = Annotated[bool, typer.Option("--json", help="the facts as one JSON object on stdout")]
Folder = Annotated[Path, typer.Option("--path", metavar="DIR", help="folder whose locking and free space are tried")]


def inspect(paths: Paths, verbose: Verbose = False, json_output: LookJson = False) -> None:
    """What any file, store, run or prediction is and where it came from. Reads headers, never fields."""
    options = Options(verbose, True, "text", json_output)
    with guarded(options):
        from downscale.cli.inspect import show_paths

        show_paths(paths, json_output=json_output, verbose=verbose)


def doctor(path: Folder = Path(), verbose: Verbose = False, json_output: LookJson = False) -> None:
    """Versions, devices, file locking, scheduler, disk: what this machine can do. Exit 5 when something needed is missing."""
    with guarded(Options(verbose, True, "text", json_output)):
        from downscale.cli.doctor import show_machine

        show_machine(path, json_output=json_output)


def config_schema() -> None:
    """Print the JSON Schema of the config, for editors and other programs."""
    import json

    from downscale.config.schema import ExperimentConfig

    typer.echo(json.dumps(ExperimentConfig.model_json_schema(), indent=2))
