"""A channel in every file of a source: the variable, its days, its layout. What is wrong with files is collected, not raised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from downscale.cf.axes import axis_of
from downscale.cf.days import FileDays, file_days
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.layout import Layout, layout_of
from downscale.cf.names import Match, find
from downscale.cf.structure import structure
from downscale.errors import InputDataError, Problems
from downscale.variables import Channel

_DayKey = tuple[object, ...]


@dataclass
class Opening:
    """What is known while a source is opened.

    Attributes:
        name: of the source.
        headers: of all its files.
        renames, assume_units: by variable, from the config.
        skip_gaps: whether missing days are listed rather than refused.
        every_day: whether a channel keeps days that others lack.
        day_shift_hours: how far days may be shifted from 00-24 h.
        fill_values: numbers that mean missing although the files do not say so.
        member: of an ensemble dimension.
        aggregate: what becomes of sub-daily steps: "none", "mean" or "cell_methods", as in the config.
        select: of the config; see runs.one_run.
        notes: of the source.
    """

    name: str
    headers: Sequence[FileHeader]
    renames: Mapping[str, str] = field(default_factory=dict)
    assume_units: Mapping[str, str] = field(default_factory=dict)
    skip_gaps: bool = False
    every_day: bool = False
    day_shift_hours: float = 6.0
    fill_values: tuple[float, ...] = ()
    member: int | str | None = None
    aggregate: str = "none"
    select: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _structures: dict[str | int, bytes] = field(default_factory=dict, repr=False)
    _matches: dict[tuple[bytes, Channel], Match | None] = field(default_factory=dict, repr=False)
    _layouts: dict[tuple[bytes, str], Layout] = field(default_factory=dict, repr=False)
    _days: dict[_DayKey, FileDays] = field(default_factory=dict, repr=False)

    @property
    def many(self) -> str:
        """How many files there are, in words."""
        return f"{len(self.headers)} file{'s' * (len(self.headers) != 1)}"

    def structure_of(self, header: FileHeader) -> bytes:
        """The key of all files with the same variables, levels and grid."""
        key = header.structure or id(header)
        if key not in self._structures:
            self._structures[key] = structure(header)
        return self._structures[key]

    def match(self, header: FileHeader, channel: Channel) -> Match | None:
        """The variable of a file that is a channel, looked for once for all files of one structure."""
        key = (self.structure_of(header), channel)
        if key not in self._matches:
            self._matches[key] = find(header, channel, self.renames.get(channel.variable))
        return self._matches[key]

    def layout_of(self, header: FileHeader, variable: VariableHeader) -> Layout:
        """The layout of a variable, one object for all files of one structure; members are looked up in every file."""
        key = (self.structure_of(header), variable.name)
        if key not in self._layouts:
            layout = layout_of(header, variable, self.member)
            if layout.member is not None:
                return layout
            self._layouts[key] = layout
        return self._layouts[key]

    def days_of(self, header: FileHeader, variable: VariableHeader) -> FileDays:
        """The days of a file; read once for all variables and files with the same time axis."""
        key = self._day_key(header, variable)
        if key not in self._days:
            self._days[key] = file_days(header, variable, day_shift_hours=self.day_shift_hours, sub_daily=self.aggregate != "none")
        return self._days[key]

    def _day_key(self, header: FileHeader, variable: VariableHeader) -> _DayKey:
        dim = next((dim for dim in variable.dims if axis_of(header, dim) == "T"), "")
        time = header.variables.get(dim)
        if time is None or dim not in header.values:
            return (str(header.path), dim)
        bounds = time.text("bounds")
        said = header.variables.get(bounds)
        stamps = [header.values[one].tobytes() + header.values[one].dtype.str.encode() for one in (dim, bounds) if one in header.values]
        return (dim, str(time.attrs), said and (said.shape, str(said.attrs)), *stamps)


@dataclass(frozen=True)
class Found:
    """A channel in one file."""

    header: FileHeader
    variable: VariableHeader
    match: Match
    days: FileDays
    layout: Layout


def gather(opening: Opening, channel: Channel, problems: Problems) -> list[Found]:
    """The channel in all files that hold it, by first day, whatever the order of the files; bad files are put with the problems."""
    found = []
    for header in opening.headers:
        with problems.caught():
            match = opening.match(header, channel)
            if match is None:
                continue
            variable = header.variables[match.name]
            own = Problems()
            days: FileDays | None = None
            with own.caught():
                days = opening.days_of(header, variable)
            with own.caught():
                layout = opening.layout_of(header, variable)
                _one_level(channel, header, variable, match, layout)
                if days is not None:
                    found.append(Found(header, variable, match, days, layout))
            problems.errors += own.errors
    return sorted(found, key=lambda one: (one.days.days.min(initial=99999999), str(one.header.path)))


def _one_level(channel: Channel, header: FileHeader, variable: VariableHeader, match: Match, layout: Layout) -> None:
    if layout.level is None or match.level_index is not None:
        return
    length = variable.shape[variable.dims.index(layout.level)]
    if length != 1:
        raise InputDataError(
            f"{channel.name} has {length} levels in '{layout.level}' and none was asked for",
            where=f"{header.path}: {match.name}",
            hint="give a file with the surface field only",
        )


def raise_together(problems: Problems) -> None:
    """Raise what was collected, equal problems of several files as one with a line for each file."""
    same: dict[tuple[str, str], dict[str, InputDataError]] = {}
    for error in problems.errors:
        same.setdefault((error.message, error.hint), {}).setdefault(error.where, error)
    merged = Problems()
    merged.errors = [next(iter(group.values())) if len(group) == 1 else _of_many(list(group.values())) for group in same.values()]
    merged.raise_any()


def _of_many(errors: Sequence[InputDataError]) -> InputDataError:
    first = errors[0]
    lines: Iterable[str] = (line for error in errors for line in (error.where, *(f"  {text}" for text in error.findings)))
    return InputDataError(f"{first.message} ({len(errors)} times)", where=first.where, hint=first.hint, findings=list(lines))
