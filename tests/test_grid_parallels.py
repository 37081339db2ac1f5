"""Cells between parallels: closed-form areas, exact cuts, and what CDO makes of the same grids."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from cdo_weights import CDO, gencon
from grid_samples import EURO, LAMBERT, box, gaussian, globe, lambert_km, projected_dataset, rotated, smooth_field
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from downscale.errors import InputDataError
from downscale.grid.cells import Boxes
from downscale.grid.conservative import conservative_weights, overlap_areas
from downscale.grid.domain import regular_grid
from downscale.grid.grid import Grid, lonlat_grid
from downscale.grid.parallels import areas_between, lens_areas, sin_cos, zone_areas
from downscale.grid.polygons import polygon_areas, unit_vectors

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "regrid"
POLAR = {**EURO, "grid_north_pole_latitude": 5.0, "grid_north_pole_longitude": 30.0}


def parallels(source, target):
    return conservative_weights(source, target, edges="parallels")


def used(weights, source):
    return np.asarray(weights.matrix.sum(axis=0)).ravel() / source.areas("parallels").ravel()


def polygon(lat, lon):
    return unit_vectors(np.array(lat, dtype=float), np.array(lon, dtype=float))[None]


def between(shape, low, high):
    return areas_between(shape, np.array([low], dtype=float), np.array([high], dtype=float))[0]


def without_axes(grid):
    return dataclasses.replace(grid, axes=None)


@pytest.mark.parametrize("lat", [-80.0, -12.0, 0.0, 1e-9, 30.0, 44.4, 89.0, 89.999])
@pytest.mark.parametrize("width", [1.0, 40.0, 120.0])
def test_wedge_cut_by_two_parallels_is_a_box(lat, width):
    wedge = polygon([-88, -88, 90, 90], [7.0, 7.0 + width, 0, 0])
    high = 0.5 * (lat + 90.0)
    exact = np.deg2rad(width) * zone_areas(np.array(lat), np.array(high))
    assert between(wedge, lat, high) == pytest.approx(exact, rel=1e-11, abs=1e-15)
    assert between(wedge, lat, 90.0) + between(wedge, -90.0, lat) == pytest.approx(polygon_areas(wedge)[0], rel=1e-14)


def test_polygon_around_the_pole_holds_the_whole_cap():
    around = polygon([60, 60, 60, 60], [10, 100, 190, 280])
    assert between(around, 85.0, 90.0) == pytest.approx(2.0 * np.pi * zone_areas(np.array(85.0), np.array(90.0)), rel=1e-12)
    south = polygon([-60, -60, -60, -60], [280, 190, 100, 10])
    assert between(south, -90.0, -85.0) == pytest.approx(between(around, 85.0, 90.0), rel=1e-14)
    assert between(south, 85.0, 90.0) == 0.0


@pytest.mark.parametrize("depth", [1e-3, 0.5, 3.0, 7.0])
def test_cap_that_loses_a_segment_to_each_edge_of_a_polygon_around_the_pole(depth):
    around = polygon([60, 60, 60, 60], [0, 90, 180, 270])
    nearest = np.rad2deg(np.arctan(np.tan(np.deg2rad(60.0)) / np.cos(np.deg2rad(45.0))))
    lat = nearest - depth
    sine, cosine = sin_cos(np.array(lat))
    turn = 2.0 * np.arccos(np.tan(np.deg2rad(lat)) / np.tan(np.deg2rad(nearest)))
    expected = 2.0 * np.pi * (1.0 - sine) - 4.0 * lens_areas(turn, sine, cosine)
    assert between(around, lat, 90.0) == pytest.approx(expected, rel=1e-9)


def test_arc_that_bulges_over_a_parallel_between_two_ends_below_it():
    shape = polygon([40, 40, 60, 60], [0, 40, 40, 0])
    top = np.rad2deg(np.arctan(np.tan(np.deg2rad(60.0)) / np.cos(np.deg2rad(20.0))))
    pieces = [between(shape, low, high) for low, high in ((-90, 41), (41, 60), (60, 61), (61, top), (top, 90))]
    assert min(pieces[:-1]) > 1e-4
    assert pieces[-1] == pytest.approx(0.0, abs=1e-12)
    assert sum(pieces) == pytest.approx(polygon_areas(shape)[0], rel=1e-14)


def test_lens_is_small_beside_its_chord_and_grows_as_the_cube_of_the_turn():
    sine, cosine = sin_cos(np.array(50.0))
    turns = np.deg2rad(np.array([2.0, 1.0]))
    lenses = lens_areas(turns, sine, cosine)
    assert lenses[0] / lenses[1] == pytest.approx(8.0, rel=1e-3)
    np.testing.assert_allclose(lenses, sine * cosine**2 * turns**3 / 12.0, rtol=1e-3)
    assert lens_areas(np.array(2.0 * np.pi), sine, cosine) == pytest.approx(2.0 * np.pi * (1.0 - sine), rel=1e-14)


@settings(max_examples=80, deadline=None)
@given(
    st.floats(-89.0, 89.0),
    st.floats(-180.0, 180.0),
    st.floats(0.02, 25.0),
    st.lists(st.floats(0.0, 90.0), min_size=4, max_size=4),
    st.lists(st.floats(-90.0, 90.0), min_size=1, max_size=5),
)
def test_zones_add_up_to_any_quadrilateral(lat, lon, size, angles, cuts):
    course = np.deg2rad(np.array(angles) + 90.0 * np.arange(4))
    centre = unit_vectors(np.array(lat), np.array(lon))
    east = np.array([-np.sin(np.deg2rad(lon)), np.cos(np.deg2rad(lon)), 0.0])
    north = np.cross(centre, east)
    tangent = np.cos(course)[:, None] * east + np.sin(course)[:, None] * north
    shape = (np.cos(np.deg2rad(size)) * centre + np.sin(np.deg2rad(size)) * tangent)[None]
    edges = [-90.0, *sorted(cuts), 90.0]
    whole = polygon_areas(shape)[0]
    zones = [between(shape, low, high) for low, high in pairwise(edges)]
    assert sum(zones) == pytest.approx(whole, rel=1e-11, abs=1e-17)
    assert min(zones) > -1e-12 * np.deg2rad(size)


def test_areas_are_those_of_the_boxes():
    grid = gaussian(40)
    assert grid.areas("parallels").sum() == pytest.approx(4.0 * np.pi, rel=1e-14)
    lat = np.deg2rad(grid.lat_corners)
    exact = (np.sin(lat[..., 2]) - np.sin(lat[..., 0])) * np.deg2rad(grid.lon_corners[..., 1] - grid.lon_corners[..., 0])
    np.testing.assert_allclose(grid.areas("parallels"), exact, rtol=1e-12)
    assert np.abs(grid.areas() / grid.areas("parallels") - 1.0).max() > 1e-4
    assert np.array_equal(rotated().areas("parallels"), rotated().areas())


def test_rows_without_parallels_have_great_circles_as_cdo_takes_them():
    grid = box(0.0, 20.0, 40.0, 50.0, 2.0)
    bent = grid.lat_corners.copy()
    bent[2, 2, 2] += 1e-7
    assert Boxes.of(grid.lat_corners, grid.lon_corners) is not None
    assert Boxes.of(bent, grid.lon_corners) is None
    skewed = Grid(grid.lat, grid.lon, bent, grid.lon_corners)
    np.testing.assert_allclose(skewed.areas("parallels"), skewed.areas(), rtol=0)
    centred = lambert_km(20, 21)
    assert Boxes.of(centred.lat_corners, centred.lon_corners) is None


@pytest.mark.parametrize("change", ["two_dimensional", "transposed", "north_first", "turned", "pole_longitudes", "corner_order"])
def test_boxes_are_known_however_they_are_stored(change):
    grid, field_grid = globe(15.0), rotated(60, 60, 1.0, -30.0, -30.0, POLAR)
    cells = np.arange(grid.lat.size).reshape(grid.shape)
    lat, lon = grid.lat_corners.copy(), grid.lon_corners.copy()
    if change == "transposed":
        lat, lon, cells = lat.swapaxes(0, 1), lon.swapaxes(0, 1), cells.T
    if change == "north_first":
        lat, lon, cells = lat[::-1], lon[::-1], cells[::-1]
    if change == "turned":
        lon[:, 5:] -= 360.0
    if change == "pole_longitudes":
        lon[np.abs(lat) == 90.0] = 0.0
    if change == "corner_order":
        lat, lon = np.roll(lat, 1, axis=-1), np.roll(lon, 1, axis=-1)
    stored = Grid(lat.mean(-1), lon.mean(-1), lat, lon)
    plain, other = parallels(field_grid, grid), parallels(field_grid, stored)
    assert Boxes.of(lat, lon) is not None
    assert abs(plain.matrix[cells.ravel()] - other.matrix).max() < 1e-15
    assert abs(parallels(stored, gaussian(8)).matrix - parallels(grid, gaussian(8)).matrix[:, cells.ravel()]).max() < 1e-15


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_zonal_boxes_around_the_globe_are_cut_and_put_together(columns):
    zones = lonlat_grid(np.linspace(-90.0, 90.0, 13), np.linspace(0.0, 360.0, columns + 1))
    for source in (rotated(15, 15, 1.0, -2.3, -7.2, POLAR), rotated(), gaussian(8)):
        weights = parallels(source, zones)
        np.testing.assert_allclose(used(weights, source), 1.0, atol=1e-12)
        assert weights.coverage.max() < 1.0 + 1e-12
    assert zones.areas("parallels").sum() == pytest.approx(4.0 * np.pi, rel=1e-14)


@pytest.mark.parametrize(
    "source",
    [rotated(), lambert_km(), gaussian(16), globe(7.5, west=-180.0), rotated(15, 15, 1.0, -2.3, -7.2, POLAR), box(170, 200, -5, 5, 0.7)],
    ids=["rotated", "lambert", "gaussian", "globe", "pole", "seam"],
)
@pytest.mark.parametrize("target", [globe(12.0, west=5.0), gaussian(24)], ids=["globe", "gaussian"])
def test_every_source_cell_is_used_once_and_integrals_are_kept(source, target):
    weights = parallels(source, target)
    np.testing.assert_allclose(used(weights, source), 1.0, atol=1e-12)
    field = np.random.default_rng(1).gamma(0.3, 5.0, source.shape)
    covered = weights.coverage * target.areas("parallels")
    integral = np.nansum(weights.apply(field, min_valid_fraction=0.0) * covered)
    assert integral == pytest.approx((field * source.areas("parallels")).sum(), rel=1e-12)
    assert weights.coverage.max() < 1.0 + 1e-12


@pytest.mark.parametrize("target", [rotated(), lambert_km(), rotated(15, 15, 1.0, -2.3, -7.2, POLAR)], ids=["rotated", "lambert", "pole"])
def test_from_boxes_to_any_grid_covers_it(target):
    for source in (globe(2.5), gaussian(48)):
        np.testing.assert_allclose(parallels(source, target).coverage, 1.0, atol=1e-12)


def test_both_ways_share_the_same_overlaps():
    first, second = rotated(), gaussian(48)
    there, back = overlap_areas(first, second, edges="parallels"), overlap_areas(second, first, edges="parallels")
    assert abs(there - back.T).max() == 0.0


def test_mean_of_a_smooth_field_differs_between_the_conventions_as_the_areas_do():
    source = rotated()
    target = regular_grid(1.5, source)
    one, other = (conservative_weights(source, target, edges=edges) for edges in ("great_circle", "parallels"))
    inside = (one.coverage > 1 - 1e-9) & (other.coverage > 1 - 1e-9)
    apart = np.abs(one.apply(smooth_field(source)) - other.apply(smooth_field(source)))[inside].max()
    assert 1e-7 < apart < 1e-3


@pytest.mark.parametrize(("columns", "south"), [(1, -90.0), (2, 0.0), (2, -90.0)])
def test_cells_of_half_the_globe_are_refused_with_great_circles(columns, south):
    zones = lonlat_grid(np.linspace(south, south + 90.0, 4), np.linspace(0.0, 360.0, columns + 1))
    with pytest.raises(InputDataError, match="cannot be bounded by great circles"):
        conservative_weights(rotated(), zones)


def test_grid_without_corners_is_refused_in_both_conventions():
    lat, lon = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    with pytest.raises(InputDataError, match="needs cell corners"):
        parallels(Grid(lat, lon), globe(10.0))
    with pytest.raises(InputDataError, match="needs cell corners"):
        Grid(lat, lon).areas("parallels")


@pytest.fixture(scope="module")
def reference():
    if not REFERENCE.is_dir():
        pytest.skip(f"CDO reference weights are not here: {REFERENCE}")
    with xr.open_dataset(REFERENCE / "source_eur44.nc") as file:
        fields = file.load()
    with xr.open_dataset(REFERENCE / "target_1p40625.nc") as file:
        target = lonlat_grid(file["lat_b"].values, file["lon_b"].values)
    source = Grid.from_dataset(projected_dataset(fields["rlat"].values, fields["rlon"].values, EURO))
    return source, target, fields, parallels(source, target)


def test_reference_weights_of_cdo(reference):
    weights = reference[3]
    with xr.open_dataset(REFERENCE / "weights_cdo_eur44_lonlat_fracarea_gencon.nc") as file:
        links = file["remap_matrix"].values[:, 0], (file["dst_address"].values - 1, file["src_address"].values - 1)
    cdo = csr_array(links, shape=weights.matrix.shape)
    inside = np.flatnonzero(weights.coverage.ravel() > 1.0 - 1e-9)
    difference = abs(weights.rows() - cdo).tocsr()
    assert len(inside) == 1589
    assert difference[inside].max() < 1e-11
    assert difference.max() < 1e-9
    assert weights.matrix.nnz == cdo.nnz


@pytest.mark.parametrize("name", ["smooth", "random"])
def test_reference_fields_of_cdo(reference, name):
    _, _, fields, weights = reference
    with xr.open_dataset(REFERENCE / "regridded_cdo_eur44_lonlat_fracarea_gencon.nc") as file:
        expected = file[name].values
    result = weights.apply(fields[name].values, min_valid_fraction=0.0)
    assert np.array_equal(np.isnan(result), np.isnan(expected))
    assert np.nanmax(np.abs(result - expected)) < 1e-9


def test_reference_areas(reference):
    source, target, _, weights = reference
    areas = np.load(REFERENCE / "areas_eur44.npz")
    np.testing.assert_allclose(target.areas("parallels"), areas["dst_ll"], rtol=1e-12)
    np.testing.assert_allclose(used(weights, source), 1.0, atol=1e-12)


def draw(kind, seed):
    """A random grid of a kind: turned by a random pole, of a random Lambert projection, Gaussian or of uneven boxes."""
    rng = np.random.default_rng(seed)
    spacing = rng.uniform(0.2, 2.0)
    if kind == "rotated":
        pole = {"grid_north_pole_latitude": rng.uniform(-85, 85), "grid_north_pole_longitude": rng.uniform(-180, 180)}
        return rotated(12, 13, spacing, rng.uniform(-80, 50), rng.uniform(-180, 180), {**EURO, **pole})
    if kind == "lambert":
        south = rng.uniform(20, 50)
        middle = {"longitude_of_central_meridian": rng.uniform(-180, 180), "latitude_of_projection_origin": south + 5.0}
        y, x = (100.0 * spacing * (np.arange(n) - (n - 1) / 2) for n in (10, 11))
        crs = {**LAMBERT, **middle, "standard_parallel": [south, south + 10.0]}
        return Grid.from_dataset(projected_dataset(y, x, crs, ("y", "x"), "km"))
    if kind == "gaussian":
        return gaussian(2 * int(rng.integers(8, 33)), west=rng.uniform(-180, 180))
    lat = np.sort(rng.uniform(-90, 90, 14))[:: int(rng.choice([-1, 1]))]
    return lonlat_grid(lat, rng.uniform(-180, 180) + np.cumsum(rng.uniform(1, 20, 18)))


PAIRS = [("rotated", "gaussian"), ("lambert", "gaussian"), ("gaussian", "rotated"), ("gaussian", "lambert"), ("gaussian", "boxes")]


@pytest.mark.skipif(CDO is None, reason="the cdo command is not installed")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("kind", "onto"), PAIRS, ids=["-to-".join(pair) for pair in PAIRS])
def test_installed_cdo_gives_the_same_weights(kind, onto, seed, tmp_path):
    source, target = draw(kind, 100 + seed), draw(onto, 200 + seed)
    weights = parallels(source, target)
    cdo = gencon(source, target, tmp_path)
    difference = abs(weights.rows() - cdo).tocsr()
    inside = np.flatnonzero(weights.coverage.ravel() > 1.0 - 1e-9)
    assert difference[inside].max() < 1e-8 if len(inside) else weights.matrix.nnz > 0
    well_covered = np.flatnonzero(weights.coverage.ravel() > 1e-6)
    assert difference[well_covered].max() < 1e-8


@pytest.mark.skipif(CDO is None, reason="the cdo command is not installed")
@pytest.mark.parametrize("shape", ["as boxes", "one corner moved"])
def test_installed_cdo_takes_a_stored_out_grid_as_we_do(shape, tmp_path):
    target, source = without_axes(box(0.0, 30.0, 30.0, 60.0, 3.0)), lambert_km()
    if shape == "one corner moved":
        corners = target.lat_corners.copy()
        corners[4, 4, 2] += 1e-8
        target = dataclasses.replace(target, lat_corners=corners)
    weights = parallels(source, target)
    difference = abs(weights.rows() - gencon(source, target, tmp_path)).tocsr()
    assert difference[np.flatnonzero(weights.coverage.ravel() > 1.0 - 1e-9)].max() < 1e-8
