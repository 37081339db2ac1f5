"""The context of an evaluation of a fake workspace, for tests of single diagnostics."""

from __future__ import annotations

from pathlib import Path

from downscale.evaluate.context import Context, Region, Sources
from downscale.evaluate.predictions import find_predictions
from downscale.evaluate.scorecard import Scorecard


def make_context(root: Path, cfg, store, **options) -> Context:
    """With all predictions of the workspace; ``options`` replace some of the section evaluate."""
    folder = root / "one_diagnostic"
    folder.mkdir(exist_ok=True)
    return Context(
        store,
        find_predictions(root / "predictions"),
        Region.of(store, cfg.evaluate.region, land_percent=50.0),
        cfg.evaluate.model_dump() | options,
        cfg.split.year_starts,
        tuple(cfg.train.on),
        Sources(),
        root,
        folder,
    )


def card_of(context: Context) -> Scorecard:
    """The rows of the context."""
    return Scorecard(context.rows, {"main_season": "ANN"})


def rows_of(context: Context, table: str) -> list[dict]:
    """The rows of a table."""
    return context.tables[table][1] if table in context.tables else []
