"""Bilinear weights in the source's own axis coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from grid_samples import EURO, LAMBERT, box, globe, lambert_km, rotated, smooth_field
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.errors import InputDataError
from downscale.grid.grid import Grid, lonlat_grid
from downscale.grid.interpolate import bilinear_weights
from downscale.grid.projection import from_lonlat

COARSE = box(-10.0, 14.0, 36.0, 52.0, 2.0)


@settings(max_examples=20, deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-0.1, 0.1), st.floats(-7.5, 9.0), st.floats(38.5, 47.0))
def test_exact_for_bilinear_fields_between_the_centres(slope_lon, slope_lat, cross, west, south):
    def field(grid):
        return 1.0 + slope_lon * grid.lon + slope_lat * grid.lat + cross * grid.lat * grid.lon

    fine = box(west, west + 2.0, south, south + 3.0, 0.25)
    result = bilinear_weights(COARSE, fine).apply(field(COARSE))
    np.testing.assert_allclose(result, field(fine), atol=1e-10)


PROJECTED = [(rotated(), EURO, "degrees"), (lambert_km(), LAMBERT, "km")]


@pytest.mark.parametrize(("source", "crs", "units"), PROJECTED, ids=["rotated", "lambert"])
def test_exact_for_fields_linear_in_projected_axes(source, crs, units):
    inner = source.crop(slice(2, 8), slice(3, 9))
    target = Grid(inner.lat + 0.11, inner.lon - 0.07)
    x, y = from_lonlat(crs, target.lon, target.lat, units)
    source_y, source_x = np.meshgrid(source.axes.y, source.axes.x, indexing="ij")
    result = bilinear_weights(source, target).apply(3.0 + 0.5 * source_x - 0.25 * source_y)
    np.testing.assert_allclose(result, 3.0 + 0.5 * x - 0.25 * y, atol=1e-9)


@pytest.mark.parametrize("grid", [COARSE, rotated(6, 7), lambert_km(6, 7), globe(30.0)], ids=["box", "rotated", "lambert", "globe"])
def test_own_centres_get_their_own_values(grid):
    weights = bilinear_weights(grid, grid)
    assert weights.matrix.nnz == grid.lat.size
    field = np.random.default_rng(0).normal(size=grid.shape)
    np.testing.assert_allclose(weights.apply(field), field, rtol=1e-12)


def test_between_centres_and_cell_edges_the_nearest_is_taken_and_outside_is_missing():
    field = np.arange(COARSE.lat.size, dtype=float).reshape(COARSE.shape)
    points = Grid(np.array([[36.1, 51.9, 35.9, 44.0]]), np.array([[-9.9, 13.9, 0.0, 14.1]]))
    weights = bilinear_weights(COARSE, points)
    result = weights.apply(field)
    assert result[0, 0] == field[0, 0] and result[0, 1] == field[-1, -1]
    assert np.isnan(result[0, 2:]).all()
    assert weights.coverage.tolist() == [[1.0, 1.0, 0.0, 0.0]]


def test_source_around_the_globe_has_no_seam():
    source = globe(5.0)
    target = Grid(np.array([[0.0, 0.0, 0.0]]), np.array([[0.0, 359.0, -1.0]]))
    result = bilinear_weights(source, target).apply(np.sin(np.deg2rad(source.lon)))
    assert result[0, 0] == pytest.approx(0.0, abs=1e-15)
    assert result[0, 1] == pytest.approx(-0.4 * np.sin(np.deg2rad(2.5)), rel=1e-12)
    assert result[0, 1] == result[0, 2]


def test_either_longitude_convention_and_descending_axes_give_the_same():
    fine = box(-6.0, 3.0, 40.0, 46.0, 0.75)
    plain = bilinear_weights(COARSE, fine).apply(smooth_field(COARSE))
    turned = Grid(fine.lat, np.mod(fine.lon, 360.0))
    assert np.isfinite(plain).all()
    np.testing.assert_allclose(bilinear_weights(COARSE, turned).apply(smooth_field(COARSE)), plain, rtol=1e-12)
    flipped = COARSE.crop(slice(None, None, -1), slice(None))
    np.testing.assert_allclose(bilinear_weights(flipped, fine).apply(smooth_field(flipped)), plain, rtol=1e-12)


def test_unequal_axes_are_bracketed_by_value():
    lat_edges, lon_edges = np.array([0.0, 1.0, 3.0, 7.0]), np.array([0.0, 4.0, 5.0, 9.0])
    source = lonlat_grid(lat_edges, lon_edges)
    target = Grid(np.array([[1.2, 3.1]]), np.array([[2.2, 6.0]]))
    result = bilinear_weights(source, target).apply(2.0 * source.lat - source.lon)
    np.testing.assert_allclose(result, 2.0 * target.lat - target.lon, rtol=1e-12)


def test_at_most_four_sources_a_target():
    indices, weights = bilinear_weights(COARSE, rotated(8, 8, 0.3, -5.0, -8.0)).gather()
    assert indices.shape == (64, 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)


def test_missing_neighbour_is_left_out():
    field = np.ones(COARSE.shape)
    field[3, 3] = np.nan
    target = Grid(COARSE.lat[3:4, 3:4] + 0.9, COARSE.lon[3:4, 3:4])
    weights = bilinear_weights(COARSE, target)
    assert weights.apply(field, 0.4)[0, 0] == 1.0
    assert np.isnan(weights.apply(field, 0.5)[0, 0])


def test_source_without_axes_is_refused():
    lat, lon = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    with pytest.raises(InputDataError, match="needs the source's axes"):
        bilinear_weights(Grid(lat, lon), COARSE)
