"""The ML-Bench diagnostics against what the benchmark's own evaluation code gives, against plain loops, and in plain cases."""

from __future__ import annotations

import json

import netCDF4
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_mlbench import plain_scores

from downscale.cf.calendar import decode_days, expected_days
from downscale.evaluate.blocks_spread import spreading
from downscale.evaluate.mlbench import maps as mlbench
from downscale.evaluate.mlbench.cells import BINS, Range
from downscale.evaluate.mlbench.maps import diagnose, ralsd
from downscale.evaluate.mlbench.plan import SeasonPlan


@pytest.fixture(scope="module")
def case(shared_reference):
    folder = shared_reference / "mlbench-metrics"
    if not folder.is_dir():
        pytest.skip(f"reference results are not here: {folder}")
    series = {}
    for which in ("truth", "pred"):
        with netCDF4.Dataset(folder / f"plain_{which}.nc") as file:
            series[which] = {name: np.ma.filled(file[name][:], np.nan) for name in ("tasmax", "pr")}
            days = decode_days(np.asarray(file["time"][:]), file["time"].units, file["time"].calendar)
    found = {(one.name, one.variable, one.season): one for one in diagnose(series["truth"], series["pred"], days)}
    return folder, found


def _expected(folder):
    values = json.loads((folder / "plain_expected.json").read_text())["values"]
    with netCDF4.Dataset(folder / "plain_expected.nc") as file:
        maps = {name: np.ma.filled(file[name][:], np.nan) for name in file.variables if "__" in name}
    for key, value in values.items():
        name, variable, season = key.split(".")
        season, _, part = season.partition("__")
        if name == "multivar_corr":
            yield (part, variable, season), maps["__".join([name, variable, season, part])]
        else:
            yield (name, variable, season), value if isinstance(value, float) else maps[f"{name}__{variable}__{season}"]


def _tolerance(name: str, variable: str) -> float:
    """Relative to values above 1. The benchmark sums float32 in float32, we in float64: annual means of 288 K differ by 1e-4 K there."""
    if name.startswith("wasserstein"):
        return 0.01
    if name.startswith("psd"):
        return 1e-5
    if name == "ralsd" or "interannual" in name:
        return 5e-3
    return 1e-3 if variable == "tasmax" else 5e-5


def test_every_diagnostic_is_the_benchmarks(case):
    folder, found = case
    wrong, count = [], 0
    for key, expected in _expected(folder):
        ours, expected = np.asarray(found[key].values), np.asarray(expected)
        count += 1
        assert np.array_equal(np.isfinite(ours), np.isfinite(expected)), key
        known = np.isfinite(expected)
        apart = np.max(np.abs(ours - expected)[known] / np.maximum(np.abs(expected[known]), 1.0), initial=0.0)
        if apart > _tolerance(key[0], key[1]):
            wrong.append((key, float(apart)))
    assert count > 290
    assert not wrong, wrong


def _fields(shape, days, seed=0):
    """tasmax and pr with a seasonal cycle, half of pr zero."""
    rng = np.random.default_rng(seed)
    cycle = 8 * np.sin(2 * np.pi * (days // 100 % 100) / 12)[:, None, None]
    warm = 288 + cycle + rng.normal(0, 4, (len(days), *shape))
    wet = np.maximum(rng.gamma(0.4, 6.0, (len(days), *shape)) - 1.0, 0.0)
    return {"tasmax": warm.astype(np.float32), "pr": wet.astype(np.float32)}


def _hold_against_loops(truth, prediction, days):
    expected = plain_scores(truth, prediction, days)
    found = {(one.name, one.variable, one.season): one.values for one in diagnose(truth, prediction, days)}
    assert set(found) == set(expected)
    for key, values in expected.items():
        ours, values = np.asarray(found[key], dtype=float), np.asarray(values, dtype=float)
        assert np.array_equal(np.isfinite(ours), np.isfinite(values)), key
        tolerance = 0.01 if key[0].startswith("wasserstein") else 1e-6
        np.testing.assert_allclose(
            ours, values, rtol=tolerance, atol=tolerance if key[0] != "wasserstein_scalar" else 1e-3, err_msg=str(key)
        )


@pytest.mark.parametrize(
    ("shape", "first", "last"), [((6, 9), 20001105, 20030210), ((7, 4), 19991201, 20000229), ((5, 5), 20010101, 20011231)]
)
def test_rectangles_and_odd_periods_are_what_loops_give(shape, first, last):
    days = np.asarray(expected_days(first, last, "standard"))
    _hold_against_loops(_fields(shape, days), _fields(shape, days, seed=1), days)


def test_masked_cells_are_what_loops_give():
    days = np.asarray(expected_days(20000101, 20011231, "noleap"))
    truth, prediction = _fields((5, 6), days), _fields((5, 6), days, seed=1)
    for fields in (truth, prediction):
        for values in fields.values():
            values[:, :2, :3] = np.nan
    prediction["pr"][100, 4, 4] = np.nan
    truth["tasmax"][:, 3, 3] = 280.0
    truth["pr"][:, 3, 3] = 0.0
    _hold_against_loops(truth, prediction, days)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.integers(2, 400))
def test_any_shape_and_length_is_what_loops_give(seed, ny, nx, n):
    days = np.asarray(expected_days(20001120, 20021231, "noleap"))[:n]
    _hold_against_loops(_fields((ny, nx), days, seed), _fields((ny, nx), days, seed + 1), days)


def test_blocks_and_threads_change_nothing(monkeypatch):
    days = np.asarray(expected_days(20000101, 20001231, "standard"))
    truth, prediction = _fields((9, 7), days), _fields((9, 7), days, seed=1)
    whole = list(diagnose(truth, prediction, days))
    monkeypatch.setattr(mlbench, "TASK_BYTES", 366 * 7 * 16 * 2)
    monkeypatch.setattr(mlbench, "DAYS", 11)
    original = mlbench.score_rows
    with spreading(workers=3, threads=True) as spread:
        monkeypatch.setattr(mlbench, "score_rows", lambda *arguments: original(*arguments, spread))
        parts = list(diagnose(truth, prediction, days))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-12, err_msg=one.name)


