"""Weights and regridding without a config: files in, weights or files out."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from downscale import __version__
from downscale.cf.axes import axis_of
from downscale.cf.catalogue import scan
from downscale.cf.header import FileHeader
from downscale.errors import ConfigError, InputDataError, OutputExistsError
from downscale.grid.cells import Edges
from downscale.grid.engines import Engine, Method, make_weights
from downscale.grid.grid import Grid, require_same_grid
from downscale.grid.weight_files import read_stored, stored_grid
from downscale.grid.weight_layouts import Layout, write_weights
from downscale.grid.weights import Norm, Weights
from downscale.hpc.paths import refuse_links
from downscale.pairs.remap_input import GriddedField, TimeAxis, grid_named, gridded_fields, time_axis
from downscale.pairs.remap_output import Entry, Output, Plan, require_free

log = logging.getLogger(__name__)
Progress = Callable[[int, int, str], None]
_BLOCK_BYTES = 64_000_000
_DROPPED = {
    "_FillValue", "missing_value", "scale_factor", "add_offset", "valid_min", "valid_max", "valid_range", "actual_range", "_Unsigned",
    "grid_mapping", "coordinates", "cell_measures", "ancillary_variables", "_ChunkSizes", "bounds",
}  # fmt: skip


def make_weight_file(
    source: str, target: str, output: Path, *, method: Method = "conservative", edges: Edges = "great_circle", norm: Norm = "fracarea",
    engine: Engine = "auto", weights_file: Path | None = None, layout: Layout = "esmf", overwrite: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Weights from one file's grid to another's (or a CORDEX domain's), written to a file; a summary.

    Cells count as they stand in the files, so that other programs may apply the weights to the files as they are.

    Raises:
        OutputExistsError: the output exists, and is not to be replaced.
        InputDataError, ConfigError, EnvironmentMissingError: as make_weights.
    """
    refuse_links(output)
    if output.exists() and not overwrite:
        raise OutputExistsError("the output exists", where=str(output), hint="give another name, or --overwrite to replace it")
    grids = grid_named(source), grid_named(target)
    weights = make_weights(*grids, method=method, engine=engine, edges=edges, weights_file=weights_file)
    if not weights.matrix.nnz:
        raise InputDataError("the grids do not overlap", where=f"{grids[0].place} | {grids[1].place}", hint="check the two grids")
    write_weights(output, weights, *grids, norm=norm, edges=edges, layout=layout)
    covered = weights.coverage
    return {
        "artefact": output,
        "from": grids[0].summary,
        "to": grids[1].summary,
        "weights": f"{method}, engine {weights.engine}, {norm}, {weights.matrix.nnz:,} links",
        "target cells": f"{int((covered >= 1.0 - 1e-6).sum())} wholly covered, "
        f"{int(((covered > 0.0) & (covered < 1.0 - 1e-6)).sum())} partly, {int((covered == 0.0).sum())} not at all",
    }


def remap_files(
    files: Sequence[str | Path], weights_file: Path, output: Path, *, target: str | None = None, norm: Norm | None = None,
    method: Method = "conservative", min_valid_fraction: float = 0.5, overwrite: bool = False, progress: Progress = lambda *_: None,
) -> dict[str, Any]:  # fmt: skip
    """Every gridded variable of some files on another grid, in one NetCDF or Zarr output; a summary.

    Attributes, times and other dimensions stay; NaN where nothing maps or too little is valid. Memory is bounded by blocks of
    64 MB, whatever the files' size.

    Args:
        files: paths, globs or folders; periods that follow one another are joined.
        weights_file: of `downscale weights`, ESMF, xESMF or CDO.
        output: ends in .nc or .zarr.
        target: file with the target grid or CORDEX domain; needed where the weight file holds no grid.
        norm: of the result; needed where the weight file does not say.
        method: of the weights where the file does not say.
        min_valid_fraction: a cell with less valid area is NaN.
        overwrite: replace an existing output.
        progress: called with (blocks done, blocks in all, variable).

    Raises:
        ConfigError: something is needed and not given. OutputExistsError: the output exists.
        InputDataError: files without gridded variables, other grids than the weights', times that do not fit.
    """
    if output.suffix not in (".nc", ".zarr"):
        raise ConfigError(f"the output '{output.name}' is neither .nc nor .zarr", hint="give OUT.nc or OUT.zarr")
    require_free(output, overwrite=overwrite)
    headers = scan(list(files))
    fields, left_out = _fields(headers)
    source = fields[0].grid()
    weights, grid = _weights_for(source, weights_file, target, norm, method)
    axes = _time_axes(fields)
    plan = _plan(fields, axes, headers, grid, weights, weights_file)
    with Output(output, plan) as out:
        _stream(fields, weights, min_valid_fraction, axes, out, progress)
    names = dict.fromkeys(field.variable.name for field in fields)
    return {"artefact": output, "variables": ", ".join(names), "from": source.summary, "to": grid.summary, "norm": weights.norm,
            "left out": left_out}  # fmt: skip


