"""Seconds to turn winds, to smooth, and to gather the statistics of a training set, first and from the cache.

python tests/benchmarks/fields.py
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from grid_samples import rotated

from downscale.grid.regrid import smooth
from downscale.grid.winds import turn_of
from downscale.pairs.statistics import rain_gamma, training_statistics

DAYS = 3650


def timed(label: str, action, repeats: int = 3):
    """Print the median of some repeats; the last result."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - started)
    logging.info("%-70s %8.3f s", label, sorted(seconds)[len(seconds) // 2])
    return result


class Group:
    """Ten years of 15 channels on 16 x 16 cells and two targets on 128 x 128, the same random days over and over."""

    attributes: dict = {"digest": "benchmark"}

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.normal(280.0, 5.0, (256, 15, 16, 16)).astype("f4")
        self.y = rng.gamma(0.6, 6.0, (256, 2, 128, 128)).astype("f4")
        self.days = np.arange(DAYS)

    def predictors(self, kind, index):
        return self.x[: len(index)]

    def target(self, index):
        return self.y[: len(index)]

    def scalars(self, index):
        return np.zeros((len(index), 2), "f4")

    def split(self, name):
        return self.days


def main() -> None:
    """Run all and print a line each."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("downscale").setLevel(logging.WARNING)
    grid = rotated(412, 424, 0.11, -23.375, -28.375)
    turn = timed("angles of EUR-11 (412 x 424)", lambda: turn_of(grid))
    wind = np.random.default_rng(0).normal(size=(2, 48, *grid.shape)).astype("f4")
    timed("turning both components of 48 days of EUR-11", lambda: (turn.eastward(*wind), turn.northward(*wind)))
    maps = np.random.default_rng(0).normal(size=(365, 64, 64)).astype("f4")
    for cells in (3, 9):
        timed(f"smoothing 365 maps of 64 x 64 over {cells} x {cells} cells", lambda cells=cells: smooth(maps, cells))
    with tempfile.TemporaryDirectory() as folder:
        group = Group()
        store = SimpleNamespace(
            path=Path(folder) / "pairs.zarr", recipe={}, targets=["tas", "pr"], scalars=["a", "b"], group=lambda _: group
        )
        for told in ("streaming (values in memory)", "from the cache"):
            timed(
                f"statistics of {DAYS} days, 15 x 16 x 16 and 2 x 128 x 128: {told}",
                lambda: training_statistics(store, [("A", "perfect")], {}),
                1,
            )
        for told in ("streaming (values in memory)", "from the cache"):
            gamma = timed(f"gamma of {DAYS} days of 128 x 128: {told}", lambda: rain_gamma(store, ["A"]), 1)
        timed("weights of 256 days of 128 x 128", lambda: gamma.weight(group.y[:, 1]))


if __name__ == "__main__":
    main()
