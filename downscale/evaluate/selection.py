"""Which days a score is made of: seasons by month, contiguous test periods, whole years."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from downscale.cf.calendar import month, years

SEASON_MONTHS = {"DJF": (12, 1, 2), "MAM": (3, 4, 5), "JJA": (6, 7, 8), "SON": (9, 10, 11)}
ALL_YEAR = "ANN"
ALL_PERIODS = "all"
PERIOD_GAP_YEARS = 5


@dataclass(frozen=True)
class Selection:
    """Days of one season in one period.

    Attributes:
        season: "ANN", "DJF", "MAM", "JJA" or "SON".
        period: "all", or "first-last" years of a contiguous period.
        rows: positions of the days.
        years: the years that have such days, ascending.
        strata: (n_years,) number of the contiguous period each year belongs to; years are resampled inside it.
    """

    season: str
    period: str
    rows: np.ndarray
    years: np.ndarray
    strata: np.ndarray


@dataclass(frozen=True, eq=False)
class TimeTable:
    """A day axis with its years, seasons and contiguous periods.

    Attributes:
        days: (n,) yyyymmdd, sorted.
        calendar: canonical name.
        year_starts: month in which a year begins (12: December belongs to the next year).
    """

    days: np.ndarray
    calendar: str
    year_starts: int = 1

    @cached_property
    def year(self) -> np.ndarray:
        """(n,) year of each day."""
        return np.asarray(years(self.days, self.year_starts), dtype=np.int64)

    @cached_property
    def season(self) -> np.ndarray:
        """(n,) season name of each day."""
        names = np.empty(13, dtype="U3")
        for name, months in SEASON_MONTHS.items():
            names[list(months)] = name
        return names[np.asarray(month(self.days), dtype=np.int64)]

    @cached_property
    def seasons(self) -> list[str]:
        """Seasons present; "ANN" (all days) leads when there is more than one."""
        present = [name for name in SEASON_MONTHS if (self.season == name).any()]
        return [ALL_YEAR, *present] if len(present) > 1 else present

    @cached_property
    def stratum(self) -> np.ndarray:
        """(n,) number of the contiguous period of each day: years more than five apart belong to different ones."""
        if not len(self.days):
            return np.zeros(0, np.int64)
        distinct, position = np.unique(self.year, return_inverse=True)
        return np.concatenate([[0], np.cumsum(np.diff(distinct) > PERIOD_GAP_YEARS)])[position]

    @cached_property
    def periods(self) -> list[str]:
        """Labels of the contiguous periods, in time order."""
        return [_label(self.year[self.stratum == number]) for number in np.unique(self.stratum)]

    @cached_property
    def segments(self) -> list[slice]:
        """Runs of days in one year and season, in time order."""
        if not len(self.days):
            return []
        new = (np.diff(self.year) != 0) | (self.season[1:] != self.season[:-1])
        edges = [0, *(np.flatnonzero(new) + 1).tolist(), len(self.days)]
        return [slice(start, stop) for start, stop in pairwise(edges)]

    @cached_property
    def selections(self) -> list[Selection]:
        """Every season in every period; a single period is only "all"."""
        wanted = [(ALL_PERIODS, np.ones(len(self.days), bool))]
        if len(self.periods) > 1:
            wanted += [(label, self.stratum == number) for number, label in enumerate(self.periods)]
        found = [self._select(season, period, inside) for period, inside in wanted for season in self.seasons]
        return [selection for selection in found if len(selection.rows)]

    def _select(self, season: str, period: str, inside: np.ndarray) -> Selection:
        rows = np.flatnonzero(inside & ((self.season == season) | (season == ALL_YEAR)))
        distinct, first = np.unique(self.year[rows], return_index=True)
        return Selection(season, period, rows, distinct, self.stratum[rows][first])

    def membership(self, selection: Selection) -> np.ndarray:
        """(n_years, n_segments) True where a segment belongs to a year of the selection."""
        starts = np.array([segment.start for segment in self.segments])
        inside = np.isin(starts, selection.rows)
        return inside & (self.year[starts] == selection.years[:, None])


def _label(values: np.ndarray) -> str:
    first, last = int(values.min()), int(values.max())
    return str(first) if first == last else f"{first}-{last}"
