"""Faults of grids (rows G of the fault table): files with the fault go through prepare, and the store's numbers are looked at."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from faults import assert_refused, fault
from grid_samples import LAMBERT, box, globe, lambert_km
from grid_world import World, assert_same, assert_true, change, files_of, numbers, regional, said, write

from downscale.grid.grid import Grid

GCM = box(0.0, 20.0, 38.0, 52.0, 2.0)
SECOND_RCM = ("  GCM: {", "  OTHER: {role: rcm, files: [other/*.nc]}\n  GCM: {")
SECOND_GCM = ("predictors:", "  LATER: {role: gcm, files: [later/*.nc]}\npredictors:")
BARE = ["lat_vertices", "lon_vertices"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The store that files without any fault make."""
    store = World(tmp_path_factory.mktemp("plain"), files_of(regional()), files_of(GCM)).store()
    assert_true(store)
    return store


def without_bounds_attributes(dataset: xr.Dataset) -> xr.Dataset:
    for name in ("lat", "lon"):
        dataset[name].attrs.pop("bounds", None)
    return dataset


def half(dataset: xr.Dataset, which: int) -> xr.Dataset:
    return dataset.isel(time=slice(0, 12) if which == 0 else slice(12, None)).copy(deep=True)


# --- G01 to G03: direction and seams --------------------------------------------------------------------------------------------


@fault("G01", "turned file by file, noted; the numbers are those of ascending files")
def test_latitude_descending_in_some_files(tmp_path, plain):
    world = World(tmp_path, files_of(regional()).isel(rlat=slice(None, None, -1)), half(files_of(GCM), 0))
    write(half(files_of(GCM), 1).isel(lat=slice(None, None, -1)), tmp_path / "gcm" / "later.nc")
    store = world.store()
    assert_same(plain, store)
    assert "lat is descending: flipped" in said(store) and "rlat is descending: flipped" in said(store)


def stored_as(dataset: xr.Dataset, convention: str) -> xr.Dataset:
    """Longitudes of a lat/lon file as 0..360 or -180..180, columns ascending, so that a window across the seam is cut in two."""
    low = 0.0 if convention == "0..360" else -180.0
    moved = np.mod(dataset["lon"].values - low, 360.0) + low
    bounds = dataset["lon_bnds"].values + (moved - dataset["lon"].values)[:, None]
    dataset["lon"], dataset["lon_bnds"] = ("lon", moved, dataset["lon"].attrs), (("lon", "bnds"), bounds)
    return dataset.sortby("lon")


CONVENTIONS = [("0..360", "-180..180"), ("-180..180", "0..360"), ("0..360", "0..360"), ("-180..180", "-180..180")]


@fault("G02", "brought to one turn, noted; RCM and GCM may differ, and 2-D longitudes too")
@fault("G03", "one contiguous window, at Greenwich and at the date line, in either convention")
@pytest.mark.parametrize("seam", [0.0, 180.0])
@pytest.mark.parametrize(("rcm", "gcm"), CONVENTIONS)
def test_domains_across_both_seams_in_both_conventions(tmp_path, seam, rcm, gcm):
    fine = files_of(box(seam - 7.0, seam + 7.0, 40.0, 50.0, 1.0))
    store = World(tmp_path, stored_as(fine, rcm), stored_as(files_of(globe(2.0)), gcm)).store()
    assert_true(store)
    assert store.coarse.shape == (4, 6) and store.fine.shape == (7, 12) and "brought to the training grid" not in said(store)
    assert (np.diff(store.coarse.lon[0]) == 2.0).all() and (np.diff(store.fine.lon[0]) == 1.0).all()
    if (rcm == "0..360") == (seam == 0.0):
        assert "lon " in said(store) and "reordered" in said(store)


@fault("G03", "a configured box may cross the seam too")
@pytest.mark.parametrize(("seam", "edges"), [(0.0, "-6, 6"), (180.0, "174, -174"), (180.0, "174, 186")])
def test_a_box_across_either_seam(tmp_path, seam, edges):
    fine = files_of(box(seam - 7.0, seam + 7.0, 40.0, 50.0, 1.0))
    box_there = ("upscale:", f"domain: {{coarse_box: [{edges}, 42, 48]}}\nupscale:")
    store = World(tmp_path, fine, stored_as(files_of(globe(2.0)), "-180..180"), box_there).store()
    assert_true(store)
    assert store.coarse.shape == (3, 6) and (np.diff(store.coarse.lon[0]) == 2.0).all()


