"""Highest days of each year (or winter) of a series, in windows short enough to count as one climate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from downscale.cf.calendar import years
from downscale.evaluate.selection import TimeTable
from downscale.variables import Variable

MOST_CELLS = 20_000
LONGEST = 40
NORMAL = 30
WHOLE = 0.9


@dataclass(frozen=True, eq=False)
class Blocks:
    """The years of a day axis that count.

    Attributes:
        season: "ANN", or the only season of the data.
        of_day: (time,) number of the year of each day; -1: its year is not whole.
        years: (year,) their labels.
        windows: (year,) label of the window, as "1981-2010".
    """

    season: str
    of_day: np.ndarray
    years: np.ndarray
    windows: np.ndarray

    @classmethod
    def of(cls, days: np.ndarray, calendar: str, year_starts: int) -> Blocks:
        """Whole years of days yyyymmdd; of one season alone with its December in the year that follows.

        A year is whole with 90 % of the days of the fullest one. A contiguous period is a window; one of more than 40 years is cut into
        normal periods (1951-1980, 1981-2010, ...), so that the climate within a window changes little.
        """
        table = TimeTable(days, calendar, year_starts)
        season = table.seasons[0] if len(days) else "ANN"
        if season == "DJF":
            table = TimeTable(days, calendar, 12)
        year = np.asarray(years(days, table.year_starts), dtype=np.int64)
        distinct, number, count = np.unique(year, return_inverse=True, return_counts=True)
        whole = count >= WHOLE * count.max(initial=1)
        place = np.where(whole, np.cumsum(whole) - 1, -1)
        kept = distinct[whole]
        return cls(season, place[number], kept, _windows(kept))


def _windows(kept: np.ndarray) -> np.ndarray:
    labels = np.empty(len(kept), dtype=object)
    if not len(kept):
        return labels
    period = np.concatenate([[0], np.cumsum(np.diff(kept) > 5)])
    for number in np.unique(period):
        inside = np.flatnonzero(period == number)
        long = kept[inside[-1]] - kept[inside[0]] >= LONGEST
        normal = (kept[inside] - 1) // NORMAL if long else np.zeros(len(inside), np.int64)
        for one in np.unique(normal):
            chosen = inside[normal == one]
            first, last = kept[chosen[0]], kept[chosen[-1]]
            labels[chosen] = str(first) if first == last else f"{first}-{last}"
    return labels


def maxima(blocks: Blocks, fields: Iterator[tuple[slice, np.ndarray]], cells: int) -> np.ndarray:
    """(year, cell) highest values; NaN where a year has no value.

    Args:
        blocks: of the day axis.
        fields: (days, values (time, cell)) of parts of it.
        cells: their number.
    """
    result = np.full((len(blocks.years), cells), np.nan, np.float32)
    for days, values in fields:
        place = blocks.of_day[days]
        for year in np.unique(place[place >= 0]):
            result[year] = np.fmax(result[year], np.fmax.reduce(values[place == year], axis=0))
    return result


def spread_cells(area: np.ndarray) -> np.ndarray:
    """Flat positions of at most 20,000 cells spread evenly over the region."""
    inside = np.flatnonzero(area.ravel() > 0)
    return inside[np.unique(np.linspace(0, len(inside) - 1, min(MOST_CELLS, len(inside))).astype(np.int64))]


def has_extremes(variable: Variable) -> bool:
    """Whether the highest day of a year is asked for: precipitation, and daily maxima as tasmax."""
    return variable.standard_name == "precipitation_flux" or "time: maximum" in variable.cell_methods
