"""Open everything that prepare reads, hold it against each other, and refuse before anything is written."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from downscale.cf.identity import model_names
from downscale.cf.open import Source, open_source
from downscale.config.load import digest
from downscale.config.schema import ExperimentConfig, MissingConfig
from downscale.errors import InputDataError, Problems
from downscale.grid.grid import Grid, require_same_grid, same_grid, take_notes
from downscale.pairs.coarse import CoarseReader, gcm_reader, upscaling_reader
from downscale.pairs.geometry import Geometry, resolve_geometry
from downscale.pairs.scalars import Forcings
from downscale.pairs.winds import true_winds
from downscale.variables import Channel

log = logging.getLogger(__name__)


@dataclass
class GroupInputs:
    """One group to build: fine truth with its coarse predictors, or a lone coarse run.

    Attributes:
        name: of the source that gives the truth, else of the lone coarse source.
        calendar, days: of all its fields.
        truth: the fine fields, None for a lone coarse run.
        rcm: the truth upscaled to predictors (perfect pairs), None for observations.
        gcm: the coarse run on the same days (imperfect pairs).
        recipe: what decides the numbers.
        missing: policies.
    """

    name: str
    calendar: str
    days: np.ndarray
    truth: Source | None
    rcm: CoarseReader | None
    gcm: CoarseReader | None
    recipe: dict[str, Any]
    missing: MissingConfig

    @property
    def sources(self) -> list[Source]:
        """All that are read, each once."""
        return [source for source in (self.truth, self.gcm.source if self.gcm else None) if source is not None]

    @property
    def models(self) -> list[str]:
        """Names of the RCM (or the observations) that gives the truth, as its files state them."""
        headers = self.truth.opening.headers if self.truth is not None else ()
        return sorted({name for header in headers for name in model_names(header)})


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
            for source in group.sources:
                source.close()


def open_inputs(cfg: ExperimentConfig, *, workers: int | None = None) -> Inputs:
    """Catalogue and open all sources, resolve the grids, pair the days.

    Args:
        cfg: the experiment.
        workers: processes that read file headers; None: as many as cores, where it pays.

    Raises:
        InputDataError: sources are rejected, grids or calendars of a pair differ, or a pair has no common day; all problems
            of one kind are listed together.
        ConfigError: boxes or forcings that do not fit.
    """
    truths, coarse = _open_all(cfg, workers)
    fine_grid = _common_grid(truths)
    to = cfg.upscale.to
    upscaled = any(cfg.sources[name].role == "rcm" for name in truths)
    geometry = resolve_geometry(
        fine_grid, _source_grid(coarse[to]) if isinstance(to, str) else None, cfg.domain, cfg.upscale, upscaled=upscaled
    )
    forcings = Forcings(Path(cfg.forcings.file) if cfg.forcings else None, cfg.forcings.columns if cfg.forcings else [])
    problems, groups = Problems(), []
    for name, truth in truths.items():
        with problems.caught():
            groups.append(_truth_group(cfg, truth, coarse.get(cfg.driver_of(name) or ""), geometry))
    for name, run in coarse.items():
        if cfg.sources[name].drives is None:
            with problems.caught():
                groups.append(_lone_group(cfg, run, geometry))
    for group in groups:
        with problems.caught():
            forcings(group.days, group.calendar)
    problems.raise_any()
    static = _static(cfg, truths, geometry)
    return Inputs(groups, geometry, cfg.channels(), _targets(cfg), static, forcings, _recipe(cfg, geometry, forcings, static))


def _targets(cfg: ExperimentConfig) -> list[Channel]:
    return [Channel(target.name) for target in cfg.targets]


def _open_all(cfg: ExperimentConfig, workers: int | None) -> tuple[dict[str, Source], dict[str, Source]]:
    """Sources of fine truth and coarse sources; what is wrong with any of them is told together."""
    truths: dict[str, Source] = {}
    coarse: dict[str, Source] = {}
    problems = Problems()
    first = next(name for name, source in cfg.sources.items() if source.is_truth)
    for name, source in cfg.sources.items():
        targets, channels = _targets(cfg), cfg.channels()
        needed = {"rcm": list(dict.fromkeys([*channels, *targets])), "observations": targets}.get(source.role, channels)
        with problems.caught():
            opened = open_source(
                name,
                source,
                needed,
                optional=() if source.is_truth else targets,
                statics=cfg.static if name == first else (),
                missing=cfg.missing,
                workers=workers,
            )
            true_winds(opened, needed, along_grid=source.winds == "grid")
            (truths if source.is_truth else coarse)[name] = opened
    problems.raise_any()
    return truths, coarse


def _source_grid(source: Source) -> Grid:
    return Grid.from_dataset(next(iter(source.series.values())).coordinates)


def _common_grid(truths: dict[str, Source]) -> Grid:
    """The one grid of all fine series; InputDataError where two differ (G05)."""
    reference: tuple[str, Grid] | None = None
    seen: set[str] = set()
    for name, source in truths.items():
        for channel, series in source.series.items():
            grid = Grid.from_dataset(series.coordinates)
            take_notes(grid, name, source.notes)
            if reference is None:
                reference = (f"{name}: {channel}", grid)
            elif grid.digest not in seen:
                require_same_grid(reference[1], grid, names=(reference[0], f"{name}: {channel}"), notes=source.notes)
            seen.add(grid.digest)
    assert reference is not None, "the config has at least one source of truth"
    return reference[1]


def _truth_group(cfg: ExperimentConfig, truth: Source, gcm: Source | None, geometry: Geometry) -> GroupInputs:
    reader, driver, days = None, None, truth.days
    if geometry.upscale is not None and truth.role == "rcm":
        reader = upscaling_reader(
            truth, geometry.upscale, geometry.inner, min_valid_fraction=cfg.upscale.min_valid_fraction, smooth=cfg.upscale.smooth
        )
    if gcm is not None:
        days = _pair_days(truth, gcm)
        driver = _gcm_reader(cfg, gcm, geometry)
    recipe = _group_recipe(cfg, [truth, *([gcm] if gcm else [])])
    return GroupInputs(truth.name, truth.calendar, days, truth, reader, driver, recipe, cfg.missing)


def _lone_group(cfg: ExperimentConfig, gcm: Source, geometry: Geometry) -> GroupInputs:
    reader = _gcm_reader(cfg, gcm, geometry)
    return GroupInputs(gcm.name, gcm.calendar, gcm.days, None, None, reader, _group_recipe(cfg, [gcm]), cfg.missing)


def _gcm_reader(cfg: ExperimentConfig, gcm: Source, geometry: Geometry) -> CoarseReader:
    to = cfg.upscale
    return gcm_reader(gcm, geometry.coarse, smooth=to.smooth, engine=to.engine, edges=to.edges)


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


def _static(cfg: ExperimentConfig, truths: dict[str, Source], geometry: Geometry) -> dict[str, np.ndarray]:
    """Fixed fields on the target grid, from the first source of truth (all share the grid)."""
    if not cfg.static:
        return {}
    name, source = next(iter(truths.items()))
    fields = {}
    for key, (values, coordinates) in source.statics(cfg.static).items():
        grid = Grid.from_dataset(coordinates)
        take_notes(grid, f"{name}: {key}", source.notes)
        if not same_grid(grid, geometry.rcm, notes=source.notes, names=(key, f"the daily fields of {name}")):
            raise InputDataError(
                f"the fixed field '{key}' is on another grid than the daily fields",
                where=f"source {name}",
                hint="give the orog/sftlf file of this domain",
            )
        fields[key] = values[geometry.window].astype(np.float32)
    return fields


def _group_recipe(cfg: ExperimentConfig, sources: list[Source]) -> dict[str, Any]:
    """What decides a group's numbers: its sources' settings and files."""
    settings = {source.name: json.loads(cfg.sources[source.name].model_dump_json(exclude={"files", "facets"})) for source in sources}
    files = {source.name: digest([{key: entry[key] for key in ("size", "fingerprint")} for entry in source.files]) for source in sources}
    return {"sources": settings, "files": files, **json.loads(cfg.missing.model_dump_json(exclude={"constant_channels"}))}


def _recipe(cfg: ExperimentConfig, geometry: Geometry, forcings: Forcings, static: dict[str, np.ndarray]) -> dict[str, Any]:
    """What decides the numbers of all groups."""
    return {
        "channels": [channel.name for channel in cfg.channels()],
        "targets": [target.name for target in cfg.targets],
        "static": {name: digest(np.round(values.astype(float), 3).tolist()) for name, values in static.items()},
        "forcings": {"columns": forcings.columns, "file": forcings.fingerprint},
        "domain": json.loads(cfg.domain.model_dump_json()),
        "upscale": json.loads(cfg.upscale.model_dump_json(exclude={"to", "weights_file"})),
        "weights_file": geometry.weights_file,
        "coarse_grid": geometry.coarse.digest,
        "fine_grid": geometry.fine.digest,
    }
