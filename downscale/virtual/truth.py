"""What is known about the virtual climate: its parameters, and the error that the best possible predictor still makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from downscale import __version__
from downscale.errors import EnvironmentMissingError, InputDataError
from downscale.virtual import atmosphere, geometry, surface, waves
from downscale.virtual.clock import Period
from downscale.virtual.simulation import Chain
from downscale.virtual.world import GCMS, LEVELS, Size, World, ghg, solar, warming

FILE = "truth.json"
UNFINISHED = FILE + ".partial"
SCHEMA = 1
TARGETS = ("tas", "tasmax", "pr")
UNITS = {"tas": "K", "tasmax": "K", "pr": "mm day-1"}
_BIN = 0.05
_BINS = 40_000


@dataclass
class Tally:
    """Running sums over days of one target; arrays are per target cell, float64."""

    days: int = 0
    total: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    variance: np.ndarray | float = 0.0
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, dtype=np.int64))

    def add(self, values: np.ndarray, variance: np.ndarray) -> None:
        """Adds days (days, cells): values, and their variance given the state."""
        wide = values.astype(np.float64)
        self.days += len(values)
        self.total = self.total + wide.sum(axis=0)
        self.squares = self.squares + np.square(wide - _REFERENCE).sum(axis=0)
        self.variance = self.variance + variance.sum(axis=0, dtype=np.float64)
        self.histogram += np.bincount(np.minimum(wide / _BIN, _BINS - 1).astype(np.int64).ravel(), minlength=_BINS)

    def merge(self, other: Tally) -> Tally:
        """The tally of both."""
        return Tally(
            self.days + other.days,
            self.total + other.total,
            self.squares + other.squares,
            self.variance + other.variance,
            self.histogram + other.histogram,
        )

    def summary(self, name: str) -> dict[str, Any]:
        """Numbers for truth.json, over the target box.

        rmse: sqrt of the mean over days and cells of Var(y | state). mean_cell_rmse: mean over cells of each cell's own.
        total_sd: sqrt of the mean over cells of the variance in time (seasons included).
        explained: 1 - rmse^2 / total_sd^2. pr also dry_share (days under 1 mm) and p99 of all days and cells pooled.
        """
        mean = np.asarray(self.total) / self.days
        spread = np.mean(np.asarray(self.squares) / self.days - np.square(mean - _REFERENCE))
        noise = np.mean(np.asarray(self.variance) / self.days)
        result = {
            "unit": UNITS[name],
            "rmse": noise**0.5,
            "mean_cell_rmse": float(np.mean(np.sqrt(np.asarray(self.variance) / self.days))),
            "total_sd": spread**0.5,
            "explained": 1.0 - noise / spread,
            "mean": float(mean.mean()),
            "days": self.days,
        }
        if name == "pr":
            share = np.cumsum(self.histogram) / self.histogram.sum()
            result["dry_share"] = share[round(1.0 / _BIN) - 1]
            result["p99"] = (int(np.searchsorted(share, 0.99)) + 0.5) * _BIN
        return {key: round(float(value), 6) if isinstance(value, (float, np.floating)) else value for key, value in result.items()}


_REFERENCE = 270.0


def describe(world: World, size: Size, *, gcms: int, periods: Sequence[Period], channels: Sequence[str], packed: bool) -> dict[str, Any]:
    """The recipe part of truth.json: everything known before any file is written."""
    return {
        "downscale_sample_data": SCHEMA,
        "downscale_version": __version__,
        "seed": world.seed,
        "size": asdict(size),
        "channels": list(channels),
        "packed": packed,
        "levels_hpa": list(LEVELS),
        "geometry": _geometry(world, size),
        "world": asdict(world),
        "climate": asdict(atmosphere.CLIMATE),
        "physics": asdict(surface.PHYSICS),
        "forcing": {"file": "forcing.csv", "columns": ["year", "GHG", "solar"]},
        "periods": [{"experiment": p.experiment, "first": p.first, "last": p.last, "label": p.label} for p in periods],
        "gcms": {gcm.name: _gcm(world, index, periods) for index, gcm in enumerate(GCMS[:gcms])},
    }


def save(directory: Path, truth: dict[str, Any], *, complete: bool) -> None:
    """Writes truth.json in one step; while files are still missing, under another name."""
    unfinished = directory / UNFINISHED
    unfinished.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    if complete:
        unfinished.replace(directory / FILE)


def read(path: Path) -> dict[str, Any]:
    """Reads a truth.json; InputDataError when there is none or it is not one of ours."""
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "write it with: downscale sample-data DIR"
        raise InputDataError("no readable truth.json beside the sample data", where=str(path), hint=hint) from error
    if not isinstance(truth, dict) or "downscale_sample_data" not in truth:
        raise InputDataError("truth.json was not written by sample-data", where=str(path))
    return truth


def load(directory: Path) -> dict[str, Any]:
    """As read, and EnvironmentMissingError when it describes the virtual climate of another version."""
    truth = read(Path(directory) / FILE)
    known = json.loads(json.dumps({"climate": asdict(atmosphere.CLIMATE), "physics": asdict(surface.PHYSICS)}))
    gcms = json.loads(json.dumps({gcm.name: asdict(gcm) for gcm in GCMS}))
    same = truth["downscale_sample_data"] == SCHEMA and all(truth[key] == value for key, value in known.items())
    if not same or any(entry["parameters"] != gcms.get(name) for name, entry in truth["gcms"].items()):
        message = f"truth.json describes the virtual climate of version {truth.get('downscale_version')}, this is {__version__}"
        raise EnvironmentMissingError(message, where=str(Path(directory) / FILE), hint="write the sample data again with --overwrite")
    return truth


def best_prediction(
    directory: Path, gcm: str, first: int, last: int, *, days: np.ndarray | None = None, target_only: bool = True
) -> dict[str, np.ndarray]:
    """The conditional mean E[y | large-scale state of the RCM] that no predictor beats in mean square.

    Args:
        directory: sample data, of which only truth.json is read. gcm: e.g. VGCM-A.
        first, last: years, within one period. days: yyyymmdd to keep, default all. target_only: the target box, not the whole RCM grid.

    Returns:
        days (n,) int64 yyyymmdd; tas and tasmax in K, pr in mm day-1, each (n, y, x) float32.

    Raises:
        InputDataError: the sample data have no such GCM or years.
    """
    truth = load(directory)
    names = list(truth["gcms"])
    spans = [Period(p["first"], p["last"]) for p in truth["periods"] if p["first"] <= first <= last <= p["last"]]
    if gcm not in names or not spans:
        hint = f"GCMs: {', '.join(names)}; periods: see truth.json"
        raise InputDataError(f"the sample data have no {gcm} in {first}-{last}", where=str(directory), hint=hint)
    chain = Chain(World(**truth["world"]), Size(**truth["size"]), names.index(gcm), spans[0])
    low, high = geometry.boxes(chain.world, chain.size).target if target_only else (0, chain.size.rcm_cells)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("days", *TARGETS)}
    for month in chain.months(first, last):
        keep = np.ones(month.size, dtype=bool) if days is None else np.isin(month.days, days)
        if keep.any():
            response = chain.rcm_response(chain.rcm_state(month), month)
            parts["days"].append(month.days[keep])
            for name in TARGETS:
                parts[name].append(response.mean(name).reshape(-1, *chain.rcm_grid.lon.shape)[keep, low:high, low:high])
    return {name: np.concatenate(part) for name, part in parts.items() if part}


def _geometry(world: World, size: Size) -> dict[str, Any]:
    boxes = geometry.boxes(world, size)
    return {
        "coarse_box_edges": list(boxes.coarse),
        "coarse_cells": size.coarse_cells,
        "coarse_degrees": size.coarse_degrees,
        "rcm_cells": size.rcm_cells,
        "rcm_resolution": size.resolution,
        "relaxation_cells": size.relaxation_cells,
        "taper_cells": size.taper_cells,
        "inner_cells": list(boxes.inner),
        "target_cells": list(boxes.target),
        "domain_id": size.domain_id,
        "note": "cells as [start, stop) on both RCM axes; coarse box as lon_min, lon_max, lat_min, lat_max of cell edges, degrees",
    }


def _gcm(world: World, index: int, periods: Sequence[Period]) -> dict[str, Any]:
    """Parameters of a GCM and the numbers that follow from them.

    wave_variance_ratio: variance of the GCM's weather over the RCM's, for every linear field (heights and temperatures, humidity latents).
    wave_correlation: correlation of the two in time.
    """
    gcm, wave = GCMS[index], waves.make_waves(world)
    factor = waves.gcm_filter(wave, gcm)
    ratio = float(np.sum(wave.weight * factor**2))
    correlation = float(np.sum(wave.weight * factor) / np.sqrt(ratio) * np.sqrt(1.0 - world.drift**2))
    years = [year for period in periods for year in range(period.first, period.last + 1)]
    return {
        "parameters": asdict(gcm),
        "wave_variance_ratio": ratio,
        "wave_correlation": correlation,
        "gcm_files": f"gcm/{gcm.name}/*.nc",
        "rcm_files": f"rcm/{gcm.name}/*.nc",
        "warming": {str(year): round(warming(gcm.sensitivity, year), 4) for year in years},
    }


def forcing_csv(first: int, last: int) -> str:
    """The forcing table: year, GHG (CO2-equivalent, ppm), solar (W m-2)."""
    return "year,GHG,solar\n" + "".join(f"{year},{ghg(year):.2f},{solar(year):.3f}\n" for year in range(first, last + 1))
