"""What the files of each run hold, variable by variable: days, gaps, overlaps, copies and seams, with exact dates. No field is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from downscale.cf.axes import axis_of
from downscale.cf.calendar import encode_days, iso
from downscale.cf.coordinates import read_coordinates
from downscale.cf.days import DayTable, file_days, gaps, merge
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.identity import identify
from downscale.cf.layout import layout_of
from downscale.cf.survey import grid_words
from downscale.errors import InputDataError

_NOT_FIELDS = ("coordinates", "bounds", "grid_mapping", "climatology", "ancillary_variables")


@dataclass(frozen=True)
class Gap:
    """Days that no file holds, and the files before and after them (one and the same where the gap lies inside it)."""

    first: int
    last: int
    days: int
    before: FileHeader
    after: FileHeader

    def __str__(self) -> str:
        files = f"inside {self.before.path}" if self.before is self.after else f"between {self.before.path} and {self.after.path.name}"
        return f"gap: {_span(self.first, self.last)}, {_count(self.days)}, {files}"


@dataclass(frozen=True)
class Overlap:
    """Days that two files hold; ``copy`` says that their headers, coordinates and sizes are equal too."""

    first: int
    last: int
    days: int
    one: FileHeader
    other: FileHeader
    copy: bool

    def __str__(self) -> str:
        kind = "copy" if self.copy else "overlap"
        return f"{kind}: {_span(self.first, self.last)}, {_count(self.days)}, in {self.one.path} and {self.other.path}"


@dataclass(frozen=True)
class Seam:
    """Where one experiment follows another: the last day of the one, the first of the other, and how many days lie between them."""

    last: int
    first: int
    missing: int
    before: str
    after: str
    files: tuple[FileHeader, FileHeader]

    def __str__(self) -> str:
        hole = f", {_count(self.missing)} missing between them" if self.missing else ""
        names = f"{self.files[0].path} and {self.files[1].path.name}"
        return f"seam: {self.before} ends {iso(self.last)}, {self.after} begins {iso(self.first)}{hole}, {names}"


@dataclass(frozen=True)
class VariableInventory:
    """One variable of one run.

    Attributes:
        run: model, driver and member as far as the files tell.
        name, standard_name: in the files.
        units, calendars, grids: all that occur; more than one of them is a fault.
        files: how many hold it.
        first, last: days (yyyymmdd), 0 where no file is daily.
        days: how many different days there are.
        gaps, overlaps, seams: in the order of time.
        notes: files that are not daily or not understood, and what was assumed.
    """

    run: str
    name: str
    standard_name: str
    units: tuple[str, ...]
    calendars: tuple[str, ...]
    grids: tuple[str, ...]
    files: int
    first: int = 0
    last: int = 0
    days: int = 0
    gaps: tuple[Gap, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    seams: tuple[Seam, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Gaps, overlaps, copies and seams, one line each."""
        return [str(one) for one in (*self.seams, *self.gaps, *self.overlaps)]


@dataclass
class _Holding:
    """The files that hold one variable of one run, and their days."""

    files: list[tuple[FileHeader, VariableHeader]] = field(default_factory=list)
    daily: list[tuple[FileHeader, NDArray[np.int64]]] = field(default_factory=list)
    calendars: dict[str, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)


def inventory(headers: Sequence[FileHeader]) -> list[VariableInventory]:
    """The variables of the runs that the files belong to, by run and name. Experiments that follow each other are one run."""
    holdings: dict[tuple[str, str], _Holding] = {}
    for header in headers:
        run = " ".join(part for part in identify(header).run if part) or "files without a name of their run"
        for variable in _fields(header):
            _add(holdings.setdefault((run, variable.name), _Holding()), header, variable)
    words: dict[tuple[str, str], str] = {}
    return [_summary(run, name, holding, words) for (run, name), holding in sorted(holdings.items())]


