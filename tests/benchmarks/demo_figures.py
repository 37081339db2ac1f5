"""The demo's figures for docs/results.md: share of the gap between ridge and the irreducible error closed, and recovery by few shots.

python tests/benchmarks/demo_figures.py DEMO_DIR
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from downscale.config.load import load_config
from downscale.evaluate.scorecard import read_scores
from downscale.pairs.store import PairStore
from downscale.virtual.truth import best_prediction


def irreducible(demo: Path) -> dict[str, float]:
    """Area mean over grid points of RMSE(RCM - E[RCM | state]) on A's test days: the score that no emulator of the state can beat."""
    cfg = load_config(demo / "config.yaml")
    group = PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split).group("RCM_A")
    index = group.split("test")
    squares: dict[str, list[np.ndarray]] = {name: [] for name in group.targets}
    for year in (2000, 2095):
        first, last = (1995, 2000) if year == 2000 else (2090, 2095)
        days = np.flatnonzero(group.days[index] // 10000 == year)
        truth = group.target(index[days])
        best = best_prediction(demo / "data", "VGCM-A", first, last, days=group.days[index[days]])
        for position, name in enumerate(group.targets):
            squares[name].append((truth[:, position] - best[name]) ** 2)
    area = PairStore.open(cfg.workspace_path() / "pairs.zarr", cfg.split).fine.areas()
    return {name: float(np.average(np.sqrt(np.concatenate(parts).mean(axis=0)), weights=area)) for name, parts in squares.items()}


def main() -> None:
    """Print the figures."""
    demo = Path(sys.argv[1])
    scores = read_scores(demo / "results" / "scores")
    floor = irreducible(demo)
    for name in ("tasmax", "pr"):
        emulator, ridge, bilinear = (
            scores.value(run, "RCM_A/perfect", name, "rmse") for run in ("A-perfect", "ridge-RCM_A-perfect", "bilinear-RCM_A-perfect")
        )
        closed = (ridge - emulator) / (ridge - floor[name])
        below = 1 - emulator / bilinear
        print(f"{name}: emulator {emulator:.3f}, ridge {ridge:.3f}, bilinear {bilinear:.3f}, irreducible {floor[name]:.3f}; "
              f"gap closed {closed:.0%}; below bilinear {below:.0%}")  # fmt: skip
    with (demo / "results" / "scores" / "recovery.csv").open() as stream:
        for row in csv.DictReader(stream):
            if row["case"] == "RCM_B/imperfect":
                values = "  ".join(f"{float(row[key]):9.3f}" for key in ("score_zero_shot", "score_adapted", "score_full", "recovered"))
                print(f"{row['adapted']:14} {row['variable']:7} {row['metric']:13} {values}")


if __name__ == "__main__":
    main()
