"""Boxes, covered rectangles, nested coarsening, regular grids."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from grid_samples import EURO, box, globe, lambert_km, rotated
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.errors import InputDataError
from downscale.grid.conservative import conservative_weights
from downscale.grid.domain import (
    across_seam,
    box_slices,
    cells_inside,
    coarsen_grid,
    columns_from,
    covered_box,
    inside_box,
    largest_rectangle,
    regular_grid,
    require_covered,
    touched_box,
)
from downscale.grid.grid import Grid


def brute_force(mask):
    best = 0
    for top in range(mask.shape[0]):
        for bottom in range(top + 1, mask.shape[0] + 1):
            for left in range(mask.shape[1]):
                for right in range(left + 1, mask.shape[1] + 1):
                    if mask[top:bottom, left:right].all():
                        best = max(best, (bottom - top) * (right - left))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6), st.floats(0.2, 0.95))
def test_rectangle_is_the_largest(seed, ny, nx, share):
    mask = np.random.default_rng(seed).random((ny, nx)) < share
    if not mask.any():
        with pytest.raises(InputDataError):
            largest_rectangle(mask)
        return
    y, x = largest_rectangle(mask)
    assert mask[y, x].all() and mask[y, x].size == brute_force(mask)


def test_covered_box_counts_within_tolerance():
    coverage = np.array([[1.0, 1.0 - 1e-9, 0.4], [1.0, 1.0, 1.0], [0.0, 0.2, 1.0]])
    assert covered_box(coverage) == (slice(0, 2), slice(0, 2))
    with pytest.raises(InputDataError, match="no cell of the coarse grid"):
        covered_box(coverage * 0.9)


@pytest.mark.parametrize("west", [0.0, -180.0, -90.0])
def test_covered_box_goes_over_the_seam_of_a_globe(west):
    grid, wanted = globe(10.0, west), np.array([-25.0, -15.0, -5.0, 5.0, 15.0])
    coverage = np.where(np.isin((grid.lon + 180.0) % 360.0 - 180.0, wanted) & (np.abs(grid.lat) < 20.0), 1.0, 0.0)
    y, x = across_seam(covered_box, coverage, grid)
    part = grid.crop(y, x)
    np.testing.assert_allclose((part.lon[0] + 180.0) % 360.0 - 180.0, wanted)
    assert (np.diff(part.lon[0]) == 10.0).all() and part.shape == (4, 5)
    assert isinstance(x, slice) == (west != 0.0)
    assert columns_from(box(0.0, 50.0, 0.0, 20.0, 10.0), 3, 4) == slice(3, 7)
    touched = across_seam(touched_box, 0.3 * coverage, grid)
    assert touched[0] == y and np.array_equal(np.arange(36)[touched[1]], np.arange(36)[x])
    everywhere = across_seam(covered_box, np.ones(grid.shape), grid)
    assert everywhere == (slice(0, 18), slice(0, 36))


def test_uncovered_box_is_refused_with_the_fraction():
    coverage = np.ones((2, 5))
    require_covered(coverage, "the coarse box")
    coverage[0, 0], coverage[1, 1] = 0.0, 0.5
    with pytest.raises(InputDataError, match=r"15\.00%.*2 of 10 cells"):
        require_covered(coverage, "the coarse box")


def test_fine_cells_inside_lie_inside_with_all_corners():
    fine, coarse = rotated(), box(2.0, 12.0, 44.0, 50.0, 2.0)
    inside = cells_inside(fine, coarse)
    corners_in = ((fine.lon_corners > 2.0) & (fine.lon_corners < 12.0) & (fine.lat_corners > 44.0) & (fine.lat_corners < 50.0)).all(axis=-1)
    assert 0 < inside.sum() < inside.size
    sagging = inside != corners_in
    assert sagging.sum() <= 2
    window = inside_box(fine, coarse)
    assert inside[window].all() and inside[window].size > 20


def test_crop_closes_geometry_both_ways():
    fine, coarse = rotated(30, 34, 0.44, -8.0, -12.0), box(-10.0, 20.0, 36.0, 56.0, 1.5)
    window = covered_box(conservative_weights(fine, coarse).coverage)
    kept = coarse.crop(*window)
    require_covered(conservative_weights(fine, kept).coverage, "the box")
    target = fine.crop(*inside_box(fine, kept))
    require_covered(conservative_weights(kept, target).coverage, "the target")


def test_cells_without_corners_count_by_their_centre():
    fine, coarse = rotated(), box(2.0, 12.0, 44.0, 50.0, 2.0)
    bare = Grid(fine.lat, fine.lon)
    expected = (fine.lon >= 2.0) & (fine.lon <= 12.0) & (fine.lat >= 44.0) & (fine.lat <= 50.0)
    np.testing.assert_array_equal(cells_inside(bare, coarse), expected)


def test_grids_apart_are_refused():
    with pytest.raises(InputDataError, match="lies inside the coarse box"):
        inside_box(rotated(5, 5), box(100.0, 110.0, -20.0, -10.0, 2.0))


@pytest.mark.parametrize("fine", [rotated(13, 14), lambert_km(13, 14), box(-6.0, 8.0, 40.0, 53.0, 1.0)], ids=["rotated", "lambert", "box"])
def test_coarsening_is_nested_exactly(fine, caplog):
    with caplog.at_level(logging.INFO):
        coarse, weights = coarsen_grid(fine, 4)
    assert coarse.shape == (3, 3) and "drops 1 rows and 2 columns" in caplog.text
    areas, field = fine.areas(), np.random.default_rng(0).normal(size=fine.shape)
    by_hand = (field * areas)[4:8, 8:12].sum() / areas[4:8, 8:12].sum()
    assert weights.apply(field)[1, 2] == pytest.approx(by_hand, rel=1e-12)
    assert (weights.matrix.sum(axis=0)[np.arange(fine.lat.size).reshape(fine.shape)[:12, :12].ravel()] > 0).all()
    assert weights.matrix.nnz == 144
    np.testing.assert_allclose(coarse.areas(), weights.matrix.sum(axis=1).reshape(3, 3), rtol=2e-3)
    np.testing.assert_array_equal(coarse.lat_corners[0, 0, 0], fine.lat_corners[0, 0, 0])
    np.testing.assert_array_equal(coarse.lat_corners[2, 2, 2], fine.lat_corners[11, 11, 2])
    np.testing.assert_array_equal(coarse.lat_corners[1, 1, 1], fine.lat_corners[4, 7, 1])
    np.testing.assert_allclose(coarse.axes.y[0], fine.axes.y[:4].mean())


def test_coarsened_grid_comes_back_from_its_dataset():
    coarse, _ = coarsen_grid(rotated(12, 12), 3)
    again = Grid.from_dataset(coarse.to_dataset())
    assert again.digest == coarse.digest


def test_coarsening_a_curvilinear_grid_keeps_neighbours_joined():
    fine = rotated(8, 8)
    coarse, _ = coarsen_grid(Grid(fine.lat, fine.lon, fine.lat_corners, fine.lon_corners), 4)
    np.testing.assert_array_equal(coarse.lat_corners[0, 0, 1], coarse.lat_corners[0, 1, 0])
    np.testing.assert_allclose(coarse.lat, coarsen_grid(fine, 4)[0].lat, atol=1e-2)


def test_coarsening_over_the_date_line_stays_in_one_piece():
    crs = {**EURO, "grid_north_pole_latitude": 60.0, "grid_north_pole_longitude": 0.0}
    coarse, _ = coarsen_grid(rotated(6, 8, 1.0, -3.0, -4.0, crs), 2)
    assert np.ptp(coarse.lon) < 20.0 and np.ptp(coarse.lon_corners) < 20.0
    assert Grid.from_dataset(coarse.to_dataset()).digest == coarse.digest


def test_coarsening_more_than_there_is_is_refused():
    with pytest.raises(InputDataError, match="do not fit into a grid"):
        coarsen_grid(rotated(5, 5), 6)


@pytest.mark.parametrize("resolution", [0.7, 1.5, 2.0])
def test_regular_grid_covers_at_whole_multiples(resolution):
    fine = rotated()
    grid = regular_grid(resolution, fine)
    edges = np.concatenate([grid.lat_corners.ravel(), grid.lon_corners.ravel()]) / resolution
    np.testing.assert_allclose(edges, np.round(edges), atol=1e-9)
    covered = conservative_weights(grid, fine).coverage
    assert covered.min() > 1.0 - 1e-12
    assert grid.lat_corners.min() > fine.lat_corners.min() - resolution and grid.lon_corners.max() < fine.lon_corners.max() + resolution


def test_regular_grid_across_the_date_line_is_one_piece():
    crs = {**EURO, "grid_north_pole_latitude": 60.0, "grid_north_pole_longitude": 0.0}
    fine = rotated(6, 8, 1.0, -3.0, -4.0, crs)
    assert fine.lon.min() < 180.0 < fine.lon.max() or fine.lon.min() < -180.0 < fine.lon.max()
    grid = regular_grid(2.0, fine)
    assert grid.shape[1] < 12
    assert conservative_weights(grid, fine).coverage.min() > 1.0 - 1e-12


def test_regular_grid_around_a_cell_that_holds_the_pole_goes_all_the_way_round():
    crs = {**EURO, "grid_north_pole_latitude": 5.0, "grid_north_pole_longitude": 30.0}
    fine = rotated(3, 3, 1.0, 4.0, -1.0, crs).crop(slice(1, 2), slice(1, 2))
    grid = regular_grid(10.0, fine)
    assert grid.shape == (1, 36) and grid.lat_corners.max() == 90.0
    assert conservative_weights(grid, fine).coverage.min() > 1.0 - 1e-12


def test_regular_grid_equal_to_a_lonlat_grid_adds_nothing():
    assert regular_grid(2.0, box(-6.0, 8.0, 40.0, 52.0, 1.0)).shape == (6, 7)
    assert regular_grid(30.0, globe(10.0)).shape == (6, 12)


def test_regular_grid_around_the_globe_needs_a_divisor_of_360():
    with pytest.raises(InputDataError, match="around the globe"):
        regular_grid(7.0, globe(10.0))


def test_box_on_either_longitude_convention():
    for west in (0.0, -180.0):
        grid = globe(10.0, west)
        y, x = box_slices(grid, -31.0, 41.0, 30.0, 61.0)
        part = grid.crop(y, x)
        assert part.shape == (3, 7)
        assert (np.diff(part.lon[0]) == 10.0).all()
        assert np.mod(part.lon[0, 0], 360.0) == 335.0
        np.testing.assert_allclose(part.lon_corners.mean(axis=-1), part.lon)
        np.testing.assert_array_equal(part.axes.x, part.lon[0])
        fields = np.broadcast_to(grid.lon, (2, *grid.shape))
        np.testing.assert_array_equal(np.mod(fields[:, y, x], 360.0)[0], np.mod(part.lon, 360.0))


def test_box_over_the_date_line():
    part = globe(10.0, -180.0).crop(*box_slices(globe(10.0, -180.0), 160.0, -160.0, -20.0, 20.0))
    assert part.shape == (4, 4) and np.ptp(part.lon) == 30.0


def test_box_that_needs_no_seam_is_slices():
    assert box_slices(globe(10.0), 10.0, 50.0, 0.0, 20.0) == (slice(9, 11), slice(1, 5))


def test_empty_box_and_grid_without_axes_are_refused():
    with pytest.raises(InputDataError, match="no cell centre"):
        box_slices(box(0.0, 8.0, 40.0, 48.0, 2.0), 100.0, 120.0, 40.0, 48.0)
    with pytest.raises(InputDataError, match="lat/lon axes"):
        box_slices(rotated(4, 4), 0.0, 10.0, 40.0, 50.0)
