"""What is done, running and left in a workspace."""

from __future__ import annotations

from typing import Any

from downscale.cli.console import ProgressLine
from downscale.cli.options import ConfigPath, Set, stage


@stage("status")
def status(config: ConfigPath, overrides: Set = None, *, progress: ProgressLine) -> dict[str, Any]:
    """What is done, in whose work, and left: pairs, runs, predictions, scores, jobs. Reads a few small files only, and asks SLURM."""
    from downscale.apply.status import workspace_status
    from downscale.config.load import load_config
    from downscale.hpc.jobs import job_lines

    del progress
    cfg = load_config(config, overrides or ())
    return {**workspace_status(cfg), "jobs": job_lines(cfg.workspace_path().absolute())}
