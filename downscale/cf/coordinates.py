"""The horizontal coordinates of a field as one Dataset, in the order of rows and columns in which the field is given out.

Three layouts, which grid.Grid reads:

- longitude-latitude: 1-D ``lat(lat)``, ``lon(lon)``; ``lat_bnds``, ``lon_bnds`` (n, 2) where the file has them;
- projected: the two axes under their names in the file, 2-D ``lat``, ``lon`` and ``lat_vertices``, ``lon_vertices`` (y, x, 4) where the
  file has them, and a scalar ``crs`` with the grid mapping's attributes where it has one;
- curvilinear without axes: dimensions ``y``, ``x`` and 2-D ``lat``, ``lon``, with vertices where the file has them.

Values are as in the file in float64, longitudes apart from whole turns; nothing is computed that the file does not say.
``encoding["source"]`` of the Dataset is the file's path.
"""

from __future__ import annotations

from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from downscale.cf.axes import is_latitude, is_longitude
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.layout import Layout
from downscale.coordinates import Coordinates
from downscale.errors import InputDataError

_LAT = {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"}
_LON = {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"}
_ROTATED = "rotated_latitude_longitude"
_LONLAT = "latitude_longitude"
_NO_ANGLE = 1e4
Pair = tuple[VariableHeader, VariableHeader]


def read_coordinates(header: FileHeader, variable: VariableHeader, layout: Layout) -> tuple[Coordinates, list[str]]:
    """The coordinates of a variable and notes on what is missing or odd.

    Raises:
        InputDataError: neither latitude and longitude nor projected axes with a grid mapping.
    """
    crs, notes = grid_mapping(header, variable)
    if _is_lonlat(header, layout):
        dataset, notes = _lonlat(header, layout), _notes_of_lonlat(header, variable, crs)
        dataset.encoding["source"] = str(header.path)
        return dataset, notes
    lat, lon = _auxiliary(header, variable, layout, is_latitude), _auxiliary(header, variable, layout, is_longitude)
    has_axes = layout.y_values is not None and layout.x_values is not None
    if (lat is None or lon is None) and (crs is None or not has_axes):
        raise InputDataError(
            f"{variable.name} has neither latitude and longitude nor projected axes with a grid mapping",
            where=str(header.path),
            hint="add 2-D lat and lon, or a CF grid_mapping, to the file",
        )
    dataset = _axes(header, layout, crs, notes) if has_axes else Coordinates()
    dataset.encoding["source"] = str(header.path)
    if lat is not None and lon is not None:
        dims = (layout.y, layout.x) if has_axes else ("y", "x")
        notes += _add_lonlat(dataset, dims, header, layout, (lat, lon))
    if crs is not None:
        dataset["crs"] = ((), np.int32(0), crs)
    return dataset, notes


def grid_mapping(header: FileHeader, variable: VariableHeader) -> tuple[dict[str, Any] | None, list[str]]:
    """Attributes of a variable's grid mapping, or None; a mapping that nothing points to is taken where it is the only one."""
    name = variable.text("grid_mapping").split(":")[0].split(" ")[0]
    if name in header.variables:
        attrs = dict(header.variables[name].attrs)
        return (attrs, []) if "grid_mapping_name" in attrs else (None, [f"grid mapping '{name}' has no grid_mapping_name: ignored"])
    found = [v for v in header.variables.values() if v.text("grid_mapping_name")]
    notes = [f"grid mapping variable '{name}' is missing from the file"] if name else []
    if len(found) == 1:
        return dict(found[0].attrs), [*notes, f"grid mapping '{found[0].name}' taken, though {variable.name} does not name it"]
    return None, notes


def mapping_difference(header: FileHeader, variable: VariableHeader, other_header: FileHeader, other_variable: VariableHeader) -> str:
    """Words for the first projection parameter in which the grid mappings of two variables differ; empty when none does.

    A parameter that only one of them states is no difference, nor are texts: programs add and drop those.
    """
    first, second = grid_mapping(header, variable)[0] or {}, grid_mapping(other_header, other_variable)[0] or {}
    for name in sorted(set(first) & set(second)):
        if isinstance(first[name], str) or isinstance(second[name], str):
            continue
        ours, theirs = (np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in (first[name], second[name]))
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-6, atol=1e-4):
            return f"see {name} of their grid mappings: {', '.join(f'{x:g}' for x in ours)} and {', '.join(f'{x:g}' for x in theirs)}"
    return ""


def _notes_of_lonlat(header: FileHeader, variable: VariableHeader, crs: dict[str, Any] | None) -> list[str]:
    """What a grid mapping says, or fails to say, beside 1-D latitude and longitude."""
    named = variable.text("grid_mapping").split(":")[0].split(" ")[0]
    if named and named not in header.variables:
        return [f"grid mapping variable '{named}' is missing from the file: 1-D latitude and longitude are used"]
    kind = str((crs or {}).get("grid_mapping_name", _LONLAT))
    return (
        [] if not named or kind == _LONLAT else [f"1-D latitude and longitude are trusted, the grid mapping '{named}' ({kind}) is not used"]
    )


def _is_lonlat(header: FileHeader, layout: Layout) -> bool:
    if any("rad" in v.text("units").lower() for v in header.variables.values() if is_latitude(v) or is_longitude(v)):
        raise InputDataError("latitude or longitude is in radians", where=str(header.path), hint="give degrees_north and degrees_east")
    named = layout.y in header.variables and layout.x in header.variables and layout.y_values is not None and layout.x_values is not None
    return named and is_latitude(header.variables[layout.y]) and is_longitude(header.variables[layout.x])


def _lonlat(header: FileHeader, layout: Layout) -> Coordinates:
    stored = [np.abs(np.asarray(header.values[dim], dtype=np.float64)).max(initial=0.0) for dim in (layout.y, layout.x)]
    if not (stored[0] <= 90.0 + 1e-6 and stored[1] <= _NO_ANGLE):
        raise _impossible(header, layout.y, layout.x)
    coords = {"lat": ("lat", layout.y_values, {**_LAT, "axis": "Y"}), "lon": ("lon", layout.x_values, {**_LON, "axis": "X"})}
    dataset = Coordinates.of(coords)
    for name, dim in (("lat", layout.y), ("lon", layout.x)):
        bounds_name = header.variables[dim].text("bounds")
        bounds = header.values.get(bounds_name)
        if bounds is None or header.variables[bounds_name].shape != (*header.variables[dim].shape, 2):
            continue
        ordered = layout.order(bounds.astype(np.float64), (dim, "bnds"))
        if name == "lon":
            ordered = _nearest_turn(ordered, dataset["lon"].values[:, None])
        dataset[f"{name}_bnds"] = ((name, "bnds"), ordered)
        dataset[name].attrs["bounds"] = f"{name}_bnds"
    return dataset


def _axes(header: FileHeader, layout: Layout, crs: dict[str, Any] | None, notes: list[str]) -> Coordinates:
    """The projected axes; what is assumed about their units is added to the notes."""
    rotated = crs is not None and crs.get("grid_mapping_name") == _ROTATED
    names = ("grid_latitude", "grid_longitude") if rotated else ("projection_y_coordinate", "projection_x_coordinate")
    coords = {}
    for dim, values, axis, standard_name in ((layout.y, layout.y_values, "Y", names[0]), (layout.x, layout.x_values, "X", names[1])):
        units = header.variables[dim].text("units")
        if not units and crs is not None:
            notes.append(f"axis {dim} has no units: taken as {'degrees' if rotated else 'm'}")
        attrs = {"axis": axis, "units": units or ("degrees" if rotated else "m")}
        if crs is not None:
            attrs["standard_name"] = standard_name
        coords[dim] = (dim, values, attrs)
    return Coordinates.of(coords)


def _auxiliary(header: FileHeader, variable: VariableHeader, layout: Layout, is_kind: Any) -> VariableHeader | None:
    """The 2-D latitude or longitude on the field's dimensions; named by ``coordinates`` before any other."""
    planes = ((layout.y, layout.x), (layout.x, layout.y))
    fits = [v for v in header.variables.values() if is_kind(v) and len(v.dims) >= 2 and _plane(v) in planes]
    named = [v for v in fits if v.name in variable.text("coordinates").split()]
    return next(iter(named or fits), None)


def _plane(variable: VariableHeader) -> tuple[str, ...]:
    """Dimensions of a coordinate without those of length 1 in front (some models write lat(time, y, x))."""
    return variable.dims if len(variable.dims) == 2 else tuple(dim for dim, n in zip(variable.dims, variable.shape, strict=True) if n > 1)


def _add_lonlat(dataset: Coordinates, dims: tuple[str, str], header: FileHeader, layout: Layout, pair: Pair) -> list[str]:
    """Put 2-D latitude and longitude and their vertices into the dataset; notes on what was wrapped."""
    with netCDF4.Dataset(header.path) as file:
        file.set_auto_maskandscale(False)
        lat, lon = (_read_plane(file, v, layout) for v in pair)
        notes: list[str] = []
        corners = [_read_vertices(file, header, v, layout, notes) for v in pair]
    impossible = np.abs(lat).max(initial=0.0) > 90.0 + 1e-6 or np.abs(lon).max(initial=0.0) > _NO_ANGLE
    if impossible or not (np.isfinite(lat).all() and np.isfinite(lon).all()):
        raise _impossible(header, pair[0].name, pair[1].name)
    lon = _in_one_piece(lon, notes)
    dataset["lat"], dataset["lon"] = (dims, lat, dict(_LAT)), (dims, lon, dict(_LON))
    if corners[0] is not None and corners[1] is not None:
        dataset["lat_vertices"] = ((*dims, "vertices"), corners[0])
        dataset["lon_vertices"] = ((*dims, "vertices"), _nearest_turn(corners[1], lon[..., None]))
        dataset["lat"].attrs["bounds"], dataset["lon"].attrs["bounds"] = "lat_vertices", "lon_vertices"
    return notes


def _impossible(header: FileHeader, *names: str) -> InputDataError:
    return InputDataError(
        "latitude or longitude holds missing or impossible values",
        where=f"{header.path}: {', '.join(names)}",
        hint="coordinates must be complete, in degrees, latitudes from -90 to 90",
    )


def _read_plane(file: netCDF4.Dataset, variable: VariableHeader, layout: Layout) -> NDArray[np.float64]:
    values = _unpacked(file, variable)
    if len(variable.dims) > 2:
        values = values.reshape([n for n in variable.shape if n > 1])
    dims = _plane(variable)
    return layout.order(values if dims == (layout.y, layout.x) else values.T, (layout.y, layout.x))


def _unpacked(file: netCDF4.Dataset, variable: VariableHeader) -> NDArray[np.float64]:
    values = np.asarray(file[variable.name][...], dtype=np.float64)
    return values * float(variable.attrs.get("scale_factor", 1.0)) + float(variable.attrs.get("add_offset", 0.0))


def _read_vertices(
    file: netCDF4.Dataset, header: FileHeader, variable: VariableHeader, layout: Layout, notes: list[str]
) -> NDArray[np.float64] | None:
    """(y, x, 4) vertices of a 2-D coordinate, or None when the file has none, not four a cell, or some missing."""
    named = variable.text("bounds")
    bounds = header.variables.get(named)
    if bounds is None or len(variable.dims) != 2 or bounds.shape != (*variable.shape, 4):
        if named:
            shape = f"have shape {bounds.shape}, not four a cell" if bounds is not None else "are missing from the file"
            notes.append(f"vertices '{named}' of {variable.name} {shape}: not used")
        return None
    values = _unpacked(file, bounds)
    if not np.isfinite(values).all() or np.abs(values).max() > _NO_ANGLE:
        notes.append(f"vertices '{named}' hold missing values: not used")
        return None
    transposed = values if variable.dims == (layout.y, layout.x) else values.transpose(1, 0, 2)
    return layout.order(transposed, (layout.y, layout.x, "vertices"))


def _in_one_piece(lon: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """2-D longitudes without a jump between neighbours and with the middle of the domain in -180..180, by whole turns.

    Around a pole a jump must be somewhere: it is put at the date line.
    """
    middle = lon[lon.shape[0] // 2, lon.shape[1] // 2]
    turned = lon + (_nearest_turn(middle, np.float64(0.0)) - middle)
    if _jumps(turned):
        turned = _nearest_turn(turned, turned[lon.shape[0] // 2, lon.shape[1] // 2])
    if _jumps(turned):
        turned = _nearest_turn(turned, np.float64(0.0))
    if np.array_equal(turned, lon):
        return lon
    notes.append(f"2-D longitudes {lon.min():g}..{lon.max():g} moved by whole turns to {turned.min():g}..{turned.max():g}")
    return turned


def _jumps(lon: NDArray[np.float64]) -> bool:
    return any(float(np.abs(np.diff(lon, axis=axis)).max(initial=0.0)) > 180.0 for axis in (0, 1))


def _nearest_turn(values: Any, centre: Any) -> Any:
    """Longitudes moved by whole turns to lie nearest to their cell's centre."""
    return values + 360.0 * np.round((centre - values) / 360.0)
