"""Neighbourhood scores, paired tests and return levels as evaluate leaves them for a workspace of twelve years."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_context import card_of, make_context, rows_of
from fake_workspace import make_workspace

from downscale.evaluate import daily
from downscale.evaluate.members import return_levels
from downscale.evaluate.metrics.fss import fss
from downscale.evaluate.metrics.gev import fit_gev
from downscale.evaluate.predictions import find_predictions

YEARS = tuple(range(2000, 2012))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("comparing")
    cfg, store = make_workspace(root, size=8, runs=("resunet-A", "climatology-A"), test=YEARS, seed=4)
    context = make_context(root, cfg, store, return_years=[5.0, 20.0, 100.0])
    daily.diagnose(context)
    return_levels.diagnose(context)
    return root, store, context


def emulated(root, store, name, run="resunet-A", case="RCM_B/imperfect"):
    group = store.groups[case.partition("/")[0]]
    (one,) = (one for one in find_predictions(root / "predictions") if (one.run, one.case) == (run, case))
    with one.reader(name, group.days[group.split("test")], group.calendar) as reader:
        return reader.read()


def test_neighbourhood_scores_are_the_plain_ones(finished):
    root, store, context = finished
    card = card_of(context)
    group = store.groups["RCM_B"]
    expected = fss(emulated(root, store, "pr"), group.target(group.split("test"))[:, 1], 5.0, 3, store.fine.areas())
    row = card.get("resunet-A", "RCM_B/imperfect", "pr", "fss_5mm_3")
    assert row.value == pytest.approx(expected, rel=1e-6) and row.lower < row.value < row.upper
    assert card.value("truth", "RCM_B/truth", "pr", "fss_5mm_useful") > 0.5
    assert card.get("resunet-A", "RCM_B/imperfect", "pr", "fss_5mm_9").interval == "none: no whole window in the region"
    assert card.get("resunet-A", "RCM_B/imperfect", "tasmax", "fss_5mm_3") is None


def test_the_network_is_better_than_the_climatology(finished):
    context = finished[2]
    rows = {
        (row["case"], row["variable"], row["metric"], row["season"]): row
        for row in rows_of(context, "paired")
        if (row["run"], row["other"]) == ("climatology-A", "resunet-A")
    }
    row = rows["RCM_A/perfect", "tasmax", "mse", "ANN"]
    root, store, _ = finished
    truth = store.groups["RCM_A"].target(store.groups["RCM_A"].split("test"))[:, 0]
    fields = [emulated(root, store, "tasmax", run, "RCM_A/perfect") for run in ("climatology-A", "resunet-A")]
    expected = [np.average(np.square(field - truth).mean(axis=0), weights=store.fine.areas()) for field in fields]
    assert row["difference"] == pytest.approx(expected[0] - expected[1], rel=1e-4)
    assert row["p_value"] < 0.01 and row["lower"] > 0 and row["test"] == "bootstrap" and row["n_years"] == 12
    assert len(rows) == 4 * 2 * 3 * 5


def test_return_levels_of_each_case_and_pooled(finished):
    root, store, context = finished
    rows = {(row["variable"], row["scope"], row["run"], row["return_years"]): row for row in rows_of(context, "return_levels")}
    values = emulated(root, store, "tasmax")
    year = store.groups["RCM_B"].days[store.groups["RCM_B"].split("test")] // 10000
    tops = np.stack([values[year == one].max(axis=0) for one in YEARS])
    row = rows["tasmax", "RCM_B/imperfect", "resunet-A", 20.0]
    assert row["value"] == pytest.approx(np.average(fit_gev(tops).level(20), weights=store.fine.areas()), rel=1e-6)
    assert row["lower"] < row["value"] < row["upper"]
    assert (row["season"], row["period"], row["n_years"], row["n_series"], row["unit"]) == ("ANN", "2000-2011", 12, 1, "K")
    pooled = rows["tasmax", "pooled", "resunet-A", 20.0]
    assert (pooled["n_years"], pooled["n_series"]) == (24, 2) and 0.001 <= pooled["p_same"] <= 0.25
    assert ("tasmax", "pooled perfect", "resunet-A", 5.0) in rows and ("pr", "pooled", "truth", 5.0) in rows
    assert "times the years" in rows["pr", "RCM_A/truth", "truth", 100.0]["method"]
    assert rows["pr", "RCM_A/truth", "truth", 20.0]["value"] > rows["pr", "RCM_A/truth", "truth", 5.0]["value"] > 5
