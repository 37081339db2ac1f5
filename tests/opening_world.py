"""Two sources in a folder, RCM and GCM, whose files can be written wrong in one respect, and what `prepare` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from cf_files import Spec, days_of, field_of, write
from conftest import run_cli

from downscale.config.load import load_config
from downscale.pairs.store import PairStore

FINE = (np.arange(40.25, 48.0, 0.5), np.arange(0.25, 8.0, 0.5))
COARSE = (np.arange(41.0, 48.0, 2.0), np.arange(1.0, 8.0, 2.0))
GRIDS = {"rcm": FINE, "gcm": COARSE}
UNITS = {"pr": "kg m-2 s-1", "zg": "m", "hus": "1", "psl": "Pa"}
CONFIG = """\
workspace: results
sources:
  RCM: {role: rcm, files: ["rcm/*.nc"]}
  GCM: {role: gcm, files: ["gcm/*.nc"], drives: RCM}
predictors: [{name: tas}]
targets: [{name: pr}]
upscale: {to: GCM}
split: {train: ["2001-01-01/2001-01-10"], validation: ["2001-01-11/2001-01-20"], test: ["2001-01-21/2001-03-30"], gap_days: 0}
model: {name: resunet, width: 8}
train: {on: [RCM/perfect], epochs: 1}
"""


def rain(days: np.ndarray, lat: Any, lon: Any) -> np.ndarray:
    """(time, lat, lon) mm/day: other on every day and in every cell, rising and falling."""
    plane = 0.02 * np.asarray(lat)[:, None] + 0.003 * np.asarray(lon)[None, :]
    return plane + (days * 7919 % 13)[:, None, None] / 2.0


class World:
    """A folder with tas and pr of an RCM and tas of its GCM, January and February 2001 unless said otherwise."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        self.folder = folder
        self.spec = {"first": 20010101, "last": 20010228, **spec}
        self.text = CONFIG
        self.put("rcm", "tas")
        self.put("rcm", "pr")
        self.put("gcm", "tas")

    def put(self, source: str, name: str, file: str = "", **changes: Any) -> Path:
        """Write a variable of a source, wrong where ``changes`` (see cf_files.Spec) say so."""
        lat, lon = GRIDS[source]
        spec = Spec(**{"name": name, "lat": lat, "lon": lon, "units": UNITS.get(name, "K"), **self.spec, **changes})
        if name == "pr" and spec.data is None:
            spec.data = rain(days_of(spec), lat, lon) / 86400.0
        (self.folder / source).mkdir(exist_ok=True)
        return write(self.folder / source / (file or f"{name}.nc"), spec)

    def change(self, old: str, new: str) -> None:
        """Replace a part of the config."""
        assert old in self.text, old
        self.text = self.text.replace(old, new)

    def source(self, name: str, extra: str) -> None:
        """Add keys to a source of the config."""
        self.change(f"{name}: {{role: {name.lower()},", f"{name}: {{role: {name.lower()}, {extra},")

    @property
    def results(self) -> Path:
        """The workspace."""
        return self.folder / "results"

    def prepare(self, *options: str):
        """The command's result."""
        config = self.folder / "config.yaml"
        config.write_text(self.text)
        return run_cli("prepare", config, *options)

    def store(self) -> PairStore:
        """The store, made by prepare, which must succeed."""
        result = self.prepare()
        assert result.exit_code == 0, result.output
        cfg = load_config(self.folder / "config.yaml")
        return PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)

    def check(self, days: np.ndarray | None = None) -> PairStore:
        """Prepare, and hold all pairs against the truth."""
        store = self.store()
        group = store.groups["RCM"]
        wanted = days_of(Spec(**self.spec)) if days is None else days
        np.testing.assert_array_equal(group.days, wanted)
        fine, coarse = ((grid.lat[:, 0], grid.lon[0]) for grid in (store.fine, store.coarse))
        np.testing.assert_allclose(group.target(np.arange(len(wanted)))[:, 0], rain(wanted, *fine), atol=1e-4)
        np.testing.assert_allclose(group.predictors("imperfect", slice(None))[:, 0], field_of(wanted, *coarse), atol=1e-3)
        np.testing.assert_allclose(group.predictors("perfect", slice(None))[:, 0], field_of(wanted, *coarse), atol=1e-2)
        return store


def edit(path: Path, change: Any) -> None:
    """Change a file in place: ``change(dataset)`` on the open netCDF4.Dataset."""
    with netCDF4.Dataset(path, "a") as file:
        change(file)


def global_attributes(path: Path, **attributes: str) -> None:
    """Set global attributes of a file."""
    edit(path, lambda file: file.setncatts(attributes))


def six_hourly(world: World, source: str, name: str, *, drop: int | None = None, bounds: bool = True, **spec: Any) -> Path:
    """Four steps a day, -3, -1, +1 and +3 about the day's mean; ``drop``: a step left out."""
    lat, lon = GRIDS[source]
    days = days_of(Spec(**world.spec))
    means = rain(days, lat, lon) / 86400.0 if name == "pr" else field_of(days, lat, lon)
    size = 1e-6 if name == "pr" else 1.0
    steps = means[:, None] + size * np.array([-3.0, -1.0, 1.0, 3.0])[None, :, None, None]
    keep = np.arange(4 * len(days)) != (-1 if drop is None else drop)
    data = steps.reshape(-1, *means.shape[1:])[keep]
    path = world.put(source, name, days=np.repeat(days, 4)[keep], data=data, bounds=bounds, **spec)

    def stamps(file: netCDF4.Dataset) -> None:
        begin = np.floor(file["time"][:]) + np.tile([0.0, 0.25, 0.5, 0.75], len(days))[keep]
        file["time"][:] = begin + 0.125
        if bounds:
            file["time_bnds"][:] = np.stack([begin, begin + 0.25], axis=1)

    edit(path, stamps)
    return path


def notes(store: PairStore) -> str:
    """All notes of the group."""
    return "\n".join(store.groups["RCM"].notes)
