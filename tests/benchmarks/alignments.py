"""What the label-free alignments of `apply` bring on a GCM that an emulator was not trained on: the table of docs/results.md.

python tests/benchmarks/alignments.py DEMO_DIR           # a finished demo; trains a unet_doury besides, for AdaBN, and replaces predictions
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import netCDF4
import numpy as np

from downscale.apply.stage import apply_run
from downscale.config.load import load_config
from downscale.config.schema import ExperimentConfig
from downscale.evaluate.metrics import point
from downscale.pairs.store import PairStore
from downscale.training.modes import train_run

NETS = {"A-perfect": (), "A-doury": ("model={name: unet_doury, width: 16}", "normalise.predictors=map", "train.epochs=20")}
WAYS = ("none", "mean", "gcm_align", "quantile", "adabn")
WINDOW = "apply.align_window=[1995, 2000]"
PERIODS = (2000, 2095)


def main() -> None:
    """Train what is missing, apply in every way, print the table."""
    demo = Path(sys.argv[1])
    for name, changes in NETS.items():
        cfg = load_config(demo / "config.yaml", [*changes, "train.baselines=[]"])
        if not (cfg.workspace_path() / "runs" / name / "DONE").exists():
            train_run(cfg, name=name)
        for way in WAYS:
            if way == "adabn" and cfg.model.name != "unet_doury":
                continue
            asked = load_config(demo / "config.yaml", [*changes, *([f"apply.align={way}", WINDOW] if way != "none" else [])])
            apply_run(asked, runs=[name], sources=["GCM_B"], overwrite=True)
            for target, values in _scores(asked, name).items():
                print(f"| {cfg.model.name}, {way} | {target} | {' | '.join(f'{value:.3f}' for value in values.values())} |", flush=True)


def _scores(cfg: ExperimentConfig, run: str) -> Mapping[str, Mapping[str, float]]:
    """Area means on the test days of B: scores of both periods together, change as the share of the true one."""
    store = PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split)
    group = store.group("RCM_B")
    index, area = group.split("test"), store.fine.areas()
    year = group.days[index] // 10000
    found = {}
    for position, name in enumerate(group.targets):
        with netCDF4.Dataset(cfg.workspace_path() / "predictions" / run / "RCM_B_imperfect" / f"{name}.nc") as file:
            ours = np.asarray(file[name][:], dtype=np.float64) * (86400.0 if name == "pr" else 1.0)
        truth = group.target(index)[:, position].astype(np.float64)
        past, future = (year == one for one in PERIODS)
        change = [np.average((fields[future].mean(axis=0) - fields[past].mean(axis=0)), weights=area) for fields in (ours, truth)]
        maps = {"bias": np.abs(point.bias(ours, truth)), "w1": point.w1(ours, truth), "rmse": point.rmse(ours, truth),
                "std_ratio": point.std_ratio(ours, truth)}  # fmt: skip
        found[name] = {key: float(np.average(values, weights=area)) for key, values in maps.items()} | {"change": change[0] / change[1]}
    return found


if __name__ == "__main__":
    main()
