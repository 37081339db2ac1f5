"""Test RMSE pooled over days and cells (as in the reference scores), std ratio and P98 bias of every run, and of the mean of runs seed-*.

python tests/benchmarks/pooled_rmse.py CONFIG GROUP
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import netCDF4
import numpy as np

from downscale.cf.calendar import decode_days
from downscale.cf.units import to_working
from downscale.config.load import load_config
from downscale.pairs.store import PairStore
from downscale.variables import lookup


def read(folder: Path, name: str, days: np.ndarray) -> np.ndarray:
    """Emulated fields (time, y, x) of exactly these days, working units."""
    with netCDF4.Dataset(folder / f"{name}.nc") as dataset:
        time = dataset["time"]
        have = decode_days(time[:].filled(), time.units, time.calendar)
        fields = np.ma.filled(dataset[name][np.searchsorted(have, days)], np.nan)
        return to_working(lookup(name), dataset[name].units).apply(fields)


def main() -> None:
    """Print a line per run and target."""
    cfg = load_config(Path(sys.argv[1]))
    group = PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split).group(sys.argv[2])
    index = group.split("test")
    days = group.days[index]
    for position, name in enumerate(group.targets):
        truth = group.target(index)[:, position].astype(np.float64)
        manifests = sorted(cfg.workspace_path().glob(f"predictions/*/{group.name}_*/prediction.json"))
        fields = {json.loads(path.read_text())["run"]: read(path.parent, name, days).astype(np.float64) for path in manifests}
        seeds = [value for run, value in fields.items() if run.startswith("seed-")]
        if seeds:
            fields["mean of the seeds' fields"] = np.mean(seeds, axis=0)
        for run, value in fields.items():
            rmse = np.sqrt(np.nanmean((value - truth) ** 2))
            ratio = np.nanstd(value) / np.nanstd(truth)
            p98 = np.nanmean(np.nanquantile(value, 0.98, axis=0) - np.nanquantile(truth, 0.98, axis=0))
            print(f"{name:7} {run:28} RMSE {rmse:.4f}  std ratio {ratio:.3f}  P98 bias {p98:+.2f}")


if __name__ == "__main__":
    main()
