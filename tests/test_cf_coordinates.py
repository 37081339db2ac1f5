from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cf_files import ROTATED, days_of, field_of, write, write_rotated
from cf_files import Spec as FileSpec
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.cf.open import open_files, open_grid
from downscale.errors import InputDataError
from downscale.variables import Channel

TAS = Channel("tas")


def opened(path):
    source = open_files("A", [path], [TAS])
    series = source.series["tas"]
    return series.read(0, len(series.days)), series.coordinates, source.notes


@pytest.mark.parametrize(
    ("lon", "wanted"),
    [
        ([350.0, 354.0, 358.0, 2.0, 6.0], [-10.0, -6.0, -2.0, 2.0, 6.0]),
        ([2.0, 6.0, 350.0, 354.0, 358.0], [-10.0, -6.0, -2.0, 2.0, 6.0]),
        ([350.0, 354.0, 358.0, 362.0, 366.0], [-10.0, -6.0, -2.0, 2.0, 6.0]),
        ([-10.0, -6.0, -2.0, 2.0, 6.0], [-10.0, -6.0, -2.0, 2.0, 6.0]),
        ([170.0, 174.0, 178.0, -178.0, -174.0], [170.0, 174.0, 178.0, 182.0, 186.0]),
        ([170.0, 174.0, 178.0, 182.0, 186.0], [170.0, 174.0, 178.0, 182.0, 186.0]),
        ([200.0, 204.0, 208.0], [-160.0, -156.0, -152.0]),
        ([6.0, 2.0, -2.0, -6.0], [-6.0, -2.0, 2.0, 6.0]),
        ([0.0, 90.0, 180.0, 270.0], [-180.0, -90.0, 0.0, 90.0]),
    ],
)
def test_longitudes_come_eastward_without_a_seam(tmp_path, lon, wanted):
    fields, coordinates, notes = opened(write(tmp_path / "a.nc", lon=lon))
    np.testing.assert_array_equal(coordinates["lon"], wanted)
    np.testing.assert_array_equal(fields, field_of(days_of(FileSpec()), (40.0, 42.0, 44.0), wanted).astype(np.float32))
    assert bool(notes) == (list(lon) != wanted)


@settings(max_examples=40, deadline=None)
@given(st.integers(-180, 359), st.integers(2, 120), st.booleans())
def test_any_window_of_the_circle_keeps_its_cells_together(tmp_path_factory, west, count, wrap):
    lon = west + 3.0 * np.arange(count)
    stored = lon % 360.0 if wrap else lon
    path = write(tmp_path_factory.mktemp("lon") / "a.nc", lon=stored, last=20010101)
    fields, coordinates, _ = opened(path)
    found = coordinates["lon"].values
    np.testing.assert_allclose(np.diff(found), 3.0)
    assert -180.0 <= found[0] < 180.0
    if count < 120:
        np.testing.assert_allclose((found - lon + 180.0) % 360.0, 180.0, atol=1e-9)
    assert set(found % 360.0) == set(lon % 360.0)
    np.testing.assert_array_equal(fields, field_of(days_of(FileSpec(last=20010101)), (40.0, 42.0, 44.0), found).astype(np.float32))


def test_descending_latitude_is_flipped_with_field_and_bounds(tmp_path):
    path = write(tmp_path / "a.nc", lat=(44.0, 42.0, 40.0), lon=(358.0, 0.0, 2.0))
    with netCDF4.Dataset(path, "a") as file:
        for name in ("lat", "lon"):
            file[name].bounds = f"{name}_bnds"
            bounds = file.createVariable(f"{name}_bnds", "f8", (name, "bnds"))
            bounds[:] = file[name][:][:, None] + np.array([-1.0, 1.0])
    fields, coordinates, notes = opened(path)
    assert coordinates["lat"].values.tolist() == [40.0, 42.0, 44.0]
    assert coordinates["lat_bnds"].values.tolist() == [[39.0, 41.0], [41.0, 43.0], [43.0, 45.0]]
    assert coordinates["lon_bnds"].values.tolist() == [[-3.0, -1.0], [-1.0, 1.0], [1.0, 3.0]]
    np.testing.assert_array_equal(fields, field_of(days_of(FileSpec()), (40.0, 42.0, 44.0), (-2.0, 0.0, 2.0)).astype(np.float32))
    assert any("lat is descending: flipped" in note for note in notes)


def test_one_file_may_run_the_other_way(tmp_path):
    paths = [
        write(tmp_path / "a.nc"),
        write(tmp_path / "b.nc", first=20010201, last=20010228, lat=(44.0, 42.0, 40.0), lon=(360.0, 2.0, 4.0, 6.0)),
    ]
    source = open_files("A", paths, [TAS])
    wanted = field_of(source.days, (40.0, 42.0, 44.0), (0.0, 2.0, 4.0, 6.0))
    np.testing.assert_array_equal(source.series["tas"].read(0, 59), wanted.astype(np.float32))


