"""A context for one diagnostic at a time: a small fake pair store, and predictions with known errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from fake_workspace import FakeGroup, make_workspace, write_prediction

from downscale.cf.calendar import expected_days
from downscale.config.schema import ExperimentConfig
from downscale.evaluate.context import Context, Region, Sources, cell_areas
from downscale.evaluate.predictions import find_predictions

NET = {"role": "emulator", "model": "resunet", "mode": "pretrain", "trained_on": ["RCM_A/perfect"]}


def small_store(root: Path, **changes) -> tuple[ExperimentConfig, SimpleNamespace]:
    """Config and store with two RCM runs, 12 x 12 fine and 6 x 6 coarse cells, and no predictions."""
    return make_workspace(root, size=12, runs=(), **changes)


def make_context(root: Path, cfg: ExperimentConfig, store: SimpleNamespace) -> Context:
    """What diagnostics get; predictions are those found below ``root``."""
    found = find_predictions(root / "predictions") if (root / "predictions").exists() else []
    sources = Sources(
        {name: cfg.driver_of(name) for name, source in cfg.sources.items() if source.is_truth},
        {name: source.role for name, source in cfg.sources.items()},
        {name: dict(source.facets) for name, source in cfg.sources.items()},
    )
    folder = root / "out"
    folder.mkdir(exist_ok=True)
    region = Region("all", cell_areas(store.fine))
    return Context(store, found, region, cfg.evaluate.model_dump(), 1, tuple(cfg.train.on), sources, root, folder)


def predict(root: Path, store: SimpleNamespace, name: str, kind: str, change, run: str = "net", **facts) -> None:
    """Write a prediction of a group's test days: ``change(truth)`` of (time, target, y, x)."""
    group = store.groups[name]
    index = group.split("test") if group.has_truth else np.arange(len(group.days))
    base = group.target(index) if group.has_truth else np.zeros((len(index), 2, *store.fine.shape), np.float32)
    write_prediction(root, run, group, kind, group.days[index], np.asarray(change(base), np.float32), facts={**NET, **facts})


def predictor_group(name: str, fields: dict[str, np.ndarray], years: range, *, days_a_year: int = 60) -> FakeGroup:
    """A group of predictors only: the first days of each year, kind -> (time, channel, y, x)."""
    days = np.concatenate([expected_days(year * 10000 + 101, year * 10000 + 1230, "360_day")[:days_a_year] for year in years])
    everything = np.arange(len(days))
    splits = {"train": everything, "validation": everything[:0], "test": everything[:0]}
    return FakeGroup(name, "360_day", days, tuple(fields), ("tasmax",), None, fields, {}, splits)
