"""Predictor shift: how far a GCM's coarse fields are from the RCMu fields an emulator learned from, channel by channel.

All numbers are per grid point in units of the reference's daily standard deviation in the season, then area means over the coarse
grid: shift d = (mean_G - mean_U) / s_U, log ratio of standard deviations ln(s_G / s_U), the absolute values of both (signs of places
cancel in the means without), Wasserstein-1 distance / s_U, daily correlation where both have the same days, and the shift of the change
signal between the first and last test period.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from downscale.evaluate.metrics.point import correlation
from downscale.evaluate.metrics.quantiles import ascending, wasserstein
from downscale.evaluate.selection import ALL_PERIODS, Selection, TimeTable
from downscale.pairs.store import PairGroup

COLUMNS = (
    "case",
    "against",
    "paired",
    "channel",
    "season",
    "shift",
    "abs_shift",
    "log_std_ratio",
    "abs_log_std_ratio",
    "w1",
    "correlation",
    "change_shift",
    "n_days",
    "n_days_reference",
)
CHANNEL_BYTES = 128 * 2**20
READ_DAYS = 512


@dataclass(frozen=True, eq=False)
class PredictorSample:
    """Predictors of one kind of one group on chosen days.

    Attributes:
        group: of pairs.
        kind: "perfect" (RCMu) or "imperfect" (GCM).
        index: positions of the days in the group.
        table: the same days.
    """

    group: PairGroup
    kind: str
    index: np.ndarray
    table: TimeTable

    @property
    def name(self) -> str:
        """GROUP/KIND."""
        return f"{self.group.name}/{self.kind}"

    def channels(self, wanted: slice) -> np.ndarray:
        """(time, channel, y, x) float32 of some channels."""
        parts = [
            self.group.predictors(self.kind, self.index[start : start + READ_DAYS])[:, wanted]
            for start in range(0, len(self.index), READ_DAYS)
        ]
        return np.concatenate(parts)


def predictor_shift(sample: PredictorSample, reference: PredictorSample, channels: list[str], area: np.ndarray) -> list[dict[str, Any]]:
    """Rows of the predictor-shift table, one per channel and season that both have.

    Args:
        sample, reference: what is compared with what; the same days of one group are compared day by day too.
        channels: names in the order of the channel axis.
        area: (y, x) weights of the coarse grid.
    """
    paired = sample.group is reference.group and np.array_equal(sample.index, reference.index)
    rows: list[dict[str, Any]] = []
    for wanted in channel_blocks(len(channels), max(len(sample.index), len(reference.index)) * area.size * 4):
        ours, theirs = sample.channels(wanted), reference.channels(wanted)
        for position, channel in enumerate(channels[wanted]):
            for one, other in _seasons(sample.table, reference.table):
                fields, base = ours[one.rows, position], theirs[other.rows, position]
                row = {
                    "case": sample.name,
                    "against": reference.name,
                    "paired": int(paired),
                    "channel": channel,
                    "season": one.season,
                    "n_days": len(one.rows),
                    "n_days_reference": len(other.rows),
                    **compare(fields, base, area, paired=paired),
                }
                row["change_shift"] = (
                    _change_shift(ours[:, position], theirs[:, position], sample.table, one.season, area) if paired else float("nan")
                )
                rows.append(row)
    return rows


def channel_blocks(n_channels: int, channel_bytes: int) -> Iterator[slice]:
    """Channels that are read together: about 128 MiB."""
    step = max(1, CHANNEL_BYTES // max(channel_bytes, 1))
    for start in range(0, n_channels, step):
        yield slice(start, min(start + step, n_channels))


def _seasons(one: TimeTable, other: TimeTable) -> Iterator[tuple[Selection, Selection]]:
    theirs = {selection.season: selection for selection in other.selections if selection.period == ALL_PERIODS}
    for selection in one.selections:
        if selection.period == ALL_PERIODS and selection.season in theirs:
            yield selection, theirs[selection.season]


def compare(fields: np.ndarray, base: np.ndarray, area: np.ndarray, *, paired: bool) -> dict[str, float]:
    """Shift measures of one channel and season.

    Args:
        fields: (time, y, x) of the GCM; base: (time, y, x) of the reference, working units, NaN missing.
        area: (y, x) weights.
        paired: both have the same days in the same order.

    Returns:
        shift, abs_shift (mean |d|), log_std_ratio, abs_log_std_ratio (mean of its absolute value), w1, correlation (NaN unless paired).
    """
    (mean, std), (mean_base, std_base) = _moments(fields), _moments(base)
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(std_base > 0, (mean - mean_base) / std_base, np.nan)
        ratio = np.where((std > 0) & (std_base > 0), np.log(std / std_base), np.nan)
        distance = np.where(std_base > 0, wasserstein(ascending(fields), ascending(base)) / std_base, np.nan)
    return {
        "shift": area_mean(d, area),
        "abs_shift": area_mean(np.abs(d), area),
        "log_std_ratio": area_mean(ratio, area),
        "abs_log_std_ratio": area_mean(np.abs(ratio), area),
        "w1": area_mean(distance, area),
        "correlation": area_mean(correlation(fields, base), area) if paired else float("nan"),
    }


def _moments(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = fields.astype(np.float64)
    finite = np.isfinite(values)
    n = finite.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(finite, values, 0.0).sum(axis=0) / n
        return mean, np.sqrt((np.where(finite, values - mean, 0.0) ** 2).sum(axis=0) / n)


def _change_shift(fields: np.ndarray, base: np.ndarray, table: TimeTable, season: str, area: np.ndarray) -> float:
    """(change of mean_G - change of mean_U) / s_U; NaN with one period only."""
    chosen = {selection.period: selection for selection in table.selections if selection.season == season}
    if len(table.periods) < 2 or not {table.periods[0], table.periods[-1]} <= set(chosen):
        return float("nan")
    first, last = chosen[table.periods[0]].rows, chosen[table.periods[-1]].rows
    change = (_moments(fields[last])[0] - _moments(fields[first])[0]) - (_moments(base[last])[0] - _moments(base[first])[0])
    std = _moments(base[first])[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return area_mean(np.where(std > 0, change / std, np.nan), area)


def area_mean(values: np.ndarray, area: np.ndarray) -> float:
    """Area mean over cells that have a value and a weight; NaN without one."""
    valid = np.isfinite(values) & (area > 0)
    return float(np.average(values[valid], weights=area[valid])) if valid.any() else float("nan")
