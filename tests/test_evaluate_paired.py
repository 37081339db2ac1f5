"""Paired tests between two runs against answers known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from downscale.cf.calendar import expected_days
from downscale.evaluate.members.paired import Losses, adjust, compare
from downscale.evaluate.metrics.bootstrap import resampling
from downscale.evaluate.selection import TimeTable


def drawn(yearly):
    """The mean of yearly losses under resampled years."""
    scheme = resampling(np.zeros(len(yearly), int))
    return scheme.weights @ yearly / scheme.weights.sum(axis=1), scheme


def test_under_ten_years_it_is_the_paired_t_test():
    generator = np.random.default_rng(0)
    ours, theirs = generator.standard_normal(7), generator.standard_normal(7) + 1
    (one, scheme), (two, _) = drawn(ours), drawn(theirs)
    found = compare(one, two, scheme)
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval()
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.interval.lower, found.interval.upper) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(ours.mean() - theirs.mean())
    assert found.interval.method == "jackknife-t"


def test_it_is_the_diebold_mariano_test_of_scores_for_one_step_ahead():
    """Harvey's correction for h = 1 makes it Student's t of the mean difference."""
    import xarray as xr
    from scores.stats.statistical_tests import diebold_mariano

    differences = np.random.default_rng(1).standard_normal(9) + 0.8
    data = xr.DataArray(differences[None], dims=("pair", "year"), coords={"pair": [0], "h": ("pair", [1])})
    theirs = diebold_mariano(data, "pair", "h", method="HLN", statistic_distribution="t")
    one, scheme = drawn(differences)
    found = compare(one, np.zeros_like(one), scheme)
    assert found.p_value == pytest.approx(2 * (1 - float(theirs.confidence_gt_0[0])), rel=1e-6)


def test_with_ten_years_it_is_a_bootstrap_that_holds_its_level():
    rejected, generator = [], np.random.default_rng(2)
    for _ in range(200):
        one, scheme = drawn(generator.standard_normal(30))
        found = compare(one, np.zeros_like(one), scheme)
        rejected.append(found.p_value < 0.05)
        assert 0 < found.p_value <= 1 and found.interval.method == "bootstrap"
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)
    one, scheme = drawn(generator.standard_normal(30) + 3)
    assert compare(one, np.zeros_like(one), scheme).p_value < 1e-6


@pytest.mark.parametrize("periods", [(10,), (5, 5), (2, 2, 2, 2, 2), (20,)])
def test_equal_runs_are_told_apart_in_one_case_of_twenty(periods):
    strata, generator, rejected = np.repeat(np.arange(len(periods)), periods), np.random.default_rng(4), []
    for _ in range(800):
        scheme = resampling(strata)
        draws = scheme.weights @ generator.standard_normal(len(strata)) / scheme.weights.sum(axis=1)
        found = compare(draws, np.zeros_like(draws), scheme)
        rejected.append(found.p_value < 0.05)
        assert rejected[-1] == (not found.interval.lower <= 0.0 <= found.interval.upper)
    assert 0.03 <= np.mean(rejected) <= 0.07


def test_equal_runs_and_a_difference_that_never_changes():
    one, scheme = drawn(np.arange(5.0))
    same, other = compare(one, one, scheme), compare(one + 1, one, scheme)
    assert (same.difference, same.p_value, same.interval.lower, same.interval.upper) == (0.0, 1.0, 0.0, 0.0)
    assert other.difference == pytest.approx(1.0) and other.p_value < 1e-9


def test_p_values_of_many_pairs_are_adjusted():
    assert adjust([0.01, 0.04, float("nan"), 0.03]) == pytest.approx([0.03, 0.04, float("nan"), 0.04], nan_ok=True)
    assert np.isnan(adjust([float("nan")])).all()


def world(n_years=12, *, first=2000, size=5):
    days = expected_days(first * 10000 + 101, (first + n_years - 1) * 10000 + 1231, "standard")
    generator = np.random.default_rng(3)
    truth = generator.standard_normal((len(days), size, size)).astype(np.float32)
    noise = generator.standard_normal((3, *truth.shape)).astype(np.float32)
    fields = {"good": truth + 0.5 * noise[0] + 0.2, "bad": truth + 1.0 * noise[1] + 0.6, "twin": truth + 0.5 * noise[2] - 0.2}
    return TimeTable(days, "standard"), truth, fields


def rows_of(table, truth, fields, *, area=None, block=500):
    losses = Losses(table, np.ones(truth.shape[1:]) if area is None else area)
    for start in range(0, len(truth), block):
        some = slice(start, min(start + block, len(truth)))
        losses.add(some, {"tasmax": truth[some]}, {(run, "perfect", "tasmax"): values[some] for run, values in fields.items()})
    return {(row["metric"], row["season"], row["run"], row["other"]): row for row in losses.rows("RCM")}


def test_the_better_run_is_found_and_twins_do_not_differ():
    table, truth, fields = world()
    rows = rows_of(table, truth, fields)
    row = rows["mse", "ANN", "bad", "good"]
    expected = np.square(fields["bad"] - truth).mean() - np.square(fields["good"] - truth).mean()
    assert row["difference"] == pytest.approx(expected, rel=1e-4)
    assert 0 < row["lower"] < expected < row["upper"]
    assert row["p_value"] < 0.01 and row["p_adjusted"] >= row["p_value"] and row["test"] == "bootstrap"
    assert rows["abs_bias", "ANN", "bad", "good"]["difference"] == pytest.approx(0.4, abs=0.05)
    assert rows["mse", "ANN", "good", "twin"]["p_value"] > 0.05
    assert rows["abs_bias", "JJA", "good", "twin"]["p_value"] > 0.05
    assert (row["case"], row["variable"], row["n_years"]) == ("RCM/perfect", "tasmax", 12)
    assert rows_of(table, truth, fields, block=61)["mae", "DJF", "bad", "good"]["difference"] == pytest.approx(
        rows["mae", "DJF", "bad", "good"]["difference"], rel=1e-9
    )


def test_only_days_and_cells_that_all_runs_have_count():
    table, truth, fields = world(3)
    fields["good"][:100, 0, 0] = np.nan
    truth[:, 4, 4] = np.nan
    row = rows_of(table, truth, fields)["mae", "ANN", "bad", "twin"]
    valid = np.isfinite(truth) & np.isfinite(fields["good"])
    expected = np.abs(fields["bad"] - truth)[valid].mean() - np.abs(fields["twin"] - truth)[valid].mean()
    assert row["difference"] == pytest.approx(expected, rel=1e-5) and row["test"] == "jackknife-t"


def test_area_weights_count():
    table, truth, fields = world(2)
    area = np.zeros((5, 5))
    area[1, 2] = 3.0
    row = rows_of(table, truth, fields, area=area)["mse", "ANN", "bad", "good"]
    expected = (np.square(fields["bad"] - truth) - np.square(fields["good"] - truth))[:, 1, 2].mean()
    assert row["difference"] == pytest.approx(expected, rel=1e-5)
    assert row["test"] == "none: 2 years" and np.isnan(row["p_value"]) and np.isnan(row["lower"]) and np.isnan(row["p_adjusted"])


def test_a_run_without_a_value_gives_nan():
    table, truth, fields = world(3)
    fields["bad"][:] = np.nan
    row = rows_of(table, truth, fields)["abs_bias", "ANN", "bad", "good"]
    assert np.isnan(row["difference"]) and np.isnan(row["p_value"]) and row["test"] == "none: no value"
