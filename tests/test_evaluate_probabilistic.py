"""Scores of ensembles against answers known beforehand, and against the package scores."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from downscale.errors import InputDataError
from downscale.evaluate.metrics import probabilistic as p

FIELDS = hnp.arrays(np.float64, (4, 6), elements=st.floats(-50, 50, width=32))


def draws(members=10, n=4000, *, spread=1.0, seed=0):
    """Members and a reference that are draws from one distribution around a signal (spread 1), or a wider or narrower ensemble."""
    generator = np.random.default_rng(seed)
    signal = 3 * generator.standard_normal(n)
    return signal + spread * generator.standard_normal((members, n)), signal + generator.standard_normal(n)


def as_arrays(members, reference):
    return xr.DataArray(members, dims=("member", "time")), xr.DataArray(reference, dims=("time",))


@pytest.mark.parametrize("number", [2, 3, 10])
def test_fair_crps_is_that_of_scores(number):
    from scores.probability import crps_for_ensemble

    members, reference = draws(number, 50)
    expected = crps_for_ensemble(*as_arrays(members, reference), "member", method="fair", preserve_dims="time")
    assert p.fair_crps(members, reference) == pytest.approx(expected.values, rel=1e-12)


def test_fair_crps_of_normal_draws_is_that_of_the_distribution_for_any_number_of_members():
    expected = 1 / np.sqrt(np.pi)
    for number in (2, 5, 40):
        assert p.fair_crps(*draws(number, 40_000)).mean() == pytest.approx(expected, rel=0.02)


def test_members_that_agree_have_the_absolute_error_as_crps():
    reference = np.array([0.0, 1.0, 5.0])
    assert p.fair_crps(np.full((3, 3), 2.0), reference) == pytest.approx([2.0, 1.0, 3.0])


@given(FIELDS, hnp.arrays(np.float64, 6, elements=st.floats(-50, 50, width=32)), st.permutations(range(4)))
@settings(max_examples=40, deadline=None)
def test_crps_has_no_order_and_moves_with_its_arguments(members, reference, order):
    crps = p.fair_crps(members, reference)
    np.testing.assert_allclose(p.fair_crps(members[list(order)], reference), crps)
    np.testing.assert_allclose(p.fair_crps(members + 7, reference + 7), crps, atol=1e-9)
    np.testing.assert_allclose(p.fair_crps(2 * members, 2 * reference), 2 * crps, atol=1e-9)


@pytest.mark.parametrize("score", [p.fair_crps, p.rank_counts])
def test_a_single_member_is_refused(score):
    with pytest.raises(InputDataError, match="1 member: probabilistic scores need two or more") as caught:
        score(np.zeros((1, 3)), np.zeros(3))
    assert caught.value.code == 4


def test_places_with_a_gap_are_nan_and_have_no_rank():
    members, reference = draws(3, 4)
    members[1, 0], reference[2] = np.nan, np.nan
    assert np.isnan(p.fair_crps(members, reference)).tolist() == [True, False, True, False]
    assert p.rank_counts(members, reference).sum() == 2
    assert np.isnan(p.fair_crps(np.full((3, 2), np.nan), np.full(2, np.nan))).all()
    assert p.rank_counts(np.full((3, 2), np.nan), np.full(2, np.nan)).tolist() == [0, 0, 0, 0]


def test_spread_skill_is_one_for_a_reliable_ensemble_and_the_ratio_of_spreads_otherwise():
    for spread, expected in ((1.0, 1.0), (0.5, 0.5 * np.sqrt(1.1 / (1 + 0.025)))):
        members, reference = draws(10, 40_000, spread=spread)
        found = p.spread_skill(members.var(axis=0, ddof=1).mean(), np.square(members.mean(axis=0) - reference).mean(), 10)
        assert found == pytest.approx(expected, rel=0.02)
    assert np.isnan(p.spread_skill(1.0, 0.0, 3))
    with pytest.raises(InputDataError):
        p.spread_skill(1.0, 1.0, 1)


def test_ranks_are_those_of_scores_with_ties_shared():
    from scores.probability import rank_histogram

    members, reference = draws(4, 300)
    members, reference = np.maximum(np.round(members), 0), np.maximum(np.round(reference), 0)
    expected = rank_histogram(*as_arrays(members, reference), "member").values
    assert p.rank_counts(members, reference) / 300 == pytest.approx(expected)
    assert p.rank_counts(np.zeros((3, 1)), np.zeros(1)).tolist() == [0.25] * 4
    assert p.rank_counts(np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([0.0, 9.0]), np.array([2.0, 5.0])).tolist() == [2, 0, 5]


def test_the_chi_square_distance_of_ranks():
    assert p.rank_distance(np.full(5, 0.2)) == pytest.approx(0.0)
    assert p.rank_distance(np.eye(5)[0]) == pytest.approx(4.0)


def yearly_ranks(spread, *, years=30, seed=0):
    members, reference = draws(9, years * 40, spread=spread, seed=seed)
    parts = [slice(40 * year, 40 * year + 40) for year in range(years)]
    return np.stack([p.rank_counts(members[:, part], reference[part]) / 40 for part in parts])


def test_flatness_is_rejected_for_a_narrow_ensemble_and_at_its_level_for_a_reliable_one():
    assert p.flatness(yearly_ranks(0.4)) < 1e-6
    found = np.array([p.flatness(yearly_ranks(1.0, seed=seed)) for seed in range(200)])
    assert (found < 0.05).mean() == pytest.approx(0.05, abs=0.05)
    assert np.isnan(p.flatness(yearly_ranks(1.0, years=2))) and np.isnan(p.flatness(np.full((5, 4), 0.25)))


def years_that_go_together(years, ranks, generator):
    """Rank frequencies of a reliable ensemble whose members and truth have anomalies of their own in each year."""
    fields = generator.standard_normal((years, ranks, 200)) + 0.5 * generator.standard_normal((years, ranks, 1))
    below = (fields[:, 1:] < fields[:, :1]).sum(axis=1)
    return np.stack([np.bincount(one, minlength=ranks) / 200 for one in below])


@pytest.mark.parametrize("years", [3, 5, 20])
@pytest.mark.parametrize("ranks", [3, 8])
def test_flatness_holds_its_level_with_few_years_and_where_the_days_of_a_year_go_together(years, ranks):
    generator = np.random.default_rng(7)
    alone = [p.flatness(generator.multinomial(200, np.full(ranks, 1 / ranks), years) / 200) for _ in range(400)]
    together = [p.flatness(years_that_go_together(years, ranks, generator)) for _ in range(400)]
    assert np.mean(np.array(alone) < 0.05) <= 0.07 and np.mean(np.array(together) < 0.05) <= 0.08


def test_a_reliable_probability_is_observed_as_often_as_it_says():
    members, reference = draws(10, 100_000)
    forecast, observed = p.probability(members, 1.0), (reference >= 1.0).astype(float)
    bins = p.probability_bins(10)
    place = p.bin_of(forecast, bins)
    assert bins == 11 and p.probability_bins(50) == 11 and p.probability_bins(3) == 4
    n = np.bincount(place, minlength=bins)
    means = [np.bincount(place, values, bins) / n for values in (forecast, observed)]
    assert means[1] == pytest.approx(means[0], abs=0.06)
    reliability, resolution, uncertainty = p.brier_parts(*means, n.astype(float))
    assert reliability - resolution + uncertainty == pytest.approx(np.square(forecast - observed).mean(), rel=1e-9)
    assert reliability < 0.005 < resolution
    assert np.isnan(p.brier_parts(*means, np.zeros(bins))).all()


def test_brier_score_is_that_of_scores():
    from scores.probability import brier_score_for_ensemble

    members, reference = draws(6, 200)
    expected = brier_score_for_ensemble(*as_arrays(members, reference), "member", 0.5, fair_correction=False).values
    assert np.square(p.probability(members, 0.5) - (reference >= 0.5)).mean() == pytest.approx(expected.item(), rel=1e-9)


def test_a_dressed_estimate_has_the_crps_of_its_residuals():
    generator = np.random.default_rng(2)
    reference = generator.standard_normal((4000, 1)) * 2 + 10
    estimate = np.full_like(reference, 9.0)
    fold, season = np.repeat(np.arange(4), 1000), np.zeros(4000, int)
    found = p.dressed_crps(reference, estimate, fold, season, non_negative=False)
    z = (reference - 10) / 2
    expected = 2 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert found.mean() == pytest.approx(expected.mean(), rel=0.02)
    assert np.abs(found - expected).max() < 0.35


def test_dressing_never_uses_the_own_block_of_years_and_keeps_rain_at_zero():
    reference, estimate = np.array([[0.0], [0.0], [3.0], [3.0]]), np.zeros((4, 1))
    fold, season = np.array([0, 0, 1, 1]), np.zeros(4, int)
    assert p.dressed_crps(reference, estimate, fold, season, non_negative=False)[:, 0] == pytest.approx([3, 3, 3, 3])
    assert p.dressed_crps(-reference, estimate, fold, season, non_negative=True)[:2, 0] == pytest.approx([0, 0])
    assert np.isnan(p.dressed_crps(reference, estimate, np.zeros(4, int), season, non_negative=False)).all()
    reference[3] = np.nan
    assert np.isfinite(p.dressed_crps(reference, estimate, fold, season, non_negative=False)[:3]).all()


def test_years_fall_into_five_blocks_at_most():
    assert p.year_folds(np.repeat(np.arange(2000, 2010), 2)).tolist() == np.repeat(np.arange(5), 4).tolist()
    assert p.year_folds(np.array([2000, 2000, 2095])).tolist() == [0, 0, 1]
