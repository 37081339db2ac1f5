"""Return levels against scipy's distribution, and pooling of series that are alike, shifted or different."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from downscale.cf.calendar import expected_days
from downscale.evaluate.context import Sources
from downscale.evaluate.members import return_levels
from downscale.evaluate.members.block_maxima import Blocks, has_extremes, maxima, spread_cells
from downscale.evaluate.members.return_levels import INDEXED, PLAIN, Series
from downscale.evaluate.metrics.gev import fit_gev, l_moments, same_distribution
from downscale.variables import lookup


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.15])
def test_the_fit_finds_the_distribution_it_was_drawn_from(shape):
    law = stats.genextreme(shape, loc=40, scale=6)
    fitted = fit_gev(law.rvs(size=(200_000, 2), random_state=np.random.default_rng(0)))
    assert fitted.shape == pytest.approx([shape, shape], abs=0.01)
    for years in (2, 10, 50):
        assert fitted.level(years) == pytest.approx(law.isf(1 / years), rel=0.01)


def test_l_moments_are_those_of_scipy():
    sample = np.random.default_rng(1).gumbel(size=(23, 4, 3))
    expected = stats.lmoment(sample, order=[1, 2, 3], axis=0) if hasattr(stats, "lmoment") else None
    if expected is None:
        pytest.skip("this scipy has no L-moments")
    for found, wanted in zip(l_moments(sample), expected, strict=True):
        assert found == pytest.approx(wanted)


def test_levels_keep_units_and_order():
    sample = np.random.default_rng(2).gumbel(size=(30, 5))
    for years in (10, 50):
        assert fit_gev(3 * sample + 300).level(years) == pytest.approx(3 * fit_gev(sample).level(years) + 300)
    assert (fit_gev(sample).level(50) > fit_gev(sample).level(10)).all()


def test_constant_short_and_missing_maxima_are_nan():
    assert np.isnan(fit_gev(np.full((20, 2), 5.0)).level(10)).all()
    assert np.isnan(fit_gev(np.random.default_rng(0).gumbel(size=(2, 2))).level(10)).all()
    gap = np.random.default_rng(0).gumbel(size=(20, 2))
    gap[3, 0] = np.nan
    assert np.isnan(fit_gev(gap).level(10)).tolist() == [True, False]


def test_samples_of_one_distribution_are_not_parted():
    generator = np.random.default_rng(3)
    samples = [generator.gumbel(size=30) for _ in range(3)]
    assert same_distribution(samples) > 0.05
    assert same_distribution([samples[0], samples[1] + 3]) < 0.01
    assert np.isnan(same_distribution([samples[0]])) and np.isnan(same_distribution([np.ones(5), np.ones(5)]))
    assert np.isnan(same_distribution([np.array([1.0, np.nan]), samples[0]]))


def test_maxima_are_those_of_whole_years_whatever_the_parts():
    days = expected_days(20000101, 20030315, "standard")
    values = np.random.default_rng(4).standard_normal((len(days), 3)).astype(np.float32)
    values[:, 2] = np.nan
    blocks = Blocks.of(days, "standard", 1)
    assert (blocks.season, blocks.years.tolist(), set(blocks.windows)) == ("ANN", [2000, 2001, 2002], {"2000-2002"})
    parts = [(slice(start, start + 100), values[start : start + 100]) for start in range(0, len(days), 100)]
    found = maxima(blocks, iter(parts), 3)
    assert found[1, :2] == pytest.approx(values[days // 10000 == 2001, :2].max(axis=0))
    assert np.isnan(found[:, 2]).all()


def test_winters_alone_are_taken_whole():
    days = expected_days(20000101, 20041231, "standard")
    days = days[np.isin(days // 100 % 100, (12, 1, 2))]
    blocks = Blocks.of(days, "standard", 1)
    assert (blocks.season, blocks.years.tolist()) == ("DJF", [2001, 2002, 2003, 2004])
    assert set(days[blocks.of_day == 0] // 100) == {200012, 200101, 200102}
    assert (blocks.of_day[days < 20000301] == -1).all() and (blocks.of_day[days > 20041130] == -1).all()


def test_long_periods_are_cut_into_normals_and_gaps_part_periods():
    long = Blocks.of(expected_days(19510101, 21001230, "360_day"), "360_day", 1)
    assert list(dict.fromkeys(long.windows)) == ["1951-1980", "1981-2010", "2011-2040", "2041-2070", "2071-2100"]
    days = np.concatenate([expected_days(19950101, 20001231, "noleap"), expected_days(20900101, 20901231, "noleap")])
    assert list(dict.fromkeys(Blocks.of(days, "noleap", 1).windows)) == ["1995-2000", "2090"]
    assert len(Blocks.of(np.zeros(0, np.int64), "standard", 1).years) == 0


def test_which_variables_and_cells():
    assert [name for name in ("tasmax", "pr", "tas", "psl") if has_extremes(lookup(name))] == ["tasmax", "pr"]
    area = np.zeros((300, 300))
    area[10:290, :250] = 1
    cells = spread_cells(area)
    assert len(cells) == 20_000 and (area.ravel()[cells] > 0).all()


def series(number, law, *, n_years=30, cells=40, variable="pr", seed=0):
    values = law.rvs(size=(1, n_years, cells), random_state=np.random.default_rng(seed))
    windows = np.array(["2071-2100"] * n_years, dtype=object)
    return Series("net", f"RCM_{number}/imperfect", variable, "ANN", "imperfect", windows, values)


def pooled(together, years=(10.0, 20.0, 500.0)):
    return return_levels._rows(together, "pooled", "2071-2100", np.ones(40), years)


def test_alike_series_are_pooled_and_the_level_lies_in_its_interval():
    law = stats.genextreme(-0.1, loc=40, scale=8)
    rows = pooled([series(number, law, seed=number) for number in range(4)])
    assert [row["return_years"] for row in rows] == [10.0, 20.0, 500.0]
    for row in rows[:2]:
        assert row["value"] == pytest.approx(law.isf(1 / row["return_years"]), rel=0.03)
        assert row["lower"] < row["value"] < row["upper"] and row["method"] == PLAIN
        assert (row["n_years"], row["n_series"], row["unit"], row["scope"]) == (120, 4, "mm day-1", "pooled")
    single = pooled([series(0, law)])[0]
    assert single["upper"] - single["lower"] > rows[0]["upper"] - rows[0]["lower"]
    assert np.isnan(rows[2]["value"]) and "4 times the years" in rows[2]["method"]


def test_series_of_another_size_are_pooled_by_their_index():
    law = stats.genextreme(-0.1, loc=40, scale=8)
    small, large = series(0, law, seed=0), series(1, stats.genextreme(-0.1, loc=60, scale=12), seed=1)
    rows = pooled([small, large])
    assert rows[0]["method"] == INDEXED and rows[0]["p_same"] >= 0.05
    assert rows[0]["value"] == pytest.approx(1.25 * law.isf(0.1), rel=0.03)
    warm = [
        series(0, stats.genextreme(0.2, loc=305, scale=2), variable="tasmax"),
        series(1, stats.genextreme(0.2, loc=309, scale=2), variable="tasmax", seed=1),
    ]
    row = pooled(warm)[0]
    assert row["method"] == INDEXED and row["value"] == pytest.approx(stats.genextreme(0.2, loc=307, scale=2).isf(0.1), abs=0.3)


def test_series_that_differ_in_their_shape_are_not_pooled():
    generator = np.random.default_rng(5)
    steady, wild = series(0, stats.genextreme(0.0, loc=40, scale=1)), series(1, stats.genextreme(0.0, loc=40, scale=1))
    yearly = generator.lognormal(0, 0.8, (1, 30, 1))
    wild.values[:] *= yearly / yearly.mean()
    rows = pooled([steady, wild])
    assert all(np.isnan(row["value"]) and row["method"] == "none: the series differ" for row in rows)


def test_few_years_and_constant_fields_are_nan_with_the_reason():
    law = stats.genextreme(0.0, loc=40, scale=8)
    rows = pooled([series(0, law, n_years=6)])
    assert rows[0]["method"] == "none: fewer than 10 years" and np.isnan(rows[0]["value"])
    dead = series(0, law)
    dead.values[:] = 40.0
    assert pooled([dead])[0]["method"] == "none: the maxima do not vary, or have gaps"


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    law = stats.genextreme(0.0, loc=40, scale=8)
    inside = 0
    for seed in range(60):
        values = np.repeat(law.rvs(size=(1, 40, 1), random_state=np.random.default_rng(seed)), 4, axis=2)
        one = Series("net", "A/imperfect", "pr", "ANN", "imperfect", np.array(["2071-2100"] * 40, dtype=object), values)
        row = return_levels._rows([one], "A/imperfect", "2071-2100", np.ones(4), [10.0])[0]
        inside += row["lower"] <= law.isf(0.1) <= row["upper"]
    assert 0.88 <= inside / 60 <= 1.0


def test_scenarios_are_pooled_by_themselves_once_they_part():
    law = stats.genextreme(0.0, loc=40, scale=8)
    together = [series(number, law) for number in range(3)]
    facets = {"RCM_0": {"driving_experiment_id": "ssp585"}, "RCM_1": {"experiment_id": "ssp126"}, "GCM_2": {"experiment_id": "ssp585"}}
    context = SimpleNamespace(sources=Sources({"RCM_2": "GCM_2"}, {}, facets))
    found = return_levels._by_scenario(context, together, "2071-2100")
    assert {name: [one.case for one in some] for name, some in found.items()} == {
        "ssp585": ["RCM_0/imperfect", "RCM_2/imperfect"],
        "ssp126": ["RCM_1/imperfect"],
    }
    assert list(return_levels._by_scenario(context, together, "1981-2010")) == [""]
    assert list(return_levels._by_scenario(context, [together[0], together[2]], "2071-2100")) == [""]
