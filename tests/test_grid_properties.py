"""What conservative weights keep on any two grids, in both conventions of the cell edges."""

from __future__ import annotations

import numpy as np
import pytest
from grid_samples import EURO, LAMBERT, projected_dataset, rotated, smooth_field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from downscale.grid.conservative import conservative_weights
from downscale.grid.corners import ordered
from downscale.grid.grid import Grid, lonlat_grid

CONVENTIONS = st.sampled_from(["great_circle", "parallels"])
TIMES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def boxes(draw, around=False):
    """Uneven longitude-latitude boxes, axes rising or falling, of a region or around the globe from pole to pole."""
    ny, nx = draw(st.integers(3 if around else 2, 7)), draw(st.integers(7 if around else 2, 9))
    heights, widths = (np.array(draw(st.lists(st.floats(0.3, 1.0), min_size=n, max_size=n))) for n in (ny, nx))
    if around:
        tall, wide, south = 180.0, 360.0, -90.0
    else:
        tall, wide = draw(st.floats(1.0, 40.0)), draw(st.floats(1.0, 60.0))
        south = draw(st.one_of(st.just(-90.0), st.floats(-90.0, 90.0 - tall), st.just(90.0 - tall)))
    west = draw(st.one_of(st.just(0.0), st.just(-180.0), st.floats(-180.0, 360.0)))
    lat = np.minimum(south + tall * np.concatenate([[0.0], np.cumsum(heights) / heights.sum()]), 90.0)
    lon = west + wide * np.concatenate([[0.0], np.cumsum(widths) / widths.sum()])
    return lonlat_grid(lat[:: draw(st.sampled_from([1, -1]))], lon)


@st.composite
def turned(draw):
    """A grid with a rotated pole anywhere, or of a Lambert projection."""
    spacing, ny, nx = draw(st.floats(0.2, 3.0)), draw(st.integers(2, 6)), draw(st.integers(2, 7))
    if draw(st.booleans()):
        pole = {"grid_north_pole_latitude": draw(st.floats(-90, 90)), "grid_north_pole_longitude": draw(st.floats(-180, 180))}
        return rotated(ny, nx, spacing, draw(st.floats(-80.0, 60.0)), draw(st.floats(-180.0, 180.0)), {**EURO, **pole})
    crs = {**LAMBERT, "longitude_of_central_meridian": draw(st.floats(-180.0, 180.0))}
    y, x = (80.0 * spacing * (np.arange(n) - draw(st.integers(0, 5))) for n in (ny, nx))
    return Grid.from_dataset(projected_dataset(y, x, crs, ("y", "x"), "km"))


GRIDS = st.one_of(boxes(), turned())


def field_of(grid, seed, count=1):
    return np.random.default_rng(seed).normal(size=(count, *grid.shape))


def same(first, second, of):
    np.testing.assert_allclose(first.matrix.toarray(), second.matrix.toarray(), atol=1e-12 * of.areas().max())


@TIMES
@given(GRIDS, boxes(around=True), CONVENTIONS, st.floats(1e-6, 1e6))
def test_constants_stay_and_every_source_cell_is_used_once(source, target, edges, value):
    weights = conservative_weights(source, target, edges=edges)
    area = source.areas(edges).ravel()
    use = np.asarray(weights.matrix.sum(axis=0)).ravel()
    np.testing.assert_allclose(use, area, rtol=1e-12, atol=1e-15 * np.sqrt(area.max()))
    mean = weights.apply(np.full(source.shape, value), min_valid_fraction=0.0)
    assert np.array_equal(np.isnan(mean), weights.coverage == 0.0)
    np.testing.assert_allclose(mean[weights.coverage > 0.0], value, rtol=1e-12)
    assert weights.coverage.max() < 1.0 + 1e-11


@TIMES
@given(GRIDS, boxes(around=True), CONVENTIONS, st.integers(0, 99))
def test_area_integrals_are_conserved(source, target, edges, seed):
    weights = conservative_weights(source, target, edges=edges)
    field = 1.0 + field_of(source, seed)[0] ** 2
    covered = weights.coverage * target.areas(edges)
    integral = np.nansum(weights.apply(field, min_valid_fraction=0.0) * covered)
    assert integral == pytest.approx((field * source.areas(edges)).sum(), rel=1e-12)


