"""The virtual climate has the properties that its parameters state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyproj
import pytest

from downscale.errors import ConfigError
from downscale.virtual import atmosphere, clock, geometry, waves
from downscale.virtual.simulation import Chain, CorrelatedNoise
from downscale.virtual.world import CORIOLIS, EARTH_RADIUS, GCMS, GRAVITY, SIZES, World, find_size, ghg, warming

WORLD = World()
TINY = SIZES["tiny"]
PERIOD = clock.Period(1995, 2000)


def gcm_at(chain: Chain, lon: np.ndarray, lat: np.ndarray, month: clock.Month) -> atmosphere.State:
    """The GCM's air at any places."""
    made = waves.make_waves(chain.world)
    x, y = geometry.plane(chain.world, lon.ravel(), lat.ravel())
    place = atmosphere.Place(y, lat.ravel(), waves.basis(made, x, y), made.kx, made.ky)
    days = clock.count_days(chain.period.first, chain.period.last, chain.gcm.calendar)
    series = waves.weather(chain.world, made, chain.gcm, (chain.gcm_index, chain.period.first), days).gcm
    linear = atmosphere.waves_at(chain.world, chain.gcm, place, series[:, month.start : month.start + month.size])
    warmth = warming(chain.gcm.sensitivity, month.year)
    atmosphere.add_means(linear, place, chain.gcm, phase=month.phase, warmth=warmth, bias=1.0)
    return atmosphere.complete(linear, place, chain.world)


@pytest.mark.parametrize("name", ["tiny", "small", "mlbench", "4", "6", "12", "16"])
def test_geometry_closes(name):
    size = find_size(name)
    grid, boxes = geometry.rcm_grid(WORLD, size), geometry.boxes(WORLD, size)
    west, east, south, north = boxes.coarse
    low, high = boxes.inner
    steps = np.linspace(0.0, 1.0, 101)
    edge = [(west + (east - west) * s, side) for s in steps for side in (south, north)]
    edge += [(side, south + (north - south) * s) for s in steps for side in (west, east)]
    rotated = np.array([geometry.rotate(lon, lat, WORLD.pole_lon, WORLD.pole_lat) for lon, lat in edge])
    half = grid.resolution / 2
    assert grid.rlon[low] - half < rotated[:, 0].min() and rotated[:, 0].max() < grid.rlon[high - 1] + half
    assert grid.rlat[low] - half < rotated[:, 1].min() and rotated[:, 1].max() < grid.rlat[high - 1] + half
    first, last = boxes.target
    lon, lat = grid.lon_vertices[first:last, first:last], grid.lat_vertices[first:last, first:last]
    assert last - first == size.target_cells
    assert west < lon.min() and lon.max() < east and south < lat.min() and lat.max() < north
    assert first - low >= 0 and size.taper_cells <= first
    for gcm in GCMS:
        cut = geometry.gcm_grid(WORLD, size, gcm)
        assert cut.lon[0] < west < 0 < east < cut.lon[-1] or (cut.lon[0] < 0 and size.coarse_cells == 4)
        assert cut.lat[0] < south and north < cut.lat[-1]


def test_published_sizes():
    small, bench = find_size("small"), find_size("mlbench")
    assert (small.resolution, small.rcm_cells, small.target_cells) == (0.44, 64, 32)
    assert (bench.resolution, bench.rcm_cells, bench.target_cells) == (0.22, 208, 128)
    for wrong in ("huge", "5", "18"):
        with pytest.raises(ConfigError):
            find_size(wrong)


def test_rotation_is_the_cf_one():
    grid = geometry.rcm_grid(WORLD, TINY)
    crs = {"grid_mapping_name": "rotated_latitude_longitude", "north_pole_grid_longitude": 0.0, "earth_radius": EARTH_RADIUS}
    crs |= {"grid_north_pole_latitude": WORLD.pole_lat, "grid_north_pole_longitude": WORLD.pole_lon}
    rotated = pyproj.CRS.from_cf(crs)
    back = pyproj.Transformer.from_crs(rotated, f"+proj=longlat +R={EARTH_RADIUS}", always_xy=True)
    lon, lat = back.transform(*np.meshgrid(grid.rlon, grid.rlat))
    assert np.allclose(lon, grid.lon, atol=1e-9) and np.allclose(lat, grid.lat, atol=1e-9)
    tilt = np.degrees(np.arctan2(grid.lat[10, 11] - grid.lat[10, 10], grid.lon[10, 11] - grid.lon[10, 10]))
    assert abs(tilt) > 0.3


