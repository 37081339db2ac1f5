"""Files to series: hold the files of a channel against each other, and lay them along one day axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from downscale.cf import units
from downscale.cf.agree import check_gaps, check_repeats, one_grid
from downscale.cf.coordinates import read_coordinates
from downscale.cf.days import DayTable, merge
from downscale.cf.fields import Decoder
from downscale.cf.gather import Found, Opening
from downscale.cf.names import describe
from downscale.cf.runs import experiment_seams
from downscale.cf.series import Piece, Series
from downscale.cf.subdaily import WORDS, merge_steps, reduction
from downscale.errors import InputDataError, Problems
from downscale.variables import Channel, lookup

_SHOWN = 6


def assemble(opening: Opening, channel: Channel, found: Sequence[Found], problems: Problems) -> Series | None:
    """The series of a channel from its files, before its days are held against each other by :func:`lay_days`.

    What is wrong goes to the problems, and the result is None: the variable has several names (F11), units (U01) or grids (G05)
    of the files differ, or the units cannot be converted (U03, U04, T13).
    """
    own = Problems()
    conversion, coordinates = None, None
    notes: dict[str, None] = dict.fromkeys(note for one in found for note in (one.match.note, *one.days.notes, *one.layout.notes) if note)
    with own.caught():
        _one_name(opening, channel, found)
    with own.caught():
        conversion, unit_note = _one_unit(opening, channel, found)
        notes |= dict.fromkeys(unit_note)
    with own.caught():
        coordinates, coordinate_notes = read_coordinates(found[0].header, found[0].variable, found[0].layout)
        notes |= dict.fromkeys(coordinate_notes + one_grid(channel, found))
    problems.errors += own.errors
    if own.errors or conversion is None or coordinates is None:
        return None
    pieces = [
        Piece(one.header, one.variable, one.layout, one.match.level_index, Decoder.of(one.variable, conversion, opening.fill_values))
        for one in found
    ]
    table, method, table_notes = _table(opening, channel, found)
    return Series(channel, found[0].days.calendar, table.days, coordinates, [*notes, *table_notes], pieces, table, method=method)


def lay_days(opening: Opening, series: Series) -> None:
    """Hold the days of a series against each other.

    Raises:
        InputDataError: days overlap with different data (T07), or days are missing and the policy is error (T05, T06).
    """
    series.notes += experiment_seams(series)
    check_repeats(series)
    check_gaps(opening.name, series, skip=opening.skip_gaps, kept=opening.every_day)


def missing_channels(opening: Opening, channels: Sequence[Channel]) -> InputDataError:
    """The error for channels that no file holds (F10, G10), with what might be meant."""
    kinds = {opening.structure_of(header): header for header in opening.headers}
    findings = []
    for variable in dict.fromkeys(channel.variable for channel in channels):
        wanted = ", ".join(channel.name for channel in channels if channel.variable == variable)
        lines = list(dict.fromkeys(line for header in kinds.values() for line in describe(header, lookup(variable))))
        findings += [
            f"{wanted}: candidates:" if lines else f"{wanted}: no candidate in {opening.many}",
            *(f"  {line}" for line in lines[:8]),
        ]
    first = channels[0]
    remedy = f"{first.variable}: {'NAME_{level}' if first.level_hpa is not None else 'NAME_IN_FILE'}"
    return InputDataError(
        f"{opening.name}: {', '.join(channel.name for channel in channels)} not found in {opening.many}",
        where=f"source {opening.name}",
        hint=f"add the files, or name the variable in the config: sources.NAME.variables: {{{remedy}}}",
        findings=findings,
    )


def one_calendar(name: str, found: Mapping[Channel, Sequence[Found]]) -> None:
    """Refuse files of one source in several calendars (T03)."""
    files: dict[str, dict[str, None]] = {}
    for pieces in found.values():
        for one in pieces:
            files.setdefault(one.days.calendar, {}).setdefault(one.header.path.name)
    if len(files) > 1:
        raise InputDataError(
            f"{name}: {len(files)} calendars in one source: {', '.join(sorted(files))}",
            where=f"source {name}",
            hint="make one source of each run; files of one run share a calendar",
            findings=[f"{calendar}: {_some(list(names))}" for calendar, names in sorted(files.items())],
        )


def _table(opening: Opening, channel: Channel, found: Sequence[Found]) -> tuple[DayTable, str, list[str]]:
    """Where each day lies; how its steps become one; notes on that."""
    if opening.aggregate == "none":
        return merge([one.days.days for one in found]), "mean", []
    table, notes = merge_steps(channel.name, [one.days for one in found], aggregate=opening.aggregate, skip=opening.skip_gaps)
    if table.parts == 1:
        return table, "mean", notes
    where = f"{found[0].header.path}: {found[0].match.name}"
    kinds = dict.fromkeys(reduction(channel, one.variable, where, parts=table.parts, aggregate=opening.aggregate) for one in found)
    (method,) = {kind.method for kind in kinds}
    notes.append(
        f"daily {WORDS[method]} of {table.parts} steps a day, {', '.join(kind.of for kind in kinds)} (aggregate: {opening.aggregate})"
    )
    return table, method, notes


def _one_name(opening: Opening, channel: Channel, found: Sequence[Found]) -> None:
    names = sorted({one.match.name for one in found})
    if len(names) > 1:
        raise InputDataError(
            f"{channel.name}: ambiguous, files of {opening.name} hold it under several names: {', '.join(names)}",
            where="; ".join(str(next(one.header.path for one in found if one.match.name == name)) for name in names),
            hint=f"choose one in the config: sources.NAME.variables: {{{channel.variable}: {names[0]}}}",
        )


def _one_unit(opening: Opening, channel: Channel, found: Sequence[Found]) -> tuple[units.Conversion, list[str]]:
    """The conversion for all files and the note on it; unequal units are refused unless the config overrides them."""
    variable, assumed = lookup(channel.variable), opening.assume_units.get(channel.variable)
    groups: dict[str, list[Found]] = {}
    for one in found:
        text = one.variable.text("units")
        groups.setdefault(text if text in groups else next((known for known in groups if units.same(known, text)), text), []).append(one)
    _refuse_sums(channel, found, assumed)
    if assumed is not None:
        said = ", ".join(sorted({f"'{one.variable.text('units')}'" for one in found}))
        return units.to_working(variable, assumed), [f"units taken as '{assumed}', the files say {said} (assume_units)"]
    if len(groups) > 1:
        raise InputDataError(
            f"{channel.name}: unequal units in files of {opening.name}: {', '.join(repr(text) for text in groups)}",
            where=f"source {opening.name}, variable {found[0].match.name}",
            hint="convert the files to one unit, or make a source of each",
            findings=[f"'{text}': {_some([one.header.path.name for one in files])}" for text, files in groups.items()],
        )
    stated = found[0].variable.text("units")
    try:
        conversion = units.to_working(variable, stated)
    except InputDataError as error:
        more = f" and {len(found) - 1} more files" if len(found) > 1 else ""
        raise InputDataError(error.message, where=f"{found[0].header.path}{more}: {found[0].match.name}", hint=error.hint) from None
    return conversion, [] if conversion.is_identity else [f"converted from '{stated}' to {variable.units}"]


def _refuse_sums(channel: Channel, found: Sequence[Found], assumed: str | None) -> None:
    """Sums over another time than a day are no daily flux, whatever the units are said to be (T13)."""
    for one in found:
        span = units.summed_hours(one.variable.text("cell_methods"), 24.0 * one.days.width)
        if span is not None and abs(span - 24.0) > 0.5:
            said = f"units '{one.variable.text('units')}'" + (f", assume_units '{assumed}'" if assumed else "")
            raise InputDataError(
                f"{channel.name} is summed over {span:g} hours, not over a day",
                where=f"{one.header.path}: {one.match.name}, {said}, cell_methods '{one.variable.text('cell_methods')}'",
                hint="add the steps of each day up first, e.g. cdo -daysum IN OUT",
            )


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
