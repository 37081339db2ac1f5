"""Seasons and years as the CORDEX ML-Bench groups them: months of the calendar year, so that December joins the January before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from downscale.cf.calendar import month

SEASONS: dict[str, tuple[int, ...]] = {
    "all": tuple(range(1, 13)),
    "winter": (12, 1, 2),
    "spring": (3, 4, 5),
    "summer": (6, 7, 8),
    "autumn": (9, 10, 11),
}
ALL = "all"


@dataclass(frozen=True, eq=False)
class SeasonPlan:
    """A day axis put in the order of its seasons, so that each season is one slice and each year of a season one run of days.

    Attributes:
        days: (time,) yyyymmdd, ascending.
    """

    days: np.ndarray

    @cached_property
    def season(self) -> np.ndarray:
        """(time,) number of each day's season, 0 for winter."""
        table = np.zeros(13, np.int64)
        for number, months in enumerate(list(SEASONS.values())[1:]):
            table[list(months)] = number
        return table[np.asarray(month(self.days), dtype=np.int64)]

    @cached_property
    def year(self) -> np.ndarray:
        """(time,) calendar year of each day."""
        return np.asarray(self.days, dtype=np.int64) // 10_000

    @cached_property
    def order(self) -> np.ndarray:
        """(time,) positions of the days in the order of seasons, then of time."""
        return np.argsort(self.season, kind="stable")

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Each season that has days -> its place in the order."""
        counts = np.bincount(self.season, minlength=4)
        edges = [0, *np.cumsum(counts).tolist()]
        names = list(SEASONS)[1:]
        return {name: slice(*edge) for name, edge in zip(names, pairwise(edges), strict=True) if edge[1] > edge[0]}

    @property
    def names(self) -> list[str]:
        """ "all" and the seasons that have days."""
        return [ALL, *self.slices]

    @cached_property
    def starts(self) -> np.ndarray:
        """Where in the order a new season or year begins: the segments."""
        season, year = self.season[self.order], self.year[self.order]
        return np.flatnonzero(np.r_[True, (np.diff(season) != 0) | (np.diff(year) != 0)])

    @cached_property
    def segments(self) -> dict[str, list[np.ndarray]]:
        """Season -> numbers of the segments of each of its years."""
        first = self.order[self.starts]
        season, year = self.season[first], self.year[first]
        result = {ALL: [np.flatnonzero(year == one) for one in np.unique(year)]}
        numbers = {name: number for number, name in enumerate(list(SEASONS)[1:])}
        for name in self.slices:
            result[name] = [np.flatnonzero((season == numbers[name]) & (year == one)) for one in np.unique(year[season == numbers[name]])]
        return result

    @cached_property
    def lengths(self) -> np.ndarray:
        """(segment,) days of each."""
        return np.diff(np.r_[self.starts, len(self.days)])

    @cached_property
    def neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of places in the order, (k, 2) each: neighbours in a season but not in time, and neighbours in time but not in a season."""
        place = np.empty(len(self.order), np.int64)
        place[self.order] = np.arange(len(self.order))
        inside = np.ones(max(len(self.order) - 1, 0), bool)
        for part in self.slices.values():
            if part.start > 0:
                inside[part.start - 1] = False
        apart = np.flatnonzero(inside & (np.diff(self.order) != 1))
        following = place[1:] != place[:-1] + 1
        crossing = np.flatnonzero(following | ~inside[np.minimum(place[:-1], len(inside) - 1)]) if len(inside) else np.zeros(0, np.int64)
        return np.stack([apart, apart + 1], axis=1), np.stack([place[crossing], place[crossing + 1]], axis=1)