@fault("G02", "2-D longitudes are moved by whole turns until no neighbours jump, noted")
@fault("G03", "rotated-pole domains lie across either seam in one piece")
@pytest.mark.parametrize("seam", [0.0, 180.0])
@pytest.mark.parametrize("rcm", ["0..360", "-180..180"])
def test_projected_domains_across_both_seams(tmp_path, seam, rcm):
    fine = files_of(regional(seam))
    low = 0.0 if rcm == "0..360" else -180.0
    for name in ("lon", "lon_vertices"):
        fine[name].values[:] = np.mod(fine[name].values - low, 360.0) + low
    store = World(tmp_path, fine, stored_as(files_of(globe(2.0)), "0..360")).store()
    assert_true(store)
    assert np.ptp(store.fine.lon) < 12.0 and np.ptp(store.coarse.lon) < 12.0
    if (rcm == "0..360") == (seam == 0.0):
        assert "moved by whole turns" in said(store)


@fault("G03", "files whose 2-D longitudes are wound differently are one series")
def test_one_series_in_two_windings(tmp_path, plain):
    fine = files_of(regional()).drop_vars(["rlat", "rlon", "crs"]).rename_dims(rlat="j", rlon="i")
    fine["tas"].attrs.pop("grid_mapping")
    world = World(tmp_path, half(fine, 0), files_of(GCM))
    turned = half(fine, 1)
    turned["lon"].values[:] -= 360.0
    write(turned, tmp_path / "rcm" / "later.nc")
    assert_same(plain, world.store())


# --- G04 to G06: nearly the same, not the same ----------------------------------------------------------------------------------


@fault("G04", "taken as one grid; the largest difference is noted (up to 1e-4 degree, between the files of a series 1e-3 of a cell)")
@pytest.mark.parametrize("by", [1e-6, 1e-5, 9e-5])
def test_coordinates_that_differ_a_little(tmp_path, plain, by):
    world = World(tmp_path, half(files_of(regional()), 0), files_of(GCM), SECOND_GCM)
    near, later = half(files_of(regional()), 1), files_of(GCM)
    change(near, "rlat", near["rlat"].values + by)
    change(later, "lat", later["lat"].values + by)
    write(near, tmp_path / "rcm" / "later.nc")
    write(later, tmp_path / "later" / "tas.nc")
    store = world.store()
    assert_same(plain, store)
    notes = said(store)
    assert f"axes of the files differ by up to {by:.1g}"[:38] in notes
    assert f"grids of LATER and the training grid taken as one: centres differ by at most {by:.2g} degree" in notes
    assert "brought to the training grid" not in notes
    np.testing.assert_array_equal(store.groups["LATER"].predictors("imperfect", slice(None))[:, 0], numbers(store)["imperfect"])


@fault("G05", "exit 4, both grids and how far they lie apart")
@pytest.mark.parametrize(("by", "far"), [(0.22, "0.22 degree apart (0.5 cells)"), (1e-3, "0.001 degree apart (0.0023 cells)")])
def test_grid_shifted_by_half_a_cell(tmp_path, by, far):
    world = World(tmp_path, files_of(regional()), files_of(GCM), SECOND_RCM)
    other = regional()
    shifted = Grid.from_dataset(other.to_dataset()[["crs"]].assign_coords(rlat=other.axes.y + by, rlon=other.axes.x).pipe(with_names))
    write(files_of(shifted), tmp_path / "other" / "tas.nc")
    assert_refused(
        world.prepare(),
        "RCM: tas and OTHER: tas are on different grids",
        far,
        "20 x 22 cells (rotated",
        "one grid",
        untouched=world.results,
    )


def with_names(dataset: xr.Dataset) -> xr.Dataset:
    for name, standard in (("rlat", "grid_latitude"), ("rlon", "grid_longitude")):
        dataset[name].attrs = {"standard_name": standard, "units": "degrees"}
    return dataset


