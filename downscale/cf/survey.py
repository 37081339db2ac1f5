"""Headers to runs: which files belong together, what each run is and holds. Reads headers and one pair of coordinates per grid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from downscale.cf import units
from downscale.cf.coordinates import read_coordinates
from downscale.cf.days import file_days, gaps, spans
from downscale.cf.header import FileHeader, VariableHeader
from downscale.cf.identity import Identity, identify
from downscale.cf.layout import layout_of
from downscale.cf.taken import STATIC, channels_in, statics_in
from downscale.config.found import FoundRun, UnitDoubt
from downscale.coordinates import Coordinates
from downscale.errors import InputDataError
from downscale.variables import Channel, lookup

_KM_PER_DEGREE = 111.195
_FINE = 0.6
"""A lat-lon grid with less than this share of the coarsest spacing is taken as the fine one where nothing else tells."""
_NOT_FUTURE = ("historical", "evaluation", "amip", "")


@dataclass(frozen=True)
class _Grid:
    words: str
    key: str
    spacing_km: float
    shape: tuple[int, int]
    is_lonlat: bool
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class _Contents:
    """What files of one structure hold."""

    channels: dict[Channel, str]
    static: tuple[str, ...]
    grid: _Grid


@dataclass
class _File:
    header: FileHeader
    identity: Identity
    grid: _Grid
    calendar: str = ""
    days: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    fields: dict[Channel, VariableHeader] = field(default_factory=dict)
    static: list[str] = field(default_factory=list)


def survey(headers: Sequence[FileHeader]) -> tuple[list[FoundRun], list[str]]:
    """The runs in a set of files.

    Returns:
        runs, fine ones first, and one line per file that no daily series can be made of.
    """
    files, left_out = [], []
    known: dict[str, _Contents] = {}
    for header in headers:
        try:
            files.append(_look(header, known))
        except InputDataError as error:
            left_out.append(f"{header.path}: {error.message}")
    daily = [one for one in files if one.fields]
    groups = [part for group in _grouped(daily) for part in _by_scenario(group)]
    fixed = [one for one in files if one.static and not one.fields]
    used: set[str] = set()
    runs = []
    coarsest = max((one.grid.spacing_km for one in daily), default=0.0)
    for group in groups:
        own = _fixed_of(group, fixed)
        used |= {str(one.header.path) for one in own}
        runs.append(_run(group, own, coarsest))
    left_out += [f"{one.header.path}: fixed fields of a grid that no daily file has" for one in fixed if str(one.header.path) not in used]
    return _with_names(sorted(runs, key=lambda run: (not run.is_truth, run.model.lower(), run.name))), left_out


def _look(header: FileHeader, known: dict[str, _Contents]) -> _File:
    """A file's place among the runs; InputDataError when it holds no daily field of the variable table, or no grid."""
    key = header.structure or str(header.path)
    if key not in known:
        known[key] = _contents(header)
    contents = known[key]
    identity, static = identify(header), list(contents.static)
    if not contents.channels:
        return _File(header, identity, contents.grid, static=static)
    fields = {channel: header.variables[name] for channel, name in contents.channels.items()}
    table = file_days(header, next(iter(fields.values())))
    return _File(header, identity, contents.grid, table.calendar, table.days, fields, static)


def _contents(header: FileHeader) -> _Contents:
    fields, static = channels_in(header), statics_in(header)
    if not fields and not static:
        raise InputDataError("no variable of the variable table")
    variable = next(iter(fields.values())) if fields else header.variables[next(iter(static.values()))]
    return _Contents({channel: one.name for channel, one in fields.items()}, tuple(static), _grid(header, variable))


def _grid(header: FileHeader, variable: VariableHeader) -> _Grid:
    coordinates = read_coordinates(header, variable, layout_of(header, variable))[0]
    lat, lon = (np.asarray(coordinates[name]) for name in ("lat", "lon"))
    shape = lat.shape if lat.ndim == 2 else (lat.size, lon.size)
    words = grid_words(coordinates)
    corners = " ".join(f"{values.flat[at]:.2f}" for values in (lat, lon) for at in (0, -1))
    return _Grid(
        words, f"{words} {corners}", _spacing_km(lat, lon), (int(shape[0]), int(shape[1])), lat.ndim == 1, (*_edges(lon), *_edges(lat))
    )


