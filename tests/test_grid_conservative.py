"""Conservative weights: what they keep, and what ESMF makes of the same grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from grid_samples import EURO, box, globe, lambert_km, projected_dataset, rotated, smooth_field
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from downscale.errors import InputDataError
from downscale.grid.conservative import conservative_weights, overlap_areas
from downscale.grid.domain import regular_grid
from downscale.grid.grid import Grid, lonlat_grid

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "regrid"


@pytest.fixture(scope="module")
def pair():
    source = rotated()
    target = regular_grid(1.5, source)
    return source, target, conservative_weights(source, target)


def full(weights):
    return weights.coverage > 1.0 - 1e-9


def test_constants_stay_constant(pair):
    source, _, weights = pair
    fields = np.full((2, *source.shape), 287.654321)
    result = weights.apply(fields, min_valid_fraction=1e-9)
    assert np.nanmax(np.abs(result / 287.654321 - 1.0)) < 1e-12
    assert np.isnan(result[0])[weights.coverage == 0.0].all()


def test_every_source_cell_is_used_exactly_once(pair):
    source, _, weights = pair
    assert np.abs(weights.matrix.sum(axis=0) / source.areas().ravel() - 1.0).max() < 1e-12


def test_area_integral_over_the_covering_grid_is_kept(pair):
    source, target, weights = pair
    field = np.random.default_rng(1).gamma(0.3, 5.0, source.shape)
    covered = weights.coverage * target.areas()
    integral = np.nansum(weights.apply(field, min_valid_fraction=1e-12) * covered)
    assert integral == pytest.approx((field * source.areas()).sum(), rel=1e-12)


def test_integral_over_fully_covered_cells_is_that_of_the_overlaps(pair):
    source, target, weights = pair
    field = np.random.default_rng(2).normal(280.0, 10.0, source.shape)
    inside = full(weights)
    integral = (weights.apply(field, min_valid_fraction=1.0) * target.areas())[inside].sum()
    assert inside.sum() > 20
    assert integral == pytest.approx((weights.matrix @ field.ravel())[inside.ravel()].sum(), rel=1e-10)


def test_linear_in_the_field(pair):
    source, _, weights = pair
    first, second = np.random.default_rng(3).normal(size=(2, *source.shape))
    combined = weights.apply(2.0 * first - 3.0 * second)
    np.testing.assert_allclose(combined, 2.0 * weights.apply(first) - 3.0 * weights.apply(second), atol=1e-13)


def test_no_new_extremes(pair):
    source, _, weights = pair
    field = np.random.default_rng(4).normal(size=source.shape)
    result = weights.apply(field, min_valid_fraction=1e-9)
    assert np.nanmin(result) >= field.min() - 1e-12 and np.nanmax(result) <= field.max() + 1e-12


@pytest.mark.parametrize("grid", [rotated(10, 11), lambert_km(8, 9), globe(15.0)], ids=["rotated", "lambert", "globe"])
def test_equal_grids_give_the_identity(grid):
    weights = conservative_weights(grid, grid)
    assert weights.matrix.nnz == grid.lat.size
    assert np.abs(weights.coverage - 1.0).max() < 1e-12
    field = np.random.default_rng(5).normal(size=grid.shape)
    np.testing.assert_allclose(weights.apply(field), field, rtol=1e-14)


def test_seam_convention_changes_nothing():
    field_grid = box(170.0, 190.0, -10.0, 10.0, 1.0)
    west = box(-190.0, -170.0, -10.0, 10.0, 1.0)
    target = box(172.0, 188.0, -8.0, 8.0, 4.0)
    first, second = conservative_weights(field_grid, target), conservative_weights(west, target)
    assert abs(first.matrix - second.matrix).max() < 1e-17
    assert np.abs(first.coverage - 1.0).max() < 1e-12


def test_global_to_global_covers_both_poles_and_the_seam():
    source, target = globe(7.5, west=-180.0), globe(12.0, west=5.0)
    overlap = overlap_areas(source, target)
    assert source.areas().sum() == pytest.approx(4.0 * np.pi, rel=1e-13)
    np.testing.assert_allclose(overlap.sum(axis=0), source.areas().ravel(), rtol=1e-12)
    np.testing.assert_allclose(overlap.sum(axis=1), target.areas().ravel(), rtol=1e-12)


def test_rotated_cells_over_the_pole_share_it_out_exactly():
    crs = {**EURO, "grid_north_pole_latitude": 5.0, "grid_north_pole_longitude": 30.0}
    source = rotated(15, 15, 1.0, -2.3, -7.2, crs)
    target = regular_grid(3.0, source)
    assert source.lat.max() > 89.0
    assert target.lat_corners.max() == 90.0 and target.shape[1] == 120
    overlap = overlap_areas(source, target)
    np.testing.assert_allclose(overlap.sum(axis=0), source.areas().ravel(), rtol=1e-12)


def test_winding_and_order_of_vertices_change_nothing(pair):
    source, target, weights = pair
    rolled = [2, 1, 0, 3]
    dataset = source.to_dataset()
    for name in ("lat_vertices", "lon_vertices"):
        dataset[name] = dataset[name].isel(vertices=rolled)
    turned = Grid.from_dataset(dataset)
    assert abs(conservative_weights(turned, target).matrix - weights.matrix).max() < 1e-17
    dataset = source.to_dataset()
    for name in ("lat_vertices", "lon_vertices"):
        dataset[name] = dataset[name].isel(vertices=[0, 1, 3, 2])
    assert abs(conservative_weights(Grid.from_dataset(dataset), target).matrix - weights.matrix).max() < 1e-17


def test_axis_order_changes_nothing(pair):
    source, target, weights = pair
    flipped = conservative_weights(source.crop(slice(None, None, -1), slice(None)), target)
    field = np.random.default_rng(6).normal(size=source.shape)
    np.testing.assert_allclose(flipped.apply(field[::-1]), weights.apply(field), atol=1e-13)


def test_refining_the_source_converges_to_the_cell_mean_of_a_smooth_field():
    target = box(0.0, 12.0, 40.0, 52.0, 3.0)
    finest = rotated(400, 400, 0.055, -11.0, -14.0)
    truth = conservative_weights(finest, target).apply(smooth_field(finest), 1.0)
    errors = []
    for spacing in (0.88, 0.44, 0.22):
        source = rotated(round(22.0 / spacing), round(22.0 / spacing), spacing, -11.0, -14.0)
        weights = conservative_weights(source, target)
        errors.append(np.abs(weights.apply(smooth_field(source), 1.0) - truth).max())
    assert np.isfinite(errors).all()
    assert errors[0] > 3.0 * errors[1] > 9.0 * errors[2]
    assert errors[2] < 1e-4


@pytest.mark.parametrize("edges", ["great_circle", "parallels"])
def test_how_many_pairs_are_taken_at_once_changes_nothing(edges, monkeypatch):
    source, target = rotated(), globe(5.0)
    whole = conservative_weights(source, target, edges=edges)
    monkeypatch.setattr("downscale.grid.conservative._TARGETS_AT_ONCE", 7)
    monkeypatch.setattr("downscale.grid.conservative._PAIRS_AT_ONCE", 31)
    pieces = conservative_weights(source, target, edges=edges)
    assert abs(whole.matrix - pieces.matrix).max() == 0.0
    assert np.array_equal(whole.coverage, pieces.coverage)


def test_grid_without_corners_is_refused_with_the_reason():
    lat, lon = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    bare = Grid(lat, lon)
    with pytest.raises(InputDataError, match="needs cell corners"):
        conservative_weights(bare, box(0.0, 4.0, 0.0, 4.0, 1.0))


@settings(max_examples=15, deadline=None)
@given(st.floats(-80.0, 80.0), st.floats(-180.0, 180.0), st.floats(-85.0, 70.0), st.floats(-180.0, 180.0), st.floats(0.3, 2.0))
def test_any_rotated_grid_is_conserved_on_any_covering_grid(pole_lat, pole_lon, south, west, spacing):
    crs = {**EURO, "grid_north_pole_latitude": pole_lat, "grid_north_pole_longitude": pole_lon}
    source = rotated(5, 6, spacing, min(south, 88.0 - 5 * spacing), west, crs)
    weights = conservative_weights(source, globe(10.0))
    assert np.abs(weights.matrix.sum(axis=0) / source.areas().ravel() - 1.0).max() < 1e-11
    assert weights.coverage.max() < 1.0 + 1e-12
    constant = weights.apply(np.ones(source.shape), min_valid_fraction=1e-12)
    assert np.nanmax(np.abs(constant - 1.0)) < 1e-12


@pytest.fixture(scope="module")
def reference():
    if not REFERENCE.is_dir():
        pytest.skip(f"ESMF reference weights are not here: {REFERENCE}")
    with xr.open_dataset(REFERENCE / "source_eur44.nc") as file:
        fields = file.load()
    with xr.open_dataset(REFERENCE / "target_1p40625.nc") as file:
        target = lonlat_grid(file["lat_b"].values, file["lon_b"].values)
    source = Grid.from_dataset(projected_dataset(fields["rlat"].values, fields["rlon"].values, EURO))
    return source, target, fields, conservative_weights(source, target)


def esmf_matrix(name, shape):
    with xr.open_dataset(REFERENCE / name) as file:
        return csr_array((file["S"].values, (file["row"].values - 1, file["col"].values - 1)), shape=shape)


def test_unrotated_corners_and_areas_are_those_esmf_had(reference):
    source, target, fields, _ = reference
    nodes = fields["lat_b"].values
    np.testing.assert_allclose(source.lat_corners[..., 0], nodes[:-1, :-1], atol=1e-12)
    np.testing.assert_allclose(source.lat_corners[..., 2], nodes[1:, 1:], atol=1e-12)
    areas = np.load(REFERENCE / "areas_eur44.npz")
    np.testing.assert_allclose(source.areas(), areas["src_esmf"], rtol=1e-11)
    np.testing.assert_allclose(target.areas(), areas["dst_esmf"], rtol=1e-11)


def test_row_normalised_weights_equal_esmf(reference):
    weights = reference[3]
    esmf = esmf_matrix("weights_esmf_eur44_conservative_normed.nc", weights.matrix.shape)
    difference = abs(weights.rows() - esmf)
    inside = np.flatnonzero(full(weights).ravel())
    assert len(inside) == 1589
    assert difference.tocsr()[inside].max() <= 1e-9
    assert weights.matrix.nnz == esmf.nnz


def test_links_above_a_ten_thousand_millionth_of_a_cell_are_those_of_esmf(reference):
    source, target, _, weights = reference
    esmf = esmf_matrix("weights_esmf_eur44_conservative.nc", weights.matrix.shape) * target.areas().ravel()[:, None]
    smaller = np.minimum(target.areas().ravel()[:, None], source.areas().ravel()[None, :])
    ours, theirs = ((matrix.toarray() > 1e-10 * smaller) for matrix in (weights.matrix, esmf))
    assert np.array_equal(ours, theirs)
    assert ours.sum() > 23_000


def test_coverage_equals_esmf(reference):
    weights = reference[3]
    esmf = esmf_matrix("weights_esmf_eur44_conservative.nc", weights.matrix.shape)
    np.testing.assert_allclose(weights.coverage.ravel(), esmf.sum(axis=1), atol=1e-9)


@pytest.mark.parametrize("name", ["smooth", "random"])
def test_regridded_fields_equal_esmf(reference, name):
    _, _, fields, weights = reference
    with xr.open_dataset(REFERENCE / "regridded_esmf_eur44_conservative_normed.nc") as file:
        expected = file[name].values
    result = weights.apply(fields[name].values, min_valid_fraction=0.0)
    mapped = weights.coverage > 0.0
    assert np.isnan(result[~mapped]).all()
    assert np.abs(result - expected)[mapped].max() <= 1e-9
