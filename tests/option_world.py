"""A small world in files for the tests of the config's options: every option finds something here that it can change."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import netCDF4
import numpy as np
from cf_files import Spec, days_of, write
from grid_samples import EURO, box, rotated

from downscale.apply.stage import apply_run
from downscale.config.load import load_config
from downscale.errors import DownscaleError
from downscale.evaluate.stage import evaluate_run
from downscale.grid.engines import make_weights
from downscale.grid.weight_layouts import write_weights
from downscale.hpc.sites import load_site
from downscale.hpc.submit import STAGES, Request, plan, printed, setting_of
from downscale.pairs.build import build_pairs
from downscale.pairs.remap_input import grid_of_file
from downscale.pairs.store import PairStore
from downscale.training.modes import train_run

COARSE = {"lat": np.arange(36.0, 51.0, 2.0), "lon": np.arange(-4.0, 13.0, 2.0)}
FINE = {"lat": np.arange(38.5, 49.5, 0.5) + 0.25, "lon": np.arange(-1.5, 9.5, 0.5) + 0.25}
FIRST, LAST = 20010101, 20010630
CONFIG = """\
workspace: results
sources:
  R: {role: rcm, files: [rcm/base/*.nc], facets: {source_id: R1}}
  G: {role: gcm, files: [gcm/base/*.nc], drives: R, facets: {source_id: G1}}
predictors: [{name: tas}, {name: ta, levels: [850]}]
targets: [{name: tasmax}, {name: pr}]
static: [orog]
forcings: {file: forcings.csv, columns: [CO2]}
domain: {relaxation_cells: 1}
upscale: {to: G}
split: {train: ["2001-01-01/2001-03-31"], validation: ["2001-04-01/2001-04-30"], test: ["2001-05-01/2001-06-30"], gap_days: 3}
model: {name: resunet, width: 8}
train: {on: [R/perfect], epochs: 3, batch_size: 16, learning_rate: 3e-3, baselines: []}
finetune: {on: [R/imperfect], epochs: 1}
few_shot: {on: [R/imperfect], epochs: 1, shots: 1}
"""


def _fields(name: str, days: np.ndarray, lat: np.ndarray, lon: np.ndarray, noise: float) -> np.ndarray:
    """(time, lat, lon): smooth weather, the same for all grids, and small scales on top; NaN nowhere."""
    weather = np.random.default_rng(7).standard_normal((len(days), 3))
    small = np.random.default_rng(len(lat)).standard_normal((len(days), len(lat), len(lon))) * noise
    y, x = np.deg2rad(9.0 * lat)[:, None], np.deg2rad(9.0 * lon)[None, :]
    wave = weather[:, :1, None] + weather[:, 1:2, None] * np.sin(y) * np.cos(x) + weather[:, 2:, None] * np.cos(2 * y) + small
    if name == "pr":
        return np.maximum(4.0 * wave, 0.0)
    return {"tas": 282.0, "tasmax": 287.0, "ta": 275.0}[name] + 3.0 * wave


def _file(path: Path, name: str, grid: dict, noise: float, **changes: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = {"name": name, "first": FIRST, "last": LAST, "units": "mm/day" if name == "pr" else "K", **grid}
    spec |= {"plev": 85000.0} if name == "ta" else {}
    spec |= changes
    days = days_of(Spec(**{key: spec[key] for key in ("first", "last", "days") if key in spec}))
    if "data" not in spec:
        spec["data"] = _fields(name, days, spec["lat"], spec["lon"], noise)
    return write(path, **spec)


def _alter(path: Path, name: str, change) -> None:
    with netCDF4.Dataset(path, "a") as file:
        values = np.ma.filled(file[name][:], np.nan)
        change(values)
        file[name][:] = np.ma.masked_invalid(values)


def make_world(folder: Path) -> Path:
    """All files below ``folder`` and the config beside them; the config's path."""
    for name in ("tas", "ta", "tasmax", "pr"):
        _file(folder / f"rcm/base/{name}.nc", name, FINE, 0.3)
        _file(folder / f"gcm/base/{name}.nc", name, COARSE, 0.1)
    for name, values in (
        ("orog", 300.0 * np.add.outer(np.arange(22), np.arange(22)) / 44),
        ("sftlf", 100.0 * (np.indices((22, 22))[1] > 8)),
    ):
        with netCDF4.Dataset(folder / f"rcm/base/{name}.nc", "w") as file:
            for dim, axis in FINE.items():
                file.createDimension(dim, len(axis))
                variable = file.createVariable(dim, "f8", (dim,))
                variable.units = "degrees_north" if dim == "lat" else "degrees_east"
                variable[:] = axis
            field = file.createVariable(name, "f4", ("lat", "lon"))
            field.units = "m" if name == "orog" else "%"
            field[:] = values
    (folder / "forcings.csv").write_text("year,CO2,sun\n2000,360,1361\n2001,370,1362\n2002,380,1360\n")
    (folder / "other.csv").write_text("year,CO2\n2000,560\n2001,570\n2002,580\n")
    _variants(folder)
    _weights(folder)
    path = folder / "config.yaml"
    path.write_text(CONFIG)
    return path


def _weights(folder: Path) -> None:
    """Weights from the fine to the coarse grid that are not those of the built-in engine: each link changed by up to a tenth."""
    source, target = (grid_of_file(folder / role / "base/tas.nc") for role in ("rcm", "gcm"))
    weights = make_weights(source, target, engine="builtin")
    for seed, name in enumerate(("weights", "other_weights")):
        noise = np.random.default_rng(seed).uniform(0.9, 1.0, weights.matrix.nnz)
        matrix = weights.matrix.copy()
        matrix.data = matrix.data * noise
        write_weights(folder / f"{name}.nc", replace(weights, matrix=matrix), source, target)


def _variants(folder: Path) -> None:
    """Folders gcm/NAME and rcm/NAME: the base files with one thing that a policy or an option is for."""

    def variant(role: str, name: str) -> Path:
        return Path(shutil.copytree(folder / role / "base", folder / role / name))

    gap = variant("gcm", "gap")
    _file(gap / "ta.nc", "ta", COARSE, 0.1, days=np.delete(days_of(Spec(first=FIRST, last=LAST)), 20))
    _alter(variant("gcm", "nan") / "tas.nc", "tas", lambda values: values[20].fill(np.nan))
    _alter(variant("gcm", "sentinel") / "tas.nc", "tas", lambda values: values[20].fill(222.0))
    _alter(variant("gcm", "ground") / "ta.nc", "ta", lambda values: values[::2, 3, 3:5].fill(np.nan))
    _alter(variant("gcm", "constant") / "ta.nc", "ta", lambda values: values.fill(270.0))
    _alter(variant("rcm", "holes") / "tas.nc", "tas", lambda values: values[:, 4:7, :].fill(np.nan))
    with netCDF4.Dataset(variant("gcm", "two") / "tas.nc", "a") as file:
        other = file.createVariable("tas_corrected", "f4", ("time", "lat", "lon"))
        other.units = "K"
        other[:] = file["tas"][:] + 1.0
    shifted = variant("gcm", "shifted")
    with netCDF4.Dataset(shifted / "tas.nc", "a") as file:
        file["time_bnds"][:] = file["time_bnds"][:] + 0.2
    members = variant("gcm", "members")
    data = _fields("tas", days_of(Spec(first=FIRST, last=LAST)), COARSE["lat"], COARSE["lon"], 0.1)
    _file(
        members / "tas.nc",
        "tas",
        COARSE,
        0.1,
        dims=("time", "member", "lat", "lon"),
        sizes={"member": 2},
        data=np.stack([data, data + 2.0], 1),
    )
    _six_hourly(variant("gcm", "hourly") / "tas.nc", data)
    maxima = _fields("tasmax", days_of(Spec(first=FIRST, last=LAST)), FINE["lat"], FINE["lon"], 0.3)
    _six_hourly(variant("rcm", "hourly") / "tasmax.nc", maxima, "tasmax", FINE, "maximum")
    _winds(folder)
    scenario = variant("gcm", "scenario")
    for path in scenario.glob("*.nc"):
        later = path.with_name(f"late_{path.name}")
        _file(later, path.stem, COARSE, 0.1, first=20010701, last=20010710)
        for one, experiment in ((path, "historical"), (later, "ssp585")):
            with netCDF4.Dataset(one, "a") as file:
                file.experiment_id = experiment


def _six_hourly(path: Path, daily: np.ndarray, name: str = "tas", grid: dict = COARSE, method: str = "mean") -> None:
    with netCDF4.Dataset(path) as file:
        start = file["time_bnds"][:, 0]
    path.unlink()
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in (("time", None), ("lat", len(grid["lat"])), ("lon", len(grid["lon"]))):
            file.createDimension(dim, size)
        for dim, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
            file.createVariable(dim, "f8", (dim,)).units = units
            file[dim][:] = grid[dim]
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "days since 1850-01-01", "standard"
        time[:] = (np.asarray(start)[:, None] + np.array([0.125, 0.375, 0.625, 0.875])).ravel()
        field = file.createVariable(name, "f4", ("time", "lat", "lon"))
        field.units, field.cell_methods = "K", f"time: {method}"
        field[:] = np.repeat(daily, 4, axis=0) + np.tile([-1.0, 1.0, 1.0, -1.0], len(daily))[:, None, None]


def _winds(folder: Path) -> None:
    """uas and vas of both: of the RCM on a rotated grid, without standard names."""
    regional = rotated(22, 22, 0.5, -5.25, -5.25, {**EURO, "grid_north_pole_latitude": 46.0, "grid_north_pole_longitude": -176.0})
    for role, grid in (("rcm", regional), ("gcm", box(-5.0, 13.0, 35.0, 51.0, 2.0))):
        dims = (grid.axes.y_name, grid.axes.x_name)
        days = days_of(Spec(first=FIRST, last=LAST))
        wave = _fields("tas", days, grid.axes.y, grid.axes.x, 0.3) - 282.0
        dataset = grid.to_dataset().assign_coords(
            time=("time", np.arange(len(days)) + 0.5, {"units": "days since 2001-01-01", "axis": "T"})
        )
        fields = {
            "uas": (5.0 + wave, "m s-1"),
            "vas": (2.0 - wave, "m s-1"),
            "tasmax": (287.0 + wave, "K"),
            "pr": (4.0 + abs(wave), "mm/day"),
        }
        for name, (values, units) in fields.items():
            dataset[name] = (("time", *dims), values.astype("f4"), {"units": units, **({"grid_mapping": "crs"} if role == "rcm" else {})})
        path = folder / role / "winds" / "all.nc"
        path.parent.mkdir(parents=True)
        dataset.to_netcdf(path)


def _losses(run: Path) -> str:
    """Losses of all epochs, without the seconds they took."""
    with (run / "metrics.csv").open() as stream:
        return str([(row["epoch"], row["train_loss"], row["validation_loss"]) for row in csv.DictReader(stream)])


class Bench:
    """Runs stages on the world with overrides and says what came out."""

    def __init__(self, config: Path, scratch: Path) -> None:
        self.config, self.scratch = config, scratch
        self._stores: dict[tuple, Path] = {}
        self._count = 0

    def load(self, overrides: tuple[str, ...]):
        self._count += 1
        given = any(one.startswith("workspace=") for one in overrides)
        own = () if given else (f"workspace={self.scratch / str(self._count)}",)
        return load_config(self.config, [*own, *overrides])

    def prepared(self, overrides: tuple[str, ...]):
        """The config with a pair store in its workspace; stores are made once and copied."""
        cfg = self.load(overrides)
        key = tuple(
            one for one in overrides if one.split(".")[0] in ("sources", "predictors", "targets", "static", "domain", "upscale", "missing")
        )
        if key not in self._stores:
            build_pairs(cfg)
            self._stores[key] = cfg.workspace_path() / "pairs.zarr"
        elif not (cfg.workspace_path() / "pairs.zarr").exists():
            shutil.copytree(self._stores[key], cfg.workspace_path() / "pairs.zarr")
        return cfg

    def outcome(self, stage: str, overrides: tuple[str, ...]) -> str:
        """What the stage leaves, in a comparable form; a refusal is an outcome too."""
        try:
            return getattr(self, f"_{stage}")(overrides)
        except DownscaleError as error:
            return f"refused ({error.code}): {error.message}"

    def _where(self, overrides: tuple[str, ...]) -> str:
        return str(build_pairs(self.load(overrides), dry_run=False)["artefact"])

    def _pairs(self, overrides: tuple[str, ...]) -> str:
        cfg = self.load(overrides)
        build_pairs(cfg)
        store = PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)
        text = [str(store.channels), str(store.targets), store.coarse.digest, store.fine.digest, str(sorted(store.static))]
        for group in store.groups.values():
            arrays = [group.predictors(kind, slice(None)) for kind in group.kinds] + [group.scalars(slice(None))]
            arrays += [group.target(slice(None))] if group.has_truth else []
            splits = [group.split(name).tolist() for name in ("train", "validation", "test")]
            text += [str(group.kinds), str(group.days.tolist()), str(splits), *(hashlib.sha256(a.tobytes()).hexdigest() for a in arrays)]
        return "\n".join(text)

    def _train(self, overrides: tuple[str, ...]) -> str:
        cfg = self.prepared(overrides)
        run = Path(str(train_run(cfg, device="cpu")["artefact"]))
        runs = [path.name for path in sorted(run.parent.iterdir())]
        hashes = [hashlib.sha256((run.parent / name / "model.safetensors").read_bytes()).hexdigest() for name in runs]
        return f"{_losses(run)} {runs} {hashes}"

    def _seeds(self, overrides: tuple[str, ...]) -> str:
        return str(sorted(path.name for path in Path(str(train_run(self.prepared(overrides), device="cpu")["artefact"])).glob("**/DONE")))

    def _compiled(self, overrides: tuple[str, ...]) -> str:
        """On a machine without a compiler, so that it takes no minute."""
        with patch("shutil.which", lambda name: None):
            return self._train(overrides)

    def _hurried(self, overrides: tuple[str, ...]) -> str:
        """In a job that ends in ten seconds less than ten minutes."""
        with patch.dict("os.environ", SLURM_JOB_END_TIME=str(int(time.time()) + 590)):
            return self._train(overrides)

    def _reading(self, overrides: tuple[str, ...]) -> str:
        """Where the days come from: the weights are the same."""
        run = Path(str(train_run(self.prepared(overrides), device="cpu")["artefact"]))
        return str("are read from disk" in (run / "log.txt").read_text())

    def _near(self, overrides: tuple[str, ...]) -> str:
        """Which copy of the days was read: the weights are the same."""
        run = Path(str(train_run(self.prepared(overrides), device="cpu")["artefact"]))
        return str("are read from the copy" in (run / "log.txt").read_text())

    def _finetune(self, overrides: tuple[str, ...]) -> str:
        return self._adapted(overrides, "finetune")

    def _few_shot(self, overrides: tuple[str, ...]) -> str:
        return self._adapted(overrides, "few-shot")

    def _adapted(self, overrides: tuple[str, ...], mode: str) -> str:
        cfg = self.prepared(overrides)
        if not (self.scratch / "start").exists():
            base = self.prepared((f"workspace={self.scratch / 'base'}",))
            Path(str(train_run(base, device="cpu")["artefact"])).rename(self.scratch / "start")
        run = Path(str(train_run(cfg, mode=mode, source_run=str(self.scratch / "start"), device="cpu")["artefact"]))
        return _losses(run)

    def _submit(self, overrides: tuple[str, ...]) -> str:
        """The scripts of all stages, the same workspace for all."""
        cfg = self.load((f"workspace={self.scratch / 'jobs'}", *overrides))
        request, site = Request(self.config, STAGES, few_shot=["--from", "run"]), load_site(cfg.hpc.site)
        return printed(plan(cfg, request, site, {}), setting_of(cfg, request, site), None)

    def _apply(self, overrides: tuple[str, ...]) -> str:
        cfg = self.prepared(overrides)
        train_run(cfg, device="cpu")
        calls: list[tuple] = []
        apply_run(cfg, device="cpu", progress=lambda *told: calls.append(told[:2]))
        text = []
        for path in sorted((cfg.workspace_path() / "predictions").rglob("*.nc")):
            with netCDF4.Dataset(path) as file:
                attributes = {key: file.getncattr(key) for key in file.ncattrs() if "source_id" in key}
                text.append(f"{path.name} {path.stat().st_size} {len(file.dimensions.get('time', ()))} {attributes}")
        return f"{text} {len(calls)}"

    def _listed(self, overrides: tuple[str, ...]) -> str:
        """What an archive's list says of the input files."""
        cfg = self.prepared(overrides)
        train_run(cfg, device="cpu")
        apply_run(cfg, device="cpu")
        lists = sorted((cfg.workspace_path() / "predictions").rglob("manifest*.json"))
        return str([sorted(entry) for path in lists for entry in json.loads(path.read_text())["inputs"]])

    def _evaluate(self, overrides: tuple[str, ...]) -> str:
        cfg = self.prepared(overrides)
        train_run(cfg, device="cpu")
        apply_run(cfg, device="cpu")
        folder = Path(str(evaluate_run(cfg)["artefact"]))
        return "\n".join(f"{path.name}\n{path.read_text()}" for path in sorted(folder.glob("*.csv")))
