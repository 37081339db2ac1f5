"""Scores, then the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def evaluate_and_report(
    config: Path, overrides: Sequence[str], *, overwrite: bool, dry_run: bool, force_unlock: bool, progress: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """Evaluate every prediction of the workspace and draw the report; the artefact is the report."""
    from downscale.config.load import load_config
    from downscale.evaluate.stage import evaluate_run, list_predictions
    from downscale.hpc.locks import folder_lock
    from downscale.report.html import make_report

    cfg = load_config(config, overrides)
    if dry_run:
        return {"artefact": None, "would judge": list_predictions(cfg)}
    with folder_lock(cfg.workspace_path(), force=force_unlock):
        summary = evaluate_run(cfg, overwrite=overwrite, progress=progress)
        report = make_report(cfg, progress=progress)
    return {**summary, "artefact": report}
