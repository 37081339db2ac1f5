"""Daily anomalies of one predictor channel: what is left of a map without its annual cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from downscale.cf.calendar import season_phase
from downscale.evaluate.context import Context
from downscale.evaluate.selection import TimeTable
from downscale.pairs.store import PairGroup

HARMONICS = 2
FEW_DAYS = 100
READ_DAYS = 512


@dataclass(frozen=True, eq=False)
class AnnualCycle:
    """Constant and two annual harmonics of each cell, by least squares over all days; below 100 days the constant alone.

    Attributes:
        weights: (5 or 1, cells).
    """

    weights: np.ndarray

    @classmethod
    def fit(cls, days: np.ndarray, calendar: str, maps: np.ndarray) -> AnnualCycle:
        """Of maps (n, cells) without missing values, at least one."""
        columns = _columns(days, calendar, few=len(days) < FEW_DAYS)
        return cls(np.linalg.lstsq(columns, np.asarray(maps, np.float64), rcond=None)[0])

    def __call__(self, days: np.ndarray, calendar: str) -> np.ndarray:
        """(n, cells) on some days, of any calendar."""
        return _columns(days, calendar, few=len(self.weights) == 1) @ self.weights


def _columns(days: np.ndarray, calendar: str, *, few: bool) -> np.ndarray:
    phase = 2 * np.pi * np.asarray(season_phase(days, calendar))
    waves = [] if few else [wave(k * phase) for k in range(1, HARMONICS + 1) for wave in (np.cos, np.sin)]
    return np.stack([np.ones(len(phase)), *waves], axis=1)


@dataclass(frozen=True, eq=False)
class ChannelDays:
    """One channel of one case on some days.

    Attributes:
        case: GROUP/KIND.
        table: the days that have no missing cell.
        maps: (n, cells) on those days.
        missing: number of days left out.
    """

    case: str
    table: TimeTable
    maps: np.ndarray
    missing: int

    @classmethod
    def read(cls, context: Context, group: PairGroup, kind: str, index: np.ndarray, channel: int) -> ChannelDays:
        """Of positions in a group, in blocks of 512 days."""
        parts = [
            np.asarray(group.predictors(kind, index[start : start + READ_DAYS])[:, channel]) for start in range(0, len(index), READ_DAYS)
        ]
        maps = np.concatenate([part.reshape(len(part), -1) for part in parts])
        whole = np.isfinite(maps).all(axis=1)
        return cls(f"{group.name}/{kind}", context.table(group, index[whole]), maps[whole].astype(np.float64), int((~whole).sum()))

    def anomalies(self, cycle: AnnualCycle, area: np.ndarray, kind: str) -> np.ndarray:
        """(n, cells) from an annual cycle.

        Args:
            cycle: of the training run.
            area: (cells,) weights.
            kind: "training": from ``cycle`` as it is; "pattern": and without the area mean of what each contiguous period has above it
                over the year; "own": from the annual cycle of each contiguous period itself.
        """
        days, calendar = self.table.days, self.table.calendar
        found = self.maps - cycle(days, calendar)
        if kind == "training":
            return found
        for stratum in np.unique(self.table.stratum):
            inside = self.table.stratum == stratum
            own = AnnualCycle.fit(days[inside], calendar, found[inside])(days[inside], calendar)
            found[inside] -= np.average(own, axis=1, weights=area)[:, None] if kind == "pattern" else own
        return found
