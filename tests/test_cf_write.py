from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from cf_files import write, write_rotated
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.cf.calendar import expected_days
from downscale.cf.open import open_files, open_grid
from downscale.cf.write import FieldWriter, write_static
from downscale.errors import DownscaleError
from downscale.variables import TABLE, Channel

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def lonlat(tmp_path):
    return open_grid(write(tmp_path / "grid.nc"))


@pytest.fixture
def rotated(tmp_path):
    return open_grid(write_rotated(tmp_path / "grid.nc", vertices=True))


def fields_of(days, coordinates, base=280.0):
    shape = (4, 5) if "crs" in coordinates else (3, 4)
    rng = np.random.default_rng(len(days))
    return (base + rng.random((len(days), *shape))).astype(np.float32)


def written(path, coordinates, *, name="tas", calendar="standard", first=20010101, last=20010228, step=7, values=None, **options):
    days = expected_days(first, last, calendar)
    values = fields_of(days, coordinates) if values is None else values
    with FieldWriter(path, TABLE[name], coordinates, calendar, attributes={"title": "test", "source_id": "X"}, **options) as writer:
        for start in range(0, len(days), step):
            writer.append(days[start : start + step], values[start : start + step])
        assert not path.exists() and path.with_name(path.name + ".partial").exists()
    return days, values


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize("grid", ["lonlat", "rotated"])
def test_what_is_written_is_read_back(tmp_path, request, grid, calendar):
    coordinates = request.getfixturevalue(grid)
    path = tmp_path / "out" / "tas.nc"
    days, values = written(path, coordinates, calendar=calendar, first=20000220, last=20000310, step=5)
    source = open_files("A", [path], [Channel("tas")])
    assert source.calendar == calendar and source.notes == []
    np.testing.assert_array_equal(source.days, days)
    np.testing.assert_array_equal(source.series["tas"].read(0, len(days)), values)
    again = source.series["tas"].coordinates
    for variable in coordinates.variables:
        np.testing.assert_array_equal(again[variable], coordinates[variable])
    assert [entry.name for entry in path.parent.iterdir()] == ["tas.nc"]


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["standard", "noleap", "360_day", "julian"]), st.integers(1850, 2300), st.integers(1, 400), st.integers(1, 60))
def test_any_axis_survives_xarray(tmp_path_factory, calendar, year, count, step):
    folder = tmp_path_factory.mktemp("write")
    coordinates = open_grid(write(folder / "grid.nc"))
    days = expected_days(year * 10000 + 101, (year + 2) * 10000 + 1228, calendar)[:count]
    path = folder / "tas.nc"
    _, values = written(path, coordinates, calendar=calendar, first=int(days[0]), last=int(days[-1]), step=step)
    with xr.open_dataset(path, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)) as dataset:
        stamps = dataset["time"].values
        assert [stamp.year * 10000 + stamp.month * 100 + stamp.day for stamp in stamps] == days.tolist()
        assert {stamp.hour for stamp in stamps} == {12}
        np.testing.assert_array_equal(dataset["tas"].values, values)


def test_the_file_follows_the_conventions(tmp_path, rotated):
    path = tmp_path / "tas.nc"
    written(path, rotated, compression=4)
    with netCDF4.Dataset(path) as file:
        assert file.data_model == "NETCDF4_CLASSIC" and file.Conventions == "CF-1.11"
        assert {"creation_date", "history", "title", "source_id"} <= set(file.ncattrs())
        tas = file["tas"]
        assert (tas.dtype, tas.units, tas.standard_name, tas.cell_methods) == (np.float32, "K", "air_temperature", "area: time: mean")
        assert tas._FillValue == tas.missing_value == np.float32(1e20)
        assert (tas.grid_mapping, tas.coordinates) == ("crs", "lat lon height")
        assert file["crs"].grid_mapping_name == "rotated_latitude_longitude" and file["crs"].earth_radius == 6371229.0
        assert (file["time"].units, file["time"].calendar, file["time"].bounds) == ("days since 1850-01-01", "standard", "time_bnds")
        np.testing.assert_array_equal(file["time_bnds"][:].mean(axis=1), file["time"][:])
        assert file["height"][...] == 2.0 and file["height"].dimensions == ()
        assert (file["lat"].bounds, file["lon"].bounds) == ("lat_vertices", "lon_vertices")
        assert (file["rlat"].axis, file["rlat"].standard_name, file["rlat"].bounds) == ("Y", "grid_latitude", "rlat_bnds")
        assert {file[name].dtype for name in ("lat", "lon", "rlat", "rlon", "time")} == {np.dtype("f8")}
        assert tas.filters()["complevel"] == 4 and tas.filters()["shuffle"]
        assert not any(hasattr(file[name], "_FillValue") for name in ("time", "time_bnds", "lat", "rlat"))


def test_longitude_latitude_files_have_bounds(tmp_path, lonlat):
    path = tmp_path / "pr.nc"
    written(path, lonlat, name="pr", values=np.full((59, 3, 4), 5.0, np.float32))
    with netCDF4.Dataset(path) as file:
        assert file["lat"].bounds == "lat_bnds" and file["lat_bnds"][:].tolist() == [[39.0, 41.0], [41.0, 43.0], [43.0, 45.0]]
        assert file["pr"].units == "kg m-2 s-1" and "coordinates" not in file["pr"].ncattrs()
        np.testing.assert_allclose(file["pr"][:], 5.0 / 86400.0, rtol=1e-7)
    source = open_files("A", [path], [Channel("pr")])
    np.testing.assert_allclose(source.series["pr"].read(0, 59), 5.0, rtol=2e-7)


