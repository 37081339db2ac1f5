"""Time and memory of `downscale evaluate --prediction ... --reference ...`, with its floor: reading, one sort and one FFT of each field.

python tests/benchmarks/evaluate.py [mlbench|default] [NY NX YEARS [FOLDER]]

tasmax and pr of a truth and a prediction, daily, NetCDF-4 with deflate 1 and shuffle, one field a chunk. The command runs in a process of
its own, on the cores that it is given; so does the floor, on one core: reading all fields with netCDF4, sorting each cell of each field
once, one real FFT of each day.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import netCDF4
import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

COMMAND = """
import resource, sys
from downscale.cli.app import app
try:
    app()
except SystemExit as stop:
    assert not stop.code
print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def make(folder: Path, shape: tuple[int, int], years: int) -> None:
    """Both files: weather-like noise over a seasonal cycle; the prediction is smoother, and a little too warm and too dry."""
    days = int(365.25 * years)
    rng = np.random.default_rng(0)
    lat, lon = 40.0 + 0.1 * np.arange(shape[0]), 5.0 + 0.1 * np.arange(shape[1])
    files = {which: netCDF4.Dataset(folder / f"{which}.nc", "w") for which in ("truth", "pred")}
    for file in files.values():
        for name, values, units in (("lat", lat, "degrees_north"), ("lon", lon, "degrees_east")):
            file.createDimension(name, len(values))
            axis = file.createVariable(name, "f8", (name,))
            axis.units, axis[:] = units, values
        file.createDimension("time", None)
        stamps = file.createVariable("time", "f8", ("time",))
        stamps.units, stamps.calendar = "days since 1981-01-01", "standard"
        stamps[:] = np.arange(days) + 0.5
        for name, units in (("tasmax", "K"), ("pr", "mm day-1")):
            field = file.createVariable(
                name, "f4", ("time", "lat", "lon"), compression="zlib", complevel=1, shuffle=True, chunksizes=(1, *shape)
            )
            field.units = units
            field.set_auto_maskandscale(False)
    noise = [gaussian_filter(rng.standard_normal((64, *shape), dtype=np.float32), (0.7, 2, 2)) for _ in range(2)]
    noise = [one / one.std() for one in noise]
    for start in range(0, days, 64):
        count = min(64, days - start)
        warm, wet = (np.roll(one, int(rng.integers(shape[1])), axis=2)[:count] for one in noise)
        grain = rng.standard_normal((count, *shape), dtype=np.float32)
        season = (10 * np.sin(2 * np.pi * (np.arange(start, start + count) - 110) / 365.25)).astype(np.float32)[:, None, None]
        tasmax, pr = 288 + season + 4 * warm + 0.5 * grain, np.maximum(wet + 0.3 * grain - 0.5, 0) ** 2 * 8
        for which, pair in (("truth", (tasmax, pr)), ("pred", (tasmax + 0.3 - 0.4 * grain, np.maximum(wet - 0.5, 0) ** 2 * 7))):
            for name, values in zip(("tasmax", "pr"), pair, strict=True):
                files[which][name][start : start + count] = values
    for file in files.values():
        file.close()


def floor(folder: Path) -> dict[str, float]:
    """Seconds of reading everything, of one sort of each cell's series, of one FFT of each day, one core."""
    spent = dict.fromkeys(("read", "sort", "fft"), 0.0)
    for which in ("truth", "pred"):
        with netCDF4.Dataset(folder / f"{which}.nc") as file:
            for name in ("tasmax", "pr"):
                file[name].set_auto_maskandscale(False)
                n, ny, nx = file[name].shape
                series = np.empty((n, ny * nx), np.float32)
                for start in range(0, n, 64):
                    begun = time.perf_counter()
                    block = np.asarray(file[name][start : start + 64])
                    spent["read"] += time.perf_counter() - begun
                    begun = time.perf_counter()
                    for few in np.array_split(block, 4):
                        fft.rfft2(few.astype(np.float64))
                    spent["fft"] += time.perf_counter() - begun
                    series[start : start + len(block)] = block.reshape(len(block), -1)
                for start in range(0, ny * nx, 64):
                    cells = np.ascontiguousarray(series[:, start : start + 64].T)
                    begun = time.perf_counter()
                    cells.sort(axis=1)
                    spent["sort"] += time.perf_counter() - begun
    return spent


def main() -> None:
    """Make what is not there, run, print."""
    profile = sys.argv[1] if len(sys.argv) > 1 else "mlbench"
    ny, nx, years = (int(text) for text in sys.argv[2:5]) if len(sys.argv) > 4 else (128, 128, 20)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[5] if len(sys.argv) > 5 else scratch)
        if not (folder / "pred.nc").exists():
            folder.mkdir(parents=True, exist_ok=True)
            make(folder, (ny, nx), years)
        sizes = sum((folder / f"{which}.nc").stat().st_size for which in ("truth", "pred")) / 1e6
        print(f"{ny} x {nx} cells, {years} years, tasmax and pr: {sizes:.0f} MB on disk")
        spent = floor(folder)
        print(
            "floor, one core: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items()), f"= {sum(spent.values()):.1f} s"
        )
        arguments = ["evaluate", "--prediction", str(folder / "pred.nc"), "--reference", str(folder / "truth.nc"), "--profile", profile]
        arguments += ["-o", str(Path(scratch) / "scores")]
        before, begun = os.times(), time.perf_counter()
        result = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        seconds, after = time.perf_counter() - begun, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        peak = int(result.stdout.rsplit("PEAK", 1)[1]) / 1024
        print(f"{profile}: {seconds:.1f} s, {cpu:.1f} s of processor time, at most {peak:.0f} MiB")


if __name__ == "__main__":
    main()
