"""Time and memory of reading one EUR-12-size variable through open_files and Series.read, against the same bytes raw with netCDF4.

python tests/benchmarks/reading.py [YEARS [REPEATS [FOLDER]]]

412 x 424 cells, daily, NetCDF4 with zlib level 1 and shuffle. Both sides read the same blocks of 32 days, in turn, each in a process of
its own; the raw side does nothing but netCDF4 with set_auto_maskandscale(False). The floor is the bytes that must be moved: those on
disk, those inflated, and those given out as float32.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import netCDF4
import numpy as np

from downscale.cf.open import open_files
from downscale.variables import Channel

SHAPE = (412, 424)
BLOCK = 32
VARIANTS = {
    "pr": "float32 kg m-2 s-1 to mm/day, one field a chunk",
    "pr-default": "the same, chunks chosen by the netCDF library for a fixed time dimension",
    "tas": "float32 K, nothing to convert, one field a chunk",
    "tas-celsius": "float32 degC to K, a tenth of the cells missing, one field a chunk",
    "tas-packed": "int16 with scale and offset to K, a tenth of the cells missing, one field a chunk",
    "tas-flipped": "float32 K, rows from north to south, one field a chunk",
}


def make(folder: Path, variant: str, days: int) -> Path:
    """One file of a variant: weather-like noise in full precision, half of the precipitation zero."""
    path = folder / f"{variant}.nc"
    name, packed = variant.split("-")[0], variant == "tas-packed"
    rng = np.random.default_rng(1)
    lat, lon = np.meshgrid(np.linspace(30, 70, SHAPE[0]), np.linspace(-20, 40, SHAPE[1]), indexing="ij")
    base = 300.0 - 0.5 * lat + 2.0 * np.sin(lon / 7.0)
    sea = rng.random(SHAPE) < 0.1 if variant in ("tas-celsius", "tas-packed") else np.zeros(SHAPE, bool)
    with netCDF4.Dataset(path, "w") as file:
        for dim, length in (("time", days if variant == "pr-default" else None), ("lat", SHAPE[0]), ("lon", SHAPE[1])):
            file.createDimension(dim, length)
        _axes(file, days, flipped=variant == "tas-flipped", lat=lat[:, 0], lon=lon[0])
        chunks = None if variant == "pr-default" else (1, *SHAPE)
        options = {"compression": "zlib", "complevel": 1, "shuffle": True, "chunksizes": chunks}
        field = file.createVariable(
            name, "i2" if packed else "f4", ("time", "lat", "lon"), fill_value=-32768 if packed else np.float32(1e20), **options
        )
        field.units = {"pr": "kg m-2 s-1", "tas-celsius": "degC"}.get(name if name == "pr" else variant, "K")
        if packed:
            field.setncatts({"scale_factor": 0.002, "add_offset": 280.0})
        field.set_auto_maskandscale(False)
        for start in range(0, days, 609):
            count = min(609, days - start)
            block = np.empty((count, *SHAPE), "i2" if packed else "f4")
            for step in range(count):
                block[step] = _day(rng, base, sea, variant)
            field[start : start + count] = block
    return path


def _axes(file: netCDF4.Dataset, days: int, *, flipped: bool, lat: np.ndarray, lon: np.ndarray) -> None:
    for name, values, units in (("lat", lat[::-1] if flipped else lat, "degrees_north"), ("lon", lon, "degrees_east")):
        axis = file.createVariable(name, "f8", (name,))
        axis.setncatts({"units": units, "standard_name": {"lat": "latitude", "lon": "longitude"}[name]})
        axis[:] = values
    stamps = file.createVariable("time", "f8", ("time",))
    stamps.setncatts({"units": "days since 1990-01-01", "calendar": "standard"})
    stamps[:] = np.arange(days) + 0.5


def _day(rng: np.random.Generator, base: np.ndarray, sea: np.ndarray, variant: str) -> np.ndarray:
    noise = rng.standard_normal(SHAPE, dtype=np.float32)
    if variant.startswith("pr"):
        return np.maximum(noise, 0) / 86400.0 * 4.0
    kelvin = base + 3.0 * noise
    if variant == "tas-packed":
        return np.where(sea, -32768, np.round((kelvin - 280.0) / 0.002)).astype("i2")
    return np.where(sea, 1e20, kelvin - 273.15 * (variant == "tas-celsius"))


def read_raw(path: Path) -> None:
    """The same blocks with netCDF4 alone."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        field = file[path.stem.split("-")[0]]
        for start in range(0, field.shape[0], BLOCK):
            field[start : start + BLOCK]


def read_ours(path: Path) -> None:
    """All blocks through open_files and Series.read, everything screened and converted."""
    source = open_files("A", [path], [Channel(path.stem.split("-")[0])])
    (series,) = source.series.values()
    for start in range(0, len(series.days), BLOCK):
        series.read(start, start + BLOCK)
    source.close()


def one(kind: str, path: Path) -> None:
    """One reading in this process: seconds, and the peak of the resident memory in MiB."""
    began = time.perf_counter()
    (read_raw if kind == "raw" else read_ours)(path)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    print(json.dumps([seconds, int(status.split("VmHWM:")[1].split()[0]) / 1024]))


def measure(path: Path, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Fastest seconds and highest memory of both sides, read in turn."""
    seconds: dict[str, list[float]] = {"raw": [], "ours": []}
    memory = {"raw": 0.0, "ours": 0.0}
    for _ in range(repeats):
        for kind in seconds:
            result = subprocess.run([sys.executable, __file__, "one", kind, str(path)], capture_output=True, text=True, check=True)
            took, peak = json.loads(result.stdout)
            seconds[kind].append(took)
            memory[kind] = max(memory[kind], peak)
    return {kind: min(values) for kind, values in seconds.items()}, memory


def main(years: int, repeats: int, folder: Path, variants: list[str]) -> None:
    """Print a line per variant."""
    days = int(365.25 * years)
    print(f"{days} days, {repeats} repeats in turn, fastest of each")
    print(
        f"{'variant':12} {'on disk':>8} {'inflated':>9} {'given out':>9} {'raw':>7} {'ours':>7} {'ratio':>6} {'raw MiB':>8} {'our MiB':>8}"
    )
    for variant in variants:
        path = make(folder, variant, days)
        seconds, memory = measure(path, repeats)
        values = days * SHAPE[0] * SHAPE[1]
        sizes = [path.stat().st_size / 1e6, values * (2 if variant == "tas-packed" else 4) / 1e6, values * 4 / 1e6]
        print(
            f"{variant:12} {sizes[0]:6.0f}MB {sizes[1]:7.0f}MB {sizes[2]:7.0f}MB {seconds['raw']:6.2f}s {seconds['ours']:6.2f}s "
            f"{seconds['ours'] / seconds['raw']:6.2f} {memory['raw']:8.0f} {memory['ours']:8.0f}",
            flush=True,
        )
        path.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], Path(sys.argv[3]))
    else:
        words = sys.argv[1:]
        with tempfile.TemporaryDirectory(dir=words[2] if len(words) > 2 else None) as place:
            main(int(words[0]) if words else 5, int(words[1]) if len(words) > 1 else 3, Path(place), words[3:] or list(VARIANTS))
