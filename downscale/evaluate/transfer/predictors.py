"""How a GCM's predictors agree with RCMu's, before any training: tables, and what they say in plain words."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np

from downscale import __version__
from downscale.config.load import digest
from downscale.config.schema import ExperimentConfig
from downscale.errors import DownscaleError
from downscale.evaluate.context import Context, Region, Sources, cell_areas
from downscale.evaluate.publish import published, publishing
from downscale.evaluate.scorecard import RECIPE, write_table
from downscale.evaluate.transfer import predictor_pairs, predictor_scale, separability
from downscale.evaluate.transfer.predictor_words import COLUMNS, overall, words
from downscale.evaluate.transfer.shift import predictor_shift
from downscale.pairs.store import PairStore

log = logging.getLogger(__name__)
FOLDER, STORE, TABLE, TEXT = "consistency", "pairs.zarr", "reading", "reading.txt"
SCHEMA_VERSION = 2
QUICK_YEARS = 4


def evaluate_predictors(cfg: ExperimentConfig, *, overwrite: bool = False) -> dict[str, Any]:
    """Write WORKSPACE/consistency: predictor_shift, predictor_scale, separability, reading (CSV) and reading.txt.

    Args:
        cfg: the experiment; its pairs are prepared, nothing is trained.
        overwrite: replace tables of another recipe.

    Returns:
        ``artefact`` (the folder), ``comparisons`` and ``reading``, the verdict of each.

    Raises:
        InputDataError: there is no pair store.
        OutputExistsError: tables of another recipe, or something else, are there.
    """
    store = PairStore.open(cfg.workspace_path() / STORE, cfg.split)
    folder = cfg.workspace_path() / FOLDER
    options = cfg.evaluate.model_dump(mode="json")
    inputs = {
        "schema_version": SCHEMA_VERSION,
        "evaluate": {name: options[name] for name in ("separability", "light")},
        "split": cfg.split.model_dump(mode="json"),
        "pairs": store.digest,
        "train_on": list(cfg.train.on),
    }
    stored = published(folder, inputs, overwrite=overwrite)
    if stored is not None:
        return {**stored["summary"], "artefact": folder, "note": "complete already"}
    with publishing(folder) as partial:
        context = _context(cfg, store)
        for diagnosis in (predictor_pairs, predictor_scale, separability):
            diagnosis.diagnose(context)
        rows = words(context)
        context.extend(TABLE, COLUMNS, rows)
        for name, (columns, found) in context.tables.items():
            write_table(partial / f"{name}.csv", found, columns)
        lines = overall(rows)
        (partial / TEXT).write_text("\n".join(_page(rows)) + "\n", encoding="utf-8")
        summary = {"comparisons": len(predictor_pairs.compared_pairs(context)), "reading": lines}
        recipe = {
            "inputs": inputs,
            "digest": digest(inputs),
            "summary": summary,
            "channels": list(store.channels),
            "coarse_grid": store.coarse.summary,
            "train_on": list(cfg.train.on),
            "downscale_version": __version__,
        }
        (partial / RECIPE).write_text(json.dumps(recipe, indent=2, default=str) + "\n")
    return {**summary, "artefact": folder}


def list_comparisons(cfg: ExperimentConfig) -> list[str]:
    """A line per comparison that would be made."""
    context = _context(cfg, PairStore.open(cfg.workspace_path() / STORE, cfg.split))
    pairs = predictor_pairs.compared_pairs(context)
    return [f"{one[0].name}/{one[1]} against {other[0].name}/{other[1]}" for one, other in pairs]


def quick_reading(cfg: ExperimentConfig) -> list[str]:
    """A line per comparison from the shifts of a few years each, for the end of ``prepare``; none where nothing can be compared."""
    try:
        context = _context(cfg, PairStore.open(cfg.workspace_path() / STORE, cfg.split))
        area = cell_areas(context.store.coarse)
        for one, other in predictor_pairs.compared_pairs(context):
            samples = [_few_years(context, side, paired=one[0] is other[0]) for side in (one, other)]
            rows = predictor_shift(samples[0], samples[1], context.store.channels, area)
            context.extend(predictor_pairs.TABLE, predictor_pairs.COLUMNS, rows)
        return overall(words(context))
    except DownscaleError as error:
        log.warning("predictors were not compared: %s", error.message)
        return []


def _few_years(context: Context, side: predictor_pairs.Side, *, paired: bool) -> predictor_pairs.PredictorSample:
    whole = predictor_pairs.sample(context, side, paired=paired)
    years = np.unique(whole.table.year)
    chosen = years[np.unique(np.linspace(0, len(years) - 1, QUICK_YEARS).astype(np.int64))]
    index = whole.index[np.isin(whole.table.year, chosen)]
    return predictor_pairs.PredictorSample(whole.group, whole.kind, index, context.table(whole.group, index))


def _context(cfg: ExperimentConfig, store: PairStore) -> Context:
    sources = Sources(
        {name: cfg.driver_of(name) for name, source in cfg.sources.items() if source.is_truth},
        {name: source.role for name, source in cfg.sources.items()},
        {name: dict(source.facets) for name, source in cfg.sources.items()},
    )
    region = Region("all", cell_areas(store.fine))
    workspace = cfg.workspace_path()
    options = cfg.evaluate.model_dump()
    return Context(store, [], region, options, cfg.split.year_starts, tuple(cfg.train.on), sources, workspace, workspace / FOLDER)


def _page(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["Nothing to compare: there is no GCM beside RCMu, and no second run."]
    lines = ["Predictors before training"]
    for place in dict.fromkeys((row["case"], row["against"]) for row in rows):
        lines += ["", f"{place[0]} against {place[1]}"]
        lines += [f"  {row['text']}" for row in rows if (row["case"], row["against"]) == place]
    return lines