@fault("G05", "files of one source on two grids: exit 4, both files and both axes")
@pytest.mark.parametrize(
    ("fault_of", "says"),
    [
        ("shifted", "axis 'rlat': -4.18..4.18 (20) and -3.96..4.4 (20)"),
        ("other size", "axis 'rlat': -4.18..4.18 (20) and -3.74..4.18 (19)"),
        ("other pole", "grid_north_pole_longitude of their grid mappings: -170 and -162"),
    ],
)
def test_files_of_one_source_on_two_grids(tmp_path, fault_of, says):
    world = World(tmp_path, half(files_of(regional()), 0), files_of(GCM))
    other = half(files_of(regional()), 1)
    if fault_of == "shifted":
        change(other, "rlat", other["rlat"].values + 0.22)
    elif fault_of == "other size":
        other = other.isel(rlat=slice(1, None))
    else:
        other = half(files_of(regional(18.0)), 1)
    later = write(other, tmp_path / "rcm" / "later.nc")
    assert_refused(world.prepare(), "tas: files are on different grids, see", says, later.name, "tas.nc", untouched=world.results)


@fault("G06", "taken as one grid; the largest difference is noted")
def test_float32_against_float64_coordinates(tmp_path, plain):
    fine = files_of(regional())
    world = World(tmp_path, half(fine, 0), files_of(GCM))
    single = half(fine, 1)
    for name in ("rlat", "rlon", "lat", "lon", *BARE):
        single[name] = single[name].astype("f4")
    write(single, tmp_path / "rcm" / "later.nc")
    coarse = half(files_of(GCM), 1)
    for name in ("lat", "lon", "lat_bnds", "lon_bnds"):
        coarse[name] = (coarse[name] + 0.1).astype("f4") - np.float32(0.1)
    store = world.store()
    assert store.fine.shape == plain.fine.shape
    assert_same(plain, store)
    assert "axes of the files differ by up to" in said(store)


# --- G07: where are the cells -----------------------------------------------------------------------------------------------------


@fault("G07", "2-D lat/lon and a grid mapping without axes: the axes are computed from them, noted")
def test_2d_lat_lon_and_a_mapping_without_axes(tmp_path, plain):
    fine = without_bounds_attributes(files_of(regional()).drop_vars(["rlat", "rlon", *BARE]))
    store = World(tmp_path, fine, files_of(GCM)).store()
    assert_same(plain, store)
    assert "axes rlat, rlon computed from 2-D lat/lon and the grid mapping" in said(store)


@fault("G07", "axes and a grid mapping without 2-D lat/lon: lat/lon and corners are computed (PROJ), noted")
def test_axes_and_a_mapping_without_2d_lat_lon(tmp_path, plain):
    store = World(tmp_path, files_of(regional()).drop_vars(["lat", "lon", *BARE]), files_of(GCM)).store()
    assert_same(plain, store)
    assert "2-D lat/lon computed from the axes rlat, rlon and the grid mapping" in said(store)


@fault("G07", "Lambert axes in km or m, with 2-D lat/lon or without, are one grid")
@pytest.mark.parametrize("drop", [[], ["lat", "lon", *BARE]])
def test_lambert_in_km(tmp_path, drop):
    fine = files_of(lambert_km(20, 22, 40.0))
    metres = fine.copy(deep=True)
    for name in ("x", "y"):
        change(metres, name, 1e3 * metres[name].values)
        metres[name].attrs["units"] = "m"
    gcm = files_of(box(-4.0, 26.0, 40.0, 60.0, 2.0))
    stores = [
        World(tmp_path / "km", fine.drop_vars(drop), gcm).store(),
        World(tmp_path / "m", metres.drop_vars(drop), gcm).store(),
    ]
    assert_true(stores[0])
    assert_same(*stores)


@fault("G07", "2-D lat/lon without vertices, axes or mapping: exit 4 where cells are needed, the file named")
def test_2d_lat_lon_only(tmp_path):
    fine = files_of(regional()).drop_vars(["rlat", "rlon", "crs", *BARE]).rename_dims(rlat="j", rlon="i")
    fine["tas"].attrs.pop("grid_mapping")
    world = World(tmp_path, without_bounds_attributes(fine), files_of(GCM))
    words = ("conservative remapping needs cell corners, and this grid has none", "rcm/tas.nc", "vertices", "grid mapping")
    assert_refused(world.prepare("--dry-run"), *words, untouched=world.results)


