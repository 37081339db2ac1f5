"""How often 95 % intervals hold the truth, with few years and many, in one period and in several; and exact Wasserstein distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from downscale.cf.calendar import expected_days
from downscale.evaluate.metrics import bootstrap
from downscale.evaluate.metrics.indices import IndexSet
from downscale.evaluate.metrics.point import w1
from downscale.evaluate.metrics.quantiles import ascending, wasserstein
from downscale.evaluate.metrics.yearly import weighted_years
from downscale.evaluate.selection import TimeTable

PERIODS = [(9,), (10,), (5, 5), (2, 2, 2, 2, 2), (3, 3, 4), (20,), (10, 10), (30,)]
WORLDS = 1000


def strata_of(periods):
    return np.repeat(np.arange(len(periods)), periods)


def coverage(periods, worlds, statistic, truth):
    """Share of worlds (world, year, ...) whose interval holds the truth; statistic: of (draw, year) weights and a world."""
    schemes = [bootstrap.resampling(strata_of(periods), seed) for seed in range(4)]
    hits = 0
    for number, world in enumerate(worlds):
        scheme = schemes[number % 4]
        found = scheme.interval(statistic(scheme.weights, world))
        hits += found.lower <= truth <= found.upper
    return hits / len(worlds)


def mean(weights, values):
    return np.tensordot(weights, values, axes=1) / weights.sum(axis=1).reshape(-1, *(1 for _ in values.shape[1:]))


@pytest.mark.parametrize("periods", PERIODS)
def test_an_interval_of_a_mean_holds_it_in_95_of_100_worlds(periods):
    """Periods with means of their own: what differs between them is no uncertainty."""
    strata, generator = strata_of(periods), np.random.default_rng(9)
    worlds = generator.standard_normal((2 * WORLDS, len(strata))) + 3 * (strata - strata.mean())
    assert 0.93 <= coverage(periods, worlds, mean, 0.0) <= 0.97


@pytest.mark.parametrize("periods", PERIODS)
def test_so_does_that_of_a_mean_over_cells_of_a_root_mean_square(periods):
    generator, size = np.random.default_rng(10), (WORLDS, sum(periods))
    worlds = generator.gamma(4, 1 / 4, (*size, 1)) * generator.gamma(4, 1 / 4, (*size, 20))
    assert 0.91 <= coverage(periods, worlds, lambda weights, world: np.sqrt(mean(weights, world)).mean(axis=1), 1.0) <= 0.98


@pytest.mark.parametrize("periods", PERIODS)
def test_years_of_very_uneven_size_lower_it_to_84_at_most(periods):
    """An exponential law: no symmetric interval from ten values can do better than this."""
    worlds = np.random.default_rng(11).exponential(size=(WORLDS, sum(periods)))
    assert 0.84 <= coverage(periods, worlds, mean, 1.0) <= 0.97


@pytest.mark.parametrize("periods", [(10,), (5, 5), (20,)])
def test_noise_in_a_mean_absolute_bias_is_taken_off(periods):
    """Small biases of cells that have nothing to do with each other: the mean of |bias| is mostly noise."""
    bias = np.linspace(-0.3, 0.3, 30)
    worlds = np.random.default_rng(12).standard_normal((WORLDS, sum(periods), 30)) + bias
    found = coverage(periods, worlds, lambda weights, world: np.abs(mean(weights, world)).mean(axis=1), np.abs(bias).mean())
    assert 0.90 <= found <= 0.97


@pytest.mark.parametrize(("first", "n_periods", "years"), [(1991, 1, 10), (1961, 5, 2), (1991, 1, 9)])
def test_the_area_mean_of_a_bias_is_held_from_fields_on(first, n_periods, years):
    runs = [expected_days((first + 10 * k) * 10000 + 101, (first + 10 * k + years - 1) * 10000 + 1230, "360_day") for k in range(n_periods)]
    days = np.concatenate(runs)
    days = days[(days % 10000 > 700) & (days % 10000 < 704)]
    table, (_, year) = TimeTable(days, "360_day"), np.unique(days // 10000, return_inverse=True)
    hits, area = [], np.ones(4)
    for seed in range(300):
        generator = np.random.default_rng(seed)
        reference = generator.standard_normal((len(days), 4)).astype(np.float32)
        prediction = (reference + 1.0 + 0.3 * generator.standard_normal(year.max() + 1)[year][:, None]).astype(np.float32)
        scheme, values = bootstrap.area_mean_draws(prediction, reference, table, IndexSet(None, None), area)["JJA", "all"]["bias"]
        found = scheme.interval(values)
        hits.append(found.lower <= 1.0 <= found.upper)
    assert scheme.method == ("bootstrap" if (n_periods, years) == (1, 10) else "jackknife-t")
    assert 0.92 <= np.mean(hits) <= 0.98


@pytest.mark.parametrize("periods", [(8,), (2, 2, 2, 2, 2)])
def test_the_spread_between_years_without_one_is_that_of_the_others(periods):
    strata, values = strata_of(periods), np.random.default_rng(13).standard_normal(sum(periods))
    part = {"mean": values[:, None], "years": np.ones((len(values), 1))}
    found = weighted_years(part, bootstrap.jackknife(strata).weights, strata)["interannual"][:, 0]

    def inside(keep):
        groups = [values[keep & (strata == number)] for number in np.unique(strata)]
        return sum(((one - one.mean()) ** 2).sum() for one in groups) / sum(len(one) - 1 for one in groups)

    years = np.arange(len(values))
    assert found == pytest.approx([inside(years >= 0), *(inside(years != year) for year in years)])


@pytest.mark.parametrize("periods", [(9,), (10,), (2, 2, 2, 2, 2), (5, 5)])
def test_the_spread_between_years_is_held(periods):
    strata = strata_of(periods)
    worlds = np.random.default_rng(16).standard_normal((300, len(strata), 1))

    def spread(weights, world):
        return np.sqrt(weighted_years({"mean": world, "years": np.ones_like(world)}, weights, strata)["interannual"][:, 0])

    assert 0.85 <= coverage(periods, worlds, spread, 1.0) <= 0.98


def test_a_resample_of_years_has_the_spread_of_their_mean():
    values = np.random.default_rng(14).standard_normal(10)
    draws = mean(bootstrap.resampling(np.zeros(10, int)).weights, values)
    assert draws[1:].std() == pytest.approx(values.std(ddof=1) / np.sqrt(10), rel=0.05)
    assert draws[1:].mean() == pytest.approx(draws[0], abs=0.05)


@pytest.mark.parametrize(("n", "m"), [(90, 90), (731, 365), (100, 101), (5, 1), (3, 2)])
def test_the_wasserstein_distance_is_exact(n, m):
    generator = np.random.default_rng(15)
    one, other = generator.gamma(0.4, 8, (n, 3, 4)).astype(np.float32), generator.gamma(0.5, 8, (m, 3, 4)).astype(np.float32)
    if n > 50:
        one[:7, 1, 2], one[3:9, 0, 1], other[:2, 1, 2], other[:, 2, 3] = np.nan, np.nan, np.nan, np.nan
    found = wasserstein(ascending(one), ascending(other))
    for y, x in np.ndindex(3, 4):
        values = [series[np.isfinite(series[:, y, x]), y, x] for series in (one, other)]
        expected = wasserstein_distance(*values) if all(map(len, values)) else np.nan
        assert found[y, x] == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_the_distance_of_two_series_counts_days_that_both_have():
    generator = np.random.default_rng(16)
    one, other = generator.gamma(0.4, 8, (2, 365, 2, 2)).astype(np.float32)
    one[5, 0, 0], other[9, 0, 0], other[:, 1, 1] = np.nan, np.nan, np.nan
    both = np.isfinite(one[:, 0, 0]) & np.isfinite(other[:, 0, 0])
    assert w1(one, other)[0, 0] == pytest.approx(wasserstein_distance(one[both, 0, 0], other[both, 0, 0]), rel=1e-6)
    assert w1(one, other)[0, 1] == pytest.approx(np.abs(np.sort(one[:, 0, 1]) - np.sort(other[:, 0, 1])).mean(), rel=1e-6)
    assert np.isnan(w1(one, other)[1, 1])