def test_missing_values_are_the_fill_value(tmp_path, lonlat):
    values = np.full((59, 3, 4), 280.0, np.float32)
    values[3, 1, 2] = np.nan
    path = tmp_path / "tas.nc"
    written(path, lonlat, values=values)
    with netCDF4.Dataset(path) as file:
        file.set_auto_mask(False)
        assert file["tas"][3, 1, 2] == np.float32(1e20)
    assert np.isnan(open_files("A", [path], [Channel("tas")]).series["tas"].read(0, 59)).sum() == 1


def test_an_exception_leaves_nothing(tmp_path, lonlat):
    path = tmp_path / "out" / "tas.nc"
    with pytest.raises(KeyError), FieldWriter(path, TABLE["tas"], lonlat, "standard", attributes={}) as writer:
        writer.append([20010101], np.full((1, 3, 4), 280.0))
        raise KeyError("inside")
    assert list(path.parent.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path, lonlat):
    path = tmp_path / "tas.nc"
    written(path, lonlat, last=20010131)
    before = path.read_bytes()
    with pytest.raises(KeyError), FieldWriter(path, TABLE["tas"], lonlat, "standard", attributes={}):
        raise KeyError("inside")
    assert path.read_bytes() == before
    written(path.with_name("tas2.nc"), lonlat)
    days = expected_days(20010101, 20010102, "standard")
    with FieldWriter(path, TABLE["tas"], lonlat, "standard", attributes={}) as writer:
        writer.append(days, np.full((2, 3, 4), 280.0))
    assert len(open_files("A", [path], [Channel("tas")]).days) == 2


@pytest.mark.parametrize(
    ("days", "shape"),
    [([20010102, 20010101], (2, 3, 4)), ([20010101, 20010101], (2, 3, 4)), ([20010101], (1, 4, 3)), ([20010101], (2, 3, 4))],
)
def test_days_and_shapes_must_fit(tmp_path, lonlat, days, shape):
    path = tmp_path / "out" / "tas.nc"
    with pytest.raises(ValueError, match=r"ascending|shape"), FieldWriter(path, TABLE["tas"], lonlat, "standard", attributes={}) as writer:
        writer.append(days, np.full(shape, 280.0))
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, lonlat):
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(DownscaleError, match="cannot write") as caught:
        FieldWriter(blocker / "tas.nc", TABLE["tas"], lonlat, "standard", attributes={})
    assert caught.value.code == 1 and str(blocker / "tas.nc") in caught.value.where


FULL_DISK = """
import resource, sys
import numpy as np
from pathlib import Path
from downscale.cf.calendar import expected_days
from downscale.cf.open import open_grid
from downscale.cf.write import FieldWriter
from downscale.errors import DownscaleError
from downscale.variables import TABLE
grid, path = open_grid(sys.argv[1]), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
days = expected_days(20010101, 20301231, "standard")
rng = np.random.default_rng(0)
try:
    with FieldWriter(path, TABLE["tas"], grid, "standard", attributes={}) as writer:
        for start in range(0, len(days), 500):
            part = days[start:start + 500]
            writer.append(part, 280 + rng.random((len(part), 3, 4)))
except DownscaleError as error:
    print(error)
    sys.exit(17 if not list(path.parent.iterdir()) else 18)
"""


def test_a_full_disk_is_an_error_with_path_and_free_space(tmp_path, lonlat):
    path = tmp_path / "out" / "tas.nc"
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "grid.nc"), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 17, done.stdout + done.stderr
    assert str(path) in done.stdout and "GB free" in done.stdout


KILLED = """
import os, signal, sys
import numpy as np
from downscale.cf.open import open_grid
from downscale.cf.write import FieldWriter
from downscale.variables import TABLE
writer = FieldWriter(sys.argv[2], TABLE["tas"], open_grid(sys.argv[1]), "standard", attributes={})
writer.append([20010101], np.full((1, 3, 4), 280.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_only_the_partial_file_and_the_next_run_replaces_it(tmp_path, lonlat):
    path = tmp_path / "out" / "tas.nc"
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "grid.nc"), str(path)], cwd=ROOT, capture_output=True, timeout=120)
    assert done.returncode == -9
    assert [entry.name for entry in path.parent.iterdir()] == ["tas.nc.partial"]
    written(path, lonlat)
    assert [entry.name for entry in path.parent.iterdir()] == ["tas.nc"]


def test_a_file_that_differs_from_what_was_written_is_not_published(tmp_path, lonlat, monkeypatch):
    path = tmp_path / "out" / "tas.nc"
    with pytest.raises(DownscaleError, match="differs"), FieldWriter(path, TABLE["tas"], lonlat, "standard", attributes={}) as writer:
        writer.append([20010101], np.full((1, 3, 4), 280.0))
        writer._file["tas"][0, 0, 0] = 281.0
    assert list(path.parent.iterdir()) == []


def test_fixed_fields_round_trip(tmp_path, rotated):
    values = np.arange(20.0).reshape(4, 5)
    values[1, 1] = np.nan
    for name in ("orog", "sftlf"):
        write_static(tmp_path / f"{name}.nc", TABLE[name], rotated, values, attributes={"title": "test"})
    source = open_files("A", [tmp_path / "orog.nc", tmp_path / "sftlf.nc"], [], statics=["orog", "sftlf"])
    for name in ("orog", "sftlf"):
        found, coordinates = source.statics([name])[name]
        np.testing.assert_array_equal(found, values.astype(np.float32))
        np.testing.assert_array_equal(coordinates["lat"], rotated["lat"])
    assert not list(tmp_path.glob("*.partial"))