@TIMES
@given(GRIDS, GRIDS, CONVENTIONS, st.integers(0, 99), st.floats(-5.0, 5.0), st.floats(-5.0, 5.0))
def test_linear_and_without_new_extremes(source, target, edges, seed, first, second):
    weights = conservative_weights(source, target, edges=edges)
    one, other = field_of(source, seed, 2)
    results = weights.apply(np.stack([one, other, first * one + second * other]), min_valid_fraction=0.0)
    np.testing.assert_allclose(results[2], first * results[0] + second * results[1], atol=1e-12)
    inside = ~np.isnan(results[0])
    assert (results[0][inside] >= one.min() - 1e-12).all() and (results[0][inside] <= one.max() + 1e-12).all()


@TIMES
@given(GRIDS, CONVENTIONS, st.integers(0, 99))
def test_equal_grids_give_the_field_back(grid, edges, seed):
    weights = conservative_weights(grid, grid, edges=edges)
    field = field_of(grid, seed)
    np.testing.assert_allclose(weights.apply(field), field, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(weights.coverage, 1.0, atol=1e-11)


@TIMES
@given(GRIDS, GRIDS, CONVENTIONS)
def test_overlaps_are_the_same_both_ways(first, second, edges):
    there, back = (conservative_weights(*pair, edges=edges).matrix for pair in ((first, second), (second, first)))
    smaller = min(first.areas().max(), second.areas().max())
    np.testing.assert_allclose(there.toarray(), back.toarray().T, atol=1e-12 * smaller)


@TIMES
@given(turned(), boxes(), CONVENTIONS, st.sampled_from(["rows", "columns", "transposed"]))
def test_order_of_the_axes_changes_nothing(source, target, edges, change):
    cells = np.arange(source.lat.size).reshape(source.shape)
    turn = {"rows": lambda v: v[::-1], "columns": lambda v: v[:, ::-1], "transposed": lambda v: v.swapaxes(0, 1)}[change]
    other = Grid(*(turn(v) for v in (source.lat, source.lon, source.lat_corners, source.lon_corners)))
    plain, changed = (conservative_weights(grid, target, edges=edges) for grid in (source, other))
    assert abs(plain.matrix[:, turn(cells).ravel()] - changed.matrix).max() <= 1e-14 * source.areas().max()
    np.testing.assert_allclose(plain.coverage, changed.coverage, atol=1e-12)


@TIMES
@given(GRIDS, GRIDS, CONVENTIONS, st.sampled_from([[3, 2, 1, 0], [2, 1, 0, 3], [1, 2, 3, 0], [0, 2, 1, 3]]))
def test_winding_and_order_of_the_corners_change_nothing(source, target, edges, order):
    corners, _ = ordered(source.lat_corners[..., order], source.lon_corners[..., order])
    other = Grid(source.lat, source.lon, *corners)
    same(*(conservative_weights(grid, target, edges=edges) for grid in (source, other)), source)


@TIMES
@given(GRIDS, GRIDS, CONVENTIONS, st.sampled_from([-720.0, -360.0, 360.0]), st.integers(0, 3))
def test_longitude_convention_changes_nothing(source, target, edges, turns, some):
    lon, lon_corners = source.lon.copy(), source.lon_corners.copy()
    lon[:, some:] += turns
    lon_corners[:, some:] += turns
    other = Grid(source.lat, lon, source.lat_corners, lon_corners)
    same(*(conservative_weights(grid, target, edges=edges) for grid in (source, other)), source)


@pytest.mark.parametrize("edges", ["great_circle", "parallels"])
@pytest.mark.parametrize("kind", ["rotated", "boxes"])
def test_refining_the_source_converges(edges, kind):
    target = lonlat_grid(np.linspace(40.0, 52.0, 5), np.linspace(0.0, 12.0, 5))

    def mean(spacing):
        if kind == "rotated":
            source = rotated(round(22.0 / spacing), round(22.0 / spacing), spacing, -11.0, -14.0)
        else:
            source = lonlat_grid(np.arange(39.0, 53.0, spacing), np.arange(-1.0, 13.0, spacing))
        return conservative_weights(source, target, edges=edges).apply(smooth_field(source), 1.0)

    truth = mean(0.055)
    errors = [np.abs(mean(spacing) - truth).max() for spacing in (0.88, 0.44, 0.22)]
    assert errors[0] > 2.0 * errors[1] > 4.0 * errors[2]
    assert errors[2] < 1e-4
