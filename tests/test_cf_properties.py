"""Properties of opening: how the same fields were cut, packed, ordered and labelled in files does not matter."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from cf_files import Spec, days_of, field_of, read_all, write
from grid_samples import projected_dataset
from grid_world import change, field, files_of, regional
from grid_world import write as write_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from downscale.cf import units
from downscale.cf.calendar import TIME_UNITS, day_bounds, decode_days, encode_days, expected_days
from downscale.cf.open import Source, open_files
from downscale.grid.grid import Grid, same_grid
from downscale.variables import TABLE, Channel, lookup

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(max_examples=100, deadline=None)
TAS = Channel("tas")
LAT, LON = (40.0, 42.011, 44.022), (-4.0, -2.0, 0.0, 2.0, 4.0)
CALENDARS = ("standard", "proleptic_gregorian", "noleap", "360_day", "julian", "all_leap")
CANONICAL = {"proleptic_gregorian": "standard"}
cuts = st.lists(st.integers(1, 39), max_size=4, unique=True).map(sorted)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function that gives a new empty folder for every example."""
    root, count = tmp_path_factory.mktemp("properties"), iter(range(10**6))

    def new() -> Path:
        path = root / str(next(count))
        path.mkdir()
        return path

    return new


def opened(folder: Path) -> Source:
    return open_files("A", [f"{folder}/*.nc"], [TAS])


def assert_holds(source: Source, days: np.ndarray, lat=LAT, lon=LON, atol: float = 0.0) -> None:
    """The source is the field of cf_files on these days and this grid."""
    np.testing.assert_array_equal(source.days, days)
    np.testing.assert_allclose(source.series["tas"].coordinates["lat"], lat)
    np.testing.assert_allclose(source.series["tas"].coordinates["lon"], lon)
    np.testing.assert_allclose(read_all(source), field_of(days, lat, lon).astype(np.float32), rtol=0, atol=atol)


def pieces(calendar: str, cuts: list[int]) -> list[np.ndarray]:
    return np.split(expected_days(20010115, 20030101, calendar)[:40], cuts)


@FEW
@given(cuts, seeds, st.sampled_from(CALENDARS))
def test_cutting_a_series_into_files_named_in_any_order_does_not_matter(folder, cuts, seed, calendar):
    here, parts = folder(), pieces(calendar, cuts)
    for name, days in zip(np.random.default_rng(seed).permutation(len(parts)), parts, strict=True):
        write(here / f"{name}.nc", days=days, calendar=calendar, lat=LAT, lon=LON)
    source = opened(here)
    assert_holds(source, np.concatenate(parts))
    assert source.calendar == CANONICAL.get(calendar, calendar)


@FEW
@given(cuts, seeds)
def test_days_in_any_order_inside_a_file_do_not_matter(folder, cuts, seed):
    here, parts = folder(), pieces("standard", cuts)
    shuffle = np.random.default_rng(seed).permutation
    for name, days in enumerate(parts):
        write(here / f"{name}.nc", days=shuffle(days), lat=LAT, lon=LON)
    assert_holds(opened(here), np.concatenate(parts))


@FEW
@given(cuts, st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.0, -180.0, -360.0])), min_size=5, max_size=5))
def test_direction_of_latitude_and_turn_of_longitude_do_not_matter_file_by_file(folder, cuts, styles):
    here, parts = folder(), pieces("standard", cuts)
    for number, (days, (flip, ascending, low)) in enumerate(zip(parts, styles, strict=False)):
        lon = np.mod(np.asarray(LON) - low, 360.0) + low
        write(here / f"{number}.nc", days=days, lat=LAT[::-1] if flip else LAT, lon=np.sort(lon) if ascending else lon)
    assert_holds(opened(here), np.concatenate(parts))


