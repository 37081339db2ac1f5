"""The ML-Bench diagnostics against what the benchmark's own evaluation code gives, and against plain cases."""

from __future__ import annotations

import json

import netCDF4
import numpy as np
import pytest

from downscale.cf.calendar import decode_days
from downscale.evaluate.mlbench import INDICES, correlation, diagnose, longest_run, ralsd, spectrum


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
            if part == "correlation_bias":
                yield ("correlation_bias", variable, season), maps["__".join([name, variable, season, part])]
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
    assert count > 280
    assert not wrong, wrong


def test_a_perfect_prediction_has_no_error():
    rng = np.random.default_rng(0)
    days = np.concatenate([20010101 + np.arange(28), 20010701 + np.arange(28), 20020101 + np.arange(28)])
    truth = {"tasmax": rng.normal(290, 5, (84, 8, 8)), "pr": rng.gamma(0.5, 6.0, (84, 8, 8))}
    found = {(one.name, one.variable, one.season): one.scalar for one in diagnose(truth, truth, days)}
    assert {key[2] for key in found} == {"all", "winter", "summer"}
    for (name, *_), value in found.items():
        if name.startswith(("bias", "relbias", "rmse", "wasserstein", "ralsd", "correlation")) and np.isfinite(value):
            assert value == 0.0, name
        if name.startswith("ratio") and np.isfinite(value):
            assert value == 1.0, name


def test_a_shift_of_one_kelvin_is_a_bias_of_one_kelvin():
    days = 20010101 + np.arange(28)
    truth = {"tasmax": np.random.default_rng(1).normal(290, 5, (28, 6, 6))}
    found = {one.name: one.scalar for one in diagnose(truth, {"tasmax": truth["tasmax"] + 1.0}, days, ("all",))}
    for name in ("bias_mean", "bias_q98", "bias_txx", "bias_txn", "rmse_time", "rmse_scalar", "wasserstein_spatial", "wasserstein_scalar"):
        assert found[name] == pytest.approx(1.0), name
    assert found["bias_lag1_corr"] == pytest.approx(0.0, abs=1e-12)


def test_missing_cells_are_missing_everywhere():
    days = 20010101 + np.arange(28)
    truth = {"pr": np.random.default_rng(2).gamma(0.5, 6.0, (28, 6, 6))}
    broken = {"pr": truth["pr"].copy()}
    broken["pr"][3, 2, 2] = np.nan
    for one in diagnose(truth, broken, days, ("all",)):
        if one.values.ndim == 2:
            assert np.isnan(one.values[2, 2]), one.name
            assert "ratio" in one.name or "rel" in one.name or np.isfinite(one.values).sum() == 35, one.name


def test_parts():
    true = np.array([1, 1, 0, 1, 1, 1, 0], bool)[:, None, None]
    assert longest_run(true)[0, 0] == 3
    x = np.arange(10.0)[:, None, None]
    assert correlation(x, -2 * x)[0, 0] == pytest.approx(-1.0)
    assert np.isnan(correlation(x, np.ones_like(x))[0, 0])
    fields = np.random.default_rng(3).normal(size=(4, 16, 16))
    assert ralsd(spectrum(fields), spectrum(10.0 * fields)) == pytest.approx(400.0)
    years = np.repeat([2001, 2002], 5)
    assert INDICES["tasmax"]["txx"](np.arange(10.0)[:, None, None], years)[0, 0] == pytest.approx(6.5)
