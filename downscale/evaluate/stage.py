"""The evaluate stage: pairs and predictions in, a folder of scores out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from downscale import __version__
from downscale.config.load import digest
from downscale.config.schema import ExperimentConfig
from downscale.errors import ConfigError, InputDataError
from downscale.evaluate.blocks import Spread, one_by_one
from downscale.evaluate.context import Context, Region, Sources, cell_areas
from downscale.evaluate.experiment import Experiment
from downscale.evaluate.kept import FOLDER as BLOCKS
from downscale.evaluate.kept import keeping
from downscale.evaluate.predictions import Prediction, find_predictions
from downscale.evaluate.publish import FOLDER, published, publishing
from downscale.evaluate.regions import masks_digest, region_areas
from downscale.evaluate.scorecard import Scorecard
from downscale.evaluate.transfer.light import verdicts
from downscale.evaluate.weather.regime_tables import find_channel
from downscale.evaluate.weather.sensitivity import explained_inputs
from downscale.pairs.store import PairStore

log = logging.getLogger(__name__)
STORE = "pairs.zarr"
SCHEMA_VERSION = 3
LAND_PERCENT = 50.0
ProgressCallback = Callable[[int, int, str], None]


def evaluate_run(
    cfg: ExperimentConfig, *, overwrite: bool = False, progress: ProgressCallback | None = None, spread: Spread = one_by_one
) -> dict[str, Any]:
    """Judge every prediction of a workspace on the test days.

    Args:
        cfg: the experiment.
        overwrite: replace scores of another evaluation.
        progress: called with (done, total, note).
        spread: who does the blocks of rows.

    Returns:
        ``artefact`` (the scores folder), counts, and a line per variable and case.

    Raises:
        InputDataError: no predictions; days, calendar, grid or units of a prediction differ; a field never changes.
        OutputExistsError: scores of another recipe are there.
        Stopped: a signal came, or the job is about to end; finished blocks of rows are kept.
    """
    store = PairStore.open(cfg.workspace_path() / STORE, cfg.split)
    return evaluate_store(cfg, store, overwrite=overwrite, progress=progress, spread=spread)


def evaluate_store(
    cfg: ExperimentConfig,
    store: PairStore,
    *,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    spread: Spread = one_by_one,
) -> dict[str, Any]:
    """As evaluate_run, on an open pair store."""
    find_channel(store.channels, cfg.evaluate.regimes.channel)
    predictions = _predictions(cfg, store)
    folder = cfg.workspace_path() / FOLDER
    inputs = _inputs(cfg, store, predictions)
    stored = published(folder, inputs, overwrite=overwrite)
    if stored is not None:
        log.info("these scores are complete already: %s", folder)
        return {**stored["summary"], "artefact": folder, "note": "complete already"}
    with keeping(spread, folder.with_name(BLOCKS), digest({**inputs, "version": __version__})) as kept, publishing(folder) as partial:
        experiment = Experiment(_context(cfg, store, predictions, partial), spread=kept)
        card = experiment.score(progress or _silent)
        summary = {
            "predictions": len(predictions),
            "scores": len(card.scores),
            **_headline(card, predictions),
            "traffic light": verdicts(experiment.context),
        }
        recipe = {
            **card.recipe,
            "inputs": inputs,
            "digest": digest(inputs),
            "summary": summary,
            "downscale_version": __version__,
        }
        experiment.write(Scorecard(card.scores, recipe, card.regional))
    return {**summary, "artefact": folder}


def _inputs(cfg: ExperimentConfig, store: PairStore, predictions: list[Prediction]) -> dict[str, Any]:
    """All that decides the scores; a second evaluation compares it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluate": cfg.evaluate.model_dump(mode="json"),
        "split": cfg.split.model_dump(mode="json"),
        "masks": masks_digest(cfg.evaluate.model_dump()["regions"]),
        "pairs": store.digest,
        "train_on": list(cfg.train.on),
        "facets": {name: dict(source.facets) for name, source in cfg.sources.items()},
        "predictions": {f"{one.run}/{one.group}_{one.kind}": one.digest for one in predictions},
        **explained_inputs(cfg.workspace_path(), predictions),
    }


def _context(cfg: ExperimentConfig, store: PairStore, predictions: list[Prediction], folder: Path) -> Context:
    """What scores and diagnostics share; InputDataError for a region without a cell."""
    options = cfg.evaluate.model_dump()
    return Context(
        store,
        predictions,
        Region.of(store, cfg.evaluate.region, land_percent=LAND_PERCENT),
        options,
        cfg.split.year_starts,
        tuple(cfg.train.on),
        _sources(cfg),
        cfg.workspace_path(),
        folder,
        regions=region_areas(options["regions"], store.fine, cell_areas(store.fine)),
    )


def _sources(cfg: ExperimentConfig) -> Sources:
    return Sources(
        {name: cfg.driver_of(name) for name, source in cfg.sources.items() if source.is_truth},
        {name: source.role for name, source in cfg.sources.items()},
        {name: dict(source.facets) for name, source in cfg.sources.items()},
    )


def list_predictions(cfg: ExperimentConfig) -> list[str]:
    """A line per prediction that evaluate would judge."""
    return [
        f"{one.run} on {one.case}: {', '.join(one.variables)} ({one.role}, {one.model})"
        for one in find_predictions(cfg.workspace_path() / "predictions")
    ]


def _predictions(cfg: ExperimentConfig, store: PairStore) -> list[Prediction]:
    found = find_predictions(cfg.workspace_path() / "predictions")
    known = [one for one in found if one.group in store.groups and one.kind in store.groups[one.group].kinds]
    for one in found:
        if one not in known:
            log.warning("prediction %s is of no pairs of this workspace: left out", one.folder)
    if not known:
        raise InputDataError(
            "no prediction belongs to the prepared pairs", where=str(cfg.workspace_path()), hint="run downscale apply CONFIG, then evaluate"
        )
    unwanted = sorted({name for one in known for name in one.variables} - set(store.targets))
    if unwanted:
        raise ConfigError(
            f"predictions hold {', '.join(unwanted)}, which the pairs do not have as targets",
            where=f"targets: {', '.join(store.targets)}",
            hint="add the targets to the config and prepare again, or remove these predictions",
        )
    return known


def _headline(card: Scorecard, predictions: list[Prediction]) -> dict[str, str]:
    """One line per variable and case with truth: RMSE and mean |bias| of each run."""
    lines = {}
    for case in sorted({one.case for one in predictions}):
        for variable in sorted({name for one in predictions for name in one.variables}):
            parts = [
                f"{one.run} {card.value(one.run, case, variable, 'rmse'):.3g}/{card.value(one.run, case, variable, 'abs_bias'):.2g}"
                for one in predictions
                if one.case == case and np.isfinite(card.value(one.run, case, variable, "rmse"))
            ]
            if parts:
                lines[f"{variable} on {case} (RMSE/|bias|)"] = ", ".join(parts)
    return lines


def _silent(done: int, total: int, note: str) -> None:
    return None
