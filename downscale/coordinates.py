"""Horizontal coordinates of a field: named arrays with dimensions and attributes, as lean as that.

Where coordinates only pass from a file's header to a grid, xarray is not needed, and importing it (with pandas and dask behind it) takes
longer than reading a year of fields. ``to_xarray`` gives the same as a Dataset; whoever reads Coordinates here also reads a Dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

_BOUNDS = ("_bnds", "_vertices")


@dataclass
class Coordinate:
    """One array: its name, the names of its dimensions, values and attributes."""

    name: str
    dims: tuple[str, ...]
    values: np.ndarray
    attrs: dict[str, Any]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return tuple(self.values.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The values."""
        return np.array(self.values, dtype=dtype, copy=copy)


@dataclass
class Coordinates:
    """Arrays by name.

    Attributes:
        variables: name -> array.
        encoding: ``source`` is the path of the file that they come from.
    """

    variables: dict[str, Coordinate] = field(default_factory=dict)
    encoding: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, arrays: Mapping[str, tuple[Any, ...]]) -> Coordinates:
        """From name -> (dimensions, values) or (dimensions, values, attributes); the dimensions are a name or a tuple of names."""
        made = cls()
        for name, array in arrays.items():
            made[name] = array
        return made

    def __setitem__(self, name: str, array: tuple[Any, ...]) -> None:
        dims, values, attrs = (*array, {})[:3]
        self.variables[name] = Coordinate(name, (dims,) if isinstance(dims, str) else tuple(dims), np.asarray(values), dict(attrs))

    def __getitem__(self, name: str) -> Coordinate:
        return self.variables[name]

    def __contains__(self, name: str) -> bool:
        return name in self.variables

    @property
    def sizes(self) -> dict[str, int]:
        """Dimension -> length."""
        return {dim: n for one in self.variables.values() for dim, n in zip(one.dims, one.values.shape, strict=True)}

    @classmethod
    def read(cls, group: Any) -> Coordinates:
        """All variables of a netCDF4 Dataset or group, as they are stored."""
        group.set_auto_maskandscale(False)
        arrays = {
            name: (one.dimensions, one[...], {key: one.getncattr(key) for key in one.ncattrs()}) for name, one in group.variables.items()
        }
        return cls.of(arrays)

    def write(self, group: Any) -> None:
        """All variables into a netCDF4 Dataset or group, with the dimensions that it lacks."""
        for dim, size in self.sizes.items():
            if dim not in group.dimensions:
                group.createDimension(dim, size)
        for name, one in self.variables.items():
            variable = group.createVariable(name, one.values.dtype, one.dims, fill_value=False)
            variable.setncatts(one.attrs)
            variable[...] = one.values

    def to_xarray(self) -> xr.Dataset:
        """The same as a Dataset; bounds, vertices and the grid mapping are data variables, nothing has a fill value."""
        import xarray as xr

        arrays = {name: (one.dims, one.values, one.attrs) for name, one in self.variables.items()}
        data = {name: array for name, array in arrays.items() if name.endswith(_BOUNDS) or "grid_mapping_name" in array[2]}
        dataset = xr.Dataset(data, coords={name: array for name, array in arrays.items() if name not in data})
        dataset.encoding.update(self.encoding)
        for name in dataset.variables:
            dataset[name].encoding["_FillValue"] = None
        return dataset
