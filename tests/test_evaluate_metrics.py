"""Metrics, indices, quantiles, spectra and intervals against answers known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from fake_workspace import smooth_noise

from downscale.cf.calendar import expected_days, years
from downscale.evaluate.metrics import bootstrap, change, indices, spectra
from downscale.evaluate.metrics import point as metrics
from downscale.evaluate.metrics.indices import IndexSet
from downscale.evaluate.metrics.quantiles import ascending, quantiles
from downscale.evaluate.metrics.series import SeriesBlock, deleted_years, matched, pair_totals, quantile_table, sum_scores
from downscale.evaluate.selection import TimeTable
from downscale.variables import lookup


@pytest.fixture
def truth():
    return (280 + 8 * np.random.default_rng(0).standard_normal((400, 5, 6))).astype(np.float32)


def test_an_added_bias_is_found_and_nothing_else(truth):
    offset = np.linspace(-2, 3, 30).reshape(5, 6).astype(np.float32)
    assert metrics.bias(truth + offset, truth) == pytest.approx(offset, abs=1e-4)
    assert metrics.rmse(truth + offset, truth) == pytest.approx(np.abs(offset), abs=1e-4)
    assert metrics.mae(truth + offset, truth) == pytest.approx(np.abs(offset), abs=1e-4)
    assert metrics.correlation(truth + offset, truth) == pytest.approx(1.0, abs=1e-6)
    assert metrics.w1(truth + offset, truth) == pytest.approx(np.abs(offset), abs=1e-3)


def test_a_scaled_anomaly_has_the_ratio_of_its_scale(truth):
    mean = truth.mean(axis=0)
    scaled = mean + 0.6 * (truth - mean)
    assert metrics.std_ratio(scaled, truth) == pytest.approx(0.6, rel=1e-4)
    assert metrics.correlation(2 * mean - truth, truth) == pytest.approx(-1.0, abs=1e-6)


def test_metrics_agree_with_plain_formulas(truth):
    prediction = truth + np.random.default_rng(1).standard_normal(truth.shape).astype(np.float32)
    p, r = prediction.astype(float), truth.astype(float)
    assert metrics.rmse(prediction, truth) == pytest.approx(np.sqrt(((p - r) ** 2).mean(axis=0)), rel=1e-6)
    assert metrics.mae(prediction, truth) == pytest.approx(np.abs(p - r).mean(axis=0), rel=1e-6)
    expected = [[np.corrcoef(p[:, y, x], r[:, y, x])[0, 1] for x in range(6)] for y in range(5)]
    assert metrics.correlation(prediction, truth) == pytest.approx(np.array(expected), rel=1e-6)


def test_missing_days_are_left_out_and_empty_cells_are_nan(truth):
    prediction = truth + 1
    prediction[:100, 0, 0] = np.nan
    reference = truth.copy()
    reference[:, 1, 1] = np.nan
    bias = metrics.bias(prediction, reference)
    assert np.isnan(bias[1, 1]) and np.isnan(metrics.w1(prediction, reference)[1, 1])
    assert np.delete(bias.ravel(), 7) == pytest.approx(1.0, abs=1e-4)
    assert metrics.w1(prediction, reference)[0, 0] == pytest.approx(1.0, abs=1e-3)


def test_a_constant_field_has_no_correlation(truth):
    constant = np.full_like(truth, 281.3)
    assert np.isnan(metrics.correlation(constant, truth)).all()
    assert metrics.std_ratio(constant, truth) == pytest.approx(0.0)
    assert np.isnan(metrics.std_ratio(truth, constant)).all()


def test_w1_is_within_one_per_cent_of_the_exact_distance():
    generator = np.random.default_rng(2)
    one, other = generator.gamma(0.7, 4, (2500, 3, 3)), generator.gamma(0.9, 4, (2500, 3, 3))
    exact = np.abs(np.sort(one, axis=0) - np.sort(other, axis=0)).mean(axis=0)
    assert metrics.w1(one, other) == pytest.approx(exact, rel=0.01)


def test_quantiles_are_numpys_with_and_without_gaps(truth):
    series = truth.copy()
    series[::3, 2, 3] = np.nan
    found = quantiles(ascending(series), [0.0, 0.3, 0.98, 1.0])
    assert found == pytest.approx(np.nanquantile(series, [0.0, 0.3, 0.98, 1.0], axis=0), rel=1e-6)


def test_skill_is_the_share_of_error_removed():
    assert metrics.skill(1.0, 4.0) == pytest.approx(0.75)
    assert metrics.skill(4.0, 4.0) == pytest.approx(0.0)
    assert np.isnan(metrics.skill(1.0, 0.0))


@pytest.mark.parametrize(("first", "last", "n_years"), [(19900101, 19991231, 10), (19900101, 19911231, 2)])
def test_deseasonalising_removes_the_cycle_and_keeps_the_weather(first, last, n_years):
    days = expected_days(first, last, "standard")
    cycle = 10 * np.cos(2 * np.pi * np.arange(len(days)) / 365.25)
    weather = np.random.default_rng(3).standard_normal(len(days))
    anomalies = metrics.deseasonalised((cycle + weather)[:, None], days, "standard", n_years=n_years)[:, 0]
    slope = (anomalies @ cycle) / (cycle @ cycle)
    assert abs(slope) < 0.05
    assert np.corrcoef(anomalies, weather)[0, 1] > (0.97 if n_years > 2 else 0.6)


def test_deseasonalised_correlation_is_not_fed_by_the_seasonal_cycle():
    days = expected_days(19900101, 19951231, "noleap")
    table = TimeTable(days, "noleap")
    cycle = 12 * np.cos(2 * np.pi * np.arange(len(days)) / 365)[:, None, None]
    generator = np.random.default_rng(4)
    reference, prediction = (cycle + generator.standard_normal((len(days), 2, 2)) for _ in range(2))
    p, r = matched(prediction.astype(np.float32), SeriesBlock(reference.astype(np.float32), table, IndexSet(None, None)))
    scores = sum_scores(pair_totals(p, r).years(table, table.selections[0]).weighted(np.ones((1, 6))), IndexSet(None, None))
    assert scores["correlation"].min() > 0.97
    assert np.abs(scores["correlation_deseasonalised"]).max() < 0.1


def test_wet_day_indices_of_a_hand_made_series():
    pr = np.array([0.0, 0.9, 1.0, 3.0, 8.0, np.nan])[:, None, None]
    assert indices.wet_day_frequency(pr)[0, 0] == pytest.approx(3 / 5)
    assert indices.sdii(pr)[0, 0] == pytest.approx(4.0)
    assert indices.wet_day_frequency(pr, 3.0)[0, 0] == pytest.approx(2 / 5)
    assert np.isnan(indices.sdii(np.zeros((4, 1, 1)))[0, 0])
    assert indices.annual_maximum(pr, np.array([1, 1, 1, 2, 2, 2]))[0, 0] == pytest.approx((1.0 + 8.0) / 2)
    assert indices.percentile(np.arange(101.0)[:, None, None], 0.98)[0, 0] == pytest.approx(98.0)
    assert indices.mean(pr)[0, 0] == pytest.approx(12.9 / 5)


def test_indices_follow_the_variable_table():
    every = ["lag1", "interannual_std"]
    assert IndexSet.of(lookup("pr"), 1.0).names == ["wet_day_frequency", "dry_days", "sdii", "cdd", "cwd", "rx1day", *every]
    assert IndexSet.of(lookup("tasmax"), 1.0).names == ["txx", "txn", "su", *every]
    assert IndexSet.of(lookup("tasmin"), 1.0).names == ["tnx", "tnn", *every]
    assert IndexSet.of(lookup("tas"), 1.0).names == every


def test_plain_indices_of_a_hand_made_series():
    year = np.repeat([2000, 2001], 6)
    pr = np.array([0, 0, 5, 0, 0, 0, 2, 2, 0, 3, 3, 3.0])[:, None, None]
    assert indices.cdd(pr, year)[0, 0] == (3 + 1) / 2 and indices.cwd(pr, year)[0, 0] == (1 + 3) / 2
    assert indices.dry_days(pr, year)[0, 0] == (5 + 1) / 2
    warm = np.array([298.0, 299, 300, 290, 280, 270, 298.15, 298.16, 260, 250, 240, 230])[:, None, None]
    assert indices.summer_days(warm, year)[0, 0] == (2 + 1) / 2 and indices.annual_minimum(warm, year)[0, 0] == 250.0
    assert indices.interannual_std(pr, year)[0, 0] == pytest.approx(np.std([5 / 6, 13 / 6], ddof=1))
    assert indices.lag1(pr)[0, 0] == pytest.approx(np.corrcoef(pr[1:, 0, 0], pr[:-1, 0, 0])[0, 1])
    empty = np.full((12, 1, 1), np.nan)
    for found in (indices.cdd(empty, year), indices.dry_days(empty, year), indices.summer_days(empty, year), indices.lag1(empty)):
        assert np.isnan(found).all()


def test_sorting_leaves_the_series_as_it_is_however_it_lies_in_memory():
    rows = np.random.default_rng(0).standard_normal((3, 50))
    before = rows.copy()
    for series in (rows.T, rows[:1].T):
        indices.percentile(series, 0.9)
        metrics.w1(series, series + 1)
    assert (rows == before).all()


def test_indices_of_the_pass_are_the_plain_ones():
    days = expected_days(20000101, 20021230, "360_day")
    table = TimeTable(days, "360_day")
    pr = np.random.default_rng(5).gamma(0.4, 5, (len(days), 3, 4)).astype(np.float32)
    kit = IndexSet.of(lookup("pr"), 1.0)
    p, r = matched(pr, SeriesBlock(pr * 0.5, table, kit))
    summer = next(selection for selection in table.selections if selection.season == "JJA")
    scores = sum_scores(pair_totals(p, r).years(table, summer).weighted(np.ones((1, 3))), kit)
    chosen = pr[summer.rows]
    assert scores["rx1day"][0] == pytest.approx(indices.annual_maximum(chosen, years(days)[summer.rows]), rel=1e-6)
    assert scores["sdii"][0] == pytest.approx(indices.sdii(chosen), rel=1e-6)
    assert scores["wet_day_frequency_bias"][0] == pytest.approx(
        indices.wet_day_frequency(chosen) - indices.wet_day_frequency(chosen * 0.5), abs=1e-9
    )


# --- selections --------------------------------------------------------------------------------------------------------------------


def test_periods_are_contiguous_years_and_seasons_go_by_month():
    days = np.concatenate([expected_days(19990101, 20001231, "standard"), expected_days(20950101, 20951231, "standard")])
    table = TimeTable(days, "standard")
    assert table.periods == ["1999-2000", "2095"] and table.seasons == ["ANN", "DJF", "MAM", "JJA", "SON"]
    assert {selection.period for selection in table.selections} == {"all", "1999-2000", "2095"}
    winter = next(selection for selection in table.selections if selection.season == "DJF" and selection.period == "all")
    assert set(days[winter.rows] // 100 % 100) == {12, 1, 2} and len(winter.rows) == 90 + 91 + 90


def test_winters_only_are_one_season_of_whole_winters():
    days = expected_days(19981201, 20010228, "standard")
    days = days[np.isin(days // 100 % 100, (12, 1, 2))]
    table = TimeTable(days, "standard", 12)
    assert table.seasons == ["DJF"] and [len(selection.years) for selection in table.selections] == [3]


def test_a_december_can_go_to_the_winter_of_the_next_january():
    days = expected_days(20000101, 20021231, "standard")
    months = days // 100 % 100
    winters = {}
    for december in ("calendar", "next"):
        table = TimeTable(days, "standard", december=december)
        winters[december] = next(selection for selection in table.selections if selection.season == "DJF")
        assert table.membership(winters[december]).sum() == (6 if december == "calendar" else 4)
    assert winters["calendar"].years.tolist() == [2000, 2001, 2002] and len(winters["calendar"].rows) == 91 + 90 + 90
    assert winters["next"].years.tolist() == [2001, 2002]
    chosen = days[winters["next"].rows]
    assert chosen[0] == 20001201 and chosen[-1] == 20020228 and len(chosen) == 180
    for december in ("calendar", "next"):
        summer = next(one for one in TimeTable(days, "standard", december=december).selections if one.season == "JJA")
        assert (summer.rows == np.flatnonzero(np.isin(months, (6, 7, 8)))).all()


def test_single_years_have_no_winter_of_their_own_december():
    days = expected_days(20000101, 20001231, "standard")
    seasons = {selection.season for selection in TimeTable(days, "standard", december="next").selections}
    assert seasons == {"ANN", "MAM", "JJA", "SON"}


# --- spectra -----------------------------------------------------------------------------------------------------------------------


def test_a_wave_has_its_power_at_its_wavenumber():
    x = np.arange(48) + np.zeros((32, 1))
    wave = 3 * np.cos(2 * np.pi * 6 * x / 48)[None]
    spectrum = spectra.RadialSpectrum((32, 48), (10.0, 10.0))
    spectrum.add(np.repeat(wave, 4, axis=0))
    assert 1 / spectrum.wavenumber[np.argmax(spectrum.power)] == pytest.approx(80.0, rel=0.05)
    assert spectrum.days == 4
    assert spectrum.power.max() > 50 * np.sort(spectrum.power)[-2]


def test_white_noise_has_flat_power_equal_to_variance_times_cell_area():
    noise = 2.0 * np.random.default_rng(6).standard_normal((400, 24, 24))
    spectrum = spectra.RadialSpectrum((24, 24), (5.0, 5.0))
    spectrum.add(noise)
    assert spectrum.power[1:] == pytest.approx(4.0 * 25.0, rel=0.1)


def test_a_plane_is_detrended_away():
    y, x = np.mgrid[:12, :16].astype(float)
    assert np.abs(spectra.detrended((3 + 0.4 * y - 1.2 * x)[None])).max() < 1e-10


def test_spectral_distance_of_a_known_ratio_and_the_effective_resolution():
    power = np.array([8.0, 4.0, 2.0, 1.0])
    assert spectra.log_spectral_distance(power / 10, power) == pytest.approx(10.0)
    assert spectra.log_spectral_distance(power, power) == 0.0
    damped = power * np.array([1.0, 0.8, 0.4, 0.1])
    assert spectra.effective_resolution_km(np.array([0.01, 0.02, 0.04, 0.05]), damped, power) == pytest.approx(25.0)
    assert spectra.effective_resolution_km(np.array([0.01, 0.02, 0.04, 0.05]), power, power) == pytest.approx(20.0)
    assert np.isnan(spectra.effective_resolution_km(np.array([0.01, 0.02, 0.04, 0.05]), power, 0 * power))


def test_spacing_is_the_great_circle_distance():
    lon, lat = np.meshgrid(np.arange(0, 3.0), np.arange(-1, 2.0))
    dy, dx = spectra.spacing_km(lat, lon)
    assert dy == pytest.approx(111.19, abs=0.01) and dx == pytest.approx(111.19, abs=0.03)


# --- change signals ----------------------------------------------------------------------------------------------------------------


def test_change_of_precipitation_is_relative_and_dry_cells_have_none():
    future, past = np.array([[3.0, 0.02]]), np.array([[2.0, 0.01]])
    relative = change.change_signal(future, past, lookup("pr"))
    assert relative[0, 0] == pytest.approx(50.0) and np.isnan(relative[0, 1])
    assert change.change_signal(future, past, lookup("tas")) == pytest.approx(future - past)


def test_a_damped_change_is_captured_in_part():
    truth = 3 + np.random.default_rng(7).random((6, 7))
    found = change.compare_changes(0.7 * truth, truth, np.ones((6, 7)))
    assert found["captured"] == pytest.approx(0.7) and found["slope"] == pytest.approx(0.7)
    assert found["pattern_correlation"] == pytest.approx(1.0) and found["bias"] == pytest.approx(-0.3 * truth.mean())


def test_alpha_is_one_for_the_rcms_change_and_zero_for_the_gcms():
    generator = np.random.default_rng(8)
    rcm, gcm = 2 + generator.random((5, 5)), 3 + generator.random((5, 5))
    area = np.ones((5, 5))
    assert change.signal_followed(rcm, gcm, rcm, area) == pytest.approx(1.0)
    assert change.signal_followed(gcm, gcm, rcm, area) == pytest.approx(0.0)
    assert change.signal_followed((gcm + rcm) / 2, gcm, rcm, area) == pytest.approx(0.5)
    assert np.isnan(change.signal_followed(rcm, rcm, rcm, area))


# --- intervals ---------------------------------------------------------------------------------------------------------------------


def test_few_years_take_students_t_and_fewer_none():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.5])
    found = bootstrap.mean_interval(values)
    half = 2.776445 * values.std(ddof=1) / np.sqrt(5)
    assert found.method == "jackknife-t" and found.upper - values.mean() == pytest.approx(half, rel=1e-5)
    assert bootstrap.mean_interval(np.arange(12.0)).method == "bootstrap"
    none = bootstrap.mean_interval(np.array([1.0, 2.0]))
    assert np.isnan(none.lower) and none.method == "none: 2 years"


def test_a_shift_between_periods_is_no_uncertainty():
    scheme = bootstrap.resampling(np.array([0] * 6 + [1] * 6))
    values = np.array([0.0] * 6 + [100.0] * 6)
    found = scheme.interval(scheme.weights @ values / scheme.weights.sum(axis=1))
    assert found.lower == pytest.approx(50.0) and found.upper == pytest.approx(50.0)


def test_intervals_of_scores_hold_the_truth_and_shrink_with_years():
    widths = []
    for last in (1994, 2003):
        days = expected_days(19900101, last * 10000 + 1230, "360_day")
        table = TimeTable(days, "360_day")
        generator = np.random.default_rng(10)
        reference = generator.standard_normal((len(days), 20)).astype(np.float32)
        yearly = generator.standard_normal(int(years(days).max() - 1989))[years(days) - 1990]
        prediction = (reference + 1.0 + 0.3 * yearly[:, None]).astype(np.float32)
        draws = bootstrap.area_mean_draws(prediction, reference, table, IndexSet(None, None), np.ones(20))["ANN", "all"]
        scheme, values = draws["bias"]
        found = scheme.interval(values)
        assert found.lower < 1.0 < found.upper
        quantile_scheme, quantile_values = draws["w1"]
        assert quantile_scheme.method == "jackknife-t" and quantile_scheme.interval(quantile_values).upper > quantile_values[0]
        widths.append(found.upper - found.lower)
    assert widths[1] < widths[0]


def test_quantiles_without_a_year_are_those_of_the_other_years():
    year = np.repeat([2000, 2001, 2002], [300, 90, 200])
    values = np.random.default_rng(11).standard_normal((len(year), 4)).astype(np.float32)
    values[::7, 2] = np.nan
    values[:, 3] = np.nan
    before = values.copy()
    found = list(deleted_years(values, year))
    for series, deleted in zip(found, [None, 2000, 2001, 2002], strict=True):
        others = ascending(values[year != deleted] if deleted else values)
        np.testing.assert_array_equal(quantile_table(series), quantile_table(others))
        np.testing.assert_array_equal(series.values, others.values)
    assert len(found) == 4 and np.array_equal(values, before, equal_nan=True)


def test_red_noise_of_the_fake_world_has_unit_variance():
    assert smooth_noise(np.random.default_rng(0), (500, 6, 6), 1.0).std() == pytest.approx(1.0, abs=0.1)
