"""Files to series: find a channel in every file, hold the files against each other, and lay them along one day axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from downscale.cf import units
from downscale.cf.agree import check_gaps, check_repeats, one_grid
from downscale.cf.coordinates import read_coordinates
from downscale.cf.days import FileDays, file_days, merge
from downscale.cf.fields import Decoder
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.layout import layout_of
from downscale.cf.names import Match, axis_of, describe, find
from downscale.cf.series import Piece, Series
from downscale.errors import InputDataError
from downscale.variables import Channel, lookup


@dataclass
class Opening:
    """What is known while a source is opened.

    Attributes:
        name: of the source.
        headers: of all its files.
        renames, assume_units: by variable, from the config.
        skip_gaps: whether missing days are listed and left out rather than refused.
        day_cache: days of files already read, by path and time dimension.
    """

    name: str
    headers: Sequence[FileHeader]
    renames: Mapping[str, str]
    assume_units: Mapping[str, str]
    skip_gaps: bool
    day_cache: dict[tuple[str, str], FileDays] = field(default_factory=dict)

    def days_of(self, header: FileHeader, variable: VariableHeader) -> FileDays:
        """The days of a file; read once for all variables that share the time dimension."""
        key = (str(header.path), next((dim for dim in variable.dims if axis_of(header, dim) == "T"), ""))
        if key not in self.day_cache:
            self.day_cache[key] = file_days(header, variable)
        return self.day_cache[key]


@dataclass(frozen=True)
class _Found:
    header: FileHeader
    variable: VariableHeader
    match: Match
    days: FileDays


def assemble(opening: Opening, channel: Channel) -> Series | None:
    """The series of a channel, or None when no file holds it.

    Raises:
        InputDataError: the variable is ambiguous (F11), calendars (T03), units (U01) or grids (G05) of its files differ, days overlap
            with different data (T07), days are missing and the policy is error (T05, T06), or a layout is not understood.
    """
    found = _find_all(opening, channel)
    if not found:
        return None
    calendar = _one_calendar(opening, found)
    notes: dict[str, None] = dict.fromkeys(note for one in found for note in (one.match.note, *one.days.notes) if note)
    conversion, unit_note = _one_unit(opening, channel, found)
    notes |= dict.fromkeys(unit_note)
    pieces = [_piece(channel, one, conversion) for one in found]
    notes |= dict.fromkeys(note for piece in pieces for note in piece.layout.notes)
    coordinates, coordinate_notes = read_coordinates(found[0].header, found[0].variable, pieces[0].layout)
    notes |= dict.fromkeys(coordinate_notes + one_grid(channel, pieces))
    table = merge([one.days.days for one in found])
    series = Series(channel, calendar, table.days, coordinates, list(notes), pieces, table)
    check_repeats(series)
    check_gaps(opening.name, series, skip=opening.skip_gaps)
    return series


def missing_channels(opening: Opening, channels: Sequence[Channel]) -> InputDataError:
    """The error for channels that no file holds (F10, G10), with what might be meant."""
    findings = []
    for variable in dict.fromkeys(channel.variable for channel in channels):
        wanted = ", ".join(channel.name for channel in channels if channel.variable == variable)
        lines = list(dict.fromkeys(line for header in opening.headers for line in describe(header, lookup(variable))))
        findings += [
            f"{wanted}: candidates:" if lines else f"{wanted}: no candidate in {len(opening.headers)} files",
            *(f"  {line}" for line in lines[:8]),
        ]
    return InputDataError(
        f"{opening.name}: {', '.join(channel.name for channel in channels)} not found in {len(opening.headers)} files",
        where=f"source {opening.name}",
        hint="add the files, or name the variable in the config: sources.NAME.variables: {zg: NAME_IN_FILE}",
        findings=findings,
    )


def _find_all(opening: Opening, channel: Channel) -> list[_Found]:
    """The channel in all files that hold it, by first day, whatever the order of the files."""
    found = []
    for header in opening.headers:
        match = find(header, channel, opening.renames.get(channel.variable))
        if match is not None:
            variable = header.variables[match.name]
            found.append(_Found(header, variable, match, opening.days_of(header, variable)))
    names = sorted({one.match.name for one in found})
    if len(names) > 1:
        raise InputDataError(
            f"{channel.name}: ambiguous, files of {opening.name} hold it under several names: {', '.join(names)}",
            where="; ".join(str(next(one.header.path for one in found if one.match.name == name)) for name in names),
            hint=f"choose one in the config: sources.NAME.variables: {{{channel.variable}: {names[0]}}}",
        )
    return sorted(found, key=lambda one: (one.days.days.min(initial=99999999), str(one.header.path)))


def _one_calendar(opening: Opening, found: Sequence[_Found]) -> str:
    calendars: dict[str, list[str]] = {}
    for one in found:
        calendars.setdefault(one.days.calendar, []).append(one.header.path.name)
    if len(calendars) > 1:
        raise mixed_calendars(opening.name, calendars)
    return next(iter(calendars))


def mixed_calendars(name: str, files: Mapping[str, Sequence[str]]) -> InputDataError:
    """The error for calendars that differ inside one source (T03)."""
    return InputDataError(
        f"{name}: {len(files)} calendars in one source: {', '.join(sorted(files))}",
        where=f"source {name}",
        hint="make one source of each run; files of one run share a calendar",
        findings=[f"{calendar}: {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" for calendar, names in sorted(files.items())],
    )


def _one_unit(opening: Opening, channel: Channel, found: Sequence[_Found]) -> tuple[units.Conversion, list[str]]:
    """The conversion for all files and the note on it; unequal units are refused unless the config overrides them."""
    variable, assumed = lookup(channel.variable), opening.assume_units.get(channel.variable)
    stated = [one.variable.text("units") for one in found]
    if assumed is not None:
        conversion = units.to_working(variable, assumed)
        said = ", ".join(sorted({f"'{text}'" for text in stated}))
        return conversion, [f"units taken as '{assumed}', the files say {said} (assume_units)"]
    groups: dict[str, list[str]] = {}
    for one, text in zip(found, stated, strict=True):
        groups.setdefault(next((known for known in groups if units.same(known, text)), text), []).append(one.header.path.name)
    if len(groups) > 1:
        raise InputDataError(
            f"{channel.name}: unequal units in files of {opening.name}: {', '.join(repr(text) for text in groups)}",
            where=f"source {opening.name}, variable {found[0].match.name}",
            hint="convert the files to one unit, or make a source of each",
            findings=[f"'{text}': {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}" for text, names in groups.items()],
        )
    try:
        conversion = units.to_working(variable, stated[0])
    except InputDataError as error:
        raise InputDataError(error.message, where=f"{found[0].header.path}: {found[0].match.name}", hint=error.hint) from None
    return conversion, [] if conversion.is_identity else [f"converted from '{stated[0]}' to {variable.units}"]


def _piece(channel: Channel, one: _Found, conversion: units.Conversion) -> Piece:
    layout = layout_of(one.header, one.variable)
    if layout.level is not None and one.match.level_index is None:
        length = one.variable.shape[one.variable.dims.index(layout.level)]
        if length != 1:
            raise InputDataError(
                f"{channel.name} has {length} levels in '{layout.level}' and none was asked for",
                where=f"{one.header.path}: {one.match.name}",
                hint="give a file with the surface field only",
            )
    return Piece(one.header, one.variable, layout, one.match.level_index, Decoder.of(one.variable, conversion))
