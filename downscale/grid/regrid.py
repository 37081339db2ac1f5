"""Fields on a grid: brought to another grid with their labels, and smoothed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from downscale.errors import InputDataError
from downscale.grid.grid import Grid
from downscale.grid.weights import Norm, Weights

if TYPE_CHECKING:
    import xarray as xr

_OF_THE_SOURCE = ("grid_mapping", "coordinates", "cell_measures")
"""Attributes that point to variables of the source's grid."""


def regrid(
    data: xr.DataArray, weights: Weights, target: Grid, *, min_valid_fraction: float = 0.5, norm: Norm | None = None
) -> xr.DataArray:
    """Labelled fields (..., y, x) on another grid (..., Y, X).

    The numbers are those of `Weights.apply`: float64 sums, weights renormalised for the missing values (NaN) of each field by
    itself, the dtype that came in (integers and booleans come out as float64), NaN where nothing maps. Fields on dask chunks stay
    lazy, chunked as they were along the other dimensions, and compute to the very same numbers.

    Coordinates without a horizontal dimension stay (time, height, member); those of the source's grid give way to the target's
    axes, 2-D latitude and longitude, and the scalar `crs` where the target is projected. Attributes stay, apart from those that
    point to variables of the source's grid (grid_mapping, cell_measures), which are named anew or dropped. How the source was
    stored (packing, chunks in the file) is forgotten.

    Args:
        data: the last two dimensions are the weights' source grid; numbers.
        weights: from the grid of `data` to `target`.
        target: the grid of the result.
        min_valid_fraction: a target cell of which valid source cells cover less is NaN.
        norm: "fracarea" or "destarea", or what the weights were made with, see `Weights.apply`.

    Raises:
        InputDataError: the fields are not on the weights' source grid, the target is not the weights', or the values are not real
            numbers.
    """
    import xarray as xr

    _check(data, weights, target)
    frame = target.to_dataset()
    dims = (target.axes.y_name, target.axes.x_name) if target.axes is not None else ("y", "x")
    dtype = _result_dtype(data.dtype)

    def apply(fields: np.ndarray) -> np.ndarray:
        if not fields.size:
            return np.empty((*fields.shape[:-2], *weights.target_shape), dtype)
        return weights.apply(fields, min_valid_fraction=min_valid_fraction, norm=norm)

    bare = data.drop_vars([name for name in data.coords if name not in _kept(data, frame)])
    if bare.chunks is not None:
        bare = bare.chunk(dict.fromkeys(data.dims[-2:], -1))
    result = xr.apply_ufunc(
        apply,
        bare,
        input_core_dims=[list(data.dims[-2:])],
        exclude_dims=set(data.dims[-2:]),
        output_core_dims=[list(dims)],
        dask="parallelized",
        output_dtypes=[dtype],
        dask_gufunc_kwargs={"output_sizes": dict(zip(dims, weights.target_shape, strict=True))},
    )
    return _label(result, data, frame)


def smooth(fields: np.ndarray, cells: int) -> np.ndarray:
    """Moving average over cells x cells of fields (..., y, x), as Doury et al. (2023, Clim. Dyn. 60, 1751) smooth their predictors.

    At edges, and beside missing values (NaN), the mean of the cells that are there; a missing cell stays missing. Sums in
    float64, result in the dtype that came in (integers come out as float64); one cell leaves the fields as they are.

    Raises:
        ValueError: `cells` is not an odd number from 1 on.
    """
    if cells < 1 or cells % 2 == 0:
        raise ValueError(f"smoothing over {cells} cells has no middle")
    fields = np.asarray(fields)
    if cells == 1:
        return fields
    values = fields.astype(np.float64)
    valid = ~np.isnan(values)
    total = _sums(np.where(valid, values, 0.0), cells)
    count = _sums(valid.astype(np.float64), cells)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=valid)
    return mean.astype(_result_dtype(fields.dtype))


def _sums(values: np.ndarray, cells: int) -> np.ndarray:
    """Sums over cells x cells, zeros beyond the edges; added from the first row and column on, so that no sum depends on others."""
    half = cells // 2
    for axis in (-2, -1):
        ends = [(0, 0)] * values.ndim
        ends[axis] = (half, half)
        padded = np.moveaxis(np.pad(values, ends), axis, 0)
        length = values.shape[axis]
        total = padded[:length].copy()
        for start in range(1, cells):
            total += padded[start : start + length]
        values = np.moveaxis(total, 0, axis)
    return values


def _result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float64)


def _check(data: xr.DataArray, weights: Weights, target: Grid) -> None:
    name = data.name if data.name is not None else "the field"
    if data.ndim < 2 or data.shape[-2:] != weights.source_shape:
        raise InputDataError(
            f"{name} does not lie on the weights' source grid {weights.source_shape}",
            where=", ".join(f"{dim} {length}" for dim, length in data.sizes.items()) or "a single number",
            hint="give the field whose grid the weights were made for, its rows and columns as the last dimensions",
        )
    if target.shape != weights.target_shape:
        raise InputDataError(
            f"the weights lead to a grid of {weights.target_shape}, not to this one", where=target.place, hint="make weights for this grid"
        )
    if data.dtype.kind not in "fiub":
        raise InputDataError(f"{name} holds {data.dtype}, not numbers that have a mean", hint="remap numbers only")


def _kept(data: xr.DataArray, frame: xr.Dataset) -> set[Any]:
    """Names of the coordinates that do not belong to the source's grid and are not named like the target's."""
    own = set(data.dims[-2:])
    mapping = {str(place["grid_mapping"]).split(":")[0].split(" ")[0] for place in (data.attrs, data.encoding) if "grid_mapping" in place}
    return {
        name
        for name, coordinate in data.coords.items()
        if not own & set(coordinate.dims)
        and name not in mapping
        and "grid_mapping_name" not in coordinate.attrs
        and name not in frame.variables
    }


def _label(result: xr.DataArray, data: xr.DataArray, frame: xr.Dataset) -> xr.DataArray:
    """The target's coordinates and the source's attributes on the new fields."""
    for name, variable in frame.variables.items():
        if set(variable.dims) <= set(result.dims):
            attrs = {key: value for key, value in variable.attrs.items() if key != "bounds"}
            result = result.assign_coords({name: (variable.dims, variable.values, attrs)})
            result[name].encoding["_FillValue"] = None
    result.attrs = {key: value for key, value in data.attrs.items() if key not in _OF_THE_SOURCE}
    if "crs" in frame.variables:
        result.attrs["grid_mapping"] = "crs"
    result.name = data.name
    return result