def test_rotated_grids_come_with_axes_vertices_and_mapping(tmp_path):
    fields, coordinates, notes = opened(write_rotated(tmp_path / "a.nc", vertices=True))
    assert fields.shape == (10, 4, 5)
    assert coordinates["lat"].dims == ("rlat", "rlon") and coordinates["lat_vertices"].dims == ("rlat", "rlon", "vertices")
    assert coordinates["rlat"].attrs["standard_name"] == "grid_latitude" and coordinates["rlat"].attrs["units"] == "degrees"
    assert {key: coordinates["crs"].attrs[key] for key in ROTATED} == ROTATED
    np.testing.assert_allclose(coordinates["lon_vertices"].values.mean(axis=-1), coordinates["lon"].values)
    assert coordinates["lon"].values.dtype == np.float64 and notes == [
        "A: tas: no time bounds: each field belongs to the day of its time stamp"
    ]


def test_axes_and_mapping_suffice(tmp_path):
    coordinates = open_grid(write_rotated(tmp_path / "a.nc", latlon=False))
    assert "lat" not in coordinates and coordinates["crs"].attrs["grid_north_pole_latitude"] == 39.25


def test_a_mapping_that_is_not_there_is_noted(tmp_path):
    path = write_rotated(tmp_path / "a.nc", grid_mapping="elsewhere")
    _, coordinates, notes = opened(path)
    assert "crs" in coordinates
    assert any("'elsewhere' is missing from the file" in note for note in notes)
    assert any("'rotated_pole' taken, though tas does not name it" in note for note in notes)


def test_descending_projected_axes_are_flipped_with_everything_on_them(tmp_path):
    up = write_rotated(tmp_path / "up.nc", vertices=True)
    down = write_rotated(tmp_path / "down.nc", vertices=True)
    with netCDF4.Dataset(down, "a") as file:
        for name, axis in (("rlat", 0), ("lat", 0), ("lon", 0), ("lat_vertices", 0), ("lon_vertices", 0), ("tas", 1)):
            file[name][:] = np.flip(file[name][:], axis)
    (fields, coordinates, _), (flipped, others, notes) = opened(up), opened(down)
    np.testing.assert_array_equal(fields, flipped)
    assert coordinates.to_xarray().identical(others.to_xarray())
    assert any("rlat is descending: flipped" in note for note in notes)


def curvilinear(path, *, swap=False):
    lat, lon = np.meshgrid(np.arange(3.0) + 40.0, np.arange(4.0) + 358.0, indexing="ij")
    lat = lat + 0.1 * np.arange(4.0)
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in (("time", None), ("nj", 3), ("ni", 4)):
            file.createDimension(dim, size)
        time = file.createVariable("time", "f8", ("time",))
        time.units = "days since 2001-01-01"
        time[:] = [0.5]
        plane = ("ni", "nj") if swap else ("nj", "ni")
        for name, values, units in (("nav_lat", lat, "degrees_north"), ("nav_lon", lon % 360.0, "degrees_east")):
            variable = file.createVariable(name, "f8", plane)
            variable.units = units
            variable[:] = values.T if swap else values
        field = file.createVariable("tas", "f4", ("time", *plane))
        field.setncatts({"units": "K", "coordinates": "nav_lat nav_lon"})
        field[0] = (280.0 + lat).T if swap else 280.0 + lat
    return path


def test_curvilinear_grids_without_axes(tmp_path):
    fields, coordinates, notes = opened(curvilinear(tmp_path / "a.nc"))
    assert coordinates["lat"].dims == ("y", "x") and set(coordinates.variables) == {"lat", "lon"}
    np.testing.assert_allclose(fields[0], 280.0 + coordinates["lat"].values, rtol=1e-6)
    assert coordinates["lon"].values[0].tolist() == [-2.0, -1.0, 0.0, 1.0]
    assert any("2-D longitudes 0..359 moved by whole turns to -2..1" in note for note in notes)


def test_files_on_different_curvilinear_grids_are_refused(tmp_path):
    first, second = curvilinear(tmp_path / "a.nc"), curvilinear(tmp_path / "b.nc")
    with netCDF4.Dataset(second, "a") as file:
        file["nav_lat"][:] += 0.5
        file["time"][:] = [1.5]
    with pytest.raises(InputDataError, match="different grids, see their 2-D"):
        open_files("A", [first, second], [TAS])


def test_grids_of_bare_axes_and_of_files_without_any(tmp_path):
    path = write(tmp_path / "a.nc")
    grid = tmp_path / "grid.nc"
    with netCDF4.Dataset(path) as source, netCDF4.Dataset(grid, "w") as file:
        for name in ("lat", "lon"):
            file.createDimension(name, source[name].size)
            file.createVariable(name, "f8", (name,)).setncatts(source[name].__dict__)
            file[name][:] = source[name][:]
    assert open_grid(grid).to_xarray().identical(open_grid(path).to_xarray())
    with netCDF4.Dataset(tmp_path / "none.nc", "w") as file:
        file.createDimension("cell", 5)
        file.createVariable("tas", "f4", ("cell",))
    with pytest.raises(InputDataError, match="no horizontal grid"):
        open_grid(tmp_path / "none.nc")


def notes_of(path):
    return opened(path)[2]


