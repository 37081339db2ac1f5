"""Upscaling EUR-11-size daily files to a pair store, against reading the same bytes raw and against ``cdo remap``.

python tests/benchmarks/prepare.py [YEARS [VARIABLES [REPEATS [FOLDER]]]]

First one file of YEARS (412 x 424 cells, daily, deflate 1 and shuffle) by ``downscale prepare --workers 1``, by ``cdo -P 1 remap`` with
ready weights where cdo is installed, and read raw with netCDF4 in blocks of 32 days (the floor). Then VARIABLES files, one variable each,
by prepare with 1 and 2 workers, beside the same files read raw by one and by two processes. All are whole processes, imports and all, in
turn; medians of REPEATS. The target is a window of 64 x 64 cells, so that writing is small for all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import netCDF4

CHANNELS = ("tas", "tasmax", "tasmin", "ta1000", "ta925", "ta850", "ta700", "ta600", "ta500", "ta400")
CONFIG = """\
workspace: results
sources: {{RCM: {{role: rcm, files: [{files}]}}}}
predictors: [{predictors}]
targets: [{{name: tas}}]
domain: {{fine_box: [180, 244, 180, 244]}}
upscale: {{to: {{resolution: 1.40625}}}}
split: {{train: ["1990-01-02/1990-06-30"], validation: ["1990-07-01/1990-09-30"], test: ["1990-10-01/1990-12-30"], gap_days: 0}}
train: {{on: [RCM/perfect]}}
"""
RAW = """\
import sys, netCDF4
for path in sys.argv[1:]:
    with netCDF4.Dataset(path) as file:
        (field,) = [v for v in file.variables.values() if v.ndim == 3]
        field.set_auto_maskandscale(False)
        for start in range(0, len(field), 32):
            field[start : start + 32]
"""
COMMAND = [sys.executable, "-c", "from downscale.cli.app import main; main()"]
ENVIRONMENT = {**{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}, "OMP_NUM_THREADS": "1"}


def renamed(path: Path, name: str) -> Path:
    """A copy of a file with its variable under another name."""
    copy = path.with_name(f"{name}.nc")
    if copy != path:
        shutil.copyfile(path, copy)
        with netCDF4.Dataset(copy, "a") as file:
            file.renameVariable("tas", name)
    return copy


def write_config(folder: Path, files: list[Path]) -> Path:
    names = [path.stem for path in files]
    predictors = ", ".join(f"{{name: ta, levels: [{name[2:]}]}}" if name[2:].isdigit() else f"{{name: {name}}}" for name in names)
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(files=", ".join(f'"{one}"' for one in files), predictors=predictors))
    return path


def prepare(config: Path, workers: int) -> dict[str, float]:
    """Seconds of the whole command, and the highest memory of a worker as the command says it (of the command itself for one)."""
    shutil.rmtree(config.parent / "results", ignore_errors=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "prepare", str(config), "--workers", str(workers)],
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, said
    stated = [line for line in said.splitlines() if "worker(s), at most" in line]
    memory = float(stated[0].split(" GB each")[0].split()[-1]) if stated else usage.ru_maxrss * 1024 / 1e9
    return {"s": time.monotonic() - started, "GB": memory}


def processes(commands: list[list[str]]) -> dict[str, float]:
    """Seconds until several commands, started together, have ended."""
    started = time.monotonic()
    running = [subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in commands]
    assert all(process.wait() == 0 for process in running)
    return {"s": time.monotonic() - started}


def raw(files: list[Path], parts: int) -> list[list[str]]:
    return [[sys.executable, "-c", RAW, *map(str, files[part::parts])] for part in range(parts)]


def cdo_commands(folder: Path, path: Path) -> list[list[str]]:
    """The remapping by CDO with ready weights; empty where cdo is not installed."""
    if not shutil.which("cdo"):
        return []
    grid = folder / "grid.txt"
    grid.write_text("gridtype=lonlat\nxsize=43\nysize=29\nxfirst=-19.29\nxinc=1.40625\nyfirst=30.7\nyinc=1.40625\n")
    weights = folder / "weights.nc"
    subprocess.run(["cdo", "-s", f"gencon,{grid}", "-seltimestep,1", str(path), str(weights)], check=True)
    return [["cdo", "-s", "-P", "1", f"remap,{grid},{weights}", str(path), str(folder / "cdo.nc")]]


def medians(repeats: int, works: dict[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """All works in turn, as often as asked; the median of each figure."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            found[name].append(work())
    return {name: {key: round(statistics.median(one[key] for one in runs), 2) for key in runs[0]} for name, runs in found.items()}


def main(years: int = 5, variables: int = 10, repeats: int = 3, folder: str = "") -> None:
    place = Path(folder or tempfile.mkdtemp(prefix="prepare-benchmark-"))
    place.mkdir(parents=True, exist_ok=True)
    first = place / "tas.nc"
    if not first.exists():  # by a process of its own: the peak memory of this one would count as that of the commands it starts
        make_it = f"from reading import make; from pathlib import Path; make(Path({str(place)!r}), 'tas', {int(365.25 * years)})"
        subprocess.run([sys.executable, "-c", make_it], cwd=Path(__file__).parent, check=True)
    path = first
    files = [renamed(path, name) for name in CHANNELS[:variables]]
    (place / "one").mkdir(exist_ok=True)
    (place / "many").mkdir(exist_ok=True)
    one, many = write_config(place / "one", files[:1]), write_config(place / "many", files)
    works = {"raw": lambda: processes(raw(files[:1], 1)), "prepare": lambda: prepare(one, 1)}
    for command in cdo_commands(place, path):
        works["cdo -P 1 remap"] = lambda command=command: processes([command])  # type: ignore[misc]
    print(json.dumps({f"one file of {years} years, {path.stat().st_size / 1e6:.0f} MB": medians(repeats, works)}, indent=1))
    works = {f"raw, {count} process(es)": lambda count=count: processes(raw(files, count)) for count in (1, 2)}  # type: ignore[misc]
    works |= {f"prepare, {count} worker(s)": lambda count=count: prepare(many, count) for count in (1, 2)}  # type: ignore[misc]
    print(json.dumps({f"{variables} files": medians(repeats, works)}, indent=1))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]), **({"folder": sys.argv[4]} if len(sys.argv) > 4 else {}))
