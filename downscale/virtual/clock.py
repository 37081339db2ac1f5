"""Calendars and periods of the virtual climate."""

from __future__ import annotations

import calendar as gregorian
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cftime
import numpy as np

from downscale.errors import ConfigError
from downscale.virtual.world import FIRST_SCENARIO_YEAR

UNITS = "days since 1850-01-01"


@dataclass(frozen=True)
class Period:
    """Whole years of one experiment, first to last."""

    first: int
    last: int

    @property
    def experiment(self) -> str:
        """CMIP6 experiment id."""
        return "historical" if self.first < FIRST_SCENARIO_YEAR else "ssp585"

    @property
    def label(self) -> str:
        """E.g. historical_1995-2000."""
        return f"{self.experiment}_{self.first}-{self.last}"


@dataclass(frozen=True, eq=False)
class Month:
    """One calendar month. start: its first day's place in the period; phase: (n,) fraction of the year at mid-day."""

    year: int
    month: int
    start: int
    phase: np.ndarray

    @property
    def size(self) -> int:
        """Number of days."""
        return len(self.phase)

    @property
    def days(self) -> np.ndarray:
        """Dates as int64 yyyymmdd."""
        return self.year * 10_000 + self.month * 100 + np.arange(1, self.size + 1)


def month_lengths(year: int, calendar: str) -> list[int]:
    """Days of each month in the calendar: standard, noleap or 360_day."""
    if calendar == "360_day":
        return [30] * 12
    leap = calendar == "standard" and gregorian.isleap(year)
    return [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def months(first: int, last: int, calendar: str) -> list[Month]:
    """All months of the years first to last."""
    result, start = [], 0
    for year in range(first, last + 1):
        lengths = month_lengths(year, calendar)
        phase = (np.arange(sum(lengths)) + 0.5) / sum(lengths)
        edges = np.concatenate([[0], np.cumsum(lengths)])
        for month, (low, high) in enumerate(pairwise(edges), start=1):
            result.append(Month(year, month, start + int(low), phase[low:high]))
        start += sum(lengths)
    return result


def count_days(first: int, last: int, calendar: str) -> int:
    """Days of the years first to last."""
    return sum(sum(month_lengths(year, calendar)) for year in range(first, last + 1))


def noon(year: int, calendar: str) -> float:
    """12:00 of the first day of a year in UNITS."""
    return float(cftime.date2num(cftime.datetime(year, 1, 1, 12, calendar=calendar), UNITS, calendar=calendar))


def dates(first: int, last: int, calendar: str) -> tuple[str, str]:
    """First and last day of the years as yyyymmdd."""
    return f"{first:04d}0101", f"{last:04d}12{month_lengths(last, calendar)[-1]:02d}"


def split_periods(years: Sequence[tuple[int, int]]) -> list[Period]:
    """Periods of one experiment each; a span over 2014/2015 is cut there.

    Raises:
        ConfigError: no span, a span that ends before it begins, outside 1850-2100, or that overlaps another.
    """
    periods: list[Period] = []
    for first, last in sorted((int(a), int(b)) for a, b in years):
        if not 1850 <= first <= last <= 2100:
            raise ConfigError(f"years {first}-{last} are not a span within 1850-2100", hint="give spans such as 1995-2000,2090-2095")
        if periods and first <= periods[-1].last:
            raise ConfigError(f"years {first}-{last} overlap {periods[-1].first}-{periods[-1].last}", hint="give each year once")
        if first < FIRST_SCENARIO_YEAR <= last:
            periods += [Period(first, FIRST_SCENARIO_YEAR - 1), Period(FIRST_SCENARIO_YEAR, last)]
        else:
            periods.append(Period(first, last))
    if not periods:
        raise ConfigError("the virtual climate needs at least one span of years", hint="e.g. 1995-2000,2090-2095")
    return periods


def split_years(period: Period, longest: int) -> list[tuple[int, int]]:
    """The period in even spans of at most `longest` years: the years of each RCM file."""
    n = period.last - period.first + 1
    parts = -(-n // longest)
    edges = [period.first + round(i * n / parts) for i in range(parts + 1)]
    return [(low, high - 1) for low, high in pairwise(edges)]
