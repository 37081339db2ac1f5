"""The command explain: what a run makes its fields of."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from downscale.cli.console import ProgressLine
from downscale.cli.options import ConfigPath, Device, DryRun, ForceUnlock, Overwrite, Set, stage

ExplainedRun = Annotated[str, typer.Option("--run", metavar="RUN", help="name in the workspace or path")]
OnSources = Annotated[list[str] | None, typer.Option("--source", metavar="NAME", help="only these sources; repeatable")]
Days = Annotated[int, typer.Option(min=1, help="days of each season that are looked at, evenly chosen")]
Steps = Annotated[int, typer.Option(min=1, help="steps of the integral of the gradients")]


@stage("explain")
def explain(
    config: ConfigPath, run: ExplainedRun, source: OnSources = None, days: Days = 32, steps: Steps = 16, device: Device = "auto",
    overrides: Set = None, overwrite: Overwrite = False, dry_run: DryRun = False, force_unlock: ForceUnlock = False, *,
    progress: ProgressLine,
) -> dict[str, Any]:  # fmt: skip
    """What a run makes its fields of: contributions of its predictors, and responses to changed ones.  -> WORKSPACE/explain/RUN"""
    from downscale.apply.explain import Effort, explain_run
    from downscale.config.load import load_config

    return explain_run(
        load_config(config, overrides or ()), run=run, sources=source or (), effort=Effort(days, steps), device=device,
        overwrite=overwrite, dry_run=dry_run, force_unlock=force_unlock, progress=progress,
    )  # fmt: skip