@fault("G07", "axes without lat/lon and without grid mapping: exit 4")
def test_axes_only(tmp_path):
    world = World(tmp_path, files_of(regional()).drop_vars(["lat", "lon", "crs", *BARE]), files_of(GCM))
    assert_refused(world.prepare("--dry-run"), "neither latitude and longitude nor", "rcm/tas.nc", "grid_mapping", untouched=world.results)


@fault("G07", "declared pole against 2-D lat/lon: more than a cell apart, exit 4; neither is trusted")
@pytest.mark.parametrize("crs", [{"grid_north_pole_longitude": 18.0}, {"grid_north_pole_latitude": 39.25}])
def test_a_declared_pole_that_the_lat_lon_contradict(tmp_path, crs):
    fine = files_of(regional())
    fine["crs"].attrs.update(crs)
    world = World(tmp_path, fine, files_of(GCM))
    words = ("off what the projected axes and the grid mapping give", "rcm/tas.nc", "grid_north_pole", "neither is trusted")
    assert_refused(world.prepare("--dry-run"), *words, untouched=world.results)


@fault("G07", "declared pole against 2-D lat/lon: less than a cell apart, the axes are trusted, and the notes say why")
def test_lat_lon_of_the_cell_corners_beside_true_axes(tmp_path, plain):
    fine, corners = files_of(regional()), regional().to_dataset()
    for name in ("lat", "lon"):
        fine[name].values[:] = corners[f"{name}_vertices"].values[..., 0]
    store = World(tmp_path, fine, files_of(GCM)).store()
    assert_same(plain, store)
    assert "RCM: 2-D lat/lon lie up to" in said(store)
    assert "all moved by -0.50 cells in y and -0.50 in x; the axes are trusted: they are evenly spaced" in said(store)


@fault("G07", "an orography whose 2-D lat/lon are the cell corners is taken by its axes, noted")
def test_a_displaced_orography_beside_the_fields(tmp_path):
    world = World(tmp_path, files_of(regional()), files_of(GCM), ("upscale:", "static: [orog]\nupscale:"))
    orography = files_of(regional()).drop_vars(["time", "time_bnds"])
    orography["orog"] = (("rlat", "rlon"), orography["tas"].values[0] + 100.0, {"units": "m", "standard_name": "surface_altitude"})
    orography["orog"].attrs["grid_mapping"] = "crs"
    for name in ("lat", "lon"):
        change(orography, name, orography[f"{name}_vertices"].values[..., 2])
    write(orography.drop_vars("tas"), tmp_path / "rcm" / "orog.nc")
    store = world.store()
    np.testing.assert_allclose(store.static["orog"], numbers(store)["target"][0] + 100.0, rtol=1e-5)
    assert "RCM: orog: 2-D lat/lon lie up to" in said(store) and "all moved by +0.50 cells in y and +0.50 in x" in said(store)


# --- G08: bounds ------------------------------------------------------------------------------------------------------------------


@fault("G08", "descending bounds and clockwise vertices: put in order, noted")
@pytest.mark.parametrize("order", [[0, 3, 2, 1], [2, 1, 0, 3], [1, 2, 3, 0]])
def test_vertices_in_any_order(tmp_path, plain, order):
    fine, coarse = files_of(regional()), files_of(GCM)
    for name in BARE:
        fine[name].values[:] = fine[name].values[..., order]
    for name in ("lat_bnds", "lon_bnds"):
        coarse[name].values[:] = coarse[name].values[:, ::-1]
    store = World(tmp_path, fine, coarse).store()
    assert_same(plain, store)
    assert ("vertices of 440 cells reordered to counter-clockwise" in said(store)) == (order != [1, 2, 3, 0])


@fault("G08", "missing: computed from the 1-D axes, noted")
def test_missing_bounds(tmp_path, plain):
    fine = without_bounds_attributes(files_of(regional()).drop_vars(BARE))
    coarse = without_bounds_attributes(files_of(GCM).drop_vars(["lat_bnds", "lon_bnds"]))
    store = World(tmp_path, fine, coarse).store()
    assert_same(plain, store)
    assert "GCM: no bounds: cell edges taken half-way between lat and lon values" in said(store)


