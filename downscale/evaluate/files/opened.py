"""Files of a prediction and of its reference, opened as one pair: the same variables, days, calendar and cells, or an error."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from downscale.evaluate.files.options import WHICH, FileOptions
from downscale.evaluate.files.remedies import telling
from downscale.grid.grid import Grid, require_same_grid
from downscale.variables import Channel

log = logging.getLogger(__name__)


@dataclass(eq=False)
class FilePair:
    """A prediction and its reference on the same days and cells.

    Attributes:
        variables: names in the variable table.
        calendar, days: of both, yyyymmdd.
        grid: of both, rows ascending.
        sources: "truth" and "pred".
        assumed: units that were assumed, by side and variable.
        notes: what was converted, flipped, assumed, left out.
    """

    variables: tuple[str, ...]
    calendar: str
    days: np.ndarray
    grid: Grid
    sources: dict[str, Source]
    assumed: dict[str, dict[str, str]]
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
    with telling():
        held = {WHICH[which]: _held(some) for which, some in paths.items()}
    variables = _variables(held, options.variables)
    assumed = options.units_of({side: {name: some[name] for name in variables} for side, some in held.items()})
    sources: dict[str, Source] = {}
    try:
        for which, some in paths.items():
            with telling(WHICH[which]):
                sources[which] = _open(WHICH[which], some, variables, options, assumed[WHICH[which]])
        return _pair(variables, sources, assumed, common_days=options.common_days)
    except BaseException:
        for source in sources.values():
            source.close()
        raise


def _open(side: str, paths: list[Path | str], variables: Sequence[str], options: FileOptions, assumed: dict[str, str]) -> Source:
    return open_files(
        side,
        paths,
        [Channel(variable) for variable in variables],
        gaps="skip",
        day_shift_hours=12.0,  # whatever a day is in these files, it is noted
        assume_units=assumed,
        fill_values=options.missing_of(side),
        member=options.member if side == WHICH["pred"] or _has_members(paths) else None,
    )


def _has_members(paths: list[Path | str]) -> bool:
    return any(is_ensemble(header, dim) for header in scan(paths) for field in header.variables.values() for dim in field.dims)


def _held(paths: list[Path | str]) -> dict[str, list[str]]:
    """Surface variables of the variable table in some files, with the units that each file states."""
    found: dict[str, list[str]] = {}
    for header in scan(paths):
        for channel, variable in channels_in(header).items():
            if channel.level_hpa is None and channel.name not in STATIC:
                found.setdefault(channel.name, []).append(variable.text("units"))
    return found


def _variables(held: dict[str, dict[str, list[str]]], wanted: tuple[str, ...]) -> tuple[str, ...]:
    reference, prediction = (held[side] for side in WHICH.values())
    common = [name for name in reference if name in prediction]
    lines = [f"{side}: {', '.join(some) or 'none that we know'}" for side, some in held.items()]
    lacking = [name for name in wanted if name not in common]
    if lacking or not common:
        raise InputDataError(
            f"{', '.join(lacking)} is not in both" if lacking else "prediction and reference have no variable in common",
            where=" | ".join(lines),
            hint="give files with the same daily variables; downscale inspect FILE shows how they are read",
        )
    left_out = sorted((set(reference) ^ set(prediction)) if not wanted else ())
    if left_out:
        log.warning("only one of the two has %s: left out", ", ".join(left_out))
    return tuple(wanted or common)


def _pair(variables: tuple[str, ...], sources: dict[str, Source], assumed: dict[str, dict[str, str]], *, common_days: bool) -> FilePair:
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
    return FilePair(variables, truth.calendar, days, grid, sources, assumed, notes)


def _axis(source: Source) -> str:
    return f"{iso(source.days[0])} to {iso(source.days[-1])}, {len(source.days)} days, calendar {source.calendar}"