@FEW
@given(
    st.permutations(["time", "lat", "lon", "one"]),
    st.integers(-180, 359),
    st.sampled_from(["days since 1850-01-01", "hours since 1900-01-01", "seconds since 1949-12-01"]),
    st.floats(0.0, 0.99),
)
def test_order_of_dimensions_place_and_time_units_do_not_matter(folder, dims, west, time_units, stamp):
    here = folder()
    lon = west + 2.0 * np.arange(5)
    write(here / "a.nc", last=20010110, lat=LAT, lon=lon % 360.0, dims=tuple(dims), sizes={"one": 1}, time_units=time_units, stamp=stamp)
    wanted = (lon + 180.0) % 360.0 - 180.0
    wanted = lon - 360.0 * round(float(lon[0] - wanted[0]) / 360.0)
    assert_holds(opened(here), expected_days(20010101, 20010110, "standard"), lon=wanted)


@FEW
@given(st.lists(st.tuples(st.floats(0.001, 0.02), st.floats(270.0, 300.0), st.sampled_from(["i2", "i4"])), min_size=3, max_size=3), seeds)
def test_packing_does_not_matter_within_its_precision(folder, packing, seed):
    here, parts = folder(), pieces("standard", [13, 26])
    hole = np.random.default_rng(seed).random((40, 3, 5)) < 0.1
    for number, (days, (scale, offset, kind)) in enumerate(zip(parts, packing, strict=True)):
        spec = Spec(days=days, lat=LAT, lon=LON, dtype=kind, fill=-32768, attrs={"scale_factor": scale, "add_offset": offset})
        spec.data = np.ma.array(field_of(days, LAT, LON), mask=hole[13 * number : 13 * number + len(days)])
        write(here / f"{number}.nc", spec)
    source, days = opened(here), np.concatenate(parts)
    fields = read_all(source)
    np.testing.assert_array_equal(np.isnan(fields), hole)
    half_step = np.repeat([0.5 * scale for scale, *_ in packing], [len(part) for part in parts])[:, None, None]
    error = np.abs(fields - field_of(days, LAT, LON))[~hole]
    assert (error <= np.broadcast_to(half_step, hole.shape)[~hole] + 3e-5).all()


@FEW
@given(
    st.sampled_from([("standard", "proleptic_gregorian", "julian"), ("noleap", "365_day"), ("all_leap", "366_day")]).flatmap(
        lambda names: st.tuples(st.sampled_from(names), st.sampled_from(names))
    ),
    st.integers(1900, 2098),
)
def test_relabelling_equal_days_between_calendars_of_equal_length_keeps_days_and_fields(folder, pair, year):
    here = [folder(), folder()]
    days = expected_days(year * 10000 + 220, year * 10000 + 310, "noleap")
    for one, calendar in zip(here, pair, strict=True):
        write(one / "a.nc", days=days, calendar=calendar, lat=LAT, lon=LON)
    sources = [open_files("A", [f"{one}/*.nc"], [TAS], gaps="skip") for one in here]
    np.testing.assert_array_equal(sources[0].days, sources[1].days)
    np.testing.assert_array_equal(read_all(sources[0]), read_all(sources[1]))


@FEW
@given(st.integers(-180, 359), st.booleans(), st.booleans(), st.sampled_from([0.0, -180.0]), st.booleans(), st.booleans())
def test_winding_direction_order_and_precision_of_2d_coordinates_do_not_matter(folder, centre, flip_y, flip_x, low, swap, single):
    here, plain = folder(), regional(float(centre))
    file = files_of(plain)
    for name in ("lon", "lon_vertices"):
        change(file, name, np.mod(file[name].values - low, 360.0) + low)
    for name in ("lat", "lon") if single else ():
        change(file, name, file[name].values.astype("f4"))
    file = file.isel(rlat=slice(None, None, -1 if flip_y else 1), rlon=slice(None, None, -1 if flip_x else 1))
    write_dataset(file.transpose("time", "rlon", "rlat", ...) if swap else file, here / "a.nc")
    source = opened(here)
    grid = Grid.from_dataset(source.series["tas"].coordinates)
    assert same_grid(plain, grid, 1e-4 if single else 1e-9)
    assert np.abs(np.diff(grid.lon, axis=0)).max() < 2.0 and np.abs(np.diff(grid.lon, axis=1)).max() < 2.0
    np.testing.assert_allclose(read_all(source), field(plain.lat, plain.lon), atol=1e-4)
    np.testing.assert_allclose(grid.areas(), plain.areas(), rtol=1e-3 if single else 1e-7)