def _stream(
    fields: Sequence[GriddedField], weights: Weights, least: float, axes: dict[str, TimeAxis], out: Output, progress: Progress
) -> None:
    """All fields through the weights, block by block."""
    total = sum(len(list(_blocks(field))) for field in fields)
    done = itertools.count(1)
    for field in fields:
        with netCDF4.Dataset(field.header.path) as file:
            for index in _blocks(field):
                out.write(field.variable.name, _placed(field, index, axes), weights.apply(field.read(file, index), least))
                progress(next(done), total, field.variable.name)


def _fields(headers: Sequence[FileHeader]) -> tuple[list[GriddedField], list[str]]:
    """Gridded variables of all files that share the first one's grid, and words on those that do not."""
    found = [field for header in headers for field in gridded_fields(header)]
    if not found:
        raise InputDataError("no file has a gridded variable", where=str(headers[0].path), hint="give files with fields on a grid")
    first = found[0].grid()
    known: dict[tuple[Path, str, str], bool] = {}
    kept, left_out = [], []
    for field in found:
        key = (field.header.path, field.layout.y, field.layout.x)
        if key not in known:
            grid = field.grid()
            known[key] = grid.shape == first.shape
            if known[key]:
                names = str(found[0].header.path), str(field.header.path)
                require_same_grid(first, grid, names=names)
        if known[key]:
            kept.append(field)
        else:
            left_out.append(f"{field.header.path.name}: {field.variable.name} (another grid)")
    return kept, left_out


def _weights_for(source: Grid, path: Path, target: str | None, norm: Norm | None, method: Method) -> tuple[Weights, Grid]:
    """The weights for a source grid with the normalisation to use, and the target grid."""
    stored, grid = read_stored(path), grid_named(target) if target is not None else stored_grid(path, "target")
    if grid is None:
        raise ConfigError(
            "the weight file holds no target grid", where=str(path), hint="give the grid: --target GRID.nc or a CORDEX domain"
        )
    if stored.norm is None and norm is None and stored.method in (None, "conservative"):
        raise ConfigError(
            "the weight file does not say how its weights are normalised", where=str(path), hint="give --norm fracarea or --norm destarea"
        )
    said: Any = stored.method or method
    weights = make_weights(source, grid, method=said, engine="file", weights_file=path)
    chosen = weights.chosen_norm(norm or stored.norm if said == "conservative" else norm)
    return replace(weights, norm=chosen), grid


def _time_axes(fields: Sequence[GriddedField]) -> dict[str, TimeAxis]:
    """Time axes by dimension; every variable must have all of its axis."""
    headers: dict[str, dict[Path, FileHeader]] = {}
    steps: dict[tuple[str, str], int] = {}
    for field in fields:
        dim = field.layout.time
        if dim is not None and dim in field.header.variables:
            headers.setdefault(dim, {})[field.header.path] = field.header
            key = (field.variable.name, dim)
            steps[key] = steps.get(key, 0) + field.outer_shape[field.outer.index(dim)]
    axes = {dim: time_axis(dim, list(found.values())) for dim, found in headers.items()}
    for (name, dim), count in steps.items():
        if count != len(axes[dim].values):
            raise InputDataError(
                f"{name} has {count} of the {len(axes[dim].values)} times of all files",
                hint="regrid variables with different times into different outputs",
            )
    several = [name for name in {field.variable.name for field in fields} if _repeated(fields, name, axes)]
    if several:
        raise InputDataError(f"several files hold {', '.join(sorted(several))}, which has no time", hint="give one of them")
    return axes


def _repeated(fields: Sequence[GriddedField], name: str, axes: dict[str, TimeAxis]) -> bool:
    return sum(field.variable.name == name and not set(field.outer) & set(axes) for field in fields) > 1