def test_a_perfect_prediction_has_no_error():
    rng = np.random.default_rng(0)
    days = np.concatenate([20010101 + np.arange(28), 20010701 + np.arange(28), 20020101 + np.arange(28)])
    truth = {"tasmax": rng.normal(290, 5, (84, 8, 8)), "pr": rng.gamma(0.5, 6.0, (84, 8, 8))}
    found = {(one.name, one.variable, one.season): one.scalar for one in diagnose(truth, truth, days)}
    assert {key[2] for key in found} == {"all", "winter", "summer"}
    for (name, *_), value in found.items():
        if value is None:
            continue
        if name.startswith(("bias", "relbias", "rmse", "wasserstein", "ralsd", "correlation")) and np.isfinite(value):
            assert value == 0.0, name
        if name.startswith("ratio") and np.isfinite(value):
            assert value == 1.0, name


def test_a_shift_of_one_kelvin_is_a_bias_of_one_kelvin():
    days = 20010101 + np.arange(28)
    truth = {"tasmax": np.random.default_rng(1).normal(290, 5, (28, 6, 6))}
    found = {one.name: one.scalar for one in diagnose(truth, {"tasmax": truth["tasmax"] + 1.0}, days, ("all",))}
    for name in ("bias_mean", "bias_q98", "bias_txx", "bias_txn", "rmse_time", "rmse_scalar", "wasserstein_spatial"):
        assert found[name] == pytest.approx(1.0, abs=1e-5), name
    assert found["wasserstein_scalar"] == pytest.approx(1.0, abs=1e-3)
    assert found["bias_lag1_corr"] == pytest.approx(0.0, abs=1e-6)


def test_missing_cells_are_missing_everywhere():
    days = 20010101 + np.arange(28)
    truth = {"pr": np.random.default_rng(2).gamma(0.5, 6.0, (28, 6, 6))}
    broken = {"pr": truth["pr"].copy()}
    broken["pr"][3, 2, 2] = np.nan
    for one in diagnose(truth, broken, days, ("all",)):
        if one.values.ndim == 2:
            assert np.isnan(one.values[2, 2]), one.name
            assert "ratio" in one.name or "rel" in one.name or np.isfinite(one.values).sum() == 35, one.name


def test_nothing_at_all_is_nan_and_never_zero():
    days = 20010101 + np.arange(28)
    nothing = {"pr": np.full((28, 3, 4), np.nan, np.float32)}
    for one in diagnose(nothing, nothing, days, ("all",)):
        if not one.name.startswith("psd"):
            assert not np.isfinite(one.values).any(), one.name


def test_a_constant_field_has_no_correlation():
    days = 20010101 + np.arange(28)
    constant = {"tasmax": np.full((28, 3, 3), 287.3, np.float32)}
    found = {one.name: one.values for one in diagnose(constant, constant, days, ("all",))}
    assert np.isnan(found["index_lag1_corr_pred"]).all() and (found["rmse_time"] == 0).all()
    assert found["index_mean_pred"] == pytest.approx(287.3, abs=1e-4)


def test_one_winter_has_its_december_in_the_year_before():
    plan = SeasonPlan(np.asarray(expected_days(20001201, 20010228, "standard")))
    assert plan.names == ["all", "winter"] and len(plan.segments["winter"]) == 2
    assert [int(plan.lengths[own].sum()) for own in plan.segments["winter"]] == [31, 59]


def test_parts():
    assert ralsd(np.array([1.0, 10.0]), np.array([10.0, 1.0])) == pytest.approx(100.0)
    span = Range(0.0, 2.0)
    assert span.bins(np.array([0.0, 1.0, 2.0], np.float32)).tolist() == [0, BINS // 2, BINS - 1]
    assert Range(3.0, 3.0).bins(np.array([3.0], np.float32)).tolist() == [0]
