"""What a pair store holds once: both grids and the fixed fields, in one NetCDF file as run folders have.

As Zarr arrays they were some 45 files and folders. Stores of format 1 have them so and are read as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import zarr

from downscale.coordinates import Coordinates
from downscale.errors import InputDataError
from downscale.grid.grid import Grid

FILE = "grids.nc"
_FINE_DIMS = ("y", "x")
_HEADERS = 2**16
"""Bytes that suffice for names and attributes."""


def write_grids(path: Path, coarse: Grid, fine: Grid, static: Mapping[str, np.ndarray]) -> None:
    """Write the file of a store: the groups ``coarse`` and ``fine``, the fixed fields in the group ``static``.

    Args:
        path: of the store.
        coarse, fine: the grids.
        static: fixed fields on the fine grid, by name.
    """
    fields = Coordinates.of({name: (_FINE_DIMS, np.asarray(values, np.float32)) for name, values in static.items()})
    groups = {"coarse": coarse.to_coordinates(), "fine": fine.to_coordinates(), "static": fields}
    size = sum(one.values.nbytes for group in groups.values() for one in group.variables.values())
    (path / FILE).write_bytes(bytes(size + _HEADERS))  # HDF5 does not say that a disk is full; this does
    with netCDF4.Dataset(path / FILE, "w") as dataset:
        for name, group in groups.items():
            group.write(dataset.createGroup(name))


def read_grids(path: Path, static: Sequence[str]) -> tuple[Grid, Grid, dict[str, np.ndarray]]:
    """The coarse and the fine grid of a store, and its fixed fields.

    Args:
        path: of the store.
        static: names of the fixed fields.

    Raises:
        InputDataError: the file is damaged, or is not there.
    """
    if not (path / FILE).exists() and (path / "grid").is_dir():
        return _from_zarr(path, static)
    try:
        with netCDF4.Dataset(path / FILE) as dataset:
            coarse, fine, fields = (Coordinates.read(dataset[name]) for name in ("coarse", "fine", "static"))
            return Grid.from_dataset(coarse), Grid.from_dataset(fine), {name: fields[name].values for name in static}
    except (OSError, RuntimeError, IndexError, KeyError) as error:
        raise InputDataError(
            f"the grids of the pair store cannot be read: {error}",
            where=str(path / FILE),
            hint="delete the store and run downscale prepare again",
        ) from None


def _from_zarr(path: Path, static: Sequence[str]) -> tuple[Grid, Grid, dict[str, np.ndarray]]:
    root: Any = zarr.open_group(path, mode="r")
    grids = []
    for name in ("coarse", "fine"):
        arrays = root[f"grid/{name}"].arrays()
        coordinates = {key: (array.metadata.dimension_names or (), np.asarray(array[...]), dict(array.attrs)) for key, array in arrays}
        grids.append(Grid.from_dataset(Coordinates.of(coordinates)))
    return grids[0], grids[1], {name: np.asarray(root[f"static/{name}"][:]) for name in static}
