"""One definition of each metric, four ways to it: an array, a labelled array, a lazy one, a stream of days; and what others compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scores.continuous
import xarray as xr
import xclim.indices as xci
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.cf.calendar import encode_days, expected_days
from downscale.evaluate.metrics import definitions
from downscale.evaluate.metrics import point as metrics
from downscale.evaluate.metrics.definitions import ENTRIES, find
from downscale.evaluate.metrics.indices import PERCENTILES, IndexSet
from downscale.evaluate.metrics.registry import METRICS
from downscale.evaluate.metrics.series import SeriesBlock, matched, pair_totals, quantile_scores, sum_scores, with_absolute
from downscale.evaluate.metrics.spectra import RadialSpectrum, log_spectral_distance
from downscale.evaluate.metrics.streaming import Stream
from downscale.evaluate.selection import TimeTable

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "metrics.md"
NY, NX = 3, 4


def _fields(days, seed=0, *, wet=False):
    """A seasonal cycle with weather that has a memory, and an emulation of it."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((len(days), NY, NX))
    for day in range(1, len(days)):
        noise[day] += 0.6 * noise[day - 1]
    phase = 2 * np.pi * np.arange(len(days)) / 365.25
    truth = 288 - 9 * np.cos(phase)[:, None, None] + 3 * noise
    emulated = truth + 0.7 + generator.standard_normal(truth.shape)
    if wet:
        truth, emulated = (np.maximum(3 * (field - 281), 0.0) for field in (truth, emulated))
    return emulated.astype(np.float32), truth.astype(np.float32)


def _labelled(values, days, calendar):
    time = xr.DataArray(encode_days(days, calendar), dims="time", attrs={"units": "days since 1850-01-01", "calendar": calendar})
    dataset = xr.Dataset({"field": (("time", "y", "x"), values)}, coords={"time": time})
    return xr.decode_cf(dataset)["field"]


@pytest.fixture(scope="module", params=["standard", "360_day"])
def world(request):
    days = expected_days(20000101, 20011230, request.param)
    return days, request.param, _fields(days), _fields(days, wet=True)


def _suited(name, world):
    """Temperature or precipitation, whichever the metric is for."""
    stem = name.removeprefix("abs_").removesuffix("_bias")
    wet = stem in ("wet_day_frequency", "dry_days", "sdii", "cdd", "cwd", "rx1day", "relative")
    return world[3] if wet else world[2]


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_lazy_array_gives_what_the_array_gives(world, name):
    days, calendar = world[:2]
    season = "ANN" if calendar == "standard" else "DJF"
    p, r = _suited(name, world)
    table = TimeTable(days, calendar)
    p = p.copy()
    p[5:9, 0, 1] = np.nan
    p[:, 2, 3] = np.nan
    if METRICS[name].over == "all":
        p, r = p[:, :2], r[:, :2]
    expected = METRICS[name](p, r, times=table, season=season)
    assert METRICS[name].over == "all" or expected.shape == (
        (NY, NX) if METRICS[name].over == "time" else (int((table.season == season).sum()) or len(days),)
    )
    if METRICS[name].over == "time" and name not in ("mean",):
        assert np.isnan(expected[2, 3]) and np.isfinite(np.delete(expected.ravel(), 11)).all(), name
    if METRICS[name].over == "all":
        assert np.isfinite(expected) and expected.shape == ()
    eager = _labelled(p, days, calendar), _labelled(r, days, calendar)
    chunks = {"time": 365, "y": 2}
    if season == "DJF" and METRICS[name].over == "space":
        return
    lazy = METRICS[name](eager[0].chunk(chunks), eager[1].chunk(chunks), season=season)
    assert lazy.chunks is not None and lazy.name == name
    np.testing.assert_allclose(METRICS[name](*eager, season=season).values, expected, rtol=1e-12)
    np.testing.assert_allclose(lazy.compute(scheduler="synchronous").values, expected, rtol=1e-9, atol=1e-12)


