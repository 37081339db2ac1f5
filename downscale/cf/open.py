"""Open a source: all its files as series of standard channels on common days, in working units, on known coordinates.

Everything that can be refused without reading fields is refused here; fields are read later, block by block, by Series.read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from downscale.cf import units
from downscale.cf.assemble import Opening, assemble, missing_channels, mixed_calendars
from downscale.cf.calendar import iso
from downscale.cf.catalogue import scan
from downscale.cf.coordinates import read_coordinates
from downscale.cf.fields import Decoder, implausible
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.layout import layout_of
from downscale.cf.names import axis_of, find_static, is_latitude, is_longitude
from downscale.cf.series import Series
from downscale.config.schema import SourceConfig
from downscale.errors import InputDataError
from downscale.variables import Channel, lookup

log = logging.getLogger(__name__)
_ASSUMPTIONS = ("taken", "trusted", "left out", "missing from", "different days")
"""Words of the notes that tell of an assumption rather than of a conversion: those are logged as warnings."""


@dataclass
class Source:
    """One model run, opened.

    Attributes:
        name: of the source.
        role: rcm or gcm.
        calendar: canonical name.
        days: yyyymmdd that all series have, ascending.
        series: by channel name.
        files: manifest of the inputs: path, size, fingerprint of header and coordinates.
        notes: what was renamed, converted, flipped, wrapped, assumed, dropped.
    """

    name: str
    role: str
    calendar: str
    days: NDArray[np.int64]
    series: dict[str, Series]
    files: list[dict[str, Any]]
    notes: list[str]
    opening: Opening = field(repr=False)

    def statics(self, names: Sequence[str]) -> dict[str, tuple[NDArray[np.float32], xr.Dataset]]:
        """Fixed fields found among the source's files: name -> ((y, x) float32 in working units, NaN missing; coordinates).

        Raises:
            InputDataError: no file holds one of them (F10), or its values are implausible.
        """
        return {name: _static(self.opening, name) for name in names}

    def close(self) -> None:
        """Close all files left open by reading."""
        for series in self.series.values():
            series.close()


def open_source(
    name: str,
    source: SourceConfig,
    channels: Sequence[Channel],
    *,
    optional: Sequence[Channel] = (),
    statics: Sequence[str] = (),
    gaps: str = "error",
) -> Source:
    """Open a source of the config.

    Args:
        name: of the source.
        source: its section.
        channels: what it must have.
        optional: what is taken where it has it, on the days of the others.
        statics: fixed fields that must be among its files; read by Source.statics.
        gaps: error, or skip missing days and note them.

    Raises:
        InputDataError: bad files (all of them listed), missing or ambiguous variables, mixed calendars, unequal units or grids,
            gaps, days that are not common to the channels.
    """
    return open_files(
        name,
        source.files,
        channels,
        optional=optional,
        statics=statics,
        gaps=gaps,
        role=source.role,
        variables=source.variables,
        assume_units=source.assume_units,
    )


def open_files(
    name: str,
    paths: Sequence[str | Path],
    channels: Sequence[Channel],
    *,
    optional: Sequence[Channel] = (),
    statics: Sequence[str] = (),
    gaps: str = "error",
    role: str = "gcm",
    variables: Mapping[str, str] | None = None,
    assume_units: Mapping[str, str] | None = None,
) -> Source:
    """Open a source from paths and globs; arguments and errors as open_source."""
    headers = scan(paths)
    opening = Opening(name, headers, variables or {}, assume_units or {}, gaps == "skip")
    series = {channel.name: assemble(opening, channel) for channel in dict.fromkeys(channels)}
    absent = [channel for channel in dict.fromkeys(channels) if series[channel.name] is None]
    if absent:
        raise missing_channels(opening, absent)
    found = {key: one for key, one in series.items() if one is not None}
    extra = {channel.name: assemble(opening, channel) for channel in dict.fromkeys(optional) if channel.name not in found}
    _one_calendar(name, [one for one in (*found.values(), *extra.values()) if one is not None])
    notes: list[str] = []
    days = _common_days(opening, found, notes)
    for key, one in extra.items():
        if one is not None and np.isin(days, one.days, assume_unique=True).all():
            found[key] = one
        elif one is not None:
            notes.append(f"{name}: {key} lacks some of the days and is left out")
    for key, one in found.items():
        one.restrict(days)
        one.label, one.shared_notes = f"{name}: {key}", notes
    for static in statics:
        _locate_static(opening, static)
    notes += _collect_notes(name, found)
    for note in notes:
        log.log(logging.WARNING if any(word in note for word in _ASSUMPTIONS) else logging.INFO, "%s", note)
    calendar = next((one.calendar for one in found.values()), "standard")
    return Source(name, role, calendar, days, found, [header.manifest() for header in headers], notes, opening)


def open_grid(path: str | Path) -> xr.Dataset:
    """Horizontal coordinates of a file, as Series.coordinates: of its first field, or of its latitude and longitude axes.

    Raises:
        InputDataError: a bad file, or one without a grid of rows and columns.
    """
    header = scan([path])[0]
    problem: InputDataError | None = None
    for variable in _grid_candidates(header):
        try:
            return read_coordinates(header, variable, layout_of(header, variable))[0]
        except InputDataError as error:
            problem = problem or error
    raise problem or InputDataError("the file has no horizontal grid", where=str(path), hint="give a file with a field on a grid")


def _grid_candidates(header: FileHeader) -> list[VariableHeader]:
    """Fields of a file, those with horizontal dimensions first, then its bare latitude and longitude axes as one field."""
    coordinates = {v.text("bounds") for v in header.variables.values()}
    fields = [v for v in header.variables.values() if v.is_number and len(v.dims) >= 2 and v.name not in coordinates]
    fields.sort(key=lambda v: (is_latitude(v) or is_longitude(v), not {"Y", "X"} <= {axis_of(header, dim) for dim in v.dims}))
    axes = [v for v in header.variables.values() if v.dims == (v.name,)]
    lat, lon = (next((v for v in axes if kind(v)), None) for kind in (is_latitude, is_longitude))
    if lat is not None and lon is not None:
        fields.append(VariableHeader("grid", (lat.name, lon.name), (*lat.shape, *lon.shape), "float64", {}))
    return fields


def _one_calendar(name: str, series: Sequence[Series]) -> None:
    calendars: dict[str, list[str]] = {}
    for one in series:
        calendars.setdefault(one.calendar, []).extend(piece.header.path.name for piece in one.pieces)
    if len(calendars) > 1:
        raise mixed_calendars(name, calendars)


def _common_days(opening: Opening, series: Mapping[str, Series], notes: list[str]) -> NDArray[np.int64]:
    """Days that all channels have; where they differ, refused or noted by the policy for gaps."""
    if not series:
        return np.empty(0, np.int64)
    common = next(iter(series.values())).days
    for one in series.values():
        common = np.intersect1d(common, one.days, assume_unique=True)
    if all(len(one.days) == len(common) for one in series.values()):
        return common
    ranges = [f"{key}: {iso(one.days[0])} to {iso(one.days[-1])}, {len(one.days)} days" for key, one in series.items()]
    if len(common) and opening.skip_gaps:
        used = f"{len(common)} common ones from {iso(common[0])} to {iso(common[-1])} are used"
        notes.append(f"{opening.name}: channels have different days, {used}: {'; '.join(ranges)}")
        return common
    raise InputDataError(
        f"{opening.name}: channels have different days" + ("" if len(common) else " and none in common"),
        where=f"source {opening.name}",
        hint="give files of the same period for all channels" + (", or accept gaps with missing: {gaps: skip}" if len(common) else ""),
        findings=ranges,
    )


def _collect_notes(name: str, series: Mapping[str, Series]) -> list[str]:
    """Notes of all series, equal ones told once with the channels they hold for."""
    told: dict[str, list[str]] = {}
    for key, one in series.items():
        for note in one.notes:
            told.setdefault(note, []).append(key)
    return [f"{name}: {'all channels' if 1 < len(keys) == len(series) else ', '.join(keys)}: {note}" for note, keys in told.items()]


def _locate_static(opening: Opening, name: str) -> tuple[FileHeader, str]:
    for header in opening.headers:
        found = find_static(header, name, opening.renames.get(name))
        if found is not None:
            return header, found
    raise InputDataError(
        f"{opening.name}: fixed field {name} ({lookup(name).standard_name}) not found in {len(opening.headers)} files",
        where=f"source {opening.name}",
        hint=f"add its file to the source's files, or name it: sources.NAME.variables: {{{name}: NAME_IN_FILE}}",
    )


def _static(opening: Opening, name: str) -> tuple[NDArray[np.float32], xr.Dataset]:
    header, key = _locate_static(opening, name)
    row, variable = lookup(name), header.variables[key]
    layout = layout_of(header, variable)
    decoder = Decoder.of(variable, units.to_working(row, opening.assume_units.get(name, variable.text("units"))))
    with netCDF4.Dataset(header.path) as dataset:
        dataset.set_auto_maskandscale(False)
        raw = np.asarray(dataset[key][...])
    kept = [dim for dim in layout.dims if dim in (layout.y, layout.x)]
    raw = raw[tuple(slice(None) if dim in kept else 0 for dim in layout.dims)]
    raw = layout.order(raw if kept == [layout.y, layout.x] else raw.T, (layout.y, layout.x))
    values, _ = decoder.decode(np.ascontiguousarray(raw))
    fault = implausible(row, values[None])
    if fault is not None:
        lowest, highest = row.valid_range
        raise InputDataError(
            f"{name} holds values from {fault[1]:.6g} to {fault[2]:.6g} {row.units}, plausible are {lowest:g} to {highest:g}",
            where=f"{header.path}: {key}",
            hint=f"wrong units: sources.NAME.assume_units: {{{name}: ...}}",
        )
    return values, read_coordinates(header, variable, layout)[0]


__all__ = ["Series", "Source", "open_files", "open_grid", "open_source"]
