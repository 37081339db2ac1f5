"""Files judged with the diagnostics of the CORDEX ML-Bench, under its names: maps and spectra in scores.nc, numbers in scores.csv."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from downscale.evaluate.blocks import Spread
from downscale.evaluate.files.opened import FilePair
from downscale.evaluate.files.options import with_unit
from downscale.evaluate.files.spool import Spool, read_all
from downscale.evaluate.mlbench.maps import Diagnostic, assemble, new_passes, ranges_of, score_rows
from downscale.evaluate.mlbench.plan import SeasonPlan
from downscale.evaluate.mlbench.units import unit_of
from downscale.evaluate.scorecard import write_table
from downscale.grid.grid import Grid

COLUMNS = (
    "key", "metric", "variable", "season", "value", "mean", "mean_abs", "minimum", "maximum", "n_cells", "n_missing", "n_days",
    "unit",
)  # fmt: skip
_MULTIVARIATE = "correlation_"
_HEADLINE = (
    ("tasmax", "rmse_time"), ("tasmax", "bias_mean"), ("tasmax", "bias_q98"), ("tasmax", "ralsd"),
    ("pr", "rmse_time"), ("pr", "bias_mean"), ("pr", "bias_sdii"), ("pr", "bias_rx1day"), ("pr", "ralsd"),
)  # fmt: skip
_NAN = (
    "NaN where a cell lacks a value on any day, or where a ratio or a correlation is undefined; the benchmark's own code makes 0 of a cell "
    "without data in spectra, in distances of distributions and in counts"
)


def key_of(one: Diagnostic) -> str:
    """The benchmark's key: DIAGNOSTIC.VARIABLE.SEASON, for the multivariate ones with the part at its end."""
    if one.name.startswith(_MULTIVARIATE):
        return f"multivar_corr.{one.variable}.{one.season}__{one.name}"
    return f"{one.name}.{one.variable}.{one.season}"


def score_pair(pair: FilePair, spool: Spool, folder: Path, spread: Spread, tell: Callable[[int, int, str], None]) -> dict[str, Any]:
    """Everything of a pair into a folder; the lines of the summary."""
    plan, shape, n = SeasonPlan(pair.days), pair.grid.shape, len(pair.days)
    passes = new_passes(plan, pair.variables, shape)
    read_all(pair, spool, lambda name, which, start, fields: passes[name, which].add(start, fields), lambda done: tell(done, 2 * n, "read"))
    for one in passes.values():
        one.missing |= ~spool.inside
    cells = score_rows(plan, spool, pair.variables, shape, ranges_of(passes), spread)
    tell(2 * n - 1, 2 * n, "write")
    rows = write_maps(folder / "scores.nc", assemble(plan, passes, cells), pair.grid, plan)
    write_table(folder / "scores.csv", rows, COLUMNS)
    values = {(str(row["variable"]), str(row["metric"])): row["value"] for row in rows if row["season"] == "all"}
    return {name: _headline(name, values) for name in pair.variables}


def _headline(name: str, values: Mapping[tuple[str, str], float]) -> str:
    chosen = [metric for one, metric in _HEADLINE if one == name and (one, metric) in values]
    return ", ".join(with_unit(one, values[name, one], unit_of(one, name)) for one in chosen or ["rmse_time", "bias_mean"])


def write_maps(path: Path, found: Iterable[Diagnostic], grid: Grid, plan: SeasonPlan) -> list[dict[str, Any]]:
    """Maps (y, x) and spectra (variable dimension ring), named by their keys with ``__`` for dots; the rows of the table."""
    rows = []
    days = {name: int(sum(plan.lengths[own].sum() for own in plan.segments[name])) for name in plan.names}
    with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
        file.title = "Diagnostics as the CORDEX ML-Bench defines them"
        file.missing_values = _NAN
        for name, length in zip(("y", "x"), grid.shape, strict=True):
            file.createDimension(name, length)
        for name, values, units in (("lat", grid.lat, "degrees_north"), ("lon", grid.lon, "degrees_east")):
            file.createVariable(name, "f8", ("y", "x"))[:] = values
            file[name].units = units
        for one in found:
            rows.append(_row(one, days[one.season]))
            if one.values.ndim == 0:
                continue
            is_map = one.values.ndim == 2
            if not is_map and "ring" not in file.dimensions:
                file.createDimension("ring", len(one.values))
            field = file.createVariable(
                key_of(one).replace(".", "__"), "f4" if is_map else "f8", ("y", "x") if is_map else ("ring",), fill_value=np.nan,
                compression="zlib", complevel=1,
            )  # fmt: skip
            field.units = unit_of(one.name, one.variable)
            if is_map:
                field.coordinates = "lat lon"
            field[:] = one.values
    return rows


def _row(one: Diagnostic, n_days: int) -> dict[str, Any]:
    known = one.values[np.isfinite(one.values)]
    nan = float("nan")
    return {
        "key": key_of(one),
        "metric": one.name,
        "variable": one.variable,
        "season": one.season,
        "value": nan if one.scalar is None else one.scalar,
        "mean": float(known.mean()) if known.size else nan,
        "mean_abs": float(np.abs(known).mean()) if known.size else nan,
        "minimum": float(known.min()) if known.size else nan,
        "maximum": float(known.max()) if known.size else nan,
        "n_cells": one.values.size,
        "n_missing": one.values.size - known.size,
        "n_days": n_days,
        "unit": unit_of(one.name, one.variable),
    }