def _blocks(field: GriddedField) -> Iterator[tuple[slice, ...]]:
    """Blocks of the first outer dimension of at most 64 MB in float64; one block where there is none."""
    shape = field.outer_shape
    if not shape:
        yield ()
        return
    ny, nx = (field.variable.shape[field.variable.dims.index(dim)] for dim in (field.layout.y, field.layout.x))
    steps = max(1, _BLOCK_BYTES // max(1, 8 * math.prod(shape[1:]) * ny * nx))
    for start in range(0, shape[0], steps):
        yield (slice(start, min(start + steps, shape[0])), *(slice(0, n) for n in shape[1:]))


def _placed(field: GriddedField, index: tuple[slice, ...], axes: dict[str, TimeAxis]) -> tuple[slice, ...]:
    """A block's place in the output, whose time axis is that of all files."""
    shift = [axes[dim].place(field.header).start if dim in axes else 0 for dim in field.outer]
    return tuple(slice(one.start + by, one.stop + by) for one, by in zip(index, shift, strict=True))


def _plan(
    fields: Sequence[GriddedField], axes: dict[str, TimeAxis], headers: Sequence[FileHeader], grid: Grid, weights: Weights, path: Path
) -> Plan:
    plan = Plan(attributes=_attributes(headers[0], weights, path), unlimited={*axes})
    plane = _add_grid(plan, grid)
    first = {field.variable.name: field for field in reversed(fields)}
    for field in first.values():
        for dim, size in zip(field.outer, field.outer_shape, strict=True):
            size = len(axes[dim].values) if dim in axes else size
            if plan.sizes.setdefault(dim, size) != size or dim in plane:
                raise InputDataError(f"the dimension {dim} has two lengths or two meanings", where=str(field.header.path))
    _add_others(plan, first, axes, headers)
    scalars = [name for name, entry in plan.entries.items() if not entry.dims and name != "crs"]
    for name, field in reversed(first.items()):
        kept = {key: value for key, value in field.variable.attrs.items() if key not in _DROPPED}
        named = [
            *(["lat", "lon"] if plane != ("lat", "lon") else []),
            *(one for one in field.variable.text("coordinates").split() if one in scalars),
        ]
        kept |= {"coordinates": " ".join(named)} if named else {}
        kept |= {"grid_mapping": "crs"} if "crs" in plan.entries else {}
        plan.entries[name] = Entry((*field.outer, *plane), field.dtype, kept)
    return plan


def _add_grid(plan: Plan, grid: Grid) -> tuple[str, str]:
    """Coordinates, bounds and grid mapping of the target; its two dimensions."""
    dataset = grid.to_coordinates()
    for name, variable in dataset.variables.items():
        attributes = dict(variable.attrs)
        bounds = next((one for one in (f"{name}_bnds", f"{name}_vertices") if one in dataset.variables), None)
        plan.entries[name] = Entry(
            variable.dims,
            variable.values.dtype,
            {**attributes, **({"bounds": bounds} if bounds else {})},
            variable.values,
        )
    plan.sizes |= dataset.sizes
    dims = dataset["lat"].dims
    return ("lat", "lon") if len(dims) == 1 else (dims[0], dims[1])


def _add_others(plan: Plan, first: dict[str, GriddedField], axes: dict[str, TimeAxis], headers: Sequence[FileHeader]) -> None:
    """Times, levels, their bounds and scalar coordinates: all variables without rows and columns whose dimensions are kept."""
    gone = {dim for field in first.values() for dim in (field.layout.y, field.layout.x)}
    mappings = {field.variable.text("grid_mapping").split(":")[0].strip() for field in first.values()}
    for header in headers:
        bounds = {v.text("bounds") for v in header.variables.values() if set(v.dims) & set(plan.sizes)}
        for variable in header.variables.values():
            dims = [dim for dim in variable.dims if dim not in plan.sizes]
            if variable.name in plan.entries or variable.name in first or variable.name in mappings or set(variable.dims) & gone:
                continue
            if not variable.is_number or variable.text("grid_mapping_name") or (dims and variable.name not in bounds):
                continue
            plan.sizes |= {dim: variable.shape[variable.dims.index(dim)] for dim in dims}
            attributes = {key: value for key, value in variable.attrs.items() if key not in _DROPPED - {"bounds"}}
            values = _joined(variable.name, headers, axes)
            plan.entries[variable.name] = Entry(variable.dims, values.dtype, attributes, values)


def _joined(name: str, headers: Sequence[FileHeader], axes: dict[str, TimeAxis]) -> np.ndarray:
    """A small variable of all files: along time put together, times in common units; else the first file's."""
    whole: np.ndarray | None = None
    for header in (one for one in headers if name in one.variables):
        variable = header.variables[name]
        with netCDF4.Dataset(header.path) as file:
            file.set_auto_maskandscale(False)
            values = np.asarray(file[name][...])
        axis = next((axes[dim] for dim in variable.dims[:1] if dim in axes), None)
        if axis is None:
            return values
        if name == axis.name or name == header.variables[axis.name].text("bounds") or axis_of(header, name) == "T":
            values = axis.convert(header, values.astype(np.float64))
        if whole is None:
            whole = np.zeros((len(axis.values), *values.shape[1:]), values.dtype)
        whole[axis.place(header)] = values
    assert whole is not None
    return whole


def _attributes(header: FileHeader, weights: Weights, path: Path) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kept = {key: value for key, value in header.attrs.items() if not key.startswith("_")}
    line = f"{now}: downscale {__version__} regrid with {path.name} ({weights.method}, {weights.norm}, {weights.engine})"
    history = "\n".join(text for text in (line, str(kept.get("history", "")).strip()) if text)
    return {**kept, "Conventions": "CF-1.11", "history": history}
