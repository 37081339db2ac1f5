"""Seconds to catalogue and open 10,000 small files, cold and warm: headers, day table, one series; no field is read.

python tests/benchmarks/catalogue.py [FILES [FOLDER]]

One variable of 30 x 40 cells, a file a month (noleap), in a tree of a folder a year. The first round has no cache of headers, the second
and third find it. Each round is a process of its own, imports not counted. The files' bytes lie in the page cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import netCDF4
import numpy as np

from downscale.cf.open import open_files
from downscale.variables import Channel

SHAPE = (30, 40)
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def make(folder: Path, files: int) -> None:
    """Monthly NetCDF-4 files as of a CMIP model, from the year 1 on; months of one length are copied and their times patched."""
    templates = {length: _template(folder / f"{length}.nc", length) for length in set(_LENGTHS)}
    start = 0
    for index in range(files):
        length = _LENGTHS[index % 12]
        place = folder / "day" / "tas" / "gn" / f"{1 + index // 12:04d}"
        place.mkdir(parents=True, exist_ok=True)
        data, times, bounds = templates[length]
        day = start + np.arange(length, dtype="f8")
        data[times : times + 8 * length] = (day + 0.5).tobytes()
        data[bounds : bounds + 16 * length] = np.stack([day, day + 1], axis=1).tobytes()
        path = place / f"tas_day_MODEL_historical_r1i1p1f1_gn_{index:05d}.nc"
        path.write_bytes(data)
        os.utime(path, (1e9, 1e9))
        start += length
    for path in folder.glob("*.nc"):
        path.unlink()


def _template(path: Path, length: int) -> tuple[bytearray, int, int]:
    """The bytes of a file, and where its times and their bounds begin."""
    marks = np.full(length, 1.0e5 + np.pi), np.full((length, 2), 2.0e5 + np.pi)
    with netCDF4.Dataset(path, "w") as file:
        for dim, size in (("time", length), ("lat", SHAPE[0]), ("lon", SHAPE[1]), ("bnds", 2)):
            file.createDimension(dim, size)
        file.setncatts(
            {f"attribute_{number}": f"a sentence of some words, number {number}" for number in range(35)} | {"source_id": "MODEL"}
        )
        for name, values, units in (("lat", np.linspace(30, 60, SHAPE[0]), "degrees_north"), ("lon", np.arange(SHAPE[1]), "degrees_east")):
            axis = file.createVariable(name, "f8", (name,))
            axis.setncatts({"units": units, "standard_name": {"lat": "latitude", "lon": "longitude"}[name], "axis": "YX"[name == "lon"]})
            axis[:] = values
        stamps = file.createVariable("time", "f8", ("time",))
        stamps.setncatts({"units": "days since 0001-01-01", "calendar": "noleap", "bounds": "time_bnds", "axis": "T"})
        stamps[:] = marks[0]
        file.createVariable("time_bnds", "f8", ("time", "bnds"))[:] = marks[1]
        height = file.createVariable("height", "f8", ())
        height.setncatts({"units": "m", "standard_name": "height", "positive": "up"})
        height[...] = 2.0
        field = file.createVariable("tas", "f4", ("time", "lat", "lon"), fill_value=np.float32(1e20))
        field.setncatts({"units": "K", "standard_name": "air_temperature", "cell_methods": "area: time: mean", "coordinates": "height"})
        field[:] = 280.0
    data = bytearray(path.read_bytes())
    return data, data.index(marks[0].tobytes()), data.index(marks[1].tobytes())


def one(folder: Path) -> None:
    """One opening in this process."""
    began = time.perf_counter()
    source = open_files("A", [folder], [Channel("tas")])
    print(json.dumps([time.perf_counter() - began, len(source.files), len(source.days)]))


def main(files: int, folder: Path) -> None:
    """Print the rounds."""
    began = time.perf_counter()
    make(folder / "data", files)
    print(f"{files} files made in {time.perf_counter() - began:.0f} s; {len(os.sched_getaffinity(0))} cores")
    environment = os.environ | {"DOWNSCALE_CACHE": str(folder / "cache")}
    for label in ("cold", "warm", "warm"):
        command = [sys.executable, __file__, "one", str(folder / "data")]
        result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        seconds, count, days = json.loads(result.stdout)
        size = sum(path.stat().st_size for path in (folder / "cache").iterdir()) / 1e6
        print(f"{label}: {seconds:6.2f} s, {count} files, {days} days; cache {size:.1f} MB", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as place:
            (Path(place) / "data").mkdir()
            main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, Path(place))
