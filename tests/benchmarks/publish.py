"""Writing five years of EUR-12 in each layout: seconds, CPU seconds, file size, peak memory, and what rounding saves.

    python tests/benchmarks/publish.py [FOLDER] [YEARS]

Each case is a process of its own. The fields are smooth in space with noise of a tenth of a kelvin, made before the clock starts, a
block of 64 days again and again; `bare` writes the same bytes with netCDF4 alone, same chunks and compression.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
CASES = {
    "bare": {},
    "cf": {},
    "cordex": {},
    "zarr": {},
    "cordex, 12 bits": {"significant_bits": 12},
    "cordex, 10 bits": {"significant_bits": 10},
    "cordex, 7 bits": {"significant_bits": 7},
}
BLOCK = 64


def one(case: str, folder: Path, years: int) -> dict[str, float]:
    import numpy as np
    from profile_world import spec_of

    from downscale.grid.domains import domain_grid
    from downscale.profiles.output import open_output

    grid = domain_grid("EUR-12")
    spec = spec_of(folder, first=20160101, last=(2015 + years) * 10000 + 1231, grid=grid, variables=("tas",), **CASES[case])
    rng = np.random.default_rng(0)
    base = (290 - 0.6 * np.abs(grid.lat - 30) + 5 * np.sin(np.deg2rad(grid.lon * 7)) * np.cos(np.deg2rad(grid.lat * 9))).astype(np.float32)
    block = base + rng.normal(0, 0.1, (BLOCK, *grid.shape)).astype(np.float32) + rng.normal(0, 4, (BLOCK, 1, 1)).astype(np.float32)
    began, worked = time.perf_counter(), time.process_time()
    if case == "bare":
        bare(folder / "bare.nc", block, len(spec.days))
    else:
        with open_output(case.partition(",")[0], spec) as output:
            for start in range(0, len(spec.days), BLOCK):
                days = spec.days[start : start + BLOCK]
                output.append(days, block[: len(days), None])
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "CPU s": cpu, "days": len(spec.days), "MB": size / 1e6, "peak GiB": peak}


def bare(path: Path, block, days: int) -> None:
    import netCDF4

    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w", format="NETCDF4_CLASSIC") as file:
        file.createDimension("time", None)
        file.createDimension("y", block.shape[1])
        file.createDimension("x", block.shape[2])
        chunks = (6, *block.shape[1:])
        tas = file.createVariable("tas", "f4", ("time", "y", "x"), compression="zlib", complevel=1, shuffle=True, chunksizes=chunks)
        tas.set_var_chunk_cache(size=2 * 4 * 6 * block[0].size, nelems=11, preemption=1.0)
        for start in range(0, days, BLOCK):
            count = min(BLOCK, days - start)
            tas[start : start + count] = block[:count]


def main(folder: str | None = None, years: str = "5") -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for case in CASES:
            place = Path(scratch) / case.replace(", ", "-").replace(" ", "-")
            done = subprocess.run([sys.executable, __file__, "--one", case, str(place), years], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{case:16} " + "  ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
            shutil.rmtree(place)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        main(*sys.argv[1:])
