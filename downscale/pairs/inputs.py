"""Open everything that prepare reads, hold it against each other, and refuse before anything is written."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from downscale.cf.open import Source, open_source
from downscale.config.load import digest
from downscale.config.schema import ExperimentConfig
from downscale.errors import InputDataError
from downscale.grid.grid import Grid, same_grid
from downscale.pairs.coarse import CoarseReader, gcm_reader, upscaling_reader
from downscale.pairs.geometry import Geometry, resolve_geometry
from downscale.pairs.scalars import Forcings
from downscale.variables import Channel

log = logging.getLogger(__name__)


@dataclass
class GroupInputs:
    """One group to build: an RCM with or without its driving GCM, or a lone GCM."""

    name: str
    calendar: str
    days: np.ndarray
    rcm: CoarseReader | None
    gcm: CoarseReader | None
    recipe: dict[str, Any]
    nan_days: str


@dataclass
class Inputs:
    """All groups on common grids."""

    groups: list[GroupInputs]
    geometry: Geometry
    channels: list[Channel]
    targets: list[Channel]
    static: dict[str, np.ndarray]
    forcings: Forcings
    recipe: dict[str, Any]

    def close(self) -> None:
        """Close all files."""
        for group in self.groups:
            for reader in (group.rcm, group.gcm):
                if reader is not None:
                    reader.source.close()


def open_inputs(cfg: ExperimentConfig) -> Inputs:
    """Catalogue and open all sources, resolve the grids, pair the days.

    Raises:
        InputDataError: a source is rejected, grids or calendars of a pair differ, or a pair has no common day.
        ConfigError: boxes or forcings that do not fit.
    """
    targets = [Channel(target.name) for target in cfg.targets]
    rcms = {name: _open_rcm(cfg, name, targets) for name, source in cfg.sources.items() if source.role == "rcm"}
    gcms = {
        name: open_source(name, source, cfg.channels(), optional=targets, gaps=cfg.missing.gaps)
        for name, source in cfg.sources.items()
        if source.role == "gcm"
    }
    rcm_grid = _common_grid(rcms)
    to = cfg.upscale.to
    geometry = resolve_geometry(rcm_grid, _source_grid(gcms[to]) if isinstance(to, str) else None, cfg.domain, cfg.upscale)
    forcings = Forcings(Path(cfg.forcings.file) if cfg.forcings else None, cfg.forcings.columns if cfg.forcings else [])
    groups = [_rcm_group(cfg, name, rcm, gcms.get(cfg.driver_of(name) or ""), geometry) for name, rcm in rcms.items()]
    groups += [_gcm_group(cfg, name, gcm, geometry) for name, gcm in gcms.items() if cfg.sources[name].drives is None]
    for group in groups:
        forcings(group.days, group.calendar)
    static = _static(cfg, rcms, geometry)
    return Inputs(groups, geometry, cfg.channels(), targets, static, forcings, _recipe(cfg, geometry, forcings, static))


def _open_rcm(cfg: ExperimentConfig, name: str, targets: list[Channel]) -> Source:
    channels = [*cfg.channels(), *(target for target in targets if target not in cfg.channels())]
    return open_source(name, cfg.sources[name], channels, statics=cfg.static, gaps=cfg.missing.gaps)


def _source_grid(source: Source) -> Grid:
    return Grid.from_dataset(next(iter(source.series.values())).coordinates)


def _common_grid(rcms: dict[str, Source]) -> Grid:
    """The one grid of all RCM series; InputDataError where two differ (G05)."""
    reference: tuple[str, Grid] | None = None
    seen: set[str] = set()
    for name, source in rcms.items():
        for channel, series in source.series.items():
            grid = Grid.from_dataset(series.coordinates)
            label = f"{name}:{channel} {grid.shape[0]} x {grid.shape[1]}, first cell {grid.lat[0, 0]:.3f} N {grid.lon[0, 0]:.3f} E"
            if reference is None:
                reference = (label, grid)
            elif grid.digest not in seen and not same_grid(grid, reference[1]):
                raise InputDataError(
                    "RCM fields are on different grids",
                    where=f"{reference[0]}; {label}",
                    hint="all rcm sources of an experiment share one grid",
                )
            seen.add(grid.digest)
    assert reference is not None, "the config has at least one rcm source"
    return reference[1]


def _rcm_group(cfg: ExperimentConfig, name: str, rcm: Source, gcm: Source | None, geometry: Geometry) -> GroupInputs:
    days = rcm.days
    reader = upscaling_reader(
        rcm, geometry.upscale, geometry.inner, min_valid_fraction=cfg.upscale.min_valid_fraction, smooth=cfg.upscale.smooth
    )
    driver = None
    if gcm is not None:
        days = _pair_days(rcm, gcm)
        driver = gcm_reader(gcm, geometry.coarse, smooth=cfg.upscale.smooth)
    return GroupInputs(name, rcm.calendar, days, reader, driver, _group_recipe(cfg, [rcm, *([gcm] if gcm else [])]), cfg.missing.nan_days)


def _gcm_group(cfg: ExperimentConfig, name: str, gcm: Source, geometry: Geometry) -> GroupInputs:
    reader = gcm_reader(gcm, geometry.coarse, smooth=cfg.upscale.smooth)
    return GroupInputs(name, gcm.calendar, gcm.days, None, reader, _group_recipe(cfg, [gcm]), cfg.missing.nan_days)


def _pair_days(rcm: Source, gcm: Source) -> np.ndarray:
    """Exactly the days that both have, by label."""
    if rcm.calendar != gcm.calendar:
        raise InputDataError(
            f"'{rcm.name}' has calendar {rcm.calendar} and its driver '{gcm.name}' {gcm.calendar}: days cannot be paired",
            where=f"{rcm.name}, {gcm.name}",
            hint="remove 'drives' to use the GCM unpaired; days are never shifted to fit",
        )
    days = np.intersect1d(rcm.days, gcm.days, assume_unique=True)
    spans = "; ".join(f"{one.name}: {one.days[0]}..{one.days[-1]} ({len(one.days)} days, {one.calendar})" for one in (rcm, gcm))
    if not len(days):
        raise InputDataError(
            f"'{rcm.name}' and its driver '{gcm.name}' have no day in common", where=spans, hint="check the files and sources.NAME.drives"
        )
    if len(days) < max(len(rcm.days), len(gcm.days)):
        rcm.notes.append(f"{len(days)} common days are paired of {spans}")
        log.info("%s", rcm.notes[-1])
    return days


def _static(cfg: ExperimentConfig, rcms: dict[str, Source], geometry: Geometry) -> dict[str, np.ndarray]:
    """Fixed fields on the target grid, from the first RCM (all share the grid)."""
    if not cfg.static:
        return {}
    name, source = next(iter(rcms.items()))
    fields = {}
    for key, (values, coordinates) in source.statics(cfg.static).items():
        if not same_grid(Grid.from_dataset(coordinates), geometry.rcm):
            raise InputDataError(
                f"the fixed field '{key}' is on another grid than the RCM's daily fields",
                where=f"source {name}",
                hint="give the orog/sftlf file of this domain",
            )
        fields[key] = values[geometry.window].astype(np.float32)
    return fields


def _group_recipe(cfg: ExperimentConfig, sources: list[Source]) -> dict[str, Any]:
    """What decides a group's numbers: its sources' settings and files."""
    settings = {source.name: json.loads(cfg.sources[source.name].model_dump_json(exclude={"files", "facets"})) for source in sources}
    files = {source.name: digest([{key: entry[key] for key in ("size", "fingerprint")} for entry in source.files]) for source in sources}
    return {"sources": settings, "files": files, "nan_days": cfg.missing.nan_days, "gaps": cfg.missing.gaps}


def _recipe(cfg: ExperimentConfig, geometry: Geometry, forcings: Forcings, static: dict[str, np.ndarray]) -> dict[str, Any]:
    """What decides the numbers of all groups."""
    return {
        "channels": [channel.name for channel in cfg.channels()],
        "targets": [target.name for target in cfg.targets],
        "static": {name: digest(np.round(values.astype(float), 3).tolist()) for name, values in static.items()},
        "forcings": {"columns": forcings.columns, "file": forcings.fingerprint},
        "domain": json.loads(cfg.domain.model_dump_json()),
        "upscale": json.loads(cfg.upscale.model_dump_json(exclude={"to"})),
        "coarse_grid": geometry.coarse.digest,
        "fine_grid": geometry.fine.digest,
    }
