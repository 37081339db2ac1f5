"""A tiny pair store in memory for the tests of models and training: linear truth, a little noise, a sea."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from downscale.config.schema import ExperimentConfig
from downscale.grid.grid import lonlat_grid

COARSE, FINE = (4, 5), (8, 10)
SCALARS = ["season_cos", "season_sin"]


@dataclass
class FakeGroup:
    """PairGroup's methods on arrays."""

    name: str
    days: np.ndarray
    arrays: dict[str, np.ndarray]
    splits: dict[str, np.ndarray]
    kinds: tuple[str, ...] = ("perfect", "imperfect")
    calendar: str = "noleap"
    has_truth: bool = True
    attributes: dict = field(default_factory=lambda: {"digest": "1"})
    read: list = field(default_factory=list)

    def predictors(self, kind, index):
        return self.arrays[kind][index]

    def surface(self, kind, index):
        return self.arrays["surface"][index]

    def target(self, index):
        self.read.append(self.days[index])
        return self.arrays["target"][index]

    def scalars(self, index):
        return self.arrays["scalars"][index]

    def split(self, name):
        return self.splits[name]


@dataclass
class FakeStore:
    """PairStore's attributes."""

    groups: dict[str, FakeGroup]
    coarse: object
    fine: object
    channels: list[str]
    targets: list[str]
    scalars: list[str] = field(default_factory=lambda: list(SCALARS))
    static: dict = field(default_factory=dict)
    split_digest: str = "s"
    path: Path = Path("/dev/null/pairs.zarr")
    recipe: dict = field(default_factory=dict)

    def group(self, name):
        return self.groups[name]


def days_of(years, months=(1, 4, 7, 10), length=7):
    """A week in each season of each year, yyyymmdd."""
    return np.array([year * 10000 + month * 100 + day for year in years for month in months for day in range(1, length + 1)])


def make_group(name="RCM_A", years=(2000, 2001, 2002, 2003, 2050, 2051, 2052, 2053), seed=0, shift=0.0):
    """Pairs with a linear truth for tas and a rectified one for pr; the first two columns are sea (NaN)."""
    rng, days = np.random.default_rng(seed), days_of(years)
    n = len(days)
    predictors = rng.standard_normal((n, 2, *COARSE)).astype(np.float32) * np.array([3.0, 5.0], np.float32)[None, :, None, None]
    predictors += np.array([280.0, 1000.0], np.float32)[None, :, None, None]
    coarse = (predictors - predictors.mean(0)) / predictors.std(0)
    local = coarse.repeat(2, axis=2).repeat(2, axis=3)
    target = np.stack([local[:, 0] + 0.5 * local[:, 1], local[:, 1] - 0.5 * local[:, 0]], 1)
    target = target + 0.05 * rng.standard_normal((n, 2, *FINE)).astype(np.float32)
    target[:, 0] += 285.0 + shift
    target[:, 1] = np.maximum(target[:, 1] * 2, 0)
    target[..., :2] = np.nan
    phase = 2 * np.pi * ((days // 100 % 100) - 1) / 12
    arrays = {
        "perfect": predictors,
        "imperfect": predictors + np.float32(0.3),
        "target": target.astype(np.float32),
        "scalars": np.stack([np.cos(phase), np.sin(phase)], 1).astype(np.float32),
        "surface": predictors.copy(),
    }
    year = days // 10000
    last, before = years[-1], years[-2]
    splits = {"train": np.flatnonzero(year < before), "validation": np.flatnonzero(year == before), "test": np.flatnonzero(year == last)}
    return FakeGroup(name, days, arrays, splits)


def make_store():
    """Two groups, RCM_A and RCM_B (shifted by 1 K)."""
    coarse = lonlat_grid(np.linspace(40, 44, COARSE[0] + 1), np.linspace(0, 5, COARSE[1] + 1))
    fine = lonlat_grid(np.linspace(40.5, 43.5, FINE[0] + 1), np.linspace(0.5, 4.5, FINE[1] + 1))
    groups = {"RCM_A": make_group("RCM_A"), "RCM_B": make_group("RCM_B", seed=1, shift=1.0)}
    static = {"orog": np.full(FINE, 500.0, np.float32), "sftlf": np.full(FINE, 100.0, np.float32)}
    return FakeStore(groups, coarse, fine, ["tas", "zg500"], ["tas", "pr"], static=static)


def make_config(workspace, **changes):
    """An experiment that fits make_store."""
    sections = {
        "model": {"name": "resunet", "width": 8, "backbone": "ridge", "dropout": 0.1},
        "train": {"on": ["RCM_A/perfect"], "epochs": 3, "batch_size": 16, "learning_rate": 2e-3},
        "finetune": {"on": ["RCM_B/imperfect"], "epochs": 3, "learning_rate": 1e-3},
        "few_shot": {"on": ["RCM_B/imperfect"], "epochs": 2, "learning_rate": 1e-3, "shots": 2},
        "ridge": {"alphas": [0.1, 1.0, 10.0]},
        "normalise": {},
    }
    for key, values in changes.items():
        sections[key] = {**sections[key], **values}
    source = {"role": "rcm", "files": ["a.nc"]}
    gcms = {f"GCM_{x}": {"role": "gcm", "files": ["a.nc"], "drives": f"RCM_{x}"} for x in "AB"}
    return ExperimentConfig.model_validate(
        {
            "workspace": str(workspace),
            "sources": {"RCM_A": source, "RCM_B": source, **gcms},
            "predictors": [{"name": "tas"}, {"name": "zg", "levels": [500]}],
            "targets": [{"name": "tas"}, {"name": "pr"}],
            "upscale": {"to": "GCM_A"},
            "split": {"train": ["2000-2051"], "validation": [2052], "test": [2053]},
            **sections,
        }
    )