@fault("G08", "bounds or vertices that do not enclose their centre: exit 4 where cells are needed")
@pytest.mark.parametrize("source", ["rcm", "gcm"])
def test_bounds_that_do_not_hold_their_centre(tmp_path, source):
    fine, coarse = files_of(regional()), files_of(GCM)
    if source == "rcm":
        fine["lon_vertices"].values[5:] += 0.9
    else:
        coarse["lat_bnds"].values[:] += 1.5
    world = World(tmp_path, fine, coarse)
    words = {
        "rcm": "vertices of 330 of 440 cells do not enclose their centre",
        "gcm": "bounds of lat do not enclose its values, first 39 by 39.5",
    }
    assert_refused(world.prepare(), words[source], f"{source}/tas.nc", "correct or remove", untouched=world.results)


@fault("G08", "wrong bounds of a grid whose cells are not needed: noted")
def test_bounds_that_nobody_needs(tmp_path, plain):
    world = World(tmp_path, files_of(regional()), files_of(GCM), SECOND_GCM)
    later = files_of(GCM)
    change(later, "lat_bnds", later["lat_bnds"].values + 1.5)
    write(later, tmp_path / "later" / "tas.nc")
    store = world.store()
    assert_same(plain, store)
    np.testing.assert_array_equal(store.groups["LATER"].predictors("imperfect", slice(None))[:, 0], numbers(store)["imperfect"])
    assert "LATER: bounds of lat do not enclose its values" in said(store)


# --- G09, G11 ---------------------------------------------------------------------------------------------------------------------


@fault("G09", "exit 4 with the uncovered share: coarse box by the RCM, target by the coarse box, training grid by a GCM")
def test_predictors_that_do_not_cover(tmp_path):
    world = World(tmp_path, files_of(regional()), files_of(GCM), SECOND_GCM)
    write(files_of(box(8.5, 17.5, 38.5, 50.5, 3.0)), tmp_path / "later" / "tas.nc")
    assert_refused(
        world.prepare("--set", "domain.coarse_box=[0, 20, 38, 52]"),
        "the coarse box",
        "is not covered: ",
        "% of its area",
        untouched=world.results,
    )
    assert_refused(world.prepare("--set", "domain.fine_box=[0, 22, 0, 20]"), "% of the target's cells lie outside", untouched=world.results)
    refusal = assert_refused(
        world.prepare(), "the training grid", "by tas of 'LATER'", "is not covered: 33.33% of its area", untouched=world.results
    )
    assert "cells not wholly" in refusal


@fault("G09", "grids that do not meet at all: exit 4")
def test_grids_apart(tmp_path):
    world = World(tmp_path, files_of(regional()), files_of(box(100.0, 120.0, -20.0, 0.0, 2.0)))
    assert_refused(world.prepare("--dry-run"), "no cell of the coarse grid is fully covered", "overlap", untouched=world.results)


@fault("G11", "prepare goes on with 2-D lat/lon and vertices, warned and noted")
def test_grid_mapping_variable_missing(tmp_path, plain):
    fine = files_of(regional()).drop_vars("crs")
    coarse = files_of(GCM)
    coarse["tas"].attrs["grid_mapping"] = "crs"
    store = World(tmp_path, fine, coarse).store()
    assert_same(plain, store)
    assert "grid mapping variable 'crs' is missing from the file" in said(store)
    assert "'crs' is missing from the file: 1-D latitude and longitude are used" in said(store)


def test_lambert_without_units_of_its_axes_is_noted(tmp_path):
    fine = files_of(lambert_km(20, 22, 40.0)).drop_vars(["lat", "lon", *BARE])
    for name in ("x", "y"):
        change(fine, name, 1e3 * fine[name].values)
        del fine[name].attrs["units"]
    store = World(tmp_path, fine, files_of(box(-4.0, 26.0, 40.0, 60.0, 2.0))).store()
    assert_true(store)
    assert "axis x has no units: taken as m" in said(store) and LAMBERT["earth_radius"] == store.fine.crs["earth_radius"]
