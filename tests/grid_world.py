"""A pair of sources on any two grids, 24 days of one smooth field, and the pair store that `prepare` makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from conftest import run_cli
from grid_samples import EURO, rotated

from downscale.config.load import load_config
from downscale.grid.grid import Grid
from downscale.pairs.store import PairStore

DAYS = 24
CONFIG = """\
workspace: results
sources:
  RCM: {role: rcm, files: ["rcm/*.nc"]}
  GCM: {role: gcm, files: ["gcm/*.nc"], drives: RCM}
predictors: [{name: tas}]
targets: [{name: tas}]
upscale: {to: GCM}
split: {train: ["2001-01-01/2001-01-08"], validation: ["2001-01-09/2001-01-16"], test: ["2001-01-17/2001-01-24"], gap_days: 0}
model: {name: resunet, width: 8}
train: {on: [RCM/perfect], epochs: 1}
"""


def field(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """(time, y, x) kelvin: smooth, and different in every cell of the globe and on every day."""
    plane = 280.0 + 20.0 * np.cos(np.deg2rad(lat)) + 8.0 * np.cos(np.deg2rad(lat)) * np.sin(np.deg2rad(lon))
    return plane + 0.05 * np.arange(DAYS)[:, None, None]


def files_of(grid: Grid) -> xr.Dataset:
    """The content of a file with the field on a grid; times in the middle of the day, with bounds."""
    dataset = grid.to_dataset().copy(deep=True)
    dims = (grid.axes.y_name, grid.axes.x_name)
    extra = {"grid_mapping": "crs"} if "crs" in dataset else {}
    dataset["tas"] = (("time", *dims), field(grid.lat, grid.lon).astype("f4"), {"units": "K", "standard_name": "air_temperature", **extra})
    days = np.arange(float(DAYS))
    time = {"units": "days since 2001-01-01", "calendar": "standard", "bounds": "time_bnds", "axis": "T"}
    dataset["time"] = ("time", days + 0.5, time)
    dataset["time_bnds"] = (("time", "bnds"), np.stack([days, days + 1.0], axis=1))
    return dataset


def change(dataset: xr.Dataset, name: str, values: np.ndarray) -> None:
    """Put other numbers into a variable, be it an axis or not."""
    dataset[name] = (dataset[name].dims, values, dataset[name].attrs)


def write(dataset: xr.Dataset, path: Path) -> Path:
    """To disk, as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in dataset.variables:
        dataset[name].encoding = {"_FillValue": None}
    dataset.to_netcdf(path, format="NETCDF4_CLASSIC")
    return path


def regional(lon: float = 10.0, crs: dict | None = None) -> Grid:
    """A rotated-pole RCM grid of 20 x 22 cells of 0.44 degree, centred on 45 N and a longitude."""
    pole = {**EURO, "grid_north_pole_latitude": 45.0, "grid_north_pole_longitude": lon - 180.0, **(crs or {})}
    return rotated(20, 22, 0.44, -4.18, -4.62, pole)


class World:
    """A folder with the config, the files of both sources, and what prepare made of them."""

    def __init__(self, folder: Path, rcm: xr.Dataset, gcm: xr.Dataset, *changes: tuple[str, str]) -> None:
        self.folder = folder
        write(rcm, folder / "rcm" / "tas.nc")
        write(gcm, folder / "gcm" / "tas.nc")
        text = CONFIG
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.config = folder / "config.yaml"
        self.config.write_text(text)

    @property
    def results(self) -> Path:
        """The workspace."""
        return self.folder / "results"

    def prepare(self, *options: str):
        """The command's result."""
        return run_cli("prepare", self.config, *options)

    def store(self) -> PairStore:
        """The store, made by prepare, which must succeed."""
        result = self.prepare()
        assert result.exit_code == 0, result.output
        cfg = load_config(self.config)
        return PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)


def numbers(store: PairStore) -> dict[str, np.ndarray]:
    """All maps of a store: RCMu, the GCM, the truth."""
    group = store.groups["RCM"]
    return {
        "perfect": group.predictors("perfect", slice(None))[:, 0],
        "imperfect": group.predictors("imperfect", slice(None))[:, 0],
        "target": group.target(slice(None))[:, 0],
    }


def assert_true(store: PairStore) -> None:
    """Every map shows the field where the store's grids say it is, and the grids run eastward without a seam."""
    maps = numbers(store)
    for grid, names, slack in ((store.coarse, ("perfect", "imperfect"), 0.1), (store.fine, ("target",), 1e-4)):
        for name in names:
            np.testing.assert_allclose(maps[name], field(grid.lat, grid.lon), atol=slack, err_msg=name)
        assert (np.abs(np.diff(grid.lon, axis=1)) < 10.0).all() and (np.diff(grid.lat, axis=0) > 0).all()


def assert_same(first: PairStore, second: PairStore, rtol: float = 1e-6) -> None:
    """Two stores hold the same numbers on the same grids."""
    for name, values in numbers(first).items():
        np.testing.assert_allclose(numbers(second)[name], values, rtol=rtol, err_msg=name)
    for one, two in ((first.coarse, second.coarse), (first.fine, second.fine)):
        np.testing.assert_allclose(one.lat, two.lat, atol=1e-4)
        np.testing.assert_allclose((one.lon - two.lon + 180.0) % 360.0, 180.0, atol=1e-4)


def said(store: PairStore) -> str:
    """All notes of the store's groups."""
    return "\n".join(note for group in store.groups.values() for note in group.notes)
