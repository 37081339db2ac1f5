"""Labelled fields from grid to grid: the numbers of the weights, the labels of the target, lazy as eager; and smoothing."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from grid_samples import box, lambert_km, rotated
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from downscale.errors import InputDataError
from downscale.grid.conservative import conservative_weights
from downscale.grid.grid import Grid, same_grid
from downscale.grid.interpolate import bilinear_weights
from downscale.grid.regrid import regrid, smooth

SOURCE = rotated(14, 16, 0.44, -4.0, -4.0)
TARGET = box(8.0, 28.0, 44.0, 58.0, 2.0)
WEIGHTS = conservative_weights(SOURCE, TARGET)


def labelled(grid: Grid = SOURCE, days: int = 5, dtype: str = "f4", seed: int = 0) -> xr.DataArray:
    """Days of noise on a grid as a file would give them, with all that hangs on such fields."""
    values = np.random.default_rng(seed).normal(280.0, 5.0, (days, *grid.shape)).astype(dtype)
    frame = grid.to_dataset()
    dims = (grid.axes.y_name, grid.axes.x_name)
    time = xr.date_range("2001-01-01", periods=days, calendar="noleap", use_cftime=True)
    data = xr.DataArray(
        values, dims=("time", *dims), coords={"time": time, "height": 2.0, "month": ("time", np.ones(days, int))}, name="tas"
    )
    data = data.assign_coords({name: frame[name] for name in frame.coords}).assign_coords(rotated_pole=((), 0, dict(grid.crs or {})))
    data.attrs = {"units": "K", "standard_name": "air_temperature", "cell_methods": "area: time: mean", "cell_measures": "area: areacella"}
    data.attrs["grid_mapping"] = "rotated_pole"
    data.encoding = {"dtype": "i2", "scale_factor": 0.01, "chunksizes": (1, *grid.shape), "coordinates": "lat lon"}
    return data


def test_numbers_are_those_of_the_weights():
    data = labelled()
    data[1, 3:6, 4:9] = np.nan
    data[2] = np.nan
    for options in ({}, {"min_valid_fraction": 1.0}, {"min_valid_fraction": 0.1, "norm": "destarea"}):
        result = regrid(data, WEIGHTS, TARGET, **options)
        np.testing.assert_array_equal(result.values, WEIGHTS.apply(data.values, **{"min_valid_fraction": 0.5, **options}))
    assert np.isnan(result[2]).all() and not np.isnan(result[3]).all()


def test_labels_of_a_longitude_latitude_target():
    result = regrid(labelled(), WEIGHTS, TARGET)
    assert result.dims == ("time", "lat", "lon") and result.name == "tas" and result.dtype == np.float32
    assert set(result.coords) == {"time", "height", "month", "lat", "lon"}
    assert result.attrs == {"units": "K", "standard_name": "air_temperature", "cell_methods": "area: time: mean"}
    assert result.encoding == {} and "bounds" not in result["lat"].attrs
    assert result["lat"].attrs["units"] == "degrees_north" and result["lon"].attrs["axis"] == "X"
    np.testing.assert_array_equal(result["lat"], TARGET.axes.y)


@pytest.mark.parametrize("make", [lambda: rotated(6, 7, 0.5, -2.0, -2.0), lambda: lambert_km(8, 9, 40.0)], ids=["rotated", "lambert"])
def test_labels_of_a_projected_target_survive_a_file(make, tmp_path):
    target = make()
    source = box(-10.0, 40.0, 30.0, 70.0, 1.0)
    data = labelled(source)
    data.attrs["grid_mapping"] = "crs"
    result = regrid(data.drop_vars("rotated_pole"), bilinear_weights(source, target), target)
    assert result.attrs["grid_mapping"] == "crs" and result["crs"].attrs["grid_mapping_name"] == target.crs["grid_mapping_name"]
    assert result["lat"].dims == result.dims[1:] == (target.axes.y_name, target.axes.x_name)
    result.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        assert same_grid(Grid.from_dataset(back.reset_coords("crs")), target)
        np.testing.assert_array_equal(back["tas"], result)
    from downscale.cf.open import open_grid

    assert same_grid(Grid.from_dataset(open_grid(tmp_path / "a.nc")), target)


def test_a_bare_curvilinear_target():
    from dataclasses import replace

    target = replace(rotated(6, 7, 0.5, -2.0, -2.0), axes=None, crs=None)
    result = regrid(labelled(), conservative_weights(SOURCE, target), target)
    assert result.dims == ("time", "y", "x") and set(result.coords) == {"time", "height", "month", "lat", "lon"}
    assert "grid_mapping" not in result.attrs


def test_the_same_dimension_names_on_both_sides_and_any_number_of_others():
    source, target = box(0.0, 12.0, 40.0, 50.0, 1.0), box(0.0, 12.0, 40.0, 50.0, 2.0)
    weights = conservative_weights(source, target)
    data = xr.DataArray(np.random.default_rng(1).random((2, 3, 4, *source.shape)), dims=("member", "plev", "time", "lat", "lon"))
    data = data.assign_coords(lat=source.axes.y, lon=source.axes.x, plev=[850.0, 700.0, 500.0])
    result = regrid(data, weights, target)
    assert result.shape == (2, 3, 4, *target.shape) and result["plev"].values.tolist() == [850.0, 700.0, 500.0]
    np.testing.assert_array_equal(result["lon"], target.axes.x)
    plane = regrid(data[0, 0, 0], weights, target)
    assert plane.dims == ("lat", "lon")
    np.testing.assert_array_equal(plane, result[0, 0, 0])
    assert regrid(data[:, :, :0], weights, target).shape == (2, 3, 0, *target.shape)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i2", "u1", "i8", "?"])
def test_any_kind_of_number(dtype):
    data = labelled().astype("f8") - 270.0
    data = (data > 10.0 if dtype == "?" else data).astype(dtype)
    result = regrid(data, WEIGHTS, TARGET)
    assert result.dtype == (np.dtype(dtype) if "f" in dtype else np.float64)
    exact = WEIGHTS.apply(data.values.astype("f8"))
    np.testing.assert_allclose(result.values.astype("f8"), exact, rtol=2e-3 if dtype == "f2" else 1e-6)


@pytest.mark.parametrize("dtype", ["M8[s]", "m8[s]", "c16", "U3", "O"])
def test_what_has_no_mean_is_refused(dtype):
    with pytest.raises(InputDataError, match="not numbers that have a mean"):
        regrid(xr.DataArray(np.zeros(SOURCE.shape).astype(dtype), dims=("y", "x")), WEIGHTS, TARGET)


def test_fields_or_targets_of_other_grids_are_refused():
    with pytest.raises(InputDataError, match="source grid"):
        regrid(labelled().transpose("rlat", "rlon", "time"), WEIGHTS, TARGET)
    with pytest.raises(InputDataError, match="not to this one"):
        regrid(labelled(), WEIGHTS, SOURCE)


def test_the_source_is_left_as_it_was():
    data = labelled()
    before = data.copy(deep=True)
    regrid(data, WEIGHTS, TARGET)
    xr.testing.assert_identical(data, before)
    assert data.attrs == before.attrs and data.encoding["dtype"] == "i2"


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 3}, {"time": -1}, {"time": 2, "rlat": 5, "rlon": 4}])
def test_lazy_and_identical_to_eager(chunks):
    dask = pytest.importorskip("dask")
    data = labelled(days=7)
    data[1, 3:6, 4:9] = np.nan
    data[5, 0] = np.nan
    lazy = regrid(data.chunk(chunks), WEIGHTS, TARGET)
    assert dask.is_dask_collection(lazy.data) and lazy.dtype == np.float32
    assert lazy.chunks is not None and lazy.chunks[0] == data.chunk(chunks).chunks[0]
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(lazy.compute(), regrid(data, WEIGHTS, TARGET))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_masks_that_change_from_day_to_day_are_renormalised_exactly(data):
    """Each value is the weighted mean of that day's valid cells, whatever the days around it miss."""
    masks = data.draw(hnp.arrays(bool, (4, *SOURCE.shape)))
    fields = labelled(days=4).values.astype("f8")
    fields[masks] = np.nan
    result = regrid(labelled(days=4).copy(data=fields.astype("f8")), WEIGHTS, TARGET, min_valid_fraction=1e-9).values
    matrix = WEIGHTS.matrix.toarray()
    for day in range(4):
        valid = ~masks[day].ravel()
        sums = matrix[:, valid].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = (matrix[:, valid] @ fields[day].ravel()[valid]) / sums
        covered = result[day].ravel()[np.isfinite(result[day].ravel())]
        at = np.isfinite(result[day].ravel())
        np.testing.assert_allclose(covered, expected[at], rtol=1e-12)
        assert not at[sums == 0.0].any()
    alone = regrid(labelled(days=4).copy(data=fields)[2:3], WEIGHTS, TARGET, min_valid_fraction=1e-9).values
    np.testing.assert_array_equal(alone[0], result[2])


