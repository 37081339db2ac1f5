"""Open a source: all its files as series of standard channels on common days, in working units, on known coordinates.

Everything that can be refused without reading fields is refused here; fields are read later, block by block, by Series.read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from downscale.cf.assemble import assemble, lay_days, missing_channels, one_calendar
from downscale.cf.axes import axis_of, is_latitude, is_longitude
from downscale.cf.catalogue import scan
from downscale.cf.common import common_days, on_all_days
from downscale.cf.coordinates import read_coordinates
from downscale.cf.fixed import locate_static, read_static
from downscale.cf.gather import Found, Opening, gather, raise_together
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.layout import layout_of
from downscale.cf.runs import one_run
from downscale.cf.series import Series
from downscale.config.schema import MissingConfig, SourceConfig
from downscale.coordinates import Coordinates
from downscale.errors import InputDataError, Problems
from downscale.variables import Channel

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
        days: yyyymmdd that all series have, or (gaps: "missing") any of those that are needed, ascending.
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

    def statics(self, names: Sequence[str]) -> dict[str, tuple[NDArray[np.float32], Coordinates]]:
        """Fixed fields found among the source's files: name -> ((y, x) float32 in working units, NaN missing; coordinates).

        Raises:
            InputDataError: no file holds one of them (F10), or its values are implausible. What was converted goes to the notes.
        """
        return {name: read_static(self.opening, name) for name in names}

    @property
    def listed(self) -> list[dict[str, Any]]:
        """The manifest of the inputs with the time of each file."""
        return [header.listed() for header in self.opening.headers]

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
    missing: MissingConfig | None = None,
    workers: int | None = None,
) -> Source:
    """Open a source of the config.

    Args:
        name, source: of the config.
        channels: what it must have.
        optional: what is taken where it has it, on the days of the others.
        statics: fixed fields that must be among its files; read by Source.statics.
        missing: policies for gaps and days; default: every missing day is an error.
        workers: processes that read headers.

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
        gaps=(missing or MissingConfig()).gaps,
        day_shift_hours=(missing or MissingConfig()).day_shift_hours,
        role=source.role,
        variables=source.variables,
        assume_units=source.assume_units,
        select=source.select,
        fill_values=source.fill_values,
        member=source.member,
        aggregate=source.aggregate,
        workers=workers,
    )


def open_files(
    name: str,
    paths: Sequence[str | Path],
    channels: Sequence[Channel],
    *,
    optional: Sequence[Channel] = (),
    statics: Sequence[str] = (),
    gaps: str = "error",
    day_shift_hours: float = 6.0,
    role: str = "gcm",
    variables: Mapping[str, str] | None = None,
    assume_units: Mapping[str, str] | None = None,
    select: Mapping[str, str | list[str]] | None = None,
    fill_values: Sequence[float] = (),
    member: int | str | None = None,
    aggregate: str = "none",
    workers: int | None = None,
) -> Source:
    """Open a source from paths, globs and folders; arguments as in the config, errors as open_source.

    With ``gaps="missing"`` each series keeps the days that it has, and those of the source are the days that any of them has.
    """
    opening = Opening(
        name,
        scan(paths, select=select or None, workers=workers),
        renames=variables or {},
        assume_units=assume_units or {},
        skip_gaps=gaps != "error",
        every_day=gaps == "missing",
        day_shift_hours=day_shift_hours,
        fill_values=tuple(fill_values),
        member=member,
        aggregate=aggregate,
        select=select or {},
    )
    return _open(opening, role, list(dict.fromkeys(channels)), list(dict.fromkeys(optional)), statics)


def _open(opening: Opening, role: str, channels: Sequence[Channel], optional: Sequence[Channel], statics: Sequence[str]) -> Source:
    name, wanted = opening.name, {channel.name for channel in channels}
    notes = opening.notes
    notes += dict.fromkeys(f"{name}: {note}" for header in opening.headers for note in header.notes)
    series = _all_series(opening, channels, optional, statics, notes)
    found = {key: one for key, one in series.items() if key in wanted}
    days = common_days(opening, found, notes)
    found |= on_all_days(opening, {key: one for key, one in series.items() if key not in wanted}, days, notes)
    for key, one in found.items():
        one.restrict(days)
        one.label, one.shared_notes = f"{name}: {key}", notes
    notes += _collect_notes(name, found)
    for note in notes:
        log.log(logging.WARNING if any(word in note for word in _ASSUMPTIONS) else logging.INFO, "%s", note)
    calendar = next((one.calendar for one in found.values()), "standard")
    return Source(name, role, calendar, days, found, [header.manifest() for header in opening.headers], notes, opening)


def _all_series(
    opening: Opening, channels: Sequence[Channel], optional: Sequence[Channel], statics: Sequence[str], notes: list[str]
) -> dict[str, Series]:
    """Series by channel name; all that is wrong with the files, and then all that is wrong with their days, is told at once."""
    problems = Problems()
    found, absent = {}, []
    for channel in dict.fromkeys([*channels, *optional]):
        before = len(problems.errors)
        files = gather(opening, channel, problems)
        if files:
            found[channel] = files
        elif channel in channels and len(problems.errors) == before:
            absent.append(channel)
    with problems.caught():
        if absent:
            raise missing_channels(opening, absent)
    with problems.caught():
        notes += one_run(opening.name, _distinct(found), opening.select)
    with problems.caught():
        one_calendar(opening.name, found)
    with problems.caught():
        _member_is_used(opening, found)
    for static in statics:
        with problems.caught():
            locate_static(opening, static)
    series = {}
    for channel, files in found.items():
        with problems.caught():
            one = assemble(opening, channel, files, problems)
            if one is not None:
                series[channel.name] = one
    raise_together(problems)
    for one in series.values():
        with problems.caught():
            lay_days(opening, one)
    raise_together(problems)
    return series


def _distinct(found: Mapping[Channel, Sequence[Found]]) -> list[FileHeader]:
    return list({id(one.header): one.header for files in found.values() for one in files}.values())


def _member_is_used(opening: Opening, found: Mapping[Channel, Sequence[Found]]) -> None:
    if opening.member is None or not found or any(one.layout.member for files in found.values() for one in files):
        return
    raise InputDataError(
        f"{opening.name}: member {opening.member} is asked for, and no variable has an ensemble dimension",
        where=f"source {opening.name}",
        hint="remove sources.NAME.member",
    )


def open_grid(path: str | Path) -> Coordinates:
    """Horizontal coordinates of a file, as Series.coordinates: of its first field, or of its latitude and longitude axes.

    Raises:
        InputDataError: a bad file, or one without a grid of rows and columns.
    """
    header = scan([path])[0]
    problem: InputDataError | None = None
    for variable in _grid_candidates(header):
        try:
            return read_coordinates(header, variable, layout_of(header, variable, any_member=True))[0]
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


def _collect_notes(name: str, series: Mapping[str, Series]) -> list[str]:
    """Notes of all series, equal ones told once with the channels they hold for."""
    told: dict[str, list[str]] = {}
    for key, one in series.items():
        for note in one.notes:
            told.setdefault(note, []).append(key)
    return [f"{name}: {'all channels' if 1 < len(keys) == len(series) else ', '.join(keys)}: {note}" for note, keys in told.items()]


__all__ = ["Series", "Source", "open_files", "open_grid", "open_source"]