def test_taper_is_zero_at_the_boundary_and_one_in_the_target():
    weight = geometry.taper(find_size("small"))
    assert weight[0].max() == weight[:, -1].max() == 0.0
    first, last = geometry.boxes(WORLD, find_size("small")).target
    assert weight[first:last, first:last].min() == 1.0


def test_waves_are_stationary_with_the_stated_variance():
    made = waves.make_waves(WORLD)
    series = waves.amplitudes(made, np.random.default_rng(1), 20_000)
    assert np.isclose(made.weight.sum(), 1.0)
    assert np.allclose((np.abs(series) ** 2).mean(axis=1).sum(axis=-1) / 2.0, 1.0, atol=0.05)
    lag = np.mean(series[:, 1:] * np.conj(series[:, :-1]), axis=(0, 1)) / np.mean(np.abs(series) ** 2, axis=(0, 1))
    assert np.allclose(lag, made.step, atol=0.03)
    assert made.length.min() > 900e3 and made.length.max() < 5100e3


@pytest.mark.parametrize("index", range(4))
def test_gcm_and_rcm_weather_differ_by_the_stated_numbers(index):
    made, gcm = waves.make_waves(WORLD), GCMS[index]
    series = waves.weather(WORLD, made, gcm, (index, 1), 20_000)
    factor = waves.gcm_filter(made, gcm)
    ratio = np.sum(made.weight * factor**2)
    variance = [np.sum(np.abs(a) ** 2, axis=(1, 2)) for a in (series.gcm, series.rcm)]
    assert np.allclose(variance[0] / variance[1], ratio, rtol=0.05)
    kept = np.sqrt(1.0 - WORLD.drift**2)
    cross = np.sum((series.gcm * np.conj(series.rcm)).real, axis=(1, 2)) / np.sqrt(variance[0] * variance[1])
    assert np.allclose(cross, kept * np.sum(made.weight * factor) / np.sqrt(ratio), atol=0.01)
    same = waves.weather(WORLD, made, replace(gcm, variance_ratio=1.0, cutoff_km=0.0, tilt=0.0), (index, 1), 20_000)
    drift = np.sum(np.abs(same.rcm - kept * same.gcm) ** 2, axis=(1, 2)) / np.sum(np.abs(same.gcm) ** 2, axis=(1, 2))
    assert np.allclose(np.sqrt(drift), WORLD.drift, rtol=0.05)


def test_half_of_the_bias_of_b_reaches_its_rcm():
    chain = Chain(WORLD, TINY, 1, PERIOD)
    centre = np.array([WORLD.centre_lon]), np.array([WORLD.centre_lat])
    middle = TINY.rcm_cells // 2
    shape = (-1, TINY.rcm_cells, TINY.rcm_cells)
    gaps = []
    for month in chain.months(1995, 2000):
        rcm = chain.rcm_state(month)["ta850"].reshape(shape)[:, middle - 1 : middle + 1, middle - 1 : middle + 1].mean(axis=(1, 2))
        gaps.append(gcm_at(chain, *centre, month)["ta850"][:, 0] - rcm)
    expected = (1.0 - WORLD.retained_bias) * chain.gcm.ta_bias[0]
    assert np.mean(np.concatenate(gaps)) == pytest.approx(expected, abs=0.15)


def test_bias_is_added_exactly():
    chain = Chain(WORLD, TINY, 1, PERIOD)
    gcm = chain.gcm
    zeros = np.zeros((1, 3))
    place = atmosphere.Place(np.zeros(3), np.zeros(3), np.zeros((2, 3), np.float32), np.zeros(1), np.zeros(1))
    made = []
    for bias in (0.0, 1.0):
        linear = atmosphere.Linear(np.zeros((6, 1, 3), np.float32), np.zeros((4, 1, 3), np.float32), np.zeros((4, 1, 3), np.float32))
        made.append(atmosphere.add_means(linear, place, gcm, phase=np.array([0.3]), warmth=1.0, bias=bias).value)
    season = float(atmosphere.season_wave(np.array([0.3]))[0])
    wanted = [
        gcm.zg_bias,
        *(b + (gcm.seasonal_factor - 1.0) * a * season for a, b in zip(atmosphere.CLIMATE.ta_season, gcm.ta_bias, strict=True)),
        *gcm.rh_bias,
    ]
    for got, expected in zip(made[1] - made[0], wanted, strict=True):
        assert np.allclose(got, expected + zeros, atol=2e-3)