BARE = ["lat_vertices", "lon_vertices"]
PROJECTIONS = {
    "lambert_conformal_conic": {
        "standard_parallel": [30.0, 65.0],
        "latitude_of_projection_origin": 48.0,
        "longitude_of_central_meridian": 9.75,
    },
    "polar_stereographic": {
        "latitude_of_projection_origin": 90.0,
        "straight_vertical_longitude_from_pole": -40.0,
        "standard_parallel": 70.0,
    },
    "transverse_mercator": {
        "latitude_of_projection_origin": 0.0,
        "longitude_of_central_meridian": 15.0,
        "scale_factor_at_central_meridian": 0.9996,
        "false_easting": 500000.0,
        "false_northing": -5000000.0,
    },
    "lambert_azimuthal_equal_area": {"latitude_of_projection_origin": -75.0, "longitude_of_projection_origin": 170.0},
    "mercator": {"longitude_of_projection_origin": 177.0, "standard_parallel": 10.0},
}


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(sorted(PROJECTIONS)), st.sampled_from([("km", 1.0), ("m", 1e3)]), st.booleans(), st.integers(1, 60))
def test_what_a_grid_leaves_out_is_computed_from_the_rest(projection, scale, sphere, spacing):
    """Axes and mapping give lat/lon and corners; lat/lon and mapping give axes and corners; the figure of the Earth shows in lat/lon."""
    axis = scale[1] * spacing * (np.arange(6.0) - 2.5)
    crs = {"grid_mapping_name": projection, **PROJECTIONS[projection], **({"earth_radius": 6371229.0} if sphere else {})}
    whole = Grid.from_dataset(projected_dataset(axis, axis[:5], crs, ("y", "x"), scale[0]))
    full = whole.to_dataset()
    undeclared = full.drop_vars(["lat_vertices", "lon_vertices"]).copy(deep=True)
    undeclared["crs"].attrs.pop("earth_radius", None)
    assert Grid.from_dataset(full).notes == ()
    for dataset in (full.drop_vars(["y", "x"]), full.drop_vars(["y", "x", *BARE]), full.drop_vars(["lat", "lon", *BARE]), undeclared):
        grid = Grid.from_dataset(dataset)
        assert same_grid(whole, grid, 1e-6) and grid.axes is not None
        assert bool(grid.notes) == (sphere or dataset is not undeclared)
        np.testing.assert_allclose(grid.areas(), whole.areas(), rtol=1e-4)