def _fields(header: FileHeader) -> Iterator[VariableHeader]:
    """Variables with time and horizontal dimensions that are not coordinates of others."""
    named = {name for v in header.variables.values() for key in _NOT_FIELDS for name in v.text(key).replace(":", " ").split()}
    for variable in header.variables.values():
        if variable.is_number and variable.name not in named and {"T", "Y", "X"} <= {axis_of(header, dim) for dim in variable.dims}:
            yield variable


def _add(holding: _Holding, header: FileHeader, variable: VariableHeader) -> None:
    holding.files.append((header, variable))
    try:
        found = file_days(header, variable)
    except InputDataError as error:
        holding.notes[f"{header.path}: {error.message}"] = None
        return
    holding.calendars[found.calendar] = None
    holding.notes.update(dict.fromkeys(found.notes))
    if len(found.days):
        holding.daily.append((header, found.days))
    else:
        holding.notes[f"{header.path}: no time step"] = None


def _summary(run: str, name: str, holding: _Holding, words: dict[tuple[str, str], str]) -> VariableInventory:
    holding.daily.sort(key=lambda pair: (pair[1].min(), str(pair[0].path)))
    headers = [header for header, _ in holding.daily]
    table = merge([days for _, days in holding.daily])
    one_calendar = next(iter(holding.calendars)) if len(holding.calendars) == 1 else ""
    return VariableInventory(
        run,
        name,
        next((variable.text("standard_name") for _, variable in holding.files), ""),
        tuple(dict.fromkeys(variable.text("units") for _, variable in holding.files)),
        tuple(holding.calendars),
        tuple(dict.fromkeys(_grid(header, variable, words) for header, variable in holding.files)),
        len(holding.files),
        int(table.days.min(initial=99999999)) % 99999999,
        int(table.days.max(initial=0)),
        len(table.days),
        tuple(_gaps(table, headers, one_calendar)) if one_calendar else (),
        tuple(_overlaps(table, headers)),
        tuple(_seams(table, headers, one_calendar)) if one_calendar else (),
        tuple(holding.notes),
    )


def _grid(header: FileHeader, variable: VariableHeader, words: dict[tuple[str, str], str]) -> str:
    key = (header.structure or str(header.path), variable.name)
    if key not in words:
        try:
            coordinates = read_coordinates(header, variable, layout_of(header, variable))[0]
            words[key] = grid_words(coordinates) if "lat" in coordinates else f"{dict(coordinates.sizes)} without latitude and longitude"
        except InputDataError as error:
            words[key] = f"not understood: {error.message}"
    return words[key]


def _gaps(table: DayTable, headers: Sequence[FileHeader], calendar: str) -> Iterator[Gap]:
    for first, last, days in gaps(table.days, calendar):
        after = int(np.searchsorted(table.days, first))
        yield Gap(first, last, days, headers[table.file[after - 1]], headers[table.file[after]])


def _overlaps(table: DayTable, headers: Sequence[FileHeader]) -> Iterator[Overlap]:
    pairs, index = np.unique(table.repeats[:, [1, 3]], axis=0, return_inverse=True)
    for number, (one, other) in enumerate(pairs):
        days = table.repeats[index.ravel() == number, 0]
        first, second = headers[one], headers[other]
        yield Overlap(int(days.min()), int(days.max()), len(days), first, second, first.fingerprint == second.fingerprint)


def _seams(table: DayTable, headers: Sequence[FileHeader], calendar: str) -> Iterator[Seam]:
    names = [identify(header).experiment or "no experiment" for header in headers]
    of_file = np.unique(names, return_inverse=True)[1] if names else np.empty(0, np.int64)
    daily = of_file[table.file]
    for at in np.flatnonzero(np.diff(daily)).tolist():
        before, after = int(table.file[at]), int(table.file[at + 1])
        last, first = int(table.days[at]), int(table.days[at + 1])
        missing = int(np.diff(encode_days(np.array([last, first]), calendar))[0]) - 1
        yield Seam(last, first, missing, names[before], names[after], (headers[before], headers[after]))


def _span(first: int, last: int) -> str:
    return iso(first) if first == last else f"{iso(first)} to {iso(last)}"


def _count(days: int) -> str:
    return f"{days} day{'s' * (days != 1)}"
