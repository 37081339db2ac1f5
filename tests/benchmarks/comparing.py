"""Seconds of the scores of whole fields and ensembles, fields in memory: neighbourhoods, paired tests, members, return levels.

    python tests/benchmarks/comparing.py --years 2 --size 128 --members 10

Made-up rain on a square of cells, one process, CPU seconds (other work on the machine does not count), by blocks of days as evaluate has
them. One line a part, and the largest resident memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

from downscale.cf.calendar import expected_days
from downscale.evaluate.daily import bounded
from downscale.evaluate.members.ensemble_sums import EnsembleSums, Threshold
from downscale.evaluate.members.paired import Losses
from downscale.evaluate.members.return_levels import _levels
from downscale.evaluate.metrics.fss import Fractions
from downscale.evaluate.metrics.season_means import Bins
from downscale.evaluate.selection import TimeTable


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--members", type=int, default=10)
    options = parser.parse_args()
    days = expected_days(20000101, (2000 + options.years - 1) * 10000 + 1231, "standard")
    table, area = TimeTable(days, "standard"), np.ones((options.size, options.size))
    generator = np.random.default_rng(0)

    def rain(count: int) -> np.ndarray:
        return 12 * np.maximum(generator.standard_normal((count, options.size, options.size), np.float32) - 0.3, 0)

    parts = {
        "neighbourhoods, 4 thresholds x 4 windows, one run": lambda: neighbourhoods(table, area, rain),
        "paired tests of two runs": lambda: paired(table, area, rain),
        f"scores of {options.members} members": lambda: ensemble(table, area, rain, options.members),
        "return levels of 5 x 30 years, 20,000 cells": lambda: levels(generator),
    }
    for name, part in parts.items():
        print(f"{name}: {part():.1f} s of {options.years} years")
    print(f"largest resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def timed(work: Callable[[], object]) -> float:
    """CPU seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def neighbourhoods(table: TimeTable, area: np.ndarray, rain: Callable[[int], np.ndarray]) -> float:
    """One run against the truth, and the rows."""
    scores, seconds = Fractions(table, area, [1.0, 5.0, 10.0, 20.0], [1, 3, 5, 9]), 0.0
    for part in bounded(len(table.days), 4 * area.size):
        truth, field = rain(part.stop - part.start), rain(part.stop - part.start)
        seconds += timed(lambda: scores.add(part, {"pr": truth}, {("a", "perfect", "pr"): field}))  # noqa: B023
    return seconds + timed(lambda: scores.rows("RCM", "all"))


def paired(table: TimeTable, area: np.ndarray, rain: Callable[[int], np.ndarray]) -> float:
    """Two runs, and the rows."""
    losses, seconds = Losses(table, area), 0.0
    for part in bounded(len(table.days), 4 * area.size):
        truth, *fields = (rain(part.stop - part.start) for _ in range(3))
        runs = {(name, "perfect", "pr"): field for name, field in zip("ab", fields, strict=True)}
        seconds += timed(lambda: losses.add(part, {"pr": truth}, runs))  # noqa: B023
    return seconds + timed(lambda: losses.rows("RCM"))


def ensemble(table: TimeTable, area: np.ndarray, rain: Callable[[int], np.ndarray], number: int) -> float:
    """All sums of an ensemble."""
    thresholds = [Threshold(f"{amount}mm", amount, "mm day-1", amount) for amount in (1.0, 10.0, 20.0)]
    sums, seconds = EnsembleSums(Bins.of(table), area.ravel(), number, thresholds), 0.0
    for part in bounded(len(table.days), (3 * number + 2) * area.size):
        count = part.stop - part.start
        truth, members = rain(count).reshape(count, -1), np.stack([rain(count).reshape(count, -1) for _ in range(number)])
        seconds += timed(lambda: sums.add(part.start, members, truth))  # noqa: B023
    return seconds


def levels(generator: np.random.Generator) -> float:
    """Pooled levels with their interval."""
    samples = [generator.gumbel(40, 8, (1, 30, 20_000)).astype(np.float32) for _ in range(5)]
    return timed(lambda: _levels(samples, np.ones(20_000), [10.0, 20.0, 50.0], ratio=None))


if __name__ == "__main__":
    main()
