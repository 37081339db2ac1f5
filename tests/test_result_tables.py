"""The scripts that make the tables of docs/results.md: their measures and their rows, on numbers worked out by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from downscale.config.load import load_config
from downscale.evaluate.scorecard import Score, Scorecard

BENCHMARKS = Path(__file__).parent / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_scores_pool_over_days_and_cells_with_truth():
    """Errors 1, -1, 2 over three values with truth: RMSE sqrt(6 / 3); the cell without truth and its estimate do not count."""
    truth = np.array([[[0.0, np.nan]], [[2.0, np.nan]], [[4.0, np.nan]]])
    fields = np.array([[[1.0, 9.0]], [[1.0, -9.0]], [[6.0, 99.0]]])
    rmse, ratio, p98 = script("real_cases").scores(fields, truth)
    assert rmse == pytest.approx(np.sqrt(2.0))
    assert ratio == pytest.approx(np.std([1, 1, 6]) / np.std([0, 2, 4]))
    assert p98 == pytest.approx((1 + 5 * 0.96) - (2 + 2 * 0.96))


def test_every_case_is_a_config_with_one_target_of_its_own(monkeypatch):
    monkeypatch.setenv("DOWNSCALE_DATA", "/data")
    cases = script("real_cases")
    for case, name in cases.CASES.items():
        cfg = load_config(cases.CONFIGS / f"{name}.yaml")
        assert [target.name for target in cfg.targets] == ["tas" if case in ("r1-tas", "r2-tg") else "pr"]
        assert cfg.workspace_path().name == name


def test_choosing_leaves_the_test_winters_alone(monkeypatch):
    """The winters of --validation lie within the first 15, and those judged are not among those learned from."""
    monkeypatch.setenv("DOWNSCALE_DATA", "/data")
    cases = script("real_cases")
    plain = load_config(cases.CONFIGS / "racmo_pr.yaml")
    split = load_config(cases.CONFIGS / "racmo_pr.yaml", cases.CHOOSING).split
    assert str(plain.split.test) != str(split.test)
    assert plain.split.refit and not split.refit
    years = {part: {year for first, last in map(_ends, getattr(split, part)) for year in range(first, last + 1)} for part in
             ("train", "validation", "test")}  # fmt: skip
    assert set.union(*years.values()) == set(range(1983, 1998)) and sum(map(len, years.values())) == 15


def _ends(span):
    first, _, last = str(span).partition("-")
    return int(first), int(last or first)


def test_transfer_table_has_a_row_for_every_way_to_learn():
    """The value of each metric stands in the row of its run and case; the change of climate is read from its own period."""
    transfer = script("transfer_table")
    rows = [
        Score(run.format(tag="", gcm="C"), f"RCM_C/{kind}", "pr", metric, "all", "ANN", "change" if metric.startswith("change") else "all",
              float(10 * i + k), 0.0, 0.0, "1", 1, 1, 1, "none")
        for i, (_, run, kind) in enumerate(transfer.ROWS) for k, (metric, _) in enumerate(transfer.METRICS)
    ]  # fmt: skip
    lines = list(transfer.table(Scorecard(rows), [""]))
    start = lines.index("\npr, GCM C\n") + 3
    assert lines[start] == "| perfect | 0.000 | 1.000 | 2.000 | 3.000 | 4.000 | 5.000 |"
    assert lines[start + 2].startswith("| pretrained | 20.000 |") and lines[start + 5].endswith("| 53.000 | 54.000 | 55.000 |")
    assert "nan" in lines[lines.index("\npr, GCM D\n") + 3]


def test_transfer_experiment_is_a_valid_config(tmp_path):
    """Four GCMs, the augmentation that the table compares, and the boxes of the sample data."""
    transfer = script("transfer_table")
    path = tmp_path / "config.yaml"
    path.write_text(transfer._config({"relaxation_cells": 2, "coarse_box_edges": [0.0, 8.0, 6.0, 14.0], "target_cells": [4, 16]}))
    cfg = load_config(path, [transfer.AUGMENT, *transfer._words(load_config(path))])
    assert len(cfg.sources) == 8 and cfg.train.augment.smoothing > 0
    assert [cfg.sources[f"GCM_{name}"].drives for name in "ABCD"] == [f"RCM_{name}" for name in "ABCD"]


def test_world_checks_are_valid_configs(tmp_path, monkeypatch):
    """Every run is an experiment of its own; the past ends where the change begins, and five years are five."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    checks = script("world_checks")
    path = tmp_path / "config.yaml"
    path.write_text(checks._config({"relaxation_cells": 2, "coarse_box_edges": [0.0, 8.0, 6.0, 14.0], "target_cells": [4, 16]}))
    cfgs = {name: load_config(path, ["model.width=16", *words]) for name, words in checks.RUNS.items()}
    assert [cfgs[f"net-{name}"].model.name for name in checks.NETWORKS] == list(checks.NETWORKS)
    assert {cfgs[name].model.backbone for name in checks.PAST} == {"none", "ridge"}
    assert all(max(_ends(span)[1] for span in cfgs[name].split.train) == 1998 for name in checks.PAST)
    assert sum(last - first + 1 for first, last in map(_ends, cfgs["five-years-C"].split.train)) == 5