def test_longitudes_around_a_pole_have_their_jump_at_the_date_line(tmp_path):
    path = write_rotated(tmp_path / "a.nc", vertices=True)
    with netCDF4.Dataset(path, "a") as file:
        circle = np.array([[10.0, 80.0, 100.0, 170.0, 185.0], [350.0, 0.0, 180.0, 190.0, 200.0]])
        file["lon"][:] = np.concatenate([circle, circle[::-1] + 120.0])
    lon = open_grid(path)["lon"].values
    assert lon.min() >= -180.0 and lon.max() <= 180.0 and open_grid(path)["lon_vertices"].shape == (4, 5, 4)


def test_packed_2d_coordinates_are_unpacked(tmp_path):
    path = curvilinear(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        for name in ("nav_lat", "nav_lon"):
            file[name].setncatts({"scale_factor": 0.5, "add_offset": 10.0})
            file[name].set_auto_maskandscale(False)
            file[name][:] = (file[name][:] - 10.0) / 0.5
    coordinates = open_grid(path)
    np.testing.assert_allclose(coordinates["lat"], open_grid(curvilinear(tmp_path / "b.nc"))["lat"])


def test_a_rotated_mapping_beside_1d_lat_lon_is_not_used_and_noted(tmp_path):
    path = write(tmp_path / "a.nc", attrs={"grid_mapping": "pole"})
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("pole", "i4", ()).setncatts(ROTATED)
    said = "A: tas: 1-D latitude and longitude are trusted, the grid mapping 'pole' (rotated_latitude_longitude) is not used"
    assert notes_of(path) == [said]
    other = write(tmp_path / "b.nc", attrs={"grid_mapping": "crs"})
    with netCDF4.Dataset(other, "a") as file:
        file.createVariable("crs", "i4", ()).grid_mapping_name = "latitude_longitude"
    assert notes_of(other) == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("nan", "vertices 'lat_vertices' hold missing values: not used"),
        ("absent", "vertices 'elsewhere' of lat are missing from the file: not used"),
    ],
)
def test_vertices_that_cannot_be_used_are_noted(tmp_path, fault, says):
    path = write_rotated(tmp_path / "a.nc", vertices=True)
    with netCDF4.Dataset(path, "a") as file:
        if fault == "nan":
            file["lat_vertices"][2, 2, 1] = np.nan
        else:
            file["lat"].bounds = "elsewhere"
    assert f"A: tas: {says}" in notes_of(path)
    assert "lat_vertices" not in open_grid(path)


@pytest.mark.parametrize(
    ("name", "values", "units", "says"),
    [
        ("lat", [0.7, 0.73, 0.77], "radians", "in radians"),
        ("lat", [88.0, 90.0, 92.0], "degrees_north", "missing or impossible"),
        ("lon", [0.0, 90.0, 180.0, 360.0], "degrees_east", "holds a longitude twice"),
        ("lon", [0.0, 2.0, 4.0, 1e20], "degrees_east", "missing or impossible"),
        ("lon", [0.0, 2.0, np.nan, 6.0], "degrees_east", "missing or impossible"),
        ("lat", [40.0, np.nan, 44.0], "degrees_north", "'lat' is not strictly monotonic"),
    ],
)
def test_latitude_and_longitude_that_cannot_be(tmp_path, name, values, units, says):
    path = write(tmp_path / "a.nc")
    with netCDF4.Dataset(path, "a") as file:
        file[name].units = units
        file[name][:] = values
    with pytest.raises(InputDataError, match=says) as caught:
        opened(path)
    assert "a.nc" in str(caught.value) and caught.value.hint


def test_files_in_other_windings_or_of_another_pole(tmp_path):
    first, second = curvilinear(tmp_path / "a.nc"), curvilinear(tmp_path / "b.nc")
    with netCDF4.Dataset(second, "a") as file:
        file["nav_lon"][:] -= 360.0
        file["time"][:] = [1.5]
    assert len(open_files("A", [first, second], [TAS]).days) == 2
    here, there = write_rotated(tmp_path / "c.nc"), write_rotated(tmp_path / "d.nc")
    with netCDF4.Dataset(there, "a") as file:
        file["rotated_pole"].grid_north_pole_latitude = 43.0
        file["time"][:] += 10
    with pytest.raises(InputDataError, match=r"grid_north_pole_latitude of their grid mappings: 39\.25 and 43"):
        open_files("A", [here, there], [TAS])
    with netCDF4.Dataset(there, "a") as file:
        file["rotated_pole"].setncatts({"grid_north_pole_latitude": np.float32(39.25), "long_name": "other words"})
        file["rotated_pole"].delncattr("earth_radius")
    assert len(open_files("A", [here, there], [TAS]).days) == 20


@pytest.mark.parametrize(
    ("change", "says"),
    [({"lat": (40.0, 44.0, 42.0)}, "'lat' is not strictly monotonic"), ({"lon": (0.0, 2.0, 2.0, 6.0)}, "holds a longitude twice")],
)
def test_axes_that_cannot_be_are_refused(tmp_path, change, says):
    with pytest.raises(InputDataError, match=says):
        opened(write(tmp_path / "a.nc", **change))
