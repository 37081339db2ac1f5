"""Large-scale consistency (T8) and extrapolation (T10): predictions whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from transfer_world import make_context, predict, small_store

from downscale.evaluate.transfer import consistency, extrapolation, large_scale
from downscale.evaluate.transfer.extrapolation import Warming, bins, slope, temperature_channel
from downscale.evaluate.transfer.large_scale import PairedMoments, YearErrors
from downscale.grid.engines import make_weights

AREA = np.array([[1.0, 3.0]])


def moments(one, other):
    found = PairedMoments(one.shape[1:])
    for start in range(0, len(one), 7):
        found.add(one[start : start + 7], other[start : start + 7])
    return consistency.compare(found, AREA)


def test_a_line_has_its_slope_and_bias():
    x = np.random.default_rng(0).standard_normal((50, 1, 2)) + 280
    found = moments(280 + 1.5 * (x - 280) + 0.25, x)
    assert found["slope"] == pytest.approx(1.5) and found["correlation"] == pytest.approx(1.0)
    expected = 0.5 * (x.mean(axis=0) - 280) + 0.25
    assert found["bias"] == pytest.approx(float(np.average(expected, weights=AREA)), abs=1e-9) and found["n_days"] == 50


def test_constant_fields_and_empty_cells_have_no_slope():
    flat = np.full((30, 1, 2), 280.0)
    found = moments(flat + 1.0, flat)
    assert found["bias"] == pytest.approx(1.0) and found["rmse"] == pytest.approx(1.0)
    assert math.isnan(found["slope"]) and math.isnan(found["correlation"])
    hole = np.random.default_rng(0).standard_normal((30, 1, 2))
    hole[:, 0, 0] = np.nan
    assert moments(hole, hole)["n_cells"] == 1 and moments(hole, hole)["slope"] == pytest.approx(1.0)
    nothing = moments(np.full((5, 1, 2), np.nan), np.full((5, 1, 2), np.nan))
    assert nothing["n_days"] == 0 and math.isnan(nothing["bias"])


@pytest.fixture
def world(tmp_path):
    cfg, store = small_store(tmp_path)
    weights = make_weights(store.fine, store.coarse, engine="builtin")
    for group in store.groups.values():
        group.surfaces["perfect"] = weights.apply(group.truth)
        group.surfaces["imperfect"] = group.surfaces["perfect"] + np.array([2.0, 0.0], np.float32)[None, :, None, None]
    for name in store.groups:
        predict(tmp_path, store, name, "perfect", lambda truth: truth + np.array([0.5, 0.0])[None, :, None, None])
        predict(tmp_path, store, name, "imperfect", lambda truth: truth)
    return tmp_path, cfg, store


def test_what_is_upscaled_agrees_with_rcmu_and_lies_off_the_gcm(world, monkeypatch):
    monkeypatch.setattr(large_scale, "BLOCK_BYTES", 12 * 12 * 2 * 4 * 100)
    context = make_context(*world)
    consistency.diagnose(context)
    rows = {(row["run"], row["case"], row["variable"], row["season"]): row for row in context.tables["consistency"][1]}
    row = rows["net", "RCM_A/perfect", "tasmax", "ANN"]
    assert row["bias"] == pytest.approx(0.5, abs=1e-4) and row["slope"] == pytest.approx(1.0, abs=1e-5) and row["against"] == "perfect"
    assert rows["net", "RCM_B/imperfect", "tasmax", "JJA"]["bias"] == pytest.approx(-2.0, abs=1e-4)
    assert rows["truth", "RCM_B/imperfect", "tasmax", "JJA"]["bias"] == pytest.approx(-2.0, abs=1e-4)
    assert ("truth", "RCM_A/perfect", "tasmax", "ANN") not in rows and row["unit"] == "K"


def test_a_source_without_the_variable_has_no_rows(world):
    root, cfg, store = world
    for group in store.groups.values():
        group.surfaces["imperfect"][:, 1] = np.nan
    context = make_context(root, cfg, store)
    consistency.diagnose(context)
    cases = {(row["case"], row["variable"]) for row in context.tables["consistency"][1]}
    assert ("RCM_A/imperfect", "pr") not in cases and ("RCM_A/perfect", "pr") in cases


# --- extrapolation -----------------------------------------------------------------------------------------------------------------


def year_errors(biases):
    found = YearErrors()
    for year, bias in biases.items():
        found.add(np.full((10, 1, 2), bias), np.full(10, year), AREA)
    return found


def test_a_bias_that_grows_with_warming_has_its_slope():
    warming = Warming({2000 + n: (0.5 * n, 10) for n in range(8)}, (0.0, 1.6))
    errors = year_errors({2000 + n: 0.2 + 0.3 * (0.5 * n) for n in range(8)})
    found = slope(warming, errors)
    assert found["slope"] == pytest.approx(0.3) and found["lower"] == pytest.approx(0.3, abs=1e-6) and found["n_years"] == 8
    rows = bins(warming, errors, 1.0)
    assert [row["warming_low"] for row in rows] == [0.0, 1.0, 2.0, 3.0] and [row["n_years"] for row in rows] == [2] * 4
    assert [row["inside_training"] for row in rows] == [1, 1, 0, 0]
    assert rows[3]["bias"] == pytest.approx(0.2 + 0.3 * 3.25) and rows[3]["n_days"] == 20
    assert warming.outside == pytest.approx(4 / 8)


def test_too_few_years_have_no_interval_or_no_slope():
    two = Warming({2000: (0.0, 10), 2090: (3.0, 10)}, (0.0, 1.0))
    found = slope(two, year_errors({2000: 0.0, 2090: 0.6}))
    assert found["slope"] == pytest.approx(0.2) and math.isnan(found["lower"]) and "two years" in found["note"]
    one = Warming({2000: (0.0, 10)}, (0.0, 1.0))
    assert math.isnan(slope(one, year_errors({2000: 0.0}))["slope"])
    assert math.isnan(bins(one, None, 1.0)[0]["bias"]) and math.isnan(Warming({}, (0.0, 1.0)).outside)


def test_errors_are_weighted_by_area_and_leave_out_missing_days():
    error = np.stack([np.array([[1.0, 5.0]]), np.array([[np.nan, 5.0]]), np.full((1, 2), np.nan)])
    found = YearErrors()
    found.add(error, np.array([2000, 2000, 2000]), AREA)
    days, weight, total, square = found.totals[2000]
    assert days == 2 and total / weight == pytest.approx((1 + 15 + 15) / 7) and square / weight == pytest.approx((1 + 75 + 75) / 7)


def test_warming_is_that_of_the_predictor_since_the_first_training_period(tmp_path):
    cfg, store = small_store(tmp_path)
    for group in store.groups.values():
        for kind in group.kinds:
            group.fields[kind][:, 1] = 280.0 + (group.days // 10000 > 2050)[:, None, None] * 4.0
    store.groups["RCM_B"].fields["imperfect"][:, 1] += 3.0
    for name in store.groups:
        predict(tmp_path, store, name, "imperfect", lambda truth: truth - 1.0)
    context = make_context(tmp_path, cfg, store)
    extrapolation.diagnose(context)
    home, away = context.kept["warming"]["net", "RCM_A/imperfect"], context.kept["warming"]["net", "RCM_B/imperfect"]
    assert {year: value for year, (value, _) in home.years.items()} == pytest.approx({2000: 0.0, 2095: 4.0}) and home.outside == 0.0
    assert {year: value for year, (value, _) in away.years.items()} == pytest.approx({2000: 3.0, 2095: 7.0})
    rows = [row for row in context.tables["extrapolation"][1] if (row["case"], row["variable"]) == ("RCM_B/imperfect", "tasmax")]
    assert [row["inside_training"] for row in rows] == [1, 0] and rows[0]["channel"] == "ta850"
    assert [row["bias"] for row in rows] == pytest.approx([-1.0, -1.0], abs=1e-4)
    assert context.tables["extrapolation_slope"][1][0]["slope"] == pytest.approx(0.0, abs=1e-5)
    training = context.kept["warming"]["net", "RCM_B/imperfect"].training
    assert {(row["training_low"], row["training_high"]) for row in rows} == {training}


def test_a_gcm_without_truth_has_bins_and_no_error(tmp_path):
    cfg, store = small_store(tmp_path, lone_gcm=True)
    predict(tmp_path, store, "CNRM", "imperfect", lambda field: field + 290.0)
    context = make_context(tmp_path, cfg, store)
    extrapolation.diagnose(context)
    rows = context.tables["extrapolation"][1]
    assert rows and all(math.isnan(row["bias"]) and row["n_days"] > 0 for row in rows) and not context.tables["extrapolation_slope"][1]


def test_the_channel_is_the_air_temperature_nearest_to_850_hpa():
    assert temperature_channel(["zg500", "ta500", "ta700", "tas"]) == "ta700" and temperature_channel(["tas", "pr"]) == "tas"
    assert temperature_channel(["hus850", "tasmax"]) is None
