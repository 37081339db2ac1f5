"""Applying weights: NaN masks, dtypes, minimum valid fraction, gather arrays; and 3 x 3 smoothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from grid_samples import rotated
from hypothesis import given, settings
from hypothesis import strategies as st

from downscale.errors import ConfigError, InputDataError
from downscale.grid.conservative import conservative_weights
from downscale.grid.domain import regular_grid
from downscale.grid.regrid import smooth

SOURCE = rotated(12, 12)
WEIGHTS = conservative_weights(SOURCE, regular_grid(1.5, SOURCE))


def by_hand(field, minimum):
    """Row by row: weighted mean of the valid cells, NaN below the minimum."""
    matrix, flat = WEIGHTS.matrix.toarray(), field.ravel()
    total = matrix.sum(axis=1)
    result = np.full(len(matrix), np.nan)
    for row in np.flatnonzero(total):
        valid = matrix[row] * ~np.isnan(flat)
        if valid.sum() > 0 and valid.sum() / total[row] * WEIGHTS.coverage.ravel()[row] >= minimum - 1e-9:
            result[row] = np.nansum(valid * np.nan_to_num(flat)) / valid.sum()
    return result.reshape(WEIGHTS.target_shape)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 0.9), st.floats(0.05, 1.0))
def test_changing_masks_are_renormalised_exactly(seed, missing, minimum):
    rng = np.random.default_rng(seed)
    fields = rng.normal(size=(3, *SOURCE.shape))
    fields[rng.random(fields.shape) < missing] = np.nan
    result = WEIGHTS.apply(fields, minimum)
    for day in range(3):
        np.testing.assert_allclose(result[day], by_hand(fields[day], minimum), rtol=1e-12, atol=1e-13)


def test_constant_survives_any_mask():
    fields = np.full((2, *SOURCE.shape), -3.7)
    fields[0, :5] = np.nan
    fields[1, ::2] = np.nan
    result = WEIGHTS.apply(fields, 1e-6)
    assert np.nanmax(np.abs(result + 3.7)) < 1e-12


def test_block_and_single_fields_are_identical():
    fields = np.random.default_rng(0).normal(size=(4, *SOURCE.shape)).astype(np.float32)
    fields[1, 3:6, 3:6] = np.nan
    fields[2, 3:6, 3:6] = np.nan
    alone = np.stack([WEIGHTS.apply(field) for field in fields])
    np.testing.assert_array_equal(WEIGHTS.apply(fields), alone)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_sums_are_float64(dtype):
    field = np.random.default_rng(1).normal(1e5, 1.0, SOURCE.shape).astype(dtype)
    result = WEIGHTS.apply(field)
    assert result.dtype == dtype
    exact = WEIGHTS.apply(field.astype(np.float64)).astype(dtype)
    np.testing.assert_array_equal(result, exact)


def test_integers_come_out_as_floats():
    result = WEIGHTS.apply(np.ones(SOURCE.shape, dtype=np.int16))
    assert result.dtype == np.float64 and np.nanmin(result) == pytest.approx(1.0)


def test_all_missing_is_missing():
    assert np.isnan(WEIGHTS.apply(np.full(SOURCE.shape, np.nan), 0.0)).all()


def test_minimum_valid_fraction_counts_the_uncovered_part():
    field = np.ones(SOURCE.shape)
    half = WEIGHTS.apply(field, 0.5)
    whole = WEIGHTS.apply(field, 1.0)
    assert np.array_equal(~np.isnan(half), WEIGHTS.coverage >= 0.5)
    assert np.array_equal(~np.isnan(whole), WEIGHTS.coverage > 1 - 1e-9)


def test_wrong_shape_is_refused():
    with pytest.raises(InputDataError, match="do not lie on"):
        WEIGHTS.apply(np.zeros((2, 3, 4)))


def test_input_is_not_written_to():
    field = np.random.default_rng(2).normal(size=SOURCE.shape)
    field[0, 0] = np.nan
    before = field.copy()
    WEIGHTS.apply(field)
    np.testing.assert_array_equal(field, before)


def test_gather_arrays_are_the_same_operator():
    field = np.random.default_rng(3).normal(size=SOURCE.shape)
    indices, weights = WEIGHTS.gather()
    gathered = (field.ravel()[indices] * weights).sum(axis=1).reshape(WEIGHTS.target_shape)
    np.testing.assert_allclose(gathered, WEIGHTS.apply(field, 0.0), atol=1e-13)
    assert np.isnan(gathered)[WEIGHTS.coverage == 0].all() and (WEIGHTS.coverage == 0).any()


def test_rows_add_up_to_one():
    sums = WEIGHTS.rows().sum(axis=1)
    np.testing.assert_allclose(sums[WEIGHTS.coverage.ravel() > 0], 1.0, rtol=1e-14)


def smooth_by_hand(field):
    result = np.full(field.shape, np.nan)
    for y, x in np.argwhere(~np.isnan(field)):
        result[y, x] = np.nanmean(field[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2])
    return result


def test_smoothing_is_the_mean_of_what_is_there():
    fields = np.random.default_rng(4).normal(size=(2, 6, 7))
    fields[0, 2, 3] = fields[1, 0, 0] = np.nan
    result = smooth(fields, 3)
    for day in range(2):
        np.testing.assert_allclose(result[day], smooth_by_hand(fields[day]), rtol=1e-13)


def test_smoothing_keeps_constants_and_dtype():
    field = np.full((5, 4), 281.25, dtype=np.float32)
    assert smooth(field, 3).dtype == np.float32
    np.testing.assert_array_equal(smooth(field, 3), field)


def test_destarea_is_the_integral_over_the_cell_by_its_area():
    field = np.random.default_rng(5).normal(280.0, 5.0, SOURCE.shape)
    field[2:5, 3:6] = np.nan
    target = regular_grid(1.5, SOURCE)
    result = WEIGHTS.apply(field, 1e-9, norm="destarea")
    integral = (WEIGHTS.matrix @ np.nan_to_num(field).ravel()).reshape(target.shape) / target.areas()
    mapped = ~np.isnan(result)
    np.testing.assert_allclose(result[mapped], integral[mapped], rtol=1e-12)
    fraction = WEIGHTS.apply(np.where(np.isnan(field), np.nan, 1.0), 1e-9, norm="destarea")
    np.testing.assert_allclose(result[mapped], (WEIGHTS.apply(field, 1e-9) * fraction)[mapped], rtol=1e-12)
    assert (result[mapped] < 0.5 * 280.0).any()


def test_the_weights_own_normalisation_is_the_default():
    field = np.random.default_rng(6).normal(size=SOURCE.shape)
    own = replace(WEIGHTS, norm="destarea")
    np.testing.assert_array_equal(own.apply(field), WEIGHTS.apply(field, norm="destarea"))
    np.testing.assert_array_equal(own.apply(field, norm="fracarea"), WEIGHTS.apply(field))


def test_destarea_needs_conservative_weights():
    with pytest.raises(ConfigError, match="no meaning"):
        replace(WEIGHTS, method="bilinear").apply(np.zeros(SOURCE.shape), norm="destarea")
    with pytest.raises(ConfigError, match="unknown"):
        WEIGHTS.apply(np.zeros(SOURCE.shape), norm="none")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 4), st.integers(6, 12), st.integers(0, 3), st.integers(4, 8))
def test_parts_of_weights_are_the_weights_of_parts(low, high, first, last):
    target = regular_grid(1.5, SOURCE)
    rows, columns = slice(low, high), slice(first, last)
    cut = WEIGHTS.crop(source=(rows, slice(None)), target=(slice(None), columns))
    fresh = conservative_weights(SOURCE.crop(rows, slice(None)), target.crop(slice(None), columns))
    assert abs(cut.matrix - fresh.matrix).max() < 1e-16
    np.testing.assert_allclose(cut.coverage, fresh.coverage, atol=1e-12)
    assert cut.source_shape == fresh.source_shape and cut.target_shape == fresh.target_shape
