"""Days far from the training days in the tables: shares by decade and year, and errors by distance."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs_world import FINE, Group, make_context, rows_of, write_prediction, years_of

from downscale.evaluate.weather import ood
from downscale.evaluate.weather.distances import Distances, read_distances
from downscale.evaluate.weather.error_collector import ErrorDays, area_means
from downscale.evaluate.weather.error_days import error_days


def group_of(days, *, truth=True, test=None):
    values = np.full((len(days), 1, *FINE), 290.0, np.float32) if truth else None
    splits = {"test": np.arange(len(days)) if test is None else test}
    return Group("R", days, {"perfect": np.zeros((len(days), 1, 6, 6), np.float32)}, truth=values, splits=splits)


def test_shares_by_decade_year_and_space(tmp_path):
    days = np.concatenate([years_of(2000, 2000), years_of(2050, 2051)])
    group = group_of(days)
    warm = days > 20500000
    score = np.where(warm, 5.0, 1.0)
    score[:10] = np.nan
    score[10:20] = 4.0
    series = {"ood_score": (score, 3.0), "ood_score_features": (np.where(days > 20510000, 9.0, 1.0), 8.0)}
    write_prediction(tmp_path, "net", group, "perfect", days, np.full((len(days), *FINE), 291.0), series=series)
    context = make_context(tmp_path, [group])
    ood.diagnose(context)
    rows = {(row["period"], row["space"]): row for row in rows_of(context, "ood")}
    assert set(rows) == {(period, space) for period in ("all", "2000-2009", "2050-2059") for space in ("pca", "features")}
    assert (rows["2000-2009", "pca"]["n_days"], rows["2000-2009", "pca"]["flagged"]) == (355, 10)
    assert rows["2050-2059", "pca"]["share"] == 1.0
    assert rows["2050-2059", "features"]["share"] == 0.5
    assert rows["all", "pca"]["share"] == pytest.approx(740 / 1085)
    assert rows["all", "pca"]["threshold"] == 3.0
    by_year = {row["year"]: row for row in rows_of(context, "ood_days")}
    assert list(by_year) == [2000, 2050, 2051]
    assert by_year[2000]["share"] == pytest.approx(10 / 355)
    assert by_year[2000]["median"] == 1.0
    assert (by_year[2050]["share_features"], by_year[2051]["share_features"]) == (0.0, 1.0)


def test_the_error_of_days_by_their_distance(tmp_path):
    days = years_of(2001, 2001)
    group = group_of(days)
    score = np.random.default_rng(0).permutation(len(days)) / len(days)
    error = np.broadcast_to(score[:, None, None], (len(days), *FINE)).copy()
    write_prediction(tmp_path, "net", group, "perfect", days, 290.0 + error, series={"ood_score": (score, 2.0)})
    context = make_context(tmp_path, [group])
    ood.diagnose(context)
    rows = rows_of(context, "ood_error")
    assert [row["bin"] for row in rows] == list(range(1, 11))
    assert sum(row["n_days"] for row in rows) == len(days)
    assert [row["bias"] for row in rows] == sorted(row["bias"] for row in rows)
    for row in rows:
        assert row["score_low"] <= row["bias"] <= row["score_high"]
        assert row["rmse"] == pytest.approx(row["bias"], abs=0.03)
        assert row["unit"] == "K"


def test_only_test_days_are_scored_and_all_days_are_counted(tmp_path):
    days = years_of(2000, 2002)
    group = group_of(days, test=np.arange(730, 1095))
    series = {"ood_score": (np.where(days > 20020000, 5.0, 1.0), 3.0)}
    write_prediction(tmp_path, "net", group, "perfect", days, np.full((len(days), *FINE), 292.0), series=series)
    context = make_context(tmp_path, [group])
    ood.diagnose(context)
    rows = {row["period"]: row for row in rows_of(context, "ood")}
    assert rows["all"]["share"] == pytest.approx(1 / 3)
    assert rows["test"]["share"] == 1.0
    assert sum(row["n_days"] for row in rows_of(context, "ood_error")) == 365


def test_a_gcm_without_truth_has_shares_and_no_errors(tmp_path):
    days = years_of(2000, 2000)
    group = group_of(days, truth=False)
    write_prediction(tmp_path, "net", group, "perfect", days, np.full((365, *FINE), 292.0), series={"ood_score": (np.ones(365), 3.0)})
    context = make_context(tmp_path, [group])
    ood.diagnose(context)
    assert rows_of(context, "ood")[0]["share"] == 0.0
    assert rows_of(context, "ood_error") == []
    means = error_days(context)["net", "R/perfect", "tasmax"]
    assert means.prediction == pytest.approx(292.0)
    assert not means.scored.any()


def test_predictions_without_distances_are_left_out(tmp_path, caplog):
    days = years_of(2000, 2000)
    group = group_of(days)
    write_prediction(tmp_path, "old", group, "perfect", days, np.full((365, *FINE), 292.0))
    write_prediction(tmp_path, "ridge", group, "perfect", days, np.full((365, *FINE), 292.0), role="baseline")
    context = make_context(tmp_path, [group])
    with caplog.at_level("INFO"):
        ood.diagnose(context)
    assert not context.tables
    assert "old on R/perfect: its files say nothing" in caplog.text
    assert "ridge" not in caplog.text


def test_few_days_have_no_bins_and_unread_days_no_error():
    days = years_of(2000, 2000)[:39]
    found = Distances(days, {"pca": np.arange(39.0)}, {"pca": 1.0})
    means = ErrorDays(days, "noleap", *[np.ones(39)] * 4)
    assert ood.errors_by_distance(found, means, "pr") == []
    longer = years_of(2000, 2000)[:41]
    score = np.arange(41.0)
    score[0] = np.nan
    rows = ood.errors_by_distance(Distances(longer, {"pca": score}, {"pca": 1.0}), ErrorDays(longer, "noleap", *[np.ones(41)] * 4), "pr")
    assert [row["n_days"] for row in rows] == [20, 20]
    assert rows[0]["unit"] == "mm day-1"


@settings(max_examples=30, deadline=None)
@given(st.integers(40, 300), st.integers(0, 2**31))
def test_bins_hold_every_day_once_and_follow_each_other(n, seed):
    rng = np.random.default_rng(seed)
    days = years_of(2000, 2000)[:n]
    squared = rng.random(n)
    rows = ood.errors_by_distance(
        Distances(days, {"pca": rng.random(n)}, {"pca": 1.0}), ErrorDays(days, "noleap", squared, squared, squared, squared), "pr"
    )
    assert sum(row["n_days"] for row in rows) == n
    assert all(one["score_high"] <= two["score_low"] for one, two in pairwise(rows))
    assert sum(row["rmse"] ** 2 * row["n_days"] for row in rows) == pytest.approx(squared.sum())


# --- area means ----------------------------------------------------------------------------------------------------------------


def test_area_means_weigh_cells_and_pass_over_missing_ones():
    fields = np.array([[[1.0, 3.0]], [[np.nan, 3.0]], [[np.nan, np.nan]]])
    np.testing.assert_allclose(area_means(fields, np.array([[3.0, 1.0]])), [1.5, 3.0, np.nan])
    np.testing.assert_allclose(area_means(fields, np.array([[1.0, 0.0]])), [1.0, np.nan, np.nan])


def test_errors_are_those_of_cells_that_both_have(tmp_path, monkeypatch):
    monkeypatch.setattr("downscale.evaluate.daily.BLOCK_BYTES", 8 * 12 * 7)
    days = years_of(2000, 2000)[:30]
    group = group_of(days)
    group.truth[:, :, 0] = np.nan
    values = np.full((30, *FINE), 292.0)
    values[:, 1, 0] = 294.0
    values[3] = np.nan
    write_prediction(tmp_path, "net", group, "perfect", days, values)
    area = np.ones(FINE)
    area[2] = 0.0
    means = error_days(make_context(tmp_path, [group], area=area))["net", "R/perfect", "tasmax"]
    assert means.scored.sum() == 29
    assert means.error[0] == pytest.approx((4 + 3 * 2) / 4)
    assert means.squared_error[0] == pytest.approx((16 + 3 * 4) / 4)
    assert means.truth[0] == pytest.approx(290.0)
    assert np.isnan(means.error[3])


# --- what apply writes ------------------------------------------------------------------------------------------------------------


def test_distances_of_every_layout_are_read(tmp_path):
    """NetCDF in parts, an archive's files beside the fields, a Zarr store."""
    from types import SimpleNamespace

    from profile_world import spec_of, write

    threshold = {"threshold": np.float32(7.0)}
    series = {"ood_score": threshold, "ood_flag": {"flag_masks": np.array([1], np.int8), "_FillValue": np.int8(-1)}}
    for profile in ("cf", "cordex", "zarr"):
        spec = spec_of(tmp_path / profile, first=20191201, last=20200131, series=series)
        numbers = {"ood_score": np.arange(len(spec.days), dtype=np.float32), "ood_flag": np.zeros(len(spec.days), np.int8)}
        output = write(profile, spec, series=numbers)
        files = [path for path in output.files if path.parent.name != "series"]
        prediction = SimpleNamespace(
            folder=spec.folder, run="net", case="R/perfect", role="emulator", variables=("tas",), paths=lambda name, files=files: files
        )
        found = read_distances(prediction)
        assert found is not None, profile
        np.testing.assert_array_equal(found.days, spec.days)
        np.testing.assert_allclose(found.scores["pca"], numbers["ood_score"])
        assert found.thresholds["pca"] == 7.0
        assert found.flagged("pca").sum() == len(spec.days) - 8
