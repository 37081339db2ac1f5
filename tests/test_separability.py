"""Separability (T4): worlds that are the same, of the same law, and different."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from transfer_world import predictor_group

from downscale.evaluate.selection import TimeTable
from downscale.evaluate.transfer.separability import CLASSIFIERS, Days, Side, auc_of_folds, judge, separability


def side(seed, *, shift=0.0, scale=1.0, years=range(2000, 2006), days_a_year=60, hole=False, constant=False):
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((len(years) * days_a_year, 12)).astype(np.float32) * scale + shift
    if hole:
        values[:, 0] = np.nan
    if constant:
        values[:, 1] = 3.0
    group = predictor_group("X", {"perfect": values}, years, days_a_year=days_a_year)
    return Side(f"X{seed}/perfect", values, TimeTable(group.days, group.calendar))


def test_the_same_days_twice_cannot_be_told_apart():
    for row in separability(side(1), side(1), components=10):
        assert row["auc"] == pytest.approx(0.5, abs=1e-9) and row["d_a"] == pytest.approx(0.0, abs=0.05)


def test_two_worlds_of_one_law_have_a_half_inside_the_interval():
    """At 95 % of 24 pairs of worlds; 20 or more is what chance gives in 99 of 100 cases."""
    rows = [row for seed in range(12) for row in separability(side(seed), side(seed + 100), components=10)]
    assert {row["classifier"] for row in rows} == set(CLASSIFIERS)
    assert sum(row["lower"] <= 0.5 <= row["upper"] for row in rows) >= 20
    assert np.mean([row["auc"] for row in rows]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([row["error"] for row in rows]) == pytest.approx(0.5, abs=0.03)


def test_worlds_far_apart_are_always_told_apart():
    for row in separability(side(1), side(2, shift=6.0), components=10):
        assert row["auc"] > 0.999 and row["d_a"] > 1.99 and row["error"] < 0.01 and row["upper"] <= 1.0


def test_trees_see_a_variance_that_a_plane_cannot():
    rows = {row["classifier"]: row["auc"] for row in separability(side(1), side(2, scale=0.5), components=12)}
    assert rows["logistic"] < 0.65 < 0.9 < rows["boosting"]


def test_the_same_input_gives_the_same_numbers():
    assert separability(side(1), side(2, shift=0.3), components=8) == separability(side(1), side(2, shift=0.3), components=8)


def test_one_year_leaves_none_to_judge_by():
    row = separability(side(1, years=range(2000, 2001)), side(2, years=range(2000, 2001)), components=10)[0]
    assert math.isnan(row["auc"]) and math.isnan(row["error"]) and "none is left" in row["note"] and row["n_years"] == 1


def test_two_years_have_a_number_and_no_interval():
    row = separability(side(1, years=range(2000, 2002)), side(2, years=range(2000, 2002)), components=10)[0]
    assert math.isfinite(row["auc"]) and math.isnan(row["lower"]) and math.isnan(row["upper"])


def test_cells_without_values_and_constant_ones_are_left_out():
    rows = separability(side(1, hole=True, constant=True), side(2, hole=True, constant=True), components=12)
    assert rows[0]["n_components"] == 10 and rows[0]["auc"] == pytest.approx(0.5, abs=0.12)


def test_nothing_that_varies_is_a_stated_nan():
    flat = side(1)
    flat.values[:] = 1.0
    row = separability(flat, flat, components=5)[0]
    assert math.isnan(row["auc"]) and "no predictor that varies" in row["note"]


def test_years_in_common_are_needed():
    """Labels that no fold mixes: nothing to learn from."""
    features = np.random.default_rng(0).standard_normal((80, 2))
    label, year = np.repeat([0, 1], 40), np.repeat([2000, 2001], 40)
    assert "no years in common" in judge(Days(features, label, year, np.ones(80, int)), "logistic")["note"]


def test_without_the_means_only_what_else_differs_is_seen():
    shifted = {row["classifier"]: row for row in separability(side(1), side(2, shift=1.0), components=12)}
    wider = {row["classifier"]: row for row in separability(side(1), side(2, shift=1.0, scale=0.4), components=12)}
    assert shifted["logistic"]["auc"] > 0.98 and shifted["logistic"]["auc_anomalies"] == pytest.approx(0.5, abs=0.12)
    assert shifted["boosting"]["auc_anomalies"] == pytest.approx(0.5, abs=0.12) and wider["boosting"]["auc_anomalies"] > 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 30))
def test_the_auc_of_one_fold_is_the_usual_one(seed, n):
    generator = np.random.default_rng(seed)
    label, fold = np.tile([0, 1], n), np.zeros(2 * n, np.int64)
    score = np.round(generator.standard_normal(2 * n), 1)
    found = auc_of_folds(score, label, fold)
    assert found["auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-12) and math.isnan(found["lower"])
    assert auc_of_folds(-score, label, fold)["auc"] == pytest.approx(1 - found["auc"], abs=1e-12)
