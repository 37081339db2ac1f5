"""Which variable of a file is which channel.

A variable is recognised by the name the config gives, else by its CMOR name, other known spellings and its CF standard name together
with its level, height and cell methods: air_temperature alone may be tas, tasmax, tasmin or ta. All that fit count: two are an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from downscale.cf.axes import axis_of
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.levels import height_of, levels_of
from downscale.errors import InputDataError
from downscale.variables import TABLE, UPPER_AIR, Channel, Variable, lookup

HEIGHT_TOLERANCE_M = 1.0

_SUFFIX = re.compile(r"^(?P<stem>[A-Za-z]+?)_?(?P<level>\d{2,4})(hPa|mb)?$")


@dataclass(frozen=True)
class Match:
    """A variable that is a channel: its name in the file, its place on the level dimension if it has one, and what was assumed."""

    name: str
    level_index: int | None = None
    note: str = ""


def find(header: FileHeader, channel: Channel, rename: str | None = None) -> Match | None:
    """The variable of a file that is this channel, or None.

    Args:
        header: the file.
        channel: what is looked for.
        rename: the name the config gives it; ``{level}`` in it stands for the level in hPa (``z_{level}``).

    Raises:
        InputDataError: more than one variable fits (F11), or the one that fits says it is another variable of the table (U04).
    """
    found = list(_renamed(header, channel, rename) if rename else _discovered(header, channel))
    if len(found) > 1:
        names = ", ".join(match.name for match in found)
        raise InputDataError(
            f"{channel.name}: ambiguous, {len(found)} variables fit: {names}",
            where=str(header.path),
            hint=f"choose one in the config: sources.NAME.variables: {{{channel.variable}: {found[0].name}}}",
        )
    return _checked(header, channel, found[0]) if found else None


def find_static(header: FileHeader, name: str, rename: str | None = None) -> str | None:
    """Name of a fixed field (orog, sftlf) in a file, or None; a time dimension of length 1 does not disturb."""
    fixed = {v.name for v in header.variables.values() if v.is_number and len(v.dims) >= 2 and _steps(header, v) <= 1}
    wanted = lookup(name)
    for names in ({rename} if rename else {name}, set() if rename else _standard(header, wanted)):
        hits = sorted(fixed & names)
        if len(hits) > 1:
            raise InputDataError(
                f"{name}: ambiguous, {len(hits)} variables fit: {', '.join(hits)}",
                where=str(header.path),
                hint=f"choose one in the config: sources.NAME.variables: {{{name}: {hits[0]}}}",
            )
        if hits:
            return hits[0]
    return None


def describe(header: FileHeader, variable: Variable) -> list[str]:
    """Fields of a file that might be meant by a variable, with what they say of themselves: for error messages."""
    fields = [v for v in header.variables.values() if v.is_number and len(v.dims) >= 2 and _steps(header, v) > 0]
    meant = [v for v in fields if v.text("standard_name") in (variable.standard_name, *variable.also_standard)]
    lines = []
    for field in meant or fields:
        levels = levels_of(header, field)
        at = "" if levels is None else f" at {', '.join(f'{level:g}' for level in levels.hpa)} hPa"
        kind = field.text("standard_name") or field.text("long_name") or "no standard name"
        lines.append(f"{header.path.name}: {field.name} ({kind}, {field.text('units') or 'no units'}{at})")
    return lines


def _renamed(header: FileHeader, channel: Channel, rename: str) -> Iterator[Match]:
    name = rename.replace("{level}", str(channel.level_hpa))
    variable = header.variables.get(name)
    if variable is None or _steps(header, variable) == 0:
        return
    if channel.level_hpa is None:
        yield Match(name, note=f"{channel.name} is {name}, as the config says")
        return
    index = _level_index(header, variable, channel.level_hpa)
    if index is not None or "{level}" in rename or _suffix(name)[1] == channel.level_hpa:
        yield Match(name, index if index is not None and index >= 0 else None, f"{channel.name} is {name}, as the config says")


def _discovered(header: FileHeader, channel: Channel) -> Iterator[Match]:
    wanted = lookup(channel.variable)
    for variable in header.variables.values():
        if not variable.is_number or len(variable.dims) < 2 or _steps(header, variable) == 0:
            continue
        match = _surface(header, variable, wanted) if channel.level_hpa is None else _upper(header, variable, wanted, channel.level_hpa)
        if match is not None:
            yield match


def _surface(header: FileHeader, variable: VariableHeader, wanted: Variable) -> Match | None:
    if variable.name == wanted.name:
        return Match(variable.name)
    if variable.name.lower() in wanted.also:
        return Match(variable.name, note=f"{wanted.name} is {variable.name}")
    if not _means(header, variable, wanted) or levels_of(header, variable) is not None:
        return None
    method, height = time_method(variable.text("cell_methods")), height_of(header, variable)
    expected = time_method(wanted.cell_methods)
    fits = method == expected or (expected == "mean" and method in ("", "point"))
    if wanted.height_m is not None and wanted.name in ("uas", "vas"):
        fits = fits and height is not None
    if height is not None and wanted.height_m is not None:
        fits = fits and abs(height - wanted.height_m) <= HEIGHT_TOLERANCE_M
    return Match(variable.name, note=f"{wanted.name} is {variable.name} ({variable.text('standard_name')})") if fits else None


def _upper(header: FileHeader, variable: VariableHeader, wanted: Variable, level: int) -> Match | None:
    stem, suffix = _level_name(header, variable)
    names = (wanted.name, *wanted.also)
    if suffix is not None and (stem.lower() in names or _means(header, variable, wanted)):
        if suffix != level:
            return None
        levels = levels_of(header, variable)
        index = levels.find(level) if levels is not None and levels.dim is not None else None
        contradicts = levels is not None and levels.dim is None and levels.find(level) is None
        stated = f", not its level coordinate, {levels.hpa[0]:g} hPa" if levels is not None and contradicts else ""
        return Match(variable.name, index, f"the level in the name {variable.name} is trusted{stated}" if stated else "")
    by_name = variable.name == wanted.name or variable.name.lower() in wanted.also
    if not by_name and not _means(header, variable, wanted):
        return None
    found = _level_index(header, variable, level)
    if found is None:
        return None
    note = "" if variable.name == wanted.name else f"{wanted.name} is {variable.name}"
    return Match(variable.name, found if found >= 0 else None, note)


def _checked(header: FileHeader, channel: Channel, match: Match) -> Match:
    """A match with notes on what its level and its standard name say; refused where it says that it is something else (U04)."""
    variable, wanted = header.variables[match.name], lookup(channel.variable)
    stated = variable.text("standard_name")
    notes = [match.note] * bool(match.note)
    if stated and stated not in (wanted.standard_name, *wanted.also_standard):
        others = {name for row in TABLE.values() for name in (row.standard_name, *row.also_standard)} | {"relative_humidity"}
        if stated in others:
            raise InputDataError(
                f"{channel.name}: variable '{match.name}' says that it is {stated}, not {wanted.standard_name}",
                where=f"{header.path}: {match.name}",
                hint="name the right one in sources.NAME.variables, or compute it first; mend a wrong standard_name with ncatted",
            )
        notes.append(f"{match.name} is taken although its standard_name is {stated}")
    levels = levels_of(header, variable) if channel.level_hpa is not None else None
    if levels is not None and channel.level_hpa is not None and levels.find(channel.level_hpa) is not None:
        notes += levels.notes(channel.level_hpa)
    return Match(match.name, match.level_index, "; ".join(notes))


def _level_index(header: FileHeader, variable: VariableHeader, level: int) -> int | None:
    """Place on the level dimension, -1 for a fitting scalar level, None when the level is not there or not known."""
    levels = levels_of(header, variable)
    index = None if levels is None else levels.find(level)
    return index if index is None or (levels is not None and levels.dim is not None) else -1


def _means(header: FileHeader, variable: VariableHeader, wanted: Variable) -> bool:
    """Whether the standard name says so and the short name does not belong to another variable of the table."""
    known = any(variable.name.lower() in (row.name, *row.also) for row in TABLE.values() if row.name != wanted.name)
    stem, suffix = _level_name(header, variable)
    other_level = suffix is not None and stem.lower() in {n for key in UPPER_AIR if key != wanted.name for n in (key, *TABLE[key].also)}
    return variable.text("standard_name") in (wanted.standard_name, *wanted.also_standard) and not known and not other_level


def _standard(header: FileHeader, wanted: Variable) -> set[str]:
    return {v.name for v in header.variables.values() if v.text("standard_name") == wanted.standard_name}


def _suffix(name: str) -> tuple[str, int | None]:
    match = _SUFFIX.match(name)
    return (match["stem"], int(match["level"])) if match else (name, None)


def _level_name(header: FileHeader, variable: VariableHeader) -> tuple[str, int | None]:
    """Stem and level of a name such as zg500; no level where the variable has a height in metres (u10 is at 10 m)."""
    return (variable.name, None) if height_of(header, variable) is not None else _suffix(variable.name)


def _steps(header: FileHeader, variable: VariableHeader) -> int:
    """Length of a variable's time dimension; 0 when it has none."""
    return next((n for dim, n in zip(variable.dims, variable.shape, strict=True) if axis_of(header, dim) == "T"), 0)


def time_method(cell_methods: str) -> str:
    """What a cell_methods string says is done along time: mean, maximum, sum, point; empty when it says nothing."""
    match = re.search(r"\btime:\s*(?:[a-z_]+:\s*)*([a-z_]+)", cell_methods)
    return match.group(1) if match else ""
