"""Fractions skill score against the package scores and answers known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from downscale.cf.calendar import expected_days
from downscale.config.ensembles import FssConfig
from downscale.evaluate.metrics.fss import NO_EVENT, TOO_LARGE, Fractions, counts, fss
from downscale.evaluate.selection import TimeTable


def rain(seed=0, shape=(20, 14, 17)):
    return np.random.default_rng(seed).gamma(0.5, 8.0, shape).astype(np.float32)


@pytest.mark.parametrize("threshold", [1.0, 10.0])
@pytest.mark.parametrize("cells", [1, 3, 5, 9])
def test_it_is_that_of_scores(threshold, cells):
    from scores.spatial import fss_2d

    prediction, reference = rain(0), rain(1)
    arrays = [xr.DataArray(values, dims=("time", "y", "x")) for values in (prediction, reference)]
    expected = fss_2d(
        *arrays, event_threshold=threshold, window_size=(cells, cells), spatial_dims=("y", "x"), threshold_operator=np.greater_equal
    )
    assert fss(prediction, reference, threshold, cells) == pytest.approx(float(expected), rel=1e-9)


def test_rain_moved_by_a_cell_is_missed_at_one_cell_and_found_in_larger_windows():
    reference = np.zeros((5, 31, 31), np.float32)
    reference[:, 15, 15] = 20.0
    moved = np.roll(reference, 1, axis=2)
    assert fss(reference, reference, 5.0, 1) == 1.0
    assert fss(moved, reference, 5.0, 1) == 0.0
    # of 3 x 3 windows that hold the cell, 6 of 9 hold both: 1 - 2 * 3 / 18
    assert fss(moved, reference, 5.0, 3) == pytest.approx(2 / 3)
    assert fss(moved, reference, 5.0, 9) == pytest.approx(8 / 9)


def test_no_event_and_no_window_are_nan():
    assert np.isnan(fss(np.zeros((2, 5, 5)), np.zeros((2, 5, 5)), 1.0, 1))
    assert np.isnan(fss(rain(), rain(), 1.0, 15))
    assert np.isnan(fss(np.full((2, 5, 5), np.nan), rain(0, (2, 5, 5)), 1.0, 3))


def test_windows_with_a_missing_cell_do_not_count():
    prediction, reference = rain(0), rain(1)
    prediction[:, :, 0], reference[:, 3, :] = np.nan, np.nan
    both = np.concatenate([values[:, 4:, 1:] for values in (prediction, reference)])
    lower = fss(both[:20], both[20:], 5.0, 5)
    upper = fss(prediction, reference, 5.0, 5)
    assert upper == pytest.approx(lower)


def test_windows_have_the_weight_of_their_centre():
    prediction, reference = rain(0), rain(1)
    area = np.zeros((14, 17))
    area[4:9, 3:8] = 2.0
    assert fss(prediction, reference, 5.0, 3, area) == pytest.approx(fss(prediction[:, 3:10, 2:9], reference[:, 3:10, 2:9], 5.0, 3))


def test_counts_are_plain_sums():
    values = rain(3, (2, 6, 7))
    expected = [[(values[1, y : y + 3, x : x + 3] >= 4.0).sum() for x in range(5)] for y in range(4)]
    assert counts(values, 4.0, 3)[1].tolist() == expected


def filled(prediction, reference, days, *, block=100, cells=(1, 3), thresholds=(1.0, 500.0)):
    table = TimeTable(days, "standard")
    parts = Fractions(table, np.ones(reference.shape[1:]), thresholds, cells)
    for start in range(0, len(days), block):
        some = slice(start, min(start + block, len(days)))
        fields = {("net", "perfect", "pr"): prediction[some], ("net", "perfect", "tasmax"): prediction[some]}
        parts.add(some, {"pr": reference[some], "tasmax": reference[some]}, fields)
    rows = parts.rows("RCM", "all")
    assert {row.variable for row in rows} == {"pr"}
    return {(row.metric, row.season): row for row in rows}


def test_rows_are_the_plain_score_of_each_season_whatever_the_blocks():
    days = expected_days(20000101, 20111231, "standard")
    prediction, reference = rain(0, (len(days), 6, 7)), rain(1, (len(days), 6, 7))
    prediction = 0.7 * reference + 0.3 * prediction
    rows = filled(prediction, reference, days)
    summer = np.isin(days // 100 % 100, (6, 7, 8))
    assert rows["fss_1mm_3", "JJA"].value == pytest.approx(fss(prediction[summer], reference[summer], 1.0, 3))
    row = rows["fss_1mm_3", "ANN"]
    assert (row.case, row.unit, row.n_cells, row.n_years, row.interval) == ("RCM/perfect", "1", 20, 12, "bootstrap")
    assert row.lower < row.value < row.upper and row.upper - row.lower < 0.02
    assert filled(prediction, reference, days, block=37)["fss_1mm_3", "ANN"] == row
    useful = rows["fss_1mm_useful", "ANN"]
    assert useful.prediction == "truth" and useful.value == pytest.approx(0.5 + (reference >= 1.0).mean() / 2)


def test_rows_say_why_there_is_no_number():
    days = expected_days(20000101, 20001231, "standard")
    rows = filled(rain(0, (366, 6, 7)), rain(1, (366, 6, 7)), days, cells=(3, 9))
    assert np.isnan(rows["fss_1mm_9", "ANN"].value) and rows["fss_1mm_9", "ANN"].interval == TOO_LARGE
    assert np.isnan(rows["fss_500mm_3", "ANN"].value) and rows["fss_500mm_3", "ANN"].interval == NO_EVENT
    assert rows["fss_1mm_3", "ANN"].interval == "none: 1 year" and np.isnan(rows["fss_1mm_3", "ANN"].lower)


@given(hnp.arrays(np.float32, (2, 2, 5, 6), elements=st.sampled_from([0.0, 1.0, 5.0, np.nan])), st.sampled_from([1, 3, 5]))
@settings(max_examples=60, deadline=None)
def test_it_lies_between_zero_and_one_is_symmetric_and_one_for_equal_fields(fields, cells):
    one, other = fields
    score = fss(one, other, 1.0, cells)
    assert np.isnan(score) or 0.0 <= score <= 1.0
    assert fss(other, one, 1.0, cells) == pytest.approx(score, nan_ok=True)
    same = fss(one, one, 1.0, cells)
    assert np.isnan(same) or same == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [{"cells": [2]}, {"cells": [-1]}, {"thresholds": [0.0]}])
def test_windows_without_a_centre_and_events_of_no_rain_are_refused(wrong):
    with pytest.raises(ValidationError):
        FssConfig.model_validate(wrong)
