"""Areas and clipping of spherical polygons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.grid.polygons import clip_polygons, edge_normals, lat_lon, polygon_areas, unit_vectors


def quad(lon_min, lon_max, lat_min, lat_max):
    return unit_vectors(np.array([lat_min, lat_min, lat_max, lat_max]), np.array([lon_min, lon_max, lon_max, lon_min]))


def clip(polygon, cell):
    return clip_polygons(polygon[None], cell[None], edge_normals(cell)[None])[0]


def test_octant_is_an_eighth_of_the_sphere():
    assert polygon_areas(unit_vectors(np.array([0.0, 0.0, 90.0]), np.array([0.0, 90.0, 0.0]))) == pytest.approx(np.pi / 2, rel=1e-15)


def test_lune_with_both_ends_at_the_pole_has_its_closed_form():
    cell = quad(10.0, 40.0, 0.0, 90.0)
    assert polygon_areas(cell) == pytest.approx(np.deg2rad(30.0), rel=1e-14)


def test_tiny_cells_keep_relative_precision():
    step = 1e-4
    area = polygon_areas(quad(20.0, 20.0 + step, 50.0, 50.0 + step))
    exact = np.deg2rad(step) * (np.sin(np.deg2rad(50.0 + step)) - np.sin(np.deg2rad(50.0)))
    assert area == pytest.approx(exact, rel=1e-9)


def test_clockwise_is_negative():
    cell = quad(0.0, 1.0, 0.0, 1.0)
    assert polygon_areas(cell[::-1]) == pytest.approx(-polygon_areas(cell), rel=1e-14)


def test_poles_are_exact_and_longitudes_count_modulo_a_turn():
    assert unit_vectors(np.array([90.0]), np.array([123.0])).tolist() == [[0.0, 0.0, 1.0]]
    assert np.array_equal(unit_vectors(np.array([30.0]), np.array([-90.0])), unit_vectors(np.array([30.0]), np.array([270.0])))


def test_vectors_and_degrees_are_inverse():
    lat, lon = np.array([-80.0, 0.0, 45.0]), np.array([-170.0, 12.5, 179.0])
    back = lat_lon(3.0 * unit_vectors(lat, lon))
    np.testing.assert_allclose(back, (lat, lon), atol=1e-12)


def test_shared_edges_have_exactly_opposite_normals():
    left, right = edge_normals(quad(0.0, 1.4, 40.0, 41.4)), edge_normals(quad(1.4, 2.8, 40.0, 41.4))
    assert np.array_equal(left[1], -right[3])


def test_cell_clipped_by_itself_is_itself_and_by_its_neighbour_is_nothing():
    cell, neighbour = quad(0.0, 1.0, 50.0, 51.0), quad(1.0, 2.0, 50.0, 51.0)
    assert polygon_areas(clip(cell, cell)) == polygon_areas(cell)
    assert abs(polygon_areas(clip(cell, neighbour))) < 1e-18


def test_cell_inside_and_cell_around():
    small, large = quad(0.4, 0.6, 50.4, 50.6), quad(0.0, 1.0, 50.0, 51.0)
    assert polygon_areas(clip(small, large)) == polygon_areas(small)
    assert polygon_areas(clip(large, small)) == pytest.approx(polygon_areas(small), rel=1e-12)


def test_disjoint_cells_share_nothing():
    assert polygon_areas(clip(quad(0.0, 1.0, 50.0, 51.0), quad(5.0, 6.0, 50.0, 51.0))) == 0.0


def test_polar_triangle_is_clipped_like_any_cell():
    cap, half = quad(0.0, 20.0, 80.0, 90.0), quad(10.0, 30.0, 70.0, 90.0)
    lune = polygon_areas(unit_vectors(np.array([80.0, 80.0, 90.0]), np.array([0.0, 20.0, 0.0]))) / 2.0
    assert polygon_areas(clip(cap, half)) == pytest.approx(lune, rel=1e-12)


coordinate = st.floats(-3.0, 3.0)


@settings(max_examples=60, deadline=None)
@given(coordinate, coordinate, st.floats(0.1, 4.0), st.floats(0.1, 4.0), st.floats(-89.0, 84.0))
def test_pieces_in_four_quadrants_add_up_to_the_polygon(lon, lat, width, height, centre):
    corners = quad(lon, lon + width, centre + min(lat, 0.0), min(centre + min(lat, 0.0) + height, 90.0))
    middle_lon, middle_lat = lon + 0.37 * width, centre
    pieces = 0.0
    for west, east in ((middle_lon - 20.0, middle_lon), (middle_lon, middle_lon + 20.0)):
        cells = [
            unit_vectors(np.array([-90.0, middle_lat, middle_lat]), np.array([0.0, east, west])),
            unit_vectors(np.array([90.0, middle_lat, middle_lat]), np.array([0.0, west, east])),
        ]
        pieces += sum(polygon_areas(clip(corners, cell)) for cell in cells)
    whole = polygon_areas(corners)
    assert pieces == pytest.approx(whole, rel=1e-10, abs=1e-16)
