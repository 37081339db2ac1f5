"""What is done, running and left in a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from downscale.cli.console import ProgressLine
from downscale.cli.options import Set, stage
from downscale.errors import ConfigError

Place = Annotated[Path, typer.Argument(metavar="CONFIG", help="experiment YAML, or the folder of apply -o")]


@stage("status")
def status(config: Place, overrides: Set = None, *, progress: ProgressLine) -> dict[str, Any]:
    """What is done, in whose work, and left: pairs, runs, predictions, scores, jobs. Reads a few small files only, and asks SLURM."""
    from downscale.apply.status import folder_status, workspace_status
    from downscale.config.load import load_config
    from downscale.hpc.jobs import job_lines

    del progress
    if config.is_dir():
        if overrides:
            raise ConfigError("--set goes with a config", where=str(config), hint="leave it out for a folder of predictions")
        return folder_status(config)
    cfg = load_config(config, overrides or ())
    return {**workspace_status(cfg), "jobs": job_lines(cfg.workspace_path().absolute())}
