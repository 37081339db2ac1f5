"""Grids from datasets and back, corners, digests, equality."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import xarray as xr
from grid_samples import EURO, LAMBERT, box, globe, lambert_km, projected_dataset, rotated

from downscale.errors import InputDataError
from downscale.grid.corners import axis_edges, from_lonlat_axes, ordered
from downscale.grid.grid import Grid, require_same_grid, same_grid

BARE = Grid(*np.meshgrid(np.linspace(40.0, 42.0, 4), np.linspace(0.0, 3.0, 5), indexing="ij"))


def assert_same_bits(first: Grid, second: Grid):
    for name in ("lat", "lon", "lat_corners", "lon_corners"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)
    assert first.crs == second.crs
    assert (first.axes is None) == (second.axes is None)
    if first.axes is not None:
        assert (first.axes.y_name, first.axes.x_name) == (second.axes.y_name, second.axes.x_name)
        np.testing.assert_array_equal(first.axes.y, second.axes.y)
        np.testing.assert_array_equal(first.axes.x, second.axes.x)
        assert first.axes.y_attrs == second.axes.y_attrs and first.axes.x_attrs == second.axes.x_attrs


@pytest.mark.parametrize(
    "grid",
    [
        rotated(5, 6),
        lambert_km(5, 6),
        box(350.0, 370.0, -20.0, 10.0, 2.5),
        globe(20.0),
        BARE,
        rotated(5, 6).crop(slice(2, 3), slice(1, 4)),
        box(0.0, 8.0, 0.0, 8.0, 2.0).crop(slice(0, 1), slice(4)),
    ],
    ids=["rotated", "lambert", "box", "globe", "curvilinear", "one row", "one lat"],
)
def test_round_trip_through_netcdf_keeps_every_bit(grid, tmp_path):
    grid.to_dataset().to_netcdf(tmp_path / "grid.nc", format="NETCDF4_CLASSIC")
    with xr.open_dataset(tmp_path / "grid.nc") as file:
        back = Grid.from_dataset(file.load())
    assert_same_bits(grid, back)
    assert back.digest == grid.digest


def test_written_grid_is_cf(tmp_path):
    dataset = rotated(4, 5).to_dataset()
    assert dataset["lat"].attrs["bounds"] == "lat_vertices" and dataset["lat"].attrs["units"] == "degrees_north"
    assert dataset["crs"].attrs["grid_mapping_name"] == "rotated_latitude_longitude"
    assert dataset["rlat"].attrs["standard_name"] == "grid_latitude"
    dataset.to_netcdf(tmp_path / "grid.nc")
    with xr.open_dataset(tmp_path / "grid.nc", decode_cf=False) as file:
        assert not any("_FillValue" in file[name].attrs for name in file.variables)


def test_cordex_rotation_has_the_right_sign():
    grid = Grid.from_dataset(projected_dataset(np.array([-0.44, 0.0, 0.44]), np.array([-0.44, 0.0, 0.44]), EURO))
    assert grid.lat[1, 1] == pytest.approx(50.75, abs=1e-10) and grid.lon[1, 1] == pytest.approx(18.0, abs=1e-10)


def test_lambert_in_km_and_in_metres_are_the_same_grid():
    y, x = 50.0 * np.arange(4), 50.0 * np.arange(5)
    km = Grid.from_dataset(projected_dataset(y, x, LAMBERT, ("y", "x"), "km"))
    metres = Grid.from_dataset(projected_dataset(1e3 * y, 1e3 * x, LAMBERT, ("y", "x"), "m"))
    np.testing.assert_allclose(km.lat_corners, metres.lat_corners, atol=1e-12)
    assert km.lat[0, 0] == pytest.approx(49.5) and km.lon[0, 0] == pytest.approx(10.5)


def test_unknown_units_of_projected_axes_are_refused():
    with pytest.raises(InputDataError, match="furlong"):
        Grid.from_dataset(projected_dataset(np.arange(4.0), np.arange(5.0), LAMBERT, ("y", "x"), "furlong"))


def test_axes_in_two_units_are_refused():
    dataset = projected_dataset(np.arange(4.0), np.arange(5.0), LAMBERT, ("y", "x"), "km")
    dataset["y"].attrs["units"] = "m"
    with pytest.raises(InputDataError, match="y in 'm' and x in 'km'"):
        Grid.from_dataset(dataset)


def test_unstated_figure_of_the_earth_is_found_from_the_lat_lon_in_the_file():
    y = x = 5e4 * np.arange(-10.0, 10.0)
    sphere = {**LAMBERT, "earth_radius": 6370000.0}
    truth = Grid.from_dataset(projected_dataset(y, x, sphere, ("y", "x"), "m"))
    dataset = truth.to_dataset().drop_vars(["lat_vertices", "lon_vertices"])
    del dataset["crs"].attrs["earth_radius"]
    found = Grid.from_dataset(dataset)
    assert found.crs["earth_radius"] == 6370000.0
    np.testing.assert_allclose(found.lat_corners, truth.lat_corners, atol=1e-10)
    assert found.notes == ("the grid mapping states no figure of the Earth: a sphere of radius 6370000 m taken",)


def test_lat_lon_beside_their_own_axes_yield_to_the_axes():
    grid = rotated(6, 7)
    dataset = grid.to_dataset()
    dataset["lat"] = dataset["lat"] + 0.2
    found = Grid.from_dataset(dataset)
    np.testing.assert_allclose(found.lat, grid.lat, atol=1e-12)
    np.testing.assert_allclose(found.lat_corners, grid.lat_corners, atol=1e-12)
    (note,) = found.notes
    assert "up to 0.459 cells (0.2 degree) off" in note and "the axes are trusted" in note


def test_lat_lon_of_the_cell_corners_are_told_as_such():
    grid, corners = rotated(6, 7), rotated(7, 8, south=-8.22, west=-12.22)
    dataset = grid.to_dataset().drop_vars(["lat_vertices", "lon_vertices"]).copy(deep=True)
    dataset["lat"].values[:], dataset["lon"].values[:] = corners.lat[1:, :-1], corners.lon[1:, :-1]
    found = Grid.from_dataset(dataset)
    np.testing.assert_allclose(found.lat, grid.lat, atol=1e-12)
    assert "all moved by +0.50 cells in y and -0.50 in x; the axes are trusted" in found.notes[0]


def test_axes_are_found_behind_lat_lon_and_a_mapping():
    for grid, units in ((rotated(6, 7), "degrees"), (lambert_km(6, 7), "m")):
        dims = {grid.axes.y_name: "nj", grid.axes.x_name: "ni"}
        bare = grid.to_dataset()[["lat", "lon", "crs"]].drop_vars(list(dims)).rename_dims(dims)
        found = Grid.from_dataset(bare)
        assert found.axes.units == units and any("computed from 2-D lat/lon and the grid mapping" in note for note in found.notes)
        np.testing.assert_allclose(found.lat_corners, grid.lat_corners, atol=1e-9)


def test_a_mapping_that_the_lat_lon_do_not_follow_is_not_used():
    grid = rotated(6, 7)
    bare = grid.to_dataset()[["lat", "lon", "crs"]].drop_vars(["rlat", "rlon"])
    bare["crs"].attrs["grid_north_pole_latitude"] = 50.0
    found = Grid.from_dataset(bare)
    assert found.crs is None and found.axes is None and found.lat_corners is None
    assert "2-D lat/lon are trusted, the mapping is not used" in found.notes[0]


def test_grid_mapping_for_another_place_is_refused():
    dataset = rotated(6, 7).to_dataset()
    dataset["crs"].attrs["grid_north_pole_longitude"] = 18.0
    with pytest.raises(InputDataError, match=r"cells .* off what the projected axes"):
        Grid.from_dataset(dataset)


def test_no_lat_lon_and_no_grid_mapping_is_refused():
    dataset = projected_dataset(np.arange(4.0), np.arange(5.0), EURO).drop_vars("crs")
    with pytest.raises(InputDataError, match="no latitude and longitude"):
        Grid.from_dataset(dataset)


def test_missing_coordinates_are_refused():
    dataset = box(0.0, 4.0, 0.0, 4.0, 1.0).to_dataset()
    dataset["lat_bnds"][0, 0] = np.nan
    with pytest.raises(InputDataError, match="'lat_bnds' holds missing values"):
        Grid.from_dataset(dataset).areas()
    dataset = dataset.assign_coords(lat=np.where(dataset["lat"] == 0.5, np.nan, dataset["lat"]))
    with pytest.raises(InputDataError, match="'lat' holds missing values"):
        Grid.from_dataset(dataset)


def test_bounds_in_either_order_and_turn_give_the_same_corners():
    grid = box(-4.0, 4.0, 40.0, 44.0, 1.0)
    dataset = grid.to_dataset()
    dataset["lat_bnds"] = dataset["lat_bnds"][:, ::-1]
    dataset["lon_bnds"] = np.mod(dataset["lon_bnds"], 360.0)
    assert_same_bits(Grid.from_dataset(dataset), grid)


def test_bounds_that_do_not_enclose_are_refused():
    dataset = box(-4.0, 4.0, 40.0, 44.0, 1.0).to_dataset()
    dataset["lat_bnds"] = dataset["lat_bnds"] + 3.0
    grid = Grid.from_dataset(dataset)
    assert grid.lat_corners is None and "cell corners are unknown" in grid.notes[0]
    with pytest.raises(InputDataError, match=r"bounds of lat do not enclose its values, first 40\.5 by 43 to 44"):
        grid.areas()


def test_vertices_that_do_not_enclose_are_refused():
    dataset = rotated(5, 6).to_dataset()
    dataset["lat_vertices"].values[2, 3] += 0.4
    grid = Grid.from_dataset(dataset)
    assert grid.lat_corners is None and grid.crop(slice(1), slice(2)).notes == grid.notes
    with pytest.raises(InputDataError, match="vertices of 1 of 30 cells do not enclose their centre"):
        grid.areas()


def test_midpoints_reach_the_poles_of_a_global_grid_only():
    lat, lon = np.linspace(-88.57, 88.57, 96), np.arange(0.0, 360.0, 1.875)
    grid = Grid.from_dataset(xr.Dataset(coords={"lat": lat, "lon": lon}))
    assert grid.lat_corners.max() == 90.0 and grid.lat_corners.min() == -90.0
    assert grid.areas().sum() == pytest.approx(4.0 * np.pi, rel=1e-12)
    part = from_lonlat_axes(lat[-3:], lon[:4])
    assert part is not None and part[0].max() < 90.0


def test_areas_do_not_depend_on_the_direction_of_the_axes():
    grid = box(0.0, 5.0, 40.0, 45.0, 1.0)
    dataset = grid.to_dataset().isel(lat=slice(None, None, -1))
    flipped = Grid.from_dataset(dataset)
    np.testing.assert_allclose(flipped.areas(), grid.areas()[::-1], rtol=1e-14)
    assert (flipped.areas() > 0).all()


def test_edges_are_halfway_and_refused_when_not_monotonic():
    np.testing.assert_allclose(axis_edges(np.array([0.0, 1.0, 3.0])), [-0.5, 0.5, 2.0, 4.0])
    with pytest.raises(InputDataError, match="strictly monotonic"):
        axis_edges(np.array([0.0, 2.0, 1.0]))


def test_vertices_in_any_order_become_the_same_cell():
    lat, lon = np.array([[[0.0, 0.0, 1.0, 1.0]]]), np.array([[[0.0, 2.0, 2.0, 0.0]]])
    for order in ([0, 1, 2, 3], [0, 3, 2, 1], [0, 1, 3, 2], [0, 2, 1, 3]):
        got, changed = ordered(lat[..., order], lon[..., order])
        np.testing.assert_array_equal(got, (lat, lon))
        assert changed == (order != [0, 1, 2, 3])


def test_vertices_without_area_are_refused():
    with pytest.raises(InputDataError, match="enclose no area"):
        ordered(np.zeros((1, 1, 4)), np.zeros((1, 1, 4)))


def test_merely_curvilinear_grid_has_no_corners():
    grid = Grid.from_dataset(BARE.to_dataset())
    assert grid.axes is None and grid.lat_corners is None
    with pytest.raises(InputDataError, match="cell corners"):
        grid.areas()


def test_same_grid_ignores_turns_and_tiny_differences(caplog):
    grid = box(0.0, 8.0, 40.0, 48.0, 2.0)
    near = Grid(grid.lat + 2e-5, grid.lon - 360.0)
    notes: list[str] = []
    with caplog.at_level(logging.INFO):
        assert same_grid(grid, near, notes=notes, names=("A", "B"))
    assert notes == ["grids of A and B taken as one: centres differ by at most 2e-05 degree"] and notes[0] in caplog.text
    assert same_grid(grid, grid, notes=notes) and len(notes) == 1
    assert not same_grid(grid, near, 1e-5)
    assert not same_grid(grid, grid.crop(slice(0, 2), slice(None)))


def test_shifted_grid_is_refused_naming_both():
    grid = box(0.0, 8.0, 40.0, 48.0, 2.0)
    shifted = Grid(grid.lat + 1.0, grid.lon)
    with pytest.raises(InputDataError, match="GCM and training") as caught:
        require_same_grid(grid, shifted, names=("GCM", "training"))
    assert grid.summary in str(caught.value) and shifted.summary in str(caught.value)
    assert "centres lie up to 1 degree apart" in str(caught.value)


def test_digest_sees_corners_and_not_turns():
    grid = box(0.0, 8.0, 40.0, 48.0, 2.0)
    assert grid.digest == box(360.0, 368.0, 40.0, 48.0, 2.0).digest
    assert grid.digest != Grid(grid.lat, grid.lon).digest
    assert grid.digest != grid.crop(slice(0, 2), slice(None)).digest


def test_real_files_agree_with_their_own_grid_mapping(shared_data):
    import netCDF4

    folder = shared_data / "cordex_eur44_racmo_iberia"
    with netCDF4.Dataset(next(iter(sorted(folder.glob("tas_*.nc"))))) as file:
        dataset = projected_dataset(file["rlat"][:].data, file["rlon"][:].data, file["rotated_pole"].__dict__)
        lat, lon = file["lat"][:].data, file["lon"][:].data
    grid = Grid.from_dataset(dataset)
    np.testing.assert_allclose(grid.lat, lat, atol=1e-6)
    np.testing.assert_allclose(grid.lon, lon, atol=1e-6)


def test_orography_with_displaced_lat_lon_snaps_to_the_rcm_grid(shared_data):
    grids = []
    for pattern in ("orog_EUR-11*.nc", "tas_EUR-11*RACMO*.nc"):
        with xr.open_dataset(next(iter((shared_data / "cordex_files").glob(pattern))), decode_times=False, decode_coords=False) as file:
            mapping = "rotated_pole" if "rotated_pole" in file else "rotated_latitude_longitude"
            part = file[["lat", "lon", "rlat", "rlon", mapping]].load()
        grids.append(Grid.from_dataset(part))
    require_same_grid(*grids, names=("orog", "tas"))