def test_rcm_equals_its_driver_at_the_boundary_and_not_inside():
    chain = Chain(WORLD, TINY, 1, PERIOD)
    month = chain.months(1995, 1995)[6]
    grid, n = chain.rcm_grid, TINY.rcm_cells
    driver = gcm_at(chain, grid.lon, grid.lat, month)
    rcm = chain.rcm_state(month)
    for name, tolerance in (("zg500", 0.01), ("ta850", 1e-3), ("hus700", 1e-6), ("va850", 1e-3)):
        gap = np.abs(rcm[name] - driver[name]).reshape(-1, n, n)
        assert max(gap[:, 0].max(), gap[:, -1].max(), gap[:, :, 0].max(), gap[:, :, -1].max()) < tolerance
        assert gap[:, n // 2, n // 2].mean() > 50 * tolerance


def test_winds_are_geostrophic_by_finite_differences():
    chain = Chain(WORLD, TINY, 1, PERIOD)
    month = chain.months(1996, 1996)[0]
    lon, lat = np.meshgrid(np.arange(-2.0, 10.0, 0.2), np.arange(4.0, 16.0, 0.2))
    state = {name: field.reshape(-1, *lon.shape) for name, field in gcm_at(chain, lon, lat, month).items()}
    step = np.radians(0.2) * EARTH_RADIUS
    for level in (850, 500):
        z = state[f"zg{level}"].astype(np.float64)
        u = -GRAVITY / CORIOLIS * (z[:, 2:, 1:-1] - z[:, :-2, 1:-1]) / (2 * step)
        v = GRAVITY / CORIOLIS * (z[:, 1:-1, 2:] - z[:, 1:-1, :-2]) / (2 * step * np.cos(np.radians(lat[1:-1, 1:-1])))
        inner = (slice(None), slice(1, -1), slice(1, -1))
        assert np.abs(u - state[f"ua{level}"][inner]).max() < 0.3
        assert np.abs(v - state[f"va{level}"][inner]).max() < 0.3
        assert state[f"va{level}"].std() > 4.0


def test_heights_are_hydrostatic():
    chain = Chain(WORLD, TINY, 0, PERIOD)
    state = chain.gcm_state(chain.months(1995, 1995)[3])
    thickness = 287.05 / GRAVITY * 0.5 * (state["ta850"] + state["ta700"]) * np.log(850 / 700)
    assert np.allclose(state["zg700"] - state["zg850"], thickness, atol=0.01)


def test_more_greenhouse_gas_is_warmer_and_b_is_more_sensitive():
    assert ghg(1997) == pytest.approx(370, abs=1) and ghg(2092) == pytest.approx(1100, abs=10)
    change = [warming(gcm.sensitivity, 2093) - warming(gcm.sensitivity, 1998) for gcm in GCMS[:2]]
    assert 2.5 < change[0] < 4.0 and change[1] > 1.3 * change[0]


def test_correlated_noise_has_unit_variance_and_the_stated_correlation():
    noise = CorrelatedNoise((24, 31), 49e3, 90e3)
    fields = noise.draw(np.random.default_rng(0), 1500)
    assert fields.shape == (1500, 24, 31)
    assert np.allclose(fields.var(axis=0).mean(), 1.0, atol=0.02)
    for lag in (1, 2):
        assert np.mean(fields[:, :, lag:] * fields[:, :, :-lag]) == pytest.approx(np.exp(-((lag * 49 / 90) ** 2)), abs=0.03)
    assert abs(np.mean(fields[:, 0, 0] * fields[:, -1, -1])) < 0.1


def test_terrain_has_sea_mountains_and_foothills():
    land = Chain(WORLD, find_size("small"), 0, PERIOD).rcm_land
    box = slice(*geometry.boxes(WORLD, find_size("small")).target)
    assert 0.2 < land.land[box, box].mean() < 0.9
    assert 1500 < land.height[box, box].max() < 3500
    assert np.abs(land.height[land.land < 0.01]).max() < 50.0
    assert land.valley.min() >= 0.0 and land.valley.max() <= 1.0


def test_calendars():
    assert clock.count_days(1995, 2000, "standard") == 2192
    assert clock.count_days(1995, 2000, "noleap") == 2190
    assert clock.count_days(1995, 2000, "360_day") == 2160
    february = clock.months(1996, 1996, "standard")[1]
    assert (february.days[0], february.days[-1], february.start) == (19960201, 19960229, 31)
    assert [p.label for p in clock.split_periods([(2090, 2091), (2012, 2016)])] == [
        "historical_2012-2014",
        "ssp585_2015-2016",
        "ssp585_2090-2091",
    ]
    assert clock.split_years(clock.Period(1990, 2000), 5) == [(1990, 1993), (1994, 1996), (1997, 2000)]
    for wrong in ([], [(2000, 1999)], [(1995, 1999), (1998, 2001)], [(1700, 1701)]):
        with pytest.raises(ConfigError):
            clock.split_periods(wrong)
