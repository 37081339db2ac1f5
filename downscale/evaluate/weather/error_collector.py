"""Area means of predictions and of their errors day by day, for diagnostics that group days by something else than the season."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from downscale.evaluate.context import Context
from downscale.evaluate.selection import TimeTable

KEPT = "error_days"
Key = tuple[str, str, str]
"""Run, case and variable."""


@dataclass(frozen=True, eq=False)
class ErrorDays:
    """One variable of one prediction; area means over the cells of the region that have both values, NaN where none has.

    Attributes:
        days: (n,) yyyymmdd.
        calendar: of the days.
        squared_error, error: (n,) of emulation minus truth; NaN without truth.
        prediction, truth: (n,) the fields themselves.
    """

    days: np.ndarray
    calendar: str
    squared_error: np.ndarray
    error: np.ndarray
    prediction: np.ndarray
    truth: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """(n,) days that have an error."""
        return np.isfinite(self.squared_error)


class ErrorCollector:
    """Collects the test days of one group as they are read; ``keep`` leaves them in the context."""

    def __init__(self, group: str, table: TimeTable, area: np.ndarray) -> None:
        self._group, self._table, self._area = group, table, area
        self._columns: dict[Key, np.ndarray] = {}

    def add(self, days: slice, truth: Mapping[str, np.ndarray], fields: Mapping[Key, np.ndarray]) -> None:
        """Some days: truth by variable and fields by run, kind and variable, each (time, y, x)."""
        for (run, kind, name), values in fields.items():
            column = self._columns.setdefault((run, f"{self._group}/{kind}", name), np.full((4, len(self._table.days)), np.nan))
            column[:, days] = _compared(values, truth[name], self._area)

    def keep(self, context: Context) -> None:
        """Leave what was collected for error_days."""
        days, calendar = self._table.days, self._table.calendar
        found = {key: ErrorDays(days, calendar, *column) for key, column in self._columns.items()}
        context.kept.setdefault(KEPT, {})[self._group] = found


def area_means(fields: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n,) weighted means of maps (n, y, x) over cells with a value; NaN where there is none."""
    finite = np.isfinite(fields)
    total = (finite * weights).sum(axis=(1, 2))
    means = (np.where(finite, fields, 0.0) * weights).sum(axis=(1, 2), dtype=np.float64)
    return np.where(total > 0, means / np.where(total > 0, total, 1.0), np.nan)


def _compared(fields: np.ndarray, reference: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(4, n): squared error, error, prediction, truth."""
    error = fields.astype(np.float64) - reference
    both = np.isfinite(error)
    values = [area_means(np.where(both, one, np.nan), weights) for one in (fields, reference)]
    return np.stack([area_means(error**2, weights), area_means(error, weights), *values])
