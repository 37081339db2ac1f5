"""Regions, what goes together (temperature and rain), scaling per degree, and where a bias is more than chance."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import xarray as xr
from fake_workspace import make_config, make_workspace
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.config.evaluate import EvaluateConfig
from downscale.errors import InputDataError
from downscale.evaluate import stage
from downscale.evaluate.experiment import Experiment
from downscale.evaluate.metrics import joint
from downscale.evaluate.metrics import point as metrics
from downscale.evaluate.metrics.definitions import find
from downscale.evaluate.metrics.significance import bias_p_value, significant
from downscale.evaluate.regions import in_box, masks_digest, region_areas
from downscale.evaluate.scorecard import MapsFile, read_scores
from downscale.evaluate.stage import evaluate_store
from downscale.evaluate.transfer import scaling
from downscale.grid.grid import lonlat_grid

GRID = lonlat_grid(np.linspace(40, 44, 9), np.linspace(-6, -2, 9))


def _mask(path, values, lat, lon, units="1"):
    coords = {"lat": ("lat", lat), "lon": ("lon", lon)}
    xr.Dataset({"basin": (("lat", "lon"), values, {"units": units})}, coords=coords).to_netcdf(path, engine="netcdf4")
    return path


def test_a_box_is_its_cell_centres_and_may_cross_the_date_line():
    inside = in_box(GRID, (-5.0, -4.0), (41.0, 42.0))
    assert inside.sum() == 4 and (GRID.lon[inside] < -4).all() and (GRID.lat[inside] > 41).all()
    assert (in_box(GRID, (355.0, 356.0), (41.0, 42.0)) == inside).all()
    pacific = lonlat_grid(np.linspace(0, 2, 3), np.linspace(176, 184, 9))
    assert in_box(pacific, (179.0, -178.0), (-90, 90)).sum() == 2 * 3
    assert in_box(pacific, (-180.0, 180.0), (-90, 90)).all() and in_box(pacific, (0.0, 360.0), (0.0, 1.0)).sum() == 8


@settings(max_examples=40, deadline=None)
@given(west=st.floats(-10, 2), width=st.floats(0.1, 8), turns=st.integers(-1, 1))
def test_a_box_does_not_care_how_longitudes_are_counted(west, width, turns):
    found = in_box(GRID, (west + 360 * turns, west + width + 360 * turns), (-90, 90))
    assert (found == in_box(GRID, (west, west + width), (-90, 90))).all() or np.isclose(np.mod(GRID.lon - west, 360), width).any()


@pytest.mark.parametrize("units", ["1", "%"])
def test_a_mask_of_a_larger_grid_is_cut_to_the_domain(tmp_path, units):
    larger = lonlat_grid(np.linspace(38, 46, 17), np.linspace(-8, 0, 17))
    share = np.clip((larger.lon + 6.0) / 4.0, 0, 1) * (100.0 if units == "%" else 1.0)
    path = _mask(tmp_path / "mask.nc", share, larger.lat[:, 0], larger.lon[0] + 360.0, units)
    areas = region_areas({"east": {"mask": str(path), "variable": "basin"}}, GRID, GRID.areas())
    assert ((areas["east"] > 0) == (GRID.lon >= -4.0)).all() and areas["east"].max() == pytest.approx(GRID.areas().max())


def test_masks_on_other_cells_and_regions_without_a_cell_are_refused(tmp_path):
    values = np.ones(GRID.shape)
    path = _mask(tmp_path / "shifted.nc", values, GRID.lat[:, 0] + 0.2, GRID.lon[0])
    for region, words in (
        ({"mask": str(path), "variable": "basin"}, "lacks 64 of the 64 cells"),
        ({"mask": str(path), "variable": "river"}, "cannot read a region's mask"),
        ({"mask": str(tmp_path / "nowhere.nc"), "variable": "basin"}, "cannot read a region's mask"),
        ({"lon": (10.0, 11.0), "lat": (41.0, 42.0)}, "the region 'here' holds no cell"),
    ):
        with pytest.raises(InputDataError, match=words) as caught:
            region_areas({"here": region}, GRID, GRID.areas())
        assert caught.value.code == 4
    empty = _mask(tmp_path / "empty.nc", 0 * values, GRID.lat[:, 0], GRID.lon[0])
    with pytest.raises(InputDataError, match="holds no cell"):
        region_areas({"here": {"mask": str(empty), "variable": "basin"}}, GRID, GRID.areas())


def test_another_mask_is_another_recipe(tmp_path):
    path = _mask(tmp_path / "mask.nc", np.ones(GRID.shape), GRID.lat[:, 0], GRID.lon[0])
    regions = {"a": {"mask": str(path), "variable": "basin"}, "b": {"lon": (0, 1), "lat": (0, 1)}}
    before = masks_digest(regions)
    path.unlink()
    assert masks_digest(regions) == {"a": "missing"} and before["a"] != "missing"


@pytest.mark.parametrize(
    "region", [{"all": {"lon": [0, 1], "lat": [0, 1]}}, {"x": {"lon": [0, 1], "lat": [1, 0]}}, {"x": {"mask": "m.nc"}}]
)
def test_regions_that_mean_nothing_are_refused_in_the_config(region):
    with pytest.raises(ValueError, match="regions"):
        EvaluateConfig.model_validate({"regions": region})


# --- a whole evaluation ------------------------------------------------------------------------------------------------------------

BOX = {"lon": [-6.0, -4.7], "lat": [38.0, 39.4]}


@pytest.fixture(scope="module", autouse=True)
def ours_alone():
    """Without the diagnostics that have tests of their own and take their time."""
    with pytest.MonkeyPatch.context() as patch:
        mine = (("joint", joint.diagnose), ("scaling", scaling.diagnose))
        patch.setattr(stage, "Experiment", partial(Experiment, diagnoses=mine))
        yield


@pytest.fixture(scope="module")
def finished(ours_alone, tmp_path_factory):
    root = tmp_path_factory.mktemp("regional")
    _, store = make_workspace(root, size=12, runs=("resunet-A", "ridge-A"), lone_gcm=True)
    cfg = make_config(root, extra_gcm=True, evaluate={"regions": {"south_west": BOX}})
    evaluate_store(cfg, store)
    return root, cfg, store, read_scores(root / "scores")


def _fields(finished, name):
    root, _, store, _ = finished
    group = store.groups["RCM_B"]
    path = root / "predictions" / "resunet-A" / "RCM_B_imperfect" / f"{name}.nc"
    with xr.open_dataset(path, decode_times=False) as dataset:
        found = dataset[name].values * (86400.0 if name == "pr" else 1.0)
    return found, group.target(group.split("test"))[:, 0 if name == "tasmax" else 1]


def test_a_region_has_rows_of_its_own_and_changes_no_others(finished, tmp_path):
    _, _, store, card = finished
    inside = region_areas({"box": BOX}, store.fine, store.fine.areas())["box"]
    found, truth = _fields(finished, "tasmax")
    regional = {(row.prediction, row.case, row.variable, row.metric, row.season, row.period): row for row in card.regional}
    row = regional["resunet-A", "RCM_B/imperfect", "tasmax", "rmse", "ANN", "all"]
    assert row.value == pytest.approx(np.average(metrics.rmse(found, truth), weights=inside), rel=1e-5)
    assert row.region == "south_west" and row.n_cells == int((inside > 0).sum()) == 30
    assert {row.region for row in card.regional} == {"south_west"} and "south_west" not in {row.region for row in card.scores}
    assert card.recipe["regions"] == ["south_west"]
    plain, store2 = make_workspace(tmp_path, size=12, runs=("resunet-A", "ridge-A"), lone_gcm=True)
    evaluate_store(plain, store2)
    again = read_scores(tmp_path / "scores")
    assert not again.regional and len(again.scores) == len(card.scores)
    for one, other in zip(card.scores, again.scores, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-12, nan_ok=True), one.metric
    wanted = {(row.variable, row.metric) for row in again.scores if row.metric != "effective_resolution" and find(row.metric)}
    assert {(row.variable, row.metric) for row in card.regional} >= {key for key in wanted if "spectral" not in key[1]}


def test_a_gcm_without_truth_is_described_in_the_regions_too(finished):
    root, _, store, card = finished
    inside = region_areas({"box": BOX}, store.fine, store.fine.areas())["box"]
    with xr.open_dataset(root / "predictions" / "resunet-A" / "CNRM_imperfect" / "tasmax.nc", decode_times=False) as dataset:
        expected = np.average(dataset["tasmax"].values.mean(axis=0, dtype=float), weights=inside)
    row = next(
        row for row in card.regional if (row.case, row.variable, row.metric, row.season) == ("CNRM/imperfect", "tasmax", "mean", "ANN")
    )
    assert row.value == pytest.approx(expected, rel=1e-6)
    assert any(row.period == "training" for row in card.regional)


def test_the_correlation_over_space_is_the_plain_one(finished):
    store, card = finished[2], finished[3]
    found, truth = _fields(finished, "tasmax")
    area = store.fine.areas()
    w = (area / area.sum()).ravel()
    expected = []
    for p, r in zip(found.reshape(len(found), -1).astype(float), truth.reshape(len(truth), -1).astype(float), strict=True):
        a, b = p - w @ p, r - w @ r
        expected.append((w @ (a * b)) / np.sqrt((w @ a**2) * (w @ b**2)))
    row = card.get("resunet-A", "RCM_B/imperfect", "tasmax", "spatial_correlation")
    assert row.value == pytest.approx(np.mean(expected), rel=1e-6) and row.unit == "1" and row.n_cells == 144


def test_new_indices_stand_in_the_table_with_their_units(finished):
    card = finished[3]
    for variable, metric, unit in (
        ("pr", "cdd_bias", "days"),
        ("pr", "relative_bias", "%"),
        ("tasmax", "su", "days"),
        ("tasmax", "abs_txn_bias", "K"),
        ("tasmax", "p99_5", "K"),
        ("pr", "lag1_bias", "1"),
        ("tasmax", "mse", "(K)2"),
    ):
        row = card.get("resunet-A", "RCM_A/perfect", variable, metric)
        assert row.unit == unit and math.isfinite(row.value), metric
    assert math.isnan(card.value("resunet-A", "RCM_A/perfect", "pr", "interannual_std"))


def test_every_row_is_of_a_metric_that_the_registry_knows(finished):
    for row in [*finished[3].scores, *finished[3].regional]:
        entry = find(row.metric)
        assert entry is not None, row.metric
        low, high = (float(bound) for bound in entry.range.strip("[]()").split(","))
        assert math.isnan(row.value) or low - 1e-9 <= row.value <= high + 1e-9, row
        assert row.unit == entry.unit or entry.unit.startswith("th"), row


def test_the_joint_rows_are_the_plain_ones(finished):
    _, _, store, card = finished
    (t1, t0), (p1, p0) = _fields(finished, "tasmax"), _fields(finished, "pr")
    expected = metrics.correlation(t1, p1) - metrics.correlation(t0, p0)
    row = card.get("resunet-A", "RCM_B/imperfect", "pr", "temperature_correlation_bias")
    assert row.value == pytest.approx(np.average(expected, weights=store.fine.areas()), abs=1e-6)
    assert card.value("truth", "RCM_B/truth", "pr", "hot_dry_days") == pytest.approx(
        np.average(joint.joint_maps(t0, p0)["hot_dry_days"], weights=store.fine.areas()), abs=1e-9
    )
    assert row.interval == "none: 2 years"


def test_change_signals_are_given_per_degree_of_the_driver(finished):
    _, _, store, card = finished
    group = store.groups["RCM_B"]
    index = group.split("test")
    late = group.days[index] > 20900000
    coarse = group.predictors("imperfect", index)[:, 1].astype(float)
    weights = store.coarse.areas()
    daily = np.array([np.average(field, weights=weights) for field in coarse])
    warming = daily[late].mean() - daily[~late].mean()
    for kind in ("perfect", "imperfect"):
        signal = card.value("resunet-A", f"RCM_B/{kind}", "tasmax", "change_mean", period="change")
        row = card.get("resunet-A", f"RCM_B/{kind}", "tasmax", "change_mean_scaling", period="change")
        assert row.value == pytest.approx(signal / warming, rel=1e-5) and row.unit == "K K-1"
    both = [
        card.value("resunet-A", "RCM_B/perfect", "pr", f"change_mean_scaling{end}", period="change") for end in ("", "_reference", "_bias")
    ]
    assert both[2] == pytest.approx(both[0] - both[1])


# --- temperature and rain ----------------------------------------------------------------------------------------------------------


def test_independent_series_are_hot_and_wet_on_one_day_of_a_hundred():
    generator = np.random.default_rng(0)
    t, p = generator.standard_normal((2, 20000, 2))
    found = joint.joint_maps(t, p, wet_day_mm=0.0)
    assert found["hot_wet_days"] == pytest.approx(0.01, abs=0.002)
    assert found["hot_dry_days"] == pytest.approx(0.05, abs=0.005)
    assert np.abs(found["temperature_correlation"]).max() < 0.03


def test_series_that_go_together_are_always_hot_and_wet_and_opposite_ones_never():
    t = np.random.default_rng(1).standard_normal((1000, 1))
    assert joint.joint_maps(t, t)["hot_wet_days"][0] == pytest.approx(0.1)
    assert joint.joint_maps(t, -t)["hot_wet_days"][0] == 0.0
    assert joint.joint_maps(t, -t)["temperature_correlation"][0] == pytest.approx(-1.0)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.1, 50), shift=st.floats(-20, 20))
def test_hot_and_wet_days_know_no_units(scale, shift):
    t, p = np.random.default_rng(2).standard_normal((2, 400, 3))
    p = p + 0.5 * t
    assert (joint.joint_maps(t, p)["hot_wet_days"] == joint.joint_maps(scale * t + shift, scale * p)["hot_wet_days"]).all()


def test_days_that_one_of_the_two_lacks_do_not_count_and_a_cell_without_any_is_nan():
    t, p = np.random.default_rng(3).standard_normal((2, 300, 2))
    t[:100, 0] = np.nan
    p[:, 1] = np.nan
    found, expected = joint.joint_maps(t, p), joint.joint_maps(t[100:], p[100:])
    for name in joint.STATISTICS:
        assert found[name][0] == pytest.approx(expected[name][0]) and np.isnan(found[name][1])
    assert np.isnan(joint.joint_maps(np.ones((50, 1)), p[:50, :1])["temperature_correlation"][0])


# --- significance ------------------------------------------------------------------------------------------------------------------


def _years(bias, n=20):
    """Sums of years of 100 days whose mean error is given, (year, cell)."""
    return {"n": np.full_like(bias, 100.0), "p": 100.0 * bias, "r": np.zeros_like(bias)}


def test_p_values_are_those_of_a_t_test():
    from scipy import stats

    bias = np.random.default_rng(0).standard_normal((14, 5)) + 0.5
    found = bias_p_value(_years(bias), np.zeros(14, int))
    assert found == pytest.approx(stats.ttest_1samp(bias, 0.0).pvalue)
    assert np.isnan(bias_p_value(_years(bias[:9]), np.zeros(9, int))).all()
    assert np.isnan(bias_p_value(_years(np.ones((12, 2))), np.zeros(12, int))).all()
    gone = _years(bias)
    gone["n"][:6, 0] = 0.0
    assert np.isnan(bias_p_value(gone, np.zeros(14, int))[0])


def test_a_change_between_periods_is_no_spread():
    bias = np.concatenate([np.full((8, 1), -1.0), np.full((8, 1), 1.2)]) + 0.01 * np.random.default_rng(1).standard_normal((16, 1))
    apart = np.repeat([0, 1], 8)
    assert bias_p_value(_years(bias), apart)[0] < 1e-6 < 0.1 < bias_p_value(_years(bias), np.zeros(16, int))[0]


def test_false_discoveries_stay_below_their_rate_and_real_ones_are_found():
    generator = np.random.default_rng(2)
    noise = bias_p_value(_years(generator.standard_normal((20, 4000))), np.zeros(20, int))
    assert significant(noise).mean() < 0.01 < 0.03 < (noise < 0.05).mean()
    mixed = bias_p_value(_years(generator.standard_normal((20, 4000)) + np.where(np.arange(4000) < 2000, 2.0, 0.0)), np.zeros(20, int))
    marks = significant(mixed)
    assert marks[:2000].mean() > 0.99 and marks[2000:].sum() / marks.sum() < 0.1
    assert not significant(np.array([np.nan, np.nan])).any() and significant(np.array([np.nan, 1e-9])).tolist() == [False, True]


def test_maps_say_where_a_bias_is_more_than_chance_from_ten_years_on(tmp_path, finished):
    maps = MapsFile(finished[0] / "scores").read("resunet-A", "RCM_A/perfect")
    assert not [name for name in maps if name.endswith("significant")]
    cfg, store = make_workspace(tmp_path, size=6, runs=("resunet-B",), test=tuple(range(2000, 2010)))
    evaluate_store(cfg, store)
    found = MapsFile(tmp_path / "scores").read("resunet-B", "RCM_A/perfect")["tasmax__bias__ANN__all__significant"]
    assert found.shape == (6, 6) and set(np.unique(found.values)) <= {0.0, 1.0} and found.values.mean() > 0.9
    row = read_scores(tmp_path / "scores").get("resunet-B", "RCM_A/perfect", "pr", "cdd_bias")
    assert row.interval == "bootstrap" and row.lower <= row.value <= row.upper
    for metric in ("spatial_correlation", "temperature_correlation_bias", "interannual_std_ratio"):
        row = read_scores(tmp_path / "scores").get("resunet-B", "RCM_A/perfect", "pr" if "temp" in metric else "tasmax", metric)
        assert row.interval == "bootstrap" and row.lower < row.upper and math.isfinite(row.value), metric