def grid_words(coordinates: Coordinates) -> str:
    """A grid in words: ``28 x 30 rotated pole, 49 km, 14.0 W to 6.0 E, 31.8 N to 46.8 N``."""
    lat, lon = (np.asarray(coordinates[name]) for name in ("lat", "lon"))
    rows, columns = lat.shape if lat.ndim == 2 else (lat.size, lon.size)
    attrs = coordinates["crs"].attrs if "crs" in coordinates else {}
    projected = str(attrs.get("grid_mapping_name", "curvilinear")).replace("_", " ").replace("latitude longitude", "pole")
    kind = "lat-lon" if lat.ndim == 1 else projected
    return f"{rows} x {columns} {kind}, {_spacing_km(lat, lon):.0f} km, {_degrees(lon, 'WE')}, {_degrees(lat, 'SN')}"


def _spacing_km(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> float:
    """Distance of neighbouring rows, the median over the grid."""
    rows = np.abs(np.diff(lat, axis=0))
    if lat.ndim == 2:
        rows = np.hypot(rows, np.diff(lon, axis=0) * np.cos(np.deg2rad(lat[1:])))
    return float(np.median(rows)) * _KM_PER_DEGREE if rows.size else 0.0


def _edges(values: NDArray[np.float64]) -> tuple[float, float]:
    """Outer edges of cells whose centres are given (for a plane: of its centres)."""
    half = float(np.median(np.abs(np.diff(values)))) / 2 if values.ndim == 1 and values.size > 1 else 0.0
    return float(values.min()) - half, float(values.max()) + half


def _degrees(values: NDArray[np.float64], sides: str) -> str:
    low, high = float(values.min()), float(values.max())
    return " to ".join(f"{abs(value):.1f} {sides[int(value >= 0)]}" for value in (low, high))


def _grouped(files: Sequence[_File]) -> list[list[_File]]:
    groups: dict[tuple[str, ...], list[_File]] = {}
    for one in files:
        groups.setdefault((*one.identity.run, one.calendar), []).append(one)
    return list(groups.values())


def _by_scenario(group: list[_File]) -> list[list[_File]]:
    """A run whose scenarios share days becomes one run per scenario, each with the historical files."""
    futures = sorted({one.identity.experiment for one in group} - set(_NOT_FUTURE))
    days = {name: set().union(*(one.days.tolist() for one in group if one.identity.experiment == name)) for name in futures}
    if len(futures) < 2 or len(set().union(*days.values())) == sum(len(one) for one in days.values()):
        return [group]
    return [[one for one in group if one.identity.experiment in (*_NOT_FUTURE, name)] for name in futures]


def _fixed_of(group: list[_File], fixed: Iterable[_File]) -> list[_File]:
    """Fixed fields on a run's grid: all of its own; of other runs of its model, then of anyone, what its own lack."""
    grids, identity = {one.grid.key for one in group}, group[0].identity
    own: list[_File] = []
    names: set[str] = set()

    def distance(one: _File) -> int:
        same_model = one.identity.model == identity.model
        return 0 if same_model and one.identity.driver == identity.driver else 1 if same_model else 2

    for one in sorted((one for one in fixed if one.grid.key in grids), key=lambda one: (distance(one), str(one.header.path))):
        if distance(one) == 0 or not set(one.static) <= names:
            own.append(one)
            names |= set(one.static)
    return own


def _run(group: list[_File], fixed: list[_File], coarsest: float) -> FoundRun:
    identity = group[0].identity
    role, why, sure = _role(group, coarsest)
    channels: dict[str, set[int]] = {}
    boxes: dict[str, tuple[float, float, float, float]] = {}
    for one in group:
        for channel in one.fields:
            channels.setdefault(channel.name, set()).update(one.days.tolist())
            boxes.setdefault(channel.name, one.grid.box)
    days = {name: tuple(sorted(found)) for name, found in channels.items()}
    calendar = group[0].calendar
    holes = {name: gaps(np.array(found), calendar) for name, found in days.items()}
    grids = {one.grid.key: one.grid for one in group}
    grid = min(grids.values(), key=lambda one: one.spacing_km)
    experiments = sorted({one.identity.experiment for one in group} - {""}, key=lambda name: (name not in _NOT_FUTURE, name))
    return FoundRun(
        name="", role=role, why=why, sure=sure, model=identity.model, driver=identity.driver, member=identity.member,
        experiments=tuple(experiments), facets=_common_facets(group), files=tuple(one.header.path for one in (*group, *fixed)),
        channels=days, calendar=calendar, grid="; ".join(one.words for one in grids.values()), grid_key=grid.key,
        spacing_km=grid.spacing_km, shape=grid.shape, boxes=boxes,
        static=tuple(name for name in STATIC if any(name in one.static for one in (*group, *fixed))),
        doubts=_doubts(group), gaps={name: spans(found) for name, found in holes.items() if found},
    )  # fmt: skip


def _role(group: list[_File], coarsest: float) -> tuple[str, str, bool]:
    identity, grid = group[0].identity, min((one.grid for one in group), key=lambda one: one.spacing_km)
    said = f"by its {identity.source}"
    if identity.kind in ("observations", "reanalysis"):
        return identity.kind, f"{said} ({identity.model})", True
    if identity.kind == "rcm":
        return "rcm", f"{said}: domain or driving model given", True
    if not grid.is_lonlat:
        return "rcm", "its grid is rotated or projected", identity.kind != "gcm"
    if identity.kind == "gcm":
        return "gcm", f"{said}: a model without domain or driver", True
    if grid.spacing_km < _FINE * coarsest:
        return "rcm", f"its grid ({grid.spacing_km:.0f} km) is much finer than the coarsest here ({coarsest:.0f} km)", False
    return "gcm", "a regular lat-lon grid, and nothing says otherwise", False


def _common_facets(group: list[_File]) -> dict[str, str]:
    first = dict(group[0].identity.facets)
    return {key: value for key, value in first.items() if all(dict(one.identity.facets).get(key) == value for one in group)}


def _doubts(group: list[_File]) -> tuple[UnitDoubt, ...]:
    """Variables whose units attribute cannot be used; daily sums in mm can only be mm/day."""
    found: dict[str, UnitDoubt] = {}
    for one in group:
        for channel, variable in one.fields.items():
            row, stated = lookup(channel.variable), variable.text("units")
            try:
                units.to_working(row, stated)
            except InputDataError as error:
                amount = row.units == "mm day-1" and (units.linear(stated, "mm") is not None or units.linear(stated, "kg m-2") is not None)
                found.setdefault(row.name, UnitDoubt(row.name, stated, error.message, f"{stated}/day" if amount else ""))
    return tuple(found.values())


def _with_names(runs: list[FoundRun]) -> list[FoundRun]:
    """Tokens for the config: the model's name, with driver, member, scenario or a number where two are alike."""

    def token(text: str) -> str:
        return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "RUN"

    forms = (
        lambda run: run.model or run.files[0].parent.name,
        lambda run: f"{run.model or run.files[0].parent.name}-{run.driver}" if run.driver else f"{run.model}-{run.files[0].parent.name}",
        lambda run: f"{run.model}-{run.driver}-{run.member}",
        lambda run: f"{run.model}-{run.driver}-{run.member}-{run.experiments[-1] if run.experiments else ''}",
    )
    names = [token(forms[0](run)) for run in runs]
    for form in forms[1:]:
        names = [token(form(run)) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)]
    taken: dict[str, int] = {}
    result = []
    for run, name in zip(runs, names, strict=True):
        taken[name] = taken.get(name, 0) + 1
        result.append(replace(run, name=name if taken[name] == 1 else f"{name}-{taken[name]}"))
    return result
