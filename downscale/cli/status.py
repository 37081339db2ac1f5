"""What is done, running and left in a workspace."""

from __future__ import annotations

from typing import Any

from downscale.cli.console import ProgressLine
from downscale.cli.options import ConfigPath, Set, stage


@stage("status")
def status(config: ConfigPath, overrides: Set = None, *, progress: ProgressLine) -> dict[str, Any]:
    """What is done, in whose work, and left: pairs, runs, predictions, scores. Reads a few small files only."""
    from downscale.apply.status import workspace_status
    from downscale.config.load import load_config

    del progress
    return workspace_status(load_config(config, overrides or ()))