@MANY
@given(
    st.sampled_from(CALENDARS),
    st.integers(1583, 9000),
    st.integers(1, 2000),
    st.sampled_from(["days", "hours", "minutes", "seconds"]),
    st.sampled_from(["1850-01-01", "1949-12-01T00:00:00Z", "1600-3-1 12:00"]),
)
def test_days_come_back_from_numbers_in_any_units(calendar, year, count, step, epoch):
    import cftime

    days = expected_days(year * 10000 + 101, (year + 6) * 10000 + 101, calendar)[:count]
    np.testing.assert_array_equal(decode_days(encode_days(days, calendar), TIME_UNITS, calendar), days)
    np.testing.assert_array_equal(decode_days(day_bounds(days, calendar)[:, 0], TIME_UNITS, calendar), days)
    ends = [cftime.datetime(d // 10000, d // 100 % 100, d % 100, 12, calendar=calendar) for d in days[[0, -1]].tolist()]
    numbers = cftime.date2num(ends, f"{step} since {epoch}", calendar=calendar)
    np.testing.assert_array_equal(decode_days(numbers, f"{step} since {epoch}", calendar), days[[0, -1]])


@FEW
@given(st.sampled_from(CALENDARS), st.integers(1900, 2090), st.booleans())
def test_times_come_back_from_a_written_file(folder, calendar, year, bounds):
    here = folder()
    days = expected_days(year * 10000 + 1220, (year + 1) * 10000 + 305, calendar)
    write(here / "a.nc", days=days, calendar=calendar, lat=LAT, lon=LON, bounds=bounds)
    np.testing.assert_array_equal(opened(here).days, days)
    with xr.open_dataset(here / "a.nc", decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)) as other:
        theirs = [10000 * one.year + 100 * one.month + one.day for one in other["time"].values]
    np.testing.assert_array_equal(theirs, days)


SPELLINGS = {
    "tas": ["K", "degC", "Celsius", "celsius", "kelvin", "degrees_Celsius", "degF"],
    "pr": ["mm day-1", "mm/day", "kg m-2 s-1", "kg/m2/s", "mm s-1", "m s-1", "kg m-2 day-1", "mm d-1"],
    "psl": ["Pa", "hPa", "millibar", "mbar", "Pascals"],
    "hus": ["1", "kg kg-1", "g kg-1", "kg kg**-1"],
    "uas": ["m s-1", "m/s", "km h-1"],
    "zg": ["m", "km"],
    "sftlf": ["%", "1", "percent"],
}


@MANY
@given(st.sampled_from([(name, unit) for name, those in SPELLINGS.items() for unit in those]), st.floats(0.01, 0.99))
def test_units_there_and_back(spelling, share):
    name, unit = spelling
    row = lookup(name)
    value = np.array([row.valid_range[0] + share * (row.valid_range[1] - row.valid_range[0])])
    there = units.to_working(row, unit)
    stored = (value - there.offset) / there.scale
    np.testing.assert_allclose(there.apply(stored), value, rtol=1e-12, atol=1e-12)


@MANY
@given(st.sampled_from(sorted(TABLE)), st.floats(0.0, 1.0))
def test_file_units_there_and_back(name, share):
    row = lookup(name)
    value = np.array([row.valid_range[0] + share * (row.valid_range[1] - row.valid_range[0])])
    out = value * units.to_working(row, row.file_units).scale ** -1
    np.testing.assert_allclose(units.to_working(row, row.file_units).apply(out), value, rtol=1e-12, atol=1e-300)


@FEW
@given(
    st.sampled_from([("f4", 1e20), ("f4", -999.0), ("f4", np.nan), ("f8", 1e20), ("f4", None), ("f8", None), ("i2", -32768), ("i4", -9)]),
    st.sampled_from(["_FillValue", "missing_value"]),
    seeds,
    st.floats(0.0, 1.0),
)
def test_missing_values_come_back_as_nan_and_nothing_else_does(folder, stored, attribute, seed, share):
    here, (kind, fill) = folder(), stored
    days = expected_days(20010101, 20010108, "standard")
    hole = np.random.default_rng(seed).random((8, 3, 5)) < share
    packed = {"scale_factor": 0.01, "add_offset": 280.0} if kind[0] == "i" else {}
    raw = field_of(days, LAT, LON) if not packed else np.round((field_of(days, LAT, LON) - 280.0) / 0.01)
    raw = np.where(hole, netCDF4.default_fillvals[kind] if fill is None else fill, raw)
    write(here / "a.nc", days=days, lat=LAT, lon=LON, dtype=kind, fill=None if fill is None or attribute == "missing_value" else fill)
    with netCDF4.Dataset(here / "a.nc", "a") as file:
        file.set_auto_maskandscale(False)
        if fill is not None and attribute == "missing_value":
            file["tas"].missing_value = np.asarray(fill, kind)
        file["tas"].setncatts(packed)
        file["tas"][:] = raw.astype(kind)
    fields = read_all(opened(here))
    np.testing.assert_array_equal(np.isnan(fields), hole)
    np.testing.assert_allclose(fields[~hole], field_of(days, LAT, LON)[~hole], rtol=0, atol=0.006 if packed else 2e-5)


def test_the_fields_tell_days_and_cells_apart():
    """The properties above rest on this."""
    fields = field_of(days_of(Spec()), LAT, LON)
    assert len(np.unique(fields.astype(np.float32))) == fields.size