# --- smoothing


def smooth_by_hand(field: np.ndarray, cells: int) -> np.ndarray:
    result = np.full(field.shape, np.nan)
    half = cells // 2
    for y, x in np.argwhere(~np.isnan(field)):
        result[y, x] = np.nanmean(field[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1])
    return result


@pytest.mark.parametrize("cells", [1, 3, 5, 7, 15])
def test_smoothing_over_any_odd_number_of_cells(cells):
    fields = np.random.default_rng(4).normal(size=(2, 6, 9))
    fields[0, 2, 3] = fields[1, 0, 0] = fields[1, 3:5, 2:8] = np.nan
    result = smooth(fields, cells)
    for day in range(2):
        np.testing.assert_allclose(result[day], smooth_by_hand(fields[day], cells), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(smooth(fields[1], cells), result[1])


def test_smoothing_by_one_changes_nothing_and_constants_stay():
    field = np.full((5, 4), 281.25, dtype=np.float32)
    assert smooth(field, 1) is field
    for cells in (3, 5, 11):
        np.testing.assert_array_equal(smooth(field, cells), field)


@pytest.mark.parametrize("cells", [0, 2, 4, -3])
def test_an_even_window_has_no_middle(cells):
    with pytest.raises(ValueError, match="no middle"):
        smooth(np.zeros((3, 3)), cells)
