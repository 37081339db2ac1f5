"""Evaluation of files without a config: a prediction against its reference, scores into a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from downscale import __version__
from downscale.cf.open import open_files
from downscale.config.load import digest
from downscale.errors import ConfigError, InputDataError
from downscale.evaluate.blocks_spread import spreading
from downscale.evaluate.files.benchmark import score_pair
from downscale.evaluate.files.default import YearCount, score_default
from downscale.evaluate.files.opened import FilePair, open_pair
from downscale.evaluate.files.options import FileOptions
from downscale.evaluate.files.remedies import LAND, in_our_words, telling
from downscale.evaluate.files.spool import Spool
from downscale.evaluate.publish import published, publishing
from downscale.evaluate.regions import in_box, in_mask
from downscale.evaluate.scorecard import Scorecard, write_recipe
from downscale.grid.grid import Grid, require_same_grid

log = logging.getLogger(__name__)
Profile = Literal["default", "mlbench"]
SCHEMA_VERSIONS = {"default": 2, "mlbench": 1}
LAND_PERCENT = 50.0
MEMORY = 2 * 2**30
_SERIES_SHARE = 0.4
"""Share of the memory that the series may take; above it they go to scratch files."""


@dataclass(frozen=True)
class Where:
    """Which cells count.

    Attributes:
        box: west, east, south and north bound in degrees.
        mask: file and variable that mark the cells.
        land: file with sftlf: only cells with at least half land.
    """

    box: tuple[float, float, float, float] | None = None
    mask: tuple[Path, str] | None = None
    land: Path | None = None

    @property
    def name(self) -> str:
        """Of the region in the tables."""
        parts = ["box"] * (self.box is not None) + ["mask"] * (self.mask is not None) + ["land"] * (self.land is not None)
        return "-".join(parts) or "all"

    def inside(self, grid: Grid) -> np.ndarray:
        """(y, x) True for the cells that count; InputDataError when there is none."""
        result = np.ones(grid.shape, bool)
        if self.box is not None:
            result &= in_box(grid, self.box[:2], self.box[2:])
        if self.mask is not None:
            result &= in_mask(*self.mask, grid)
        if self.land is not None:
            result &= _land(self.land, grid)
        if not result.any():
            raise InputDataError("the region holds no cell", where=f"{self.name}: {grid.summary}", hint="give another region, or none")
        return result


@dataclass(frozen=True)
class Work:
    """Who works, and with how much memory.

    Attributes:
        workers: threads, processes or Dask workers; None: as many as there are.
        scheduler: "local" for processes, or the address or file of a running Dask; None: threads.
        max_memory: bytes that this process may use; None: 2 GiB.
    """

    workers: int | None = None
    scheduler: str | None = None
    max_memory: int | None = None


def evaluate_files(
    prediction: Sequence[Path | str],
    reference: Sequence[Path | str],
    output: Path,
    *,
    profile: Profile = "default",
    options: FileOptions | None = None,
    where: Where | None = None,
    work: Work | None = None,
    overwrite: bool = False,
    command: str = "",
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> dict[str, Any]:
    """Judge files against files.

    Args:
        prediction, reference: NetCDF files, globs or folders.
        output: folder of the scores.
        profile: "default": the scores of a workspace; "mlbench": the diagnostics of the CORDEX ML-Bench under its names.
        options, where, work: how files are read, which cells count, who works.
        overwrite: replace scores of another evaluation.
        command: that asks for this, for the recipe and the page.
        progress: called with (done, total, note).

    Returns:
        ``artefact`` (the folder), counts, and a line for each variable.

    Raises:
        ConfigError: options that this profile or these files do not need.
        InputDataError: other days, calendars, cells or units in the two, no variable in common, a region without a cell, days or fields
            without a value.
        OutputExistsError: scores of another recipe are there.
        EnvironmentMissingError: no scheduler answers.
    """
    options, where, work = options or FileOptions(), where or Where(), work or Work()
    default = profile == "default"
    if options.counts_years and not default:
        raise ConfigError(
            "--december, --year-starts: years are calendar years with --profile mlbench",
            hint="leave them out; the default profile has them",
        )
    pair = open_pair(prediction, reference, options)
    try:
        inside = where.inside(pair.grid)
        inputs = {
            "schema_version": SCHEMA_VERSIONS[profile], "profile": profile, **pair.inputs,
            "options": options.recipe(pair.assumed, pair.days if default else None),
            "region": {"name": where.name, "cells": digest(np.packbits(inside).tolist())},
        }  # fmt: skip
        stored = published(output, inputs, overwrite=overwrite)
        if stored is not None:
            return {**stored["summary"], "artefact": output, "note": "complete already"}
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        if default and options.year_starts is None and options.first_month(pair.days) != 1:
            pair.notes.append("all days are of winters: a year begins in December (--year-starts 1 makes calendar years)")
        with telling(), publishing(output) as partial, spreading(work.scheduler, work.workers, threads=True) as spread:
            with Spool.make(pair, _scratch(pair, partial, work), inside) as spool:
                card = Scorecard([], {})
                if not default:
                    summary = score_pair(pair, spool, partial, spread, progress)
                else:
                    years = YearCount(options.first_month(pair.days), options.december)
                    card = score_default(pair, spool, partial, where.name, spread, progress, years)
                    summary = dict(card.recipe.pop("headline"))
            summary = {"days": len(pair.days), "cells": int(inside.sum()), "variables": ", ".join(pair.variables), **summary}
            notes = [*pair.notes, *(line for source in pair.sources.values() for line in source.notes)]
            facts = {
                "inputs": inputs, "digest": digest(inputs), "summary": summary, "notes": list(dict.fromkeys(map(in_our_words, notes))),
                "profile": profile, "command": command, "downscale_version": __version__,
            }  # fmt: skip
            write_recipe(partial, {**card.recipe, **facts})
    finally:
        pair.close()
    return {**summary, "artefact": output}


def _scratch(pair: FilePair, partial: Path, work: Work) -> Path | None:
    """The folder for series that do not fit in memory, or that other processes are to read."""
    need = len(pair.days) * pair.grid.shape[0] * pair.grid.shape[1] * 4 * 2 * len(pair.variables)
    if work.scheduler is None and need <= _SERIES_SHARE * (work.max_memory or MEMORY):
        return None
    log.info("%.1f GB of series are put aside in %s while this runs", need / 1e9, partial)
    return partial


def _land(path: Path, grid: Grid) -> np.ndarray:
    """Cells with at least half land by the sftlf of a file on the same grid."""
    with telling(LAND):
        source = open_files(LAND, [path], [], statics=["sftlf"])
        values, coordinates = source.statics(["sftlf"])["sftlf"]
    require_same_grid(grid, Grid.from_dataset(coordinates), names=("reference", "sftlf"))
    return np.asarray(values >= LAND_PERCENT)