def test_the_pass_gives_what_the_registry_gives(world):
    days, calendar = world[:2]
    table = TimeTable(days, calendar)
    for (p, r), kit in ((world[2], IndexSet(None, "txx", "txn", 298.15)), (world[3], IndexSet(1.0, "rx1day"))):
        p, r = p.copy(), r.copy()
        p[30:45, 0, 0], r[200:203, 1, 1], r[:, 2, 2] = np.nan, np.nan, np.nan
        block, reference = matched(p, SeriesBlock(r, table, kit))
        for selection in table.selections:
            found = sum_scores(pair_totals(block, reference).years(table, selection).total(selection.strata), kit)
            found |= quantile_scores(block.ascending(selection), reference.ascending(selection))
            for name, value in with_absolute(found).items():
                expected = METRICS[name](p, r, times=table, season=selection.season)
                np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-5, err_msg=f"{name} {selection.season}")


@settings(max_examples=12, deadline=None)
@given(cuts=st.sets(st.integers(1, 1460), max_size=6), halves=st.booleans(), december=st.sampled_from(["calendar", "next"]))
def test_a_stream_gives_what_the_whole_gives_wherever_it_is_cut(cuts, halves, december):
    days = expected_days(20000101, 20031231, "standard")
    p, r = _fields(days, 1, wet=True)
    p[100:160, 1, 1] = np.nan
    r[:, 2, 2] = np.nan
    kit = IndexSet(1.0, "rx1day")
    streams = [Stream(kit, "standard", december=december) for _ in range(2)]
    for number, part in enumerate(np.split(np.arange(len(days)), sorted(cuts))):
        if len(part):
            streams[number % 2 if halves else 0].add(p[part], r[part], days[part])
    streams[0].merge(streams[1])
    table = TimeTable(days, "standard", december=december)
    block, reference = matched(p, SeriesBlock(r, table, kit))
    totals = pair_totals(block, reference)
    for selection in streams[0].table.selections:
        expected = sum_scores(totals.years(table, selection).total(selection.strata), kit)
        found = streams[0].scores(selection)
        daily = METRICS["spatial_correlation"](p[selection.rows], r[selection.rows])
        assert found.pop("spatial_correlation") == pytest.approx(np.nanmean(daily), rel=1e-9)
        assert set(found) == set(expected) - {"correlation_deseasonalised"}
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-7, atol=1e-9, err_msg=f"{name} {selection.season}")


def test_a_stream_refuses_a_day_that_it_has():
    days = expected_days(20000101, 20000131, "standard")
    p, r = _fields(days)
    stream = Stream(IndexSet(None, None), "standard")
    stream.add(p, r, days)
    stream.add(p[:5], r[:5], days[:5])
    with pytest.raises(ValueError, match="overlap"):
        _ = stream.table


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.streams and name in METRICS])
def test_what_is_said_to_stream_does(name):
    days = expected_days(20000101, 20011231, "standard")
    kit = (
        IndexSet(1.0, "rx1day")
        if _suited(name, (0, 0, 0, 1))
        else IndexSet(None, "tnx" if name == "tnx" else "txx", name if name == "tnn" else "txn", 298.15)
    )
    if name == "temperature_correlation" or METRICS[name].over == "all":
        return
    stream = Stream(kit, "standard")
    stream.add(*_fields(days), days)
    assert name in stream.scores(stream.table.selections[0])


def test_spectra_stream_and_merge():
    generator = np.random.default_rng(0)
    p, r = generator.standard_normal((2, 60, 16, 20))
    p[7, 3, 3] = np.nan
    whole = METRICS["log_spectral_distance"](p, r, spacing=(5.0, 5.0))
    parts = [RadialSpectrum((16, 20), (5.0, 5.0)) for _ in range(4)]
    for spectrum, fields in zip(parts, (p[:20], p[20:], r[:33], r[33:]), strict=True):
        spectrum.add(fields)
    parts[0].merge(parts[1])
    parts[2].merge(parts[3])
    assert parts[0].days == 59
    assert log_spectral_distance(parts[0].power, parts[2].power) == pytest.approx(float(whole), rel=1e-12)
    rings = parts[0].rings(p)
    assert rings.shape == (60, len(parts[0].wavenumber)) and np.isnan(rings[7]).all()
    assert np.nanmean(rings, axis=0) == pytest.approx(parts[0].power, rel=1e-10)


