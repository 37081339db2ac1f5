"""Files of a prediction and of its reference, opened as one pair: the same variables, days, calendar and cells, or an error."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from downscale.cf.calendar import iso
from downscale.cf.catalogue import scan
from downscale.cf.members import is_ensemble
from downscale.cf.open import Source, open_files
from downscale.cf.series import Series
from downscale.cf.taken import STATIC, channels_in
from downscale.config.load import digest
from downscale.errors import InputDataError
from downscale.grid.grid import Grid, require_same_grid
from downscale.variables import Channel

log = logging.getLogger(__name__)
WHICH = {"truth": "reference", "pred": "prediction"}
_IN_CONFIG = (
    ("sources.NAME.member:", "--member"),
    ("sources.NAME.member", "--member"),
    ("sources.NAME.assume_units:", "--assume-units"),
    ("sources.NAME.fill_values", "--fill-value"),
    ("sources.NAME.variables:", "rename the variable:"),
)


@dataclass(frozen=True)
class FileOptions:
    """How the files are read.

    Attributes:
        variables: those wanted; empty: all that both have.
        common_days: judge the days that both have where their days differ.
        assume_units: variable -> units that replace the files'.
        fill_values: numbers that stand for missing.
        member: of an ensemble dimension, of the prediction, and of the reference where it has one.
    """

    variables: tuple[str, ...] = ()
    common_days: bool = False
    assume_units: dict[str, str] = field(default_factory=dict)
    fill_values: tuple[float, ...] = ()
    member: str | None = None


@dataclass(eq=False)
class FilePair:
    """A prediction and its reference on the same days and cells.

    Attributes:
        variables: names in the variable table.
        calendar, days: of both, yyyymmdd.
        grid: of both, rows ascending.
        sources: "truth" and "pred".
        notes: what was converted, flipped, assumed, left out.
    """

    variables: tuple[str, ...]
    calendar: str
    days: np.ndarray
    grid: Grid
    sources: dict[str, Source]
    notes: list[str]

    def series(self, variable: str, which: str) -> Series:
        """One variable of "truth" or "pred"."""
        return self.sources[which].series[variable]

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of the files: what a second evaluation compares."""
        return {WHICH[which]: digest(source.files) for which, source in self.sources.items()}

    def close(self) -> None:
        """Close all files."""
        for source in self.sources.values():
            source.close()


def open_pair(prediction: Sequence[Path | str], reference: Sequence[Path | str], options: FileOptions) -> FilePair:
    """Open both sets of files.

    Raises:
        InputDataError: bad files; no variable in common, or one that was asked for is missing; units that cannot be converted; other
            calendars, cells or days.
    """
    paths = {"truth": list(reference), "pred": list(prediction)}
    variables = _variables({which: _held(some) for which, some in paths.items()}, options.variables)
    sources: dict[str, Source] = {}
    try:
        for which, some in paths.items():
            sources[which] = _open(WHICH[which], some, variables, options)
        return _pair(variables, sources, common_days=options.common_days)
    except BaseException:
        for source in sources.values():
            source.close()
        raise


def _open(name: str, paths: list[Path | str], variables: Sequence[str], options: FileOptions) -> Source:
    try:
        return open_files(
            name,
            paths,
            [Channel(variable) for variable in variables],
            gaps="skip",
            day_shift_hours=12.0,  # whatever a day is in these files, it is noted
            assume_units=options.assume_units,
            fill_values=options.fill_values,
            member=options.member if name == WHICH["pred"] or _has_members(paths) else None,
        )
    except InputDataError as error:
        for theirs, ours in _IN_CONFIG:
            error.hint = error.hint.replace(theirs, ours)
            error.findings = [line.replace(theirs, ours) for line in error.findings]
        raise


def _has_members(paths: list[Path | str]) -> bool:
    return any(is_ensemble(header, dim) for header in scan(paths) for field in header.variables.values() for dim in field.dims)


def _held(paths: list[Path | str]) -> list[str]:
    """Surface variables of the variable table in some files."""
    found = {channel.name: None for header in scan(paths) for channel in channels_in(header) if channel.level_hpa is None}
    return [name for name in found if name not in STATIC]


def _variables(held: dict[str, list[str]], wanted: tuple[str, ...]) -> tuple[str, ...]:
    common = [name for name in held["truth"] if name in held["pred"]]
    lines = [f"{WHICH[which]}: {', '.join(names) or 'none that we know'}" for which, names in held.items()]
    lacking = [name for name in wanted if name not in common]
    if lacking or not common:
        raise InputDataError(
            f"{', '.join(lacking)} is not in both" if lacking else "prediction and reference have no variable in common",
            where=" | ".join(lines),
            hint="give files with the same daily variables; downscale inspect FILE shows how they are read",
        )
    left_out = sorted((set(held["truth"]) ^ set(held["pred"])) if not wanted else ())
    if left_out:
        log.warning("only one of the two has %s: left out", ", ".join(left_out))
    return tuple(wanted or common)


def _pair(variables: tuple[str, ...], sources: dict[str, Source], *, common_days: bool) -> FilePair:
    truth, pred = sources["truth"], sources["pred"]
    notes = list(dict.fromkeys([*truth.notes, *pred.notes]))
    axes = [f"{WHICH[which]}: {_axis(source)}" for which, source in sources.items()]
    if truth.calendar != pred.calendar:
        raise InputDataError(
            "prediction and reference have different calendars",
            where=" | ".join(axes),
            hint="bring both to one calendar first; days cannot be matched across calendars",
        )
    grids = {which: Grid.from_dataset(source.series[variables[0]].coordinates) for which, source in sources.items()}
    require_same_grid(grids["truth"], grids["pred"], names=("reference", "prediction"), notes=notes)
    for which, source in sources.items():
        for name in variables[1:]:
            other = Grid.from_dataset(source.series[name].coordinates)
            require_same_grid(grids[which], other, names=(f"{WHICH[which]} {variables[0]}", name), notes=notes)
    days = np.intersect1d(truth.days, pred.days, assume_unique=True)
    lost = {WHICH[which]: len(source.days) - len(days) for which, source in sources.items()}
    if any(lost.values()):
        words = " and ".join(f"{count} of the {name}" for name, count in lost.items() if count)
        if not common_days or not len(days):
            raise InputDataError(
                "prediction and reference have different days" + ("" if len(days) else ", and none in common"),
                where=" | ".join(axes),
                hint=f"give the same days, or --common-days to leave out {words}" if len(days) else "give files of the same period",
            )
        notes.append(f"{len(days)} common days are judged; days left out: {words}")
        log.warning("%s", notes[-1])
        for source in sources.values():
            for name in variables:
                source.series[name].restrict(days)
    grid = replace(grids["truth"], notes=())
    return FilePair(variables, truth.calendar, days, grid, sources, notes)


def _axis(source: Source) -> str:
    return f"{iso(source.days[0])} to {iso(source.days[-1])}, {len(source.days)} days, calendar {source.calendar}"
