"""An in-memory pair store and prediction files with smooth, realistic fields and known errors, for evaluate and report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter, zoom

from downscale.cf.calendar import encode_days, expected_days, season_phase, years
from downscale.config.schema import ExperimentConfig
from downscale.grid.grid import lonlat_grid
from downscale.variables import lookup

RUNS = {
    "resunet-A": {"role": "emulator", "model": "resunet", "mode": "pretrain", "trained_on": ["RCM_A/perfect"]},
    "resunet-B": {"role": "emulator", "model": "resunet", "mode": "pretrain", "trained_on": ["RCM_B/imperfect"]},
    "resunet-A-few": {
        "role": "emulator",
        "model": "resunet",
        "mode": "few-shot",
        "trained_on": ["RCM_A/perfect", "RCM_B/imperfect (few-shot)"],
        "from": "resunet-A",
        "shots": 2,
    },
    "ridge-A": {"role": "baseline", "model": "ridge", "mode": "baseline", "trained_on": ["RCM_A/perfect"]},
    "bilinear-A": {"role": "baseline", "model": "bilinear", "mode": "baseline", "trained_on": ["RCM_A/perfect"]},
    "climatology-A": {"role": "baseline", "model": "climatology", "mode": "baseline", "trained_on": ["RCM_A/perfect"]},
}
# noise (share of the local weather), smoothing (cells), bias on a perfect, an own imperfect and a foreign imperfect case
QUALITY = {
    "resunet-A": (0.5, 0.6, 0.05, 0.3, 1.2),
    "resunet-B": (0.5, 0.6, 0.8, 0.5, 0.1),
    "resunet-A-few": (0.5, 0.6, 0.1, 0.3, 0.4),
    "ridge-A": (0.8, 1.0, 0.08, 0.4, 1.4),
    "bilinear-A": (0.9, 3.0, 0.6, 0.9, 1.6),
    "climatology-A": (0.0, 1.0, 0.5, 0.5, 1.1),
}


@dataclass
class FakeGroup:
    """A pair group held in arrays."""

    name: str
    calendar: str
    days: np.ndarray
    kinds: tuple[str, ...]
    targets: tuple[str, ...]
    truth: np.ndarray | None
    fields: dict[str, np.ndarray]
    surfaces: dict[str, np.ndarray]
    splits: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)

    @property
    def has_truth(self) -> bool:
        return self.truth is not None

    def predictors(self, kind, index):
        return self.fields[kind][index]

    def surface(self, kind, index):
        return self.surfaces[kind][index]

    def target(self, index):
        return self.truth[index]

    def target_rows(self, index, rows):
        return np.moveaxis(self.truth[index][:, :, rows], 1, 0)

    def split(self, name):
        return self.splits[name]


def smooth_noise(generator, shape, sigma, memory=0.7):
    """Red noise in time, smooth in space, unit variance."""
    noise = gaussian_filter(generator.standard_normal(shape), (0, sigma, sigma), mode="nearest")
    noise /= noise.std()
    for step in range(1, len(noise)):
        noise[step] = memory * noise[step - 1] + np.sqrt(1 - memory**2) * noise[step]
    return noise


def make_config(
    root: Path, *, test=("2000", "2095"), train=("1995-1996", "2090"), extra_gcm=False, year_starts=1, evaluate=None
) -> ExperimentConfig:
    sources = {
        "RCM_A": {"role": "rcm", "files": ["a.nc"]},
        "GCM_A": {"role": "gcm", "files": ["b.nc"], "drives": "RCM_A"},
        "RCM_B": {"role": "rcm", "files": ["c.nc"]},
        "GCM_B": {"role": "gcm", "files": ["d.nc"], "drives": "RCM_B"},
    }
    if extra_gcm:
        sources["CNRM"] = {"role": "gcm", "files": ["e.nc"]}
    return ExperimentConfig.model_validate(
        {
            "workspace": str(root),
            "sources": sources,
            "predictors": [{"name": "zg", "levels": [500]}, {"name": "ta", "levels": [850]}, {"name": "hus", "levels": [850]}],
            "targets": [{"name": "tasmax"}, {"name": "pr"}],
            "static": ["orog", "sftlf"],
            "upscale": {"to": "GCM_A"},
            "split": {"train": list(train), "validation": ["1997"], "test": list(test), "year_starts": year_starts},
            "train": {"on": ["RCM_A/perfect"]},
            "evaluate": evaluate or {},
        }
    )


@dataclass
class World:
    """Grids, statics and generators of the fake world."""

    size: int = 24
    seed: int = 1

    def __post_init__(self):
        n = self.size
        self.generator = np.random.default_rng(self.seed)
        self.fine = lonlat_grid(np.linspace(38, 38 + n * 0.25, n + 1), np.linspace(-6, -6 + n * 0.25, n + 1))
        self.coarse = lonlat_grid(np.linspace(38, 38 + n * 0.25, 7), np.linspace(-6, -6 + n * 0.25, 7))
        relief = gaussian_filter(self.generator.standard_normal((n, n)), n / 10)
        self.orog = np.clip(relief / relief.std() * 600 + 500, 0, None).astype(np.float32)
        x = np.linspace(0, 1, n)[None] + 0.12 * np.sin(np.linspace(0, 5, n))[:, None]
        self.sftlf = (100 / (1 + np.exp((x - 0.72) * 40))).astype(np.float32)

    def truth(self, days, calendar, warming):
        """(time, 2, y, x): tasmax in K, pr in mm/day."""
        n = self.size
        phase = 2 * np.pi * season_phase(days, calendar)
        large = smooth_noise(self.generator, (len(days), n, n), n / 3)
        local = smooth_noise(self.generator, (len(days), n, n), 1.0, 0.3)
        future = (years(days) > 2050)[:, None, None]
        tasmax = (
            290 - 10 * np.cos(phase)[:, None, None] + 3 * large + 1.0 * local - 6.5e-3 * self.orog + future * (warming + 0.8e-3 * self.orog)
        )
        wet = np.maximum(large * 0.6 + local * 0.9 - 0.5 + self.orog / 2500, 0)
        pr = 6 * wet**1.6 * np.where(future, 0.9, 1.0)
        return np.stack([tasmax, pr], axis=1).astype(np.float32), large.astype(np.float32)


def make_group(world, name, calendar, spans, split, *, warming=3.0, shift=0.0, truth=True) -> FakeGroup:
    days = np.concatenate(
        [expected_days(first * 10000 + 101, last * 10000 + (1230 if calendar == "360_day" else 1231), calendar) for first, last in spans]
    )
    fields, large = world.truth(days, calendar, warming)
    coarse = zoom(large, (1, 6 / world.size, 6 / world.size), order=1)
    channels = np.stack(
        [5500 + 60 * coarse, 280 + 5 * coarse + (years(days) > 2050)[:, None, None] * warming, 0.005 + 0.001 * np.roll(coarse, 1, axis=2)],
        axis=1,
    )
    drift = smooth_noise(world.generator, coarse.shape, 2)
    imperfect = channels + np.array([30 * shift, 1.5 * shift, 0.0])[None, :, None, None] + 0.5 * drift[:, None] * channels.std(axis=0)[None]
    surface = zoom(fields, (1, 1, 6 / world.size, 6 / world.size), order=1)
    year = years(days)
    splits = {key: np.flatnonzero(np.isin(year, chosen)) for key, chosen in split.items()}
    return FakeGroup(
        name,
        calendar,
        days,
        ("perfect", "imperfect") if truth else ("imperfect",),
        ("tasmax", "pr"),
        fields if truth else None,
        {"perfect": channels.astype(np.float32), "imperfect": imperfect.astype(np.float32)},
        {"perfect": surface, "imperfect": surface + np.array([0.7 * shift, 0.0], np.float32)[None, :, None, None]},
        splits,
        [f"{name}: made up"],
    )


def write_prediction(root, run, group, kind, days, fields, *, digest="0", facts=None, calendar=None) -> Path:
    """A prediction folder as apply writes it: CMOR units, one file a variable."""
    folder = root / "predictions" / run / f"{group.name}_{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    calendar = calendar or group.calendar
    for position, name in enumerate(group.targets):
        values = fields[:, position] / (86400.0 if name == "pr" else 1.0)
        time = ("time", encode_days(days, calendar), {"units": "days since 1850-01-01", "calendar": calendar})
        dataset = xr.Dataset(
            {name: (("time", "y", "x"), values.astype(np.float32), {"units": lookup(name).file_units})}, coords={"time": time}
        )
        dataset.to_netcdf(folder / f"{name}.nc", engine="netcdf4")
    manifest = {"run": run, "group": group.name, "kind": kind, "variables": list(group.targets), "digest": digest, **(facts or RUNS[run])}
    (folder / "prediction.json").write_text(json.dumps(manifest))
    return folder


def emulated(world, run, group, kind, index, foreign):
    """A plausible emulation: truth without part of its local weather, smoothed, with a bias."""
    noise, sigma, *biases = QUALITY[run]
    bias = biases[0 if kind == "perfect" else (2 if foreign else 1)]
    truth = group.target(index) if group.has_truth else world.truth(group.days[index], group.calendar, 3.0)[0]
    if run.startswith("climatology"):
        month = group.days[index] // 100 % 100
        result = np.stack([truth[month == one].mean(axis=0) for one in month])
    else:
        result = gaussian_filter(truth, (0, 0, sigma, sigma), mode="nearest")
        drift = 0.0 if kind == "perfect" else 1.0
        result[:, 0] += (noise * 0.7 + drift) * smooth_noise(world.generator, result[:, 0].shape, 1 + 3 * drift).astype(np.float32)
        result[:, 1] *= 1 + 0.25 * noise * smooth_noise(world.generator, result[:, 1].shape, 2).astype(np.float32)
    result[:, 0] += bias * (1 + world.orog / 2000)
    result[:, 1] *= 1 - 0.06 * bias
    return np.maximum(result, [[[[0.0]]]]).astype(np.float32)


def make_workspace(root: Path, *, size=24, runs=tuple(RUNS), lone_gcm=False, test=(2000, 2095), seed=1):
    """Config and fake store of a workspace with predictions of all runs on all cases (test days only)."""
    world = World(size, seed)
    split = {"train": (1995, 1996, 2090), "validation": (1997,), "test": test}
    spans = [(1995, 1997), (2090, 2090)] + [(year, year) for year in test]
    spans = sorted(set(spans))
    groups = {
        "RCM_A": make_group(world, "RCM_A", "standard", spans, split, shift=0.3),
        "RCM_B": make_group(world, "RCM_B", "360_day", spans, split, warming=4.0, shift=1.0),
    }
    if lone_gcm:
        groups["CNRM"] = make_group(
            world, "CNRM", "noleap", [(1995, 1997)], {"train": (1995, 1996), "validation": (1997,), "test": ()}, shift=0.8, truth=False
        )
    store = SimpleNamespace(
        groups=groups,
        coarse=world.coarse,
        fine=world.fine,
        static={"orog": world.orog, "sftlf": world.sftlf},
        channels=["zg500", "ta850", "hus850"],
        targets=["tasmax", "pr"],
        digest="pairs",
        recipe={},
        split_digest="s",
    )
    for run in runs:
        for group in groups.values():
            for kind in group.kinds:
                index = group.split("test") if group.has_truth else np.arange(len(group.days))
                foreign = group.name != "RCM_A"
                write_prediction(root, run, group, kind, group.days[index], emulated(world, run, group, kind, index, foreign))
    return make_config(root, test=[str(year) for year in test], extra_gcm=lone_gcm), store