def test_a_damped_field_resolves_less():
    noise = np.random.default_rng(1).standard_normal((40, 32, 32))
    smooth = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2) + np.roll(np.roll(noise, 1, 1), 1, 2)) / 4
    found = METRICS["effective_resolution"](smooth, noise, spacing=(10.0, 10.0))
    assert 30 < found < 70 and METRICS["effective_resolution"](noise, noise, spacing=(10.0, 10.0)) == pytest.approx(20.0, rel=0.05)
    constant = np.full_like(noise, 288.15)
    for name in ("effective_resolution", "log_spectral_distance"):
        assert np.isnan(METRICS[name](noise, constant, spacing=(10.0, 10.0)))


# --- against others' code ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_indices_are_those_of_xclim(calendar):
    days = expected_days(20000101, 20031230 if calendar == "360_day" else 20031231, calendar)
    table = TimeTable(days, calendar)
    tasmax, pr = _fields(days)[1], _fields(days, wet=True)[1]
    hot, rain = _labelled(tasmax, days, calendar), _labelled(pr, days, calendar)
    hot.attrs.update(units="K", standard_name="air_temperature")
    rain.attrs.update(units="mm/day", standard_name="precipitation_flux")
    for name, series, theirs in (
        ("txx", tasmax, xci.tx_max(hot, freq="YS")),
        ("txn", tasmax, xci.tx_min(hot, freq="YS")),
        ("tnx", tasmax, xci.tn_max(hot, freq="YS")),
        ("tnn", tasmax, xci.tn_min(hot, freq="YS")),
        ("su", tasmax, xci.tx_days_above(hot, thresh="25 degC", freq="YS")),
        ("rx1day", pr, xci.max_1day_precipitation_amount(rain, freq="YS")),
        ("cdd", pr, xci.maximum_consecutive_dry_days(rain, thresh="1 mm/day", freq="YS")),
        ("cwd", pr, xci.maximum_consecutive_wet_days(rain, thresh="1 mm/day", freq="YS")),
        ("dry_days", pr, xci.dry_days(rain, thresh="1 mm/day", freq="YS")),
    ):
        np.testing.assert_allclose(METRICS[name](series, times=table), theirs.mean("time").values, rtol=1e-6, err_msg=name)
    wet = xci.wetdays(rain, thresh="1 mm/day", freq="YS").sum("time").values
    np.testing.assert_allclose(METRICS["wet_day_frequency"](pr, times=table), wet / len(days), rtol=1e-6)
    one_year = days < 20010101
    sdii = xci.daily_pr_intensity(rain[one_year], thresh="1 mm/day", freq="YS")[0]
    np.testing.assert_allclose(METRICS["sdii"](pr[one_year], times=TimeTable(days[one_year], calendar)), sdii.values, rtol=1e-5)


def test_winters_with_their_december_are_those_of_xclim():
    days = expected_days(20000101, 20031231, "standard")
    tasmax = _fields(days)[1]
    hot = _labelled(tasmax, days, "standard")
    hot.attrs.update(units="K")
    winters = xci.tx_max(hot, freq="QS-DEC")
    whole = winters.sel(time=(winters.time.dt.month == 12))[:-1]
    table = TimeTable(days, "standard", december="next")
    np.testing.assert_allclose(METRICS["txx"](tasmax, times=table, season="DJF"), whole[-3:].mean("time").values, rtol=1e-6)


