"""Which days a score is made of: seasons by month, contiguous test periods, whole years or whole winters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from downscale.cf.calendar import encode_days, month, years
from downscale.errors import InputDataError

SEASON_MONTHS = {"DJF": (12, 1, 2), "MAM": (3, 4, 5), "JJA": (6, 7, 8), "SON": (9, 10, 11)}
WINTER = "DJF"
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
        december: "calendar": in the season DJF a December counts to the year that it has in every other season; "next": to the winter
            of the January after it, and a winter that lacks a month in its period has no part in DJF.
        breaks: positions at which a segment ends although the days go on: where blocks of days were put together.
    """

    days: np.ndarray
    calendar: str
    year_starts: int = 1
    december: str = "calendar"
    breaks: tuple[int, ...] = ()

    @cached_property
    def year(self) -> np.ndarray:
        """(n,) year of each day."""
        return np.asarray(years(self.days, self.year_starts), dtype=np.int64)

    @cached_property
    def winter(self) -> np.ndarray:
        """(n,) year of each day in the season DJF."""
        return np.asarray(years(self.days, 12), dtype=np.int64) if self.december == "next" else self.year

    @cached_property
    def follows(self) -> np.ndarray:
        """(n,) True where a day comes right after the one before it on the axis."""
        ordinal = np.asarray(encode_days(self.days, self.calendar))
        return np.concatenate([[False], np.abs(np.diff(ordinal) - 1.0) < 0.5]) if len(ordinal) else np.zeros(0, bool)

    @cached_property
    def season(self) -> np.ndarray:
        """(n,) season name of each day."""
        names = np.empty(13, dtype="U3")
        for name, months in SEASON_MONTHS.items():
            names[list(months)] = name
        return names[np.asarray(month(self.days), dtype=np.int64)]

    @cached_property
    def seasons(self) -> list[str]:
        """Seasons present; "ANN" (all days) leads when there is more than one; DJF not when no winter is whole and must be."""
        present = [name for name in SEASON_MONTHS if (self.season == name).any()]
        if len(present) < 2:
            return present
        lost = self.december == "next" and not self._of_whole_winters(np.ones(len(self.days), bool)).any()
        return [ALL_YEAR, *(name for name in present if not (lost and name == WINTER))]

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
        """Runs of consecutive days in one year and season, in time order."""
        if not len(self.days):
            return []
        new = (np.diff(self.year) != 0) | (self.season[1:] != self.season[:-1]) | ~self.follows[1:]
        edges = sorted({0, *(np.flatnonzero(new) + 1).tolist(), *self.breaks, len(self.days)})
        return [slice(start, stop) for start, stop in pairwise(edges)]

    @cached_property
    def selections(self) -> list[Selection]:
        """Every season in every period; a single period is only "all".

        Raises:
            InputDataError: all days are of winters that lack a month, and ``december`` leaves those out.
        """
        wanted = [(ALL_PERIODS, np.ones(len(self.days), bool))]
        if len(self.periods) > 1:
            wanted += [(label, self.stratum == number) for number, label in enumerate(self.periods)]
        found = [self._select(season, period, inside) for period, inside in wanted for season in self.seasons]
        found = [selection for selection in found if len(selection.rows)]
        if len(self.days) and not found:
            raise InputDataError(
                "no winter of the days has a December, a January and a February",
                where="evaluate.december: next",
                hint="judge whole winters (split.year_starts: 12 keeps them together), or use december: calendar",
            )
        return found

    def _select(self, season: str, period: str, inside: np.ndarray) -> Selection:
        chosen = inside & ((self.season == season) | (season == ALL_YEAR))
        if season == WINTER and self.december == "next":
            chosen &= self._of_whole_winters(chosen)
        rows = np.flatnonzero(chosen)
        distinct, first = np.unique(self._years(season)[rows], return_index=True)
        return Selection(season, period, rows, distinct, self.stratum[rows][first])

    def _of_whole_winters(self, chosen: np.ndarray) -> np.ndarray:
        """(n,) True for days of winters that have a December, a January and a February among the chosen days."""
        months = np.asarray(month(self.days), dtype=np.int64)
        whole = set.intersection(*(set(self.winter[chosen & (months == one)].tolist()) for one in SEASON_MONTHS[WINTER]))
        return np.isin(self.winter, sorted(whole))

    def _years(self, season: str) -> np.ndarray:
        return self.winter if season == WINTER else self.year

    def year_of(self, selection: Selection) -> np.ndarray:
        """(rows,) the year of each selected day, winters by their own."""
        return np.asarray(self._years(selection.season)[selection.rows])

    def membership(self, selection: Selection) -> np.ndarray:
        """(n_years, n_segments) True where a segment belongs to a year of the selection."""
        starts = self._starts
        inside = np.isin(starts, selection.rows)
        return inside & (self._years(selection.season)[starts] == selection.years[:, None])

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.array([segment.start for segment in self.segments], dtype=np.int64)

    @cached_property
    def linked(self) -> np.ndarray:
        """(n_segments,) True where a segment begins the day after the one before it ends."""
        return np.asarray(self.follows[self._starts])


def _label(values: np.ndarray) -> str:
    first, last = int(values.min()), int(values.max())
    return str(first) if first == last else f"{first}-{last}"
