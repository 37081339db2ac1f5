"""A scores folder: written beside its place, then renamed; a re-run compares recipes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from downscale.config.load import differences
from downscale.errors import OutputExistsError
from downscale.evaluate.blocks import FieldScores
from downscale.evaluate.scorecard import MAPS, RECIPE, map_group
from downscale.evaluate.selection import ALL_PERIODS
from downscale.evaluate.table import unit_of
from downscale.grid.grid import Grid
from downscale.hpc.paths import refuse_links

FOLDER = "scores"
SEASONAL_MAPS = ("mean", "bias")


def published(folder: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """The stored recipe when the same evaluation stands here already, None when it is to be made.

    Raises:
        OutputExistsError: another evaluation, or something else, is here and ``overwrite`` is off.
    """
    if not folder.exists() or overwrite:
        return None
    path = folder / RECIPE
    if not path.exists():
        raise OutputExistsError("the scores folder holds something else", where=str(folder), hint="move it away, or --overwrite")
    stored = json.loads(path.read_text())
    changed = differences(stored.get("inputs", {}), recipe)
    if changed:
        raise OutputExistsError(
            "scores of another evaluation are here",
            where=str(folder),
            hint="evaluate again with --overwrite; stored -> now:",
            findings=changed,
        )
    return dict(stored)


@contextmanager
def publishing(folder: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of ``folder`` when the block ends well, and is removed when it does not."""
    partial, old = folder.with_name(f"{folder.name}.partial"), folder.with_name(f"{folder.name}.old")
    for stale in (folder, partial, old):
        refuse_links(stale)
    for stale in (partial, old):
        shutil.rmtree(stale, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def maps_file(folder: Path) -> Iterator[netCDF4.Dataset]:
    """The file of all maps of a scores folder, to add groups to. Opening it reads what all groups hold: open it for many at a time."""
    path = folder / MAPS
    with netCDF4.Dataset(path, "a" if path.exists() else "w") as file:
        yield file


def write_maps(
    file: netCDF4.Dataset, names: tuple[str, str], fields: Mapping[str, FieldScores],
    extra: Mapping[str, tuple[np.ndarray, str]], grid: Grid,
) -> None:  # fmt: skip
    """Maps of a run (or the truth) for a case as a group, named VARIABLE__METRIC__SEASON__PERIOD (y, x).

    Args:
        file: of all maps.
        names: run and case.
        fields: variable -> scores and their maps.
        extra: name -> (y, x) map and its unit: change signals.
        grid: of the maps.
    """
    if map_group(*names) in file.groups:
        return  # the training years of a reference, which several GCMs without truth are held against
    main = next((key[1] for found in fields.values() for key in found.maps), "")
    group = file.createGroup(map_group(*names))
    group.setncatts({"run": names[0], "case": names[1]})
    for dim, size in zip(("y", "x"), grid.shape, strict=True):
        group.createDimension(dim, size)
    for name, place in _centres(grid).items():
        _add_map(group, name, place.values, place.attrs)
    for name, found in fields.items():
        for key, values in found.maps.items():
            if key[2] == ALL_PERIODS and (key[1] == main or key[0] in SEASONAL_MAPS):
                about = {"units": unit_of(key[0], name), "long_name": f"{key[0]} of {name}, {key[1]}, {key[2]}", "coordinates": "lat lon"}
                _add_map(group, f"{name}__{'__'.join(key)}", values.astype(np.float32), about)
    for name, (values, unit) in extra.items():
        _add_map(group, name, values.astype(np.float32), {"units": unit, "coordinates": "lat lon"})


def _add_map(group: netCDF4.Group, name: str, values: np.ndarray, about: Mapping[str, str]) -> None:
    variable = group.createVariable(name, values.dtype, ("y", "x"), zlib=True, complevel=1, fill_value=values.dtype.type(np.nan))
    variable.setncatts(about)
    variable[:] = values


def _centres(grid: Grid) -> dict[str, xr.DataArray]:
    return {
        name: xr.DataArray(values, dims=("y", "x"), attrs={"standard_name": standard, "units": units})
        for name, values, standard, units in (
            ("lat", grid.lat, "latitude", "degrees_north"),
            ("lon", grid.lon, "longitude", "degrees_east"),
        )
    }


def write_dataset(path: Path, dataset: xr.Dataset, *, group: str | None = None) -> None:
    """A compressed NetCDF-4 file, or a group more in one; its folder is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = {
        name: {"zlib": True, "complevel": 1} for name, array in dataset.data_vars.items() if array.ndim >= 2 and array.dtype.kind == "f"
    }
    dataset.to_netcdf(path, mode="a" if group and path.exists() else "w", group=group, engine="netcdf4", encoding=encoding)


def grid_dataset(grid: Grid, static: Mapping[str, np.ndarray], area: np.ndarray, spacing: tuple[float, float]) -> xr.Dataset:
    """What maps are drawn on: centres, area weights (zero outside the region), fixed fields (y, x), cell spacing in km."""
    result = xr.Dataset(
        {"area": (("y", "x"), area)},
        coords=_centres(grid),
        attrs={"spacing_y_km": spacing[0], "spacing_x_km": spacing[1], "summary": grid.summary},
    )
    for name, values in static.items():
        result[name] = (("y", "x"), np.asarray(values, dtype=np.float32))
    return result


def spectra_dataset(columns: Sequence[tuple[str, str, str]], wavenumber: np.ndarray, power: np.ndarray) -> xr.Dataset:
    """Spectra as (series, wavenumber); series is run, case, variable."""
    runs, cases, variables = zip(*columns, strict=True) if columns else ((), (), ())
    return xr.Dataset(
        {
            "power": (("series", "wavenumber"), power, {"long_name": "radially averaged power spectral density", "units": "unit2 km2"}),
            "run": ("series", np.array(runs, dtype=object)),
            "case": ("series", np.array(cases, dtype=object)),
            "variable": ("series", np.array(variables, dtype=object)),
        },
        coords={"wavenumber": ("wavenumber", wavenumber, {"units": "km-1"})},
    )