@pytest.mark.parametrize("missing", [False, True])
def test_errors_are_those_of_scores(missing):
    days = expected_days(20000101, 20001231, "standard")
    p, r = _fields(days)
    if missing:
        p[::7, 0, 0] = np.nan
        r[3, 1, 2] = np.nan
    fcst, obs = _labelled(p.astype(float), days, "standard"), _labelled(r.astype(float), days, "standard")
    for name, function in (
        ("mse", scores.continuous.mse),
        ("rmse", scores.continuous.rmse),
        ("mae", scores.continuous.mae),
        ("bias", scores.continuous.additive_bias),
        ("correlation", scores.continuous.correlation.pearsonr),
    ):
        expected = function(fcst, obs, preserve_dims=["y", "x"]) if name != "correlation" else function(fcst, obs, reduce_dims="time")
        np.testing.assert_allclose(METRICS[name](p, r), expected.values, rtol=1e-6, atol=1e-9, err_msg=name)
    if not missing:
        expected = scores.continuous.correlation.pearsonr(fcst, obs, reduce_dims=["y", "x"])
        np.testing.assert_allclose(METRICS["spatial_correlation"](p, r), expected.values, rtol=1e-6)


# --- answers known beforehand --------------------------------------------------------------------------------------------------------


def test_perfect_values_are_reached_by_the_truth_itself(world):
    table = TimeTable(world[0], world[1])
    for name, metric in METRICS.items():
        if metric.entry.perfect is not None:
            p = _suited(name, world)[1]
            np.testing.assert_allclose(metric(p, p.copy(), times=table), metric.entry.perfect, atol=1e-6, err_msg=name)


def test_values_lie_in_the_range_that_is_told(world):
    table = TimeTable(world[0], world[1])
    for name, metric in METRICS.items():
        p, r = _suited(name, world)
        found = metric(p, r, times=table)
        low, high = (float(bound) for bound in metric.entry.range.strip("[]()").split(","))
        assert low - 1e-9 <= np.nanmin(found) and np.nanmax(found) <= high + 1e-9, name


def test_constant_fields_have_no_correlation_and_no_ratio():
    days = expected_days(20000101, 20011231, "standard")
    table, constant = TimeTable(days, "standard"), np.full((len(days), 2, 2), 280.0, np.float32)
    varying = constant + np.random.default_rng(0).standard_normal(constant.shape).astype(np.float32)
    for name in ("correlation", "correlation_deseasonalised", "std_ratio", "lag1", "interannual_std_ratio", "spatial_correlation"):
        found = METRICS[name](constant if name == "lag1" else varying, constant, times=table)
        assert np.isnan(found).all(), name
    assert METRICS["interannual_std"](constant, times=table) == pytest.approx(0.0)
    assert METRICS["rmse"](constant, constant) == pytest.approx(0.0)


def test_cells_without_a_value_are_nan_everywhere():
    days = expected_days(20000101, 20011231, "standard")
    empty = np.full((len(days), 1, 1), np.nan, np.float32)
    for name, metric in METRICS.items():
        assert np.isnan(metric(empty, empty, times=TimeTable(days, "standard"))).all(), name


def test_one_year_has_no_interannual_spread():
    days = expected_days(20000101, 20001231, "standard")
    assert np.isnan(METRICS["interannual_std"](_fields(days)[0], times=TimeTable(days, "standard"))).all()


def test_interannual_spread_is_that_inside_the_periods():
    days = np.concatenate([expected_days(a * 10000 + 101, (a + 2) * 10000 + 1231, "noleap") for a in (2000, 2090)])
    values = np.repeat([1.0, 2.0, 3.0, 101.0, 102.0, 103.0], 365)[:, None, None]
    table = TimeTable(days, "noleap")
    assert METRICS["interannual_std"](values, times=table)[0, 0] == pytest.approx(1.0)
    assert metrics.bias(values, values - 1)[0, 0] == pytest.approx(1.0)


def test_memory_of_red_noise_is_its_coefficient():
    days = expected_days(19500101, 20091231, "noleap")
    noise = np.random.default_rng(3).standard_normal(len(days))
    for day in range(1, len(days)):
        noise[day] += 0.7 * noise[day - 1]
    assert METRICS["lag1"](noise[:, None, None], times=TimeTable(days, "noleap"))[0, 0] == pytest.approx(0.7, abs=0.01)


