"""Scores of two series that come in blocks of days, each block seen once, in any order: what memory cannot hold, or what others hold.

All scores made of sums, extremes and spells are exact this way, and merging two streams is putting their segments one after the other.
Quantile scores (percentiles, W1) and anomalies from the seasonal cycle need the whole series of a cell and are not among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from downscale.evaluate.metrics import point as metrics
from downscale.evaluate.metrics.indices import IndexSet
from downscale.evaluate.metrics.series import PairTotals, SeriesBlock, matched, sum_scores
from downscale.evaluate.metrics.spatial import pattern_correlation, spatial_sums
from downscale.evaluate.selection import Selection, TimeTable

NEEDS_ALL = "correlation_deseasonalised"
_PAIRS = ("lag", "link")


@dataclass(frozen=True, eq=False)
class _Block:
    """What is kept of a block: its days, sums of its segments, sums over cells of each day, its first and last day's fields."""

    days: np.ndarray
    totals: PairTotals
    spatial: np.ndarray
    edges: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(eq=False)
class Stream:
    """Collects blocks of days of one prediction and one reference.

    Attributes:
        indices: those of the variable.
        calendar, year_starts, december: of the days, see selection.TimeTable.
        area: (y, x) weights for the correlation over space; None: alike.
    """

    indices: IndexSet
    calendar: str
    year_starts: int = 1
    december: str = "calendar"
    area: np.ndarray | None = None
    blocks: list[_Block] = field(default_factory=list)

    def add(self, prediction: np.ndarray, reference: np.ndarray, days: np.ndarray) -> None:
        """Add a block of days that no block has had yet.

        Args:
            prediction, reference: (time, y, x) working units; NaN is missing, and a day counts where both are finite.
            days: (time,) yyyymmdd, sorted.
        """
        table = TimeTable(days, self.calendar, self.year_starts, self.december)
        p, r = matched(prediction, SeriesBlock(reference, table, self.indices))
        totals = PairTotals(metrics.paired_sums(p.values, r.values, table.segments), {}, p.sums, r.sums)
        area = np.ones(prediction.shape[1:]) if self.area is None else self.area
        edges = tuple((series.values[0].copy(), series.values[-1].copy()) for series in (p, r))
        self.blocks.append(_Block(days, totals, spatial_sums(p.values, r.values, area), (edges[0], edges[1])))

    def merge(self, other: Stream) -> None:
        """Add the blocks of a stream of the same cells."""
        self.blocks += other.blocks

    @property
    def table(self) -> TimeTable:
        """The day axis of all blocks.

        Raises:
            ValueError: blocks overlap.
        """
        blocks = self._ordered()
        days = np.concatenate([block.days for block in blocks])
        if (np.diff(days) <= 0).any():
            raise ValueError("blocks of days overlap")
        starts = np.cumsum([len(block.days) for block in blocks])[:-1]
        return TimeTable(days, self.calendar, self.year_starts, self.december, tuple(starts.tolist()))

    def scores(self, selection: Selection) -> dict[str, np.ndarray]:
        """Every score that streams, by name: maps (y, x), and ``spatial_correlation``, the mean over the days of a selection.

        Args:
            selection: one of ``table.selections``.
        """
        table, blocks = self.table, self._ordered()
        pair = _joined([block.totals.pair for block in blocks])
        series = [self._series(blocks, table, side) for side in (0, 1)]
        total = PairTotals(pair, pair, *series).years(table, selection).total(selection.strata)
        result = {name: value for name, value in sum_scores(total, self.indices).items() if name != NEEDS_ALL}
        daily = pattern_correlation(np.concatenate([block.spatial for block in blocks], axis=1))[selection.rows]
        finite = np.isfinite(daily)
        result["spatial_correlation"] = np.array(daily[finite].mean() if finite.any() else np.nan)
        return result

    def _ordered(self) -> list[_Block]:
        return sorted(self.blocks, key=lambda block: int(block.days[0]))

    def _series(self, blocks: Sequence[_Block], table: TimeTable, side: int) -> dict[str, np.ndarray]:
        """Index sums of the prediction (0) or the reference (1), with the pairs of days across the borders of blocks."""
        parts = [(block.totals.prediction, block.totals.reference)[side] for block in blocks]
        names = [name for name in parts[0] if name.partition(".")[0] not in _PAIRS]
        result = {name: np.concatenate([part[name] for part in parts]) for name in names}
        joined = _joined([_unprefixed(part, prefix) for prefix in _PAIRS for part in parts])
        n, offset = len(result["n"]), joined["o"].sum(axis=0) / np.maximum(joined["n"].sum(axis=0), 1.0)
        first, across = 0, {name: value[n:] for name, value in joined.items()}
        for before, after in pairwise(blocks):
            first += len(before.totals.prediction["n"])
            if table.linked[first]:
                pair = metrics.paired_sums(after.edges[side][0][None], before.edges[side][1][None], [slice(0, 1)], metrics.MOMENTS)
                for name, value in metrics.rebased(pair, offset).items():
                    across[name][first] = value[0]
        for prefix, part in zip(_PAIRS, ({name: value[:n] for name, value in joined.items()}, across), strict=True):
            result |= {f"{prefix}.{name}": value for name, value in part.items()}
        return result


def _unprefixed(part: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name: part[f"{prefix}.{name}"] for name in metrics.MOMENTS}


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Paired sums (segment, ...) of several blocks one after the other, relative to one offset: that of all of them."""
    n, o = (sum((part[name].sum(axis=0) for part in parts), np.zeros(parts[0]["n"].shape[1:])) for name in ("n", "o"))
    offset = np.where(n > 0, o / np.maximum(n, 1.0), 0.0)
    moved = [metrics.rebased(part, offset) for part in parts]
    return {name: np.concatenate([part[name] for part in moved]) for name in moved[0]}
