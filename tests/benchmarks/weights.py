"""Time and memory of conservative weights, in both conventions of the cell edges, beside `cdo gencon` where that is installed.

python tests/benchmarks/weights.py [REPEATS]

Every round runs in a process of its own: seconds of the first call of conservative_weights (imports and the reading of the grids not
counted), the peak resident memory of that whole process, the largest deviation of a source cell's use from 1. Beside it the whole
process of `cdo -P 1 gencon`, grids read from files, in turn with ours, and the largest difference of a weight of a fully covered cell.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cdo_weights import CDO, gencon
from grid_samples import EURO, gaussian, globe, rotated

from downscale.grid.conservative import conservative_weights
from downscale.grid.domain import regular_grid
from downscale.grid.grid import Grid

EDGES = ("great_circle", "parallels")
CASES = {
    "eur11": "EUR-11 (412 x 424) to 1.40625 degrees",
    "eur44": "EUR-44 (103 x 106) to 1.40625 degrees",
    "onto-eur11": "1.40625 degrees to EUR-11",
    "global": "global 1 degree to Gaussian 64 x 128",
}


def grids(case: str) -> tuple[Grid, Grid]:
    """Source and target of a case."""
    if case == "global":
        return globe(1.0), gaussian(64)
    fine = rotated(103, 106, 0.44, -23.21, -28.21, EURO) if case == "eur44" else rotated(412, 424, 0.11, -23.375, -28.375, EURO)
    coarse = regular_grid(1.40625, fine)
    return (coarse, fine) if case == "onto-eur11" else (fine, coarse)


def one(case: str, edges: str) -> None:
    """One round in this process."""
    source, target = grids(case)
    began = time.perf_counter()
    weights = conservative_weights(source, target, edges=edges)
    seconds = time.perf_counter() - began
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    use = np.asarray(weights.matrix.sum(axis=0)).ravel() / source.areas(edges).ravel()
    within = np.abs(use - 1.0) if case != "onto-eur11" else np.abs(weights.coverage - 1.0)
    print(json.dumps([seconds, peak, weights.matrix.nnz, float(within.max())]))


def by_cdo(case: str, repeats: int) -> str:
    """Seconds of cdo's whole process, and how far its weights are from ours, in words."""
    source, target = grids(case)
    ours = conservative_weights(source, target, edges="parallels")
    with tempfile.TemporaryDirectory() as place:
        took, matrix = [], None
        for _ in range(repeats):
            matrix = gencon(source, target, Path(place), took)
    full = np.flatnonzero(ours.coverage.ravel() > 1.0 - 1e-9)
    apart = abs(ours.rows() - matrix).tocsr()[full].max()
    return f"cdo gencon {median(took):.2f} s ({min(took):.2f}), {matrix.nnz} links, weights apart {apart:.1e}"


def main(repeats: int) -> None:
    """Print a line per case and convention."""
    for case, words in CASES.items():
        print(words)
        for edges in EDGES:
            rounds = []
            for _ in range(repeats):
                result = subprocess.run([sys.executable, __file__, "one", case, edges], capture_output=True, text=True, check=True)
                rounds.append(json.loads(result.stdout))
            seconds, peaks, links, use = zip(*rounds, strict=True)
            print(
                f"  {edges:13} {median(seconds):5.2f} s ({min(seconds):.2f}), peak {max(peaks):4.0f} MiB, {links[0]} links, "
                f"use off by {max(use):.1e}",
                flush=True,
            )
        print(f"  {by_cdo(case, repeats) if CDO else 'cdo is not installed'}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(*sys.argv[2:4])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5)