def test_pairs_and_spells_do_not_reach_across_a_gap():
    days = np.concatenate([expected_days(20000101, 20000110, "standard"), expected_days(20000301, 20000310, "standard")])
    table = TimeTable(days, "standard")
    dry = np.zeros((20, 1, 1), np.float32)
    assert METRICS["cdd"](dry, times=table)[0, 0] == 10
    jump = np.where(np.arange(20) < 10, 0.0, 50.0)[:, None, None] + np.tile([0.0, 1.0], 10)[:, None, None]
    inside = np.concatenate([jump[:9], jump[10:19]])[:, 0, 0], np.concatenate([jump[1:10], jump[11:]])[:, 0, 0]
    assert METRICS["lag1"](jump, times=table)[0, 0] == pytest.approx(np.corrcoef(*inside)[0, 1])


def test_spells_end_at_a_missing_day_and_at_the_end_of_the_year():
    days = expected_days(20001201, 20010131, "standard")
    pr = np.zeros((len(days), 1, 2), np.float32)
    pr[10, 0, 0] = np.nan
    table = TimeTable(days, "standard")
    assert METRICS["cdd"](pr, times=table).tolist() == [[(20 + 31) / 2, 31.0]]
    assert METRICS["cdd"](pr, times=TimeTable(days, "standard", 12))[0].tolist() == [51.0, 62.0]


def test_areas_weigh_in_the_correlation_over_space():
    generator = np.random.default_rng(5)
    p, r = generator.standard_normal((2, 4, 3, 3))
    area = np.ones((3, 3))
    area[0] = 0.0
    expected = [np.corrcoef(p[day, 1:].ravel(), r[day, 1:].ravel())[0, 1] for day in range(4)]
    assert METRICS["spatial_correlation"](p, r, area=area) == pytest.approx(expected)
    twice = np.where(area > 0, 2.0, 0.0)
    assert METRICS["spatial_correlation"](p, r, area=twice) == pytest.approx(expected)


def test_what_cannot_be_asked_is_refused():
    field = np.zeros((10, 2, 2))
    with pytest.raises(ValueError, match="needs the days"):
        METRICS["txx"](field)
    with pytest.raises(ValueError, match="shape"):
        METRICS["bias"](field, field[:, :1])
    days = expected_days(20000401, 20000410, "standard")
    with pytest.raises(ValueError, match="no day in DJF"):
        METRICS["txx"](
            np.zeros((40, 1, 1)), times=TimeTable(np.concatenate([days, days + 300, days + 400, days + 500]), "standard"), season="DJF"
        )


# --- the page ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_the_page_tells_every_metric(name):
    text = PAGE.read_text()
    stem = name.replace("change_mean", "change_S").replace("change_p99", "change_S")
    assert f"`{stem}`" in text, f"{name} is not in {PAGE.name}"


def test_the_table_at_a_glance_is_the_registry():
    told = PAGE.read_text().partition("### At a glance")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in told.splitlines() if line.startswith("| `")]
    expected = [
        [
            f"`{one.name.replace('change_mean', 'change_S')}`",
            one.unit,
            one.range,
            "–" if one.perfect is None else f"{one.perfect:g}",
            "yes" if one.streams else "no",
        ]
        for one in ENTRIES.values()
        if not one.name.startswith("change_p99")
    ]
    assert rows == expected


def test_every_metric_has_its_entry_under_all_its_names():
    for name, metric in METRICS.items():
        assert metric.entry == find(name) and metric.entry.name == name
        assert metric.entry.formula and metric.entry.source and metric.entry.range[0] in "(["
    assert find("abs_p99_bias").unit == definitions.VARIABLE and find("abs_p99_bias").perfect == 0.0
    assert find("something_else") is None
    assert set(PERCENTILES) <= set(ENTRIES)
