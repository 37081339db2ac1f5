"""Seconds of `apply RUN --input FILES -o DIR` against writing the same output alone, and against the network alone; highest memory.

python tests/benchmarks/apply.py [--years 20] [--size 128] [--kills 0] [--device cpu] [MODEL ...]

A run folder with random weights (unet_doury of width 16, deepesd) reads 15 channels on 16 x 16 cells from NetCDF. *writing*: the fields of
the result, held in memory, to a file with the same layout and compression, verified as ever. *network*: the same days, held in memory,
through the emulator with all cores. *start*: the command on two days. Each in a process of its own, one after the other. With --workers N:
N such commands on N inputs at once, and one command with --workers N on these inputs. With --kills N: the command is killed at N random
moments, goes on each time, and the files are compared with those of an undisturbed one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import torch

from downscale.apply.predict import emulate
from downscale.cf.calendar import encode_days, expected_days
from downscale.grid.grid import lonlat_grid
from downscale.models import build
from downscale.profiles.output import CfOutput, OutputSpec
from downscale.training.run import load_run, write_run

LEVELS = (850, 700, 500)
VARIABLES = {"ta": ("K", 280.0), "hus": ("1", 0.005), "ua": ("m s-1", 3.0), "va": ("m s-1", 1.0), "zg": ("m", 3000.0)}
STANDARD = {"ta": "air_temperature", "hus": "specific_humidity", "ua": "eastward_wind", "va": "northward_wind", "zg": "geopotential_height"}
COARSE = 16


def make_run(folder: Path, model: str, size: int) -> None:
    """A run folder with random weights: 15 channels to tas on size x size cells."""
    channels = {f"{name}{level}": level for name in VARIABLES for level in LEVELS}
    width = {"unet_doury": {"width": 16}}.get(model, {})
    spec = {
        "model": {"name": model, "backbone": "none", "dropout": 0.0, **width},
        "channels": list(channels), "levels_hpa": channels, "targets": ["tas"], "scalars": ["season_cos", "season_sin"],
        "coarse_shape": [COARSE] * 2, "fine_shape": [size] * 2, "normalise": "gridpoint", "transforms": {}, "non_negative": [],
        "fixed": [], "units": {**{name: VARIABLES[name.rstrip("0123456789")][0] for name in channels}, "tas": "K"},
    }  # fmt: skip
    torch.manual_seed(0)
    emulator = build(spec)
    edges = np.linspace(0.0, 16.0, COARSE + 1)
    fine = np.linspace(2.0, 14.0, size + 1)
    card = {
        "mode": "pretrain", "role": "emulator", "trained_on": ["RCM_A/perfect"], "recipe": {"on": ["RCM_A/perfect"]},
        "statistics_digest": "none", "config_sha256": "0" * 64, "split": {"train": [], "validation": [], "test": []}, "smooth": 1,
        "min_valid_fraction": 0.5, "edges": "great_circle", "downscale_version": "0", "source_run": None, "best": None,
    }  # fmt: skip
    normaliser = {"digest": "none", "training_days": 0}
    folder.mkdir(parents=True)
    write_run(folder, emulator, (lonlat_grid(40.0 + edges, edges), lonlat_grid(40.0 + fine, fine)), card, normaliser)


def make_input(path: Path, years: int, seed: int = 0) -> None:
    """Smooth noise on the coarse grid, a file for each variable."""
    path.mkdir(parents=True)
    rng, days = np.random.default_rng(seed), expected_days(20010101, (2000 + years) * 10000 + 1231, "noleap")
    centres = np.arange(COARSE) + 0.5
    for name, (units, level) in VARIABLES.items():
        with netCDF4.Dataset(path / f"{name}.nc", "w", format="NETCDF4_CLASSIC") as file:
            for dim, length in (("time", None), ("plev", len(LEVELS)), ("lat", COARSE), ("lon", COARSE)):
                file.createDimension(dim, length)
            time_axis = file.createVariable("time", "f8", ("time",))
            time_axis.setncatts({"units": "days since 1850-01-01", "calendar": "noleap", "standard_name": "time", "axis": "T"})
            time_axis[:] = encode_days(days, "noleap")
            for dim, values, unit, standard in (
                ("plev", np.array(LEVELS) * 100.0, "Pa", "air_pressure"),
                ("lat", 40.0 + centres, "degrees_north", "latitude"),
                ("lon", centres, "degrees_east", "longitude"),
            ):
                axis = file.createVariable(dim, "f8", (dim,))
                axis.setncatts({"units": unit, "standard_name": standard})
                axis[:] = values
            field = file.createVariable(name, "f4", ("time", "plev", "lat", "lon"), chunksizes=(64, 3, COARSE, COARSE))
            field.setncatts({"units": units, "standard_name": STANDARD[name]})
            means = np.array([1450.0, 3000.0, 5600.0] if name == "zg" else [level] * 3, np.float32)[:, None, None]
            noise = rng.standard_normal((len(days), len(LEVELS), COARSE, COARSE)).astype(np.float32)
            field[:] = means * (1.0 + 0.002 * noise.cumsum(axis=2))


def command(run: Path, out: Path, *options: Any) -> list[str]:
    """apply on the command line."""
    return [sys.executable, "-c", "from downscale.cli.app import main; main()", "apply", str(run), *map(str, options), "-o", str(out), "-q"]


def timed(*commands: list[str]) -> tuple[float, float]:
    """Seconds until all processes have ended, and the highest memory of one in GiB."""
    started = time.perf_counter()
    crew = [subprocess.Popen(one) for one in commands]
    for one in crew:
        if one.wait():
            raise SystemExit(f"failed: {' '.join(map(str, one.args))}")
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def writing(made: Path) -> float:
    """Seconds to write the fields of a prediction again, from memory."""
    run = load_run(made.parent / "run", device="cpu")
    with netCDF4.Dataset(made / "tas.nc") as file:
        file.set_auto_mask(False)
        fields, attributes = np.asarray(file["tas"][:]), {name: str(file.getncattr(name)) for name in file.ncattrs()}
    days = expected_days(20010101, (2000 + len(fields) // 365) * 10000 + 1231, "noleap")
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        started = time.perf_counter()
        with CfOutput(OutputSpec(Path(folder), ("tas",), run.fine, "noleap", days, attributes)) as output:
            for start in range(0, len(days), 384):
                output.append(days[start : start + 384], fields[start : start + 384, None])
        return time.perf_counter() - started


def network(run_path: Path, n: int, device: str) -> float:
    """Seconds of the network on n days in memory."""
    run, rng = load_run(run_path, device=device), np.random.default_rng(0)
    some = min(n, 1024)
    maps = rng.standard_normal((some, len(run.channels), COARSE, COARSE)).astype(np.float32)
    arrays = (maps, np.zeros((some, 2), np.float32), np.full((some, 1, COARSE, COARSE), np.nan, np.float32), np.full(some, 20010101))
    emulate(run, *(array[:64] for array in arrays))
    started = time.perf_counter()
    emulate(run, *arrays)
    return (time.perf_counter() - started) * n / some


def measure(model: str, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """One line of the table."""
    run, device = scratch / "run", ["--device", options.device]
    make_run(run, model, options.size)
    make_input(scratch / "input", options.years)
    make_input(scratch / "short", 1)
    start, _ = timed(command(run, scratch / "first", "--input", scratch / "short", "--dry-run", *device))
    whole, memory = timed(command(run, scratch / "out", "--input", scratch / "input", *device))
    row: dict[str, Any] = {
        "model": model, "start": start, "whole": whole, "writing": writing(scratch / "out"),
        "network": network(run, options.years * 365, options.device), "GiB": memory,
        "MB": (scratch / "out" / "tas.nc").stat().st_size / 1e6,
    }  # fmt: skip
    if options.workers > 1:
        row |= shared(run, options, scratch)
    if options.kills:
        row["kills"] = killed(command(run, scratch / "killed", "--input", scratch / "input", *device), whole, options.kills, scratch)
    return {name: value if isinstance(value, str) else round(value, 2) for name, value in row.items()}


def shared(run: Path, options: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """Two inputs: one command after the other, two at once, and one with workers."""
    inputs = [scratch / f"input-{number}" for number in range(options.workers)]
    for number, path in enumerate(inputs):
        make_input(path, options.years, number)
    files = [path for folder in inputs for path in sorted(folder.glob("*.nc"))]
    single = [command(run, scratch / f"alone-{number}", "--input", path) for number, path in enumerate(inputs)]
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // options.workers))
    one = timed(single[0])[0]
    for path in scratch.glob("alone-*"):
        shutil.rmtree(path)
    together = timed(*single)[0]
    del os.environ["OMP_NUM_THREADS"]
    workers = timed(command(run, scratch / "workers", "--input", *files, "--per-run", "--workers", options.workers))[0]
    return {"one process": one, "independent processes": together, "workers": workers}


def killed(words: list[str], seconds: float, times: int, scratch: Path) -> str:
    """Whether a command that is killed again and again leaves what an undisturbed one leaves."""
    chance = random.Random(1)
    words = [*words, "--overwrite"]
    for _ in range(times):
        process = subprocess.Popen(words, start_new_session=True)
        try:
            process.wait(chance.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(scratch / "killed", ignore_errors=True) if (scratch / "killed" / "prediction.json").exists() else None
    timed(words)
    return "equal" if contents(scratch / "killed") == contents(scratch / "out") else "DIFFERENT"


def contents(folder: Path) -> dict[str, Any]:
    """All variables and attributes, but for what changes from run to run."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.nc")):
        with netCDF4.Dataset(path) as file:
            file.set_auto_maskandscale(False)
            volatile = ("creation_date", "tracking_id", "history")
            found[path.name] = {name: str(file.getncattr(name)) for name in file.ncattrs() if name not in volatile}
            for name, variable in file.variables.items():
                about = {one: str(variable.getncattr(one)) for one in variable.ncattrs()}
                found[f"{path.name}:{name}"] = (about, variable[...].tobytes())
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["unet_doury", "deepesd"])
    for flag, value in (("years", 20), ("size", 128), ("kills", 0), ("workers", 1)):
        parser.add_argument(f"--{flag}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    wanted = parser.parse_args()
    for one in wanted.models:
        with tempfile.TemporaryDirectory() as scratch_folder:
            print(json.dumps(measure(one, wanted, Path(scratch_folder))), flush=True)
