"""Days of any CF calendar as integers yyyymmdd, and their place in the year.

Day numbers count from 1850-01-01 of the same calendar. Arithmetic is vectorised and exact; cftime only reads the epoch of a
units string, once an axis. Calendars: CF conventions 1.11, section 4.4.2.
"""

from __future__ import annotations

import difflib
import re
import warnings
from functools import lru_cache
from typing import Any

import cftime
import numpy as np
from numpy.typing import ArrayLike, NDArray

from downscale.errors import InputDataError

EPOCH = 1850
TIME_UNITS = "days since 1850-01-01"
DAY_SLACK = 1.0 / 1440.0
"""Stamps less than a minute before midnight belong to the day that begins: float32 time axes drift by seconds."""

_CANONICAL = {
    "standard": "standard",
    "gregorian": "standard",
    "proleptic_gregorian": "standard",
    "noleap": "noleap",
    "365_day": "noleap",
    "360_day": "360_day",
    "julian": "julian",
    "all_leap": "all_leap",
    "366_day": "all_leap",
}
_STEPS_A_DAY = {"d": 1.0, "day": 1.0, "days": 1.0, "h": 24.0, "hr": 24.0, "hrs": 24.0, "hour": 24.0, "hours": 24.0}
_STEPS_A_DAY |= dict.fromkeys(("min", "mins", "minute", "minutes"), 1440.0)
_STEPS_A_DAY |= dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 86400.0)
_MONTH_STARTS = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], dtype=np.int64)
_GREGORIAN_START = 15821015

Days = NDArray[np.int64]


def canonical(calendar: str) -> str:
    """The calendar under its one name here: standard, noleap, 360_day, julian or all_leap.

    The Gregorian names all become ``standard``: they agree from 1582-10-15 on, and earlier days are refused.

    Raises:
        InputDataError: not a CF calendar.
    """
    name = str(calendar).strip().lower()
    if name not in _CANONICAL:
        meant = _close_to(name)
        guess = f"did you mean '{meant}'? " if meant else ""
        raise InputDataError(
            f"unknown calendar '{calendar}'",
            hint=f"{guess}CF knows {', '.join(sorted(_CANONICAL))}; mend it: ncatted -a calendar,time,o,c,{meant or 'standard'} FILE",
        )
    return _CANONICAL[name]


def _close_to(name: str) -> str:
    """The CF calendar that a misspelt name may mean: the same words in another order, or nearly the same letters; empty when none is."""
    words = sorted(re.findall(r"[a-z]+|\d+", name))
    same = [known for known in _CANONICAL if sorted(re.findall(r"[a-z]+|\d+", known)) == words]
    return next(iter(same or difflib.get_close_matches(name, _CANONICAL, n=1, cutoff=0.6)), "")


def month(days: ArrayLike) -> Days:
    """Month 1..12 of each day."""
    return np.asarray(days, dtype=np.int64) // 100 % 100


def years(days: ArrayLike, year_starts: int = 1) -> Days:
    """Year each day counts to.

    Args:
        days: yyyymmdd.
        year_starts: month in which a year begins; months from it on belong to the next year (12: December 1999 is of 2000).
    """
    values = np.asarray(days, dtype=np.int64)
    return values // 10000 + ((month(values) >= year_starts) & (year_starts > 1))


def season_phase(days: ArrayLike, calendar: str) -> NDArray[np.float64]:
    """Fraction of the year gone at 12:00 of each day, in (0, 1), by the calendar's own length of that year."""
    values, name = np.asarray(days, dtype=np.int64), canonical(calendar)
    year = values // 10000
    begin, end = _number(year, 1, 1, name), _number(year + 1, 1, 1, name)
    return np.asarray((_numbers(values, name) - begin + 0.5) / (end - begin), dtype=np.float64)


def encode_days(days: ArrayLike, calendar: str) -> NDArray[np.float64]:
    """Days since 1850-01-01 at 12:00 of each day.

    Raises:
        InputDataError: a day that the calendar does not have (29 February of a noleap year).
    """
    return (_numbers(np.asarray(days, dtype=np.int64), canonical(calendar)) + 0.5).astype(np.float64)


def day_bounds(days: ArrayLike, calendar: str) -> NDArray[np.float64]:
    """(n, 2) days since 1850-01-01 at 00:00 of each day and of the next."""
    begin = _numbers(np.asarray(days, dtype=np.int64), canonical(calendar)).astype(np.float64)
    return np.stack([begin, begin + 1.0], axis=-1)


def decode_days(values: ArrayLike, units: str, calendar: str) -> Days:
    """The days (yyyymmdd) in which time values fall.

    Raises:
        InputDataError: units that are no fixed step ("months since"), an unreadable epoch, values that are not finite,
            or days before the calendar's use here begins (year 1; 1582-10-15 for the standard calendar).
    """
    return days_of(numbers_since_epoch(values, units, calendar), calendar)


def numbers_since_epoch(values: ArrayLike, units: str, calendar: str) -> NDArray[np.float64]:
    """Time values as fractional days since 1850-01-01 of their calendar. Raises InputDataError as :func:`decode_days`."""
    name = str(calendar).strip().lower()
    canonical(name)
    step, offset = _step_and_offset(str(units), name)
    numbers = np.asarray(values, dtype=np.float64) / step + offset
    if not np.all(np.isfinite(numbers)) or np.any(np.abs(numbers) > 4e6):
        raise InputDataError("the time axis holds values that are no dates", hint="missing or damaged time values: rewrite the axis")
    return numbers


def days_of(numbers: ArrayLike, calendar: str, slack: float = DAY_SLACK) -> Days:
    """The day (yyyymmdd) of fractional day numbers since 1850-01-01; up to ``slack`` days before midnight counts to the next day."""
    whole = np.floor(np.asarray(numbers, dtype=np.float64) + slack).astype(np.int64)
    return _days(whole, canonical(calendar))


def resolution(values: NDArray[Any], units: str) -> float:
    """Days between neighbouring numbers that the type of a time axis can hold, at its largest value; 0 for integers."""
    if values.dtype.kind != "f" or not values.size:
        return 0.0
    return float(np.spacing(np.abs(values).max())) / _step_and_epoch(units)[0]


def expected_days(first: int, last: int, calendar: str) -> Days:
    """All days of the calendar from ``first`` to ``last``, both included."""
    name = canonical(calendar)
    begin, end = _numbers(np.array([first, last], dtype=np.int64), name)
    return _days(np.arange(begin, end + 1, dtype=np.int64), name)


def iso(day: int) -> str:
    """A day as yyyy-mm-dd."""
    return f"{int(day) // 10000:04d}-{int(day) // 100 % 100:02d}-{int(day) % 100:02d}"


@lru_cache(maxsize=4096)
def _step_and_offset(units: str, calendar: str) -> tuple[float, float]:
    """Steps a day of a units string, and the days from 1850-01-01 to its epoch."""
    step, date = _step_and_epoch(units)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cftime.CFWarning)  # epochs before year 1 are not CF, and common
            epoch = cftime.num2date(0.0, f"days since {date}", calendar=calendar)
            return step, float(cftime.date2num(epoch, TIME_UNITS, calendar=calendar))
    except (ValueError, TypeError, OverflowError) as error:
        hint = f"{str(error).splitlines()[0]}; rewrite the axis, e.g. cdo -setreftime,1850-01-01,00:00:00,1day IN OUT"
        raise InputDataError(f"time units '{units}' cannot be read with calendar {calendar}", hint=hint) from None


def _step_and_epoch(units: str) -> tuple[float, str]:
    match = re.fullmatch(r"\s*([A-Za-z]+)\s+since\s+(.+?)\s*", str(units))
    step = match.group(1).lower() if match else ""
    if match is None or step not in _STEPS_A_DAY:
        raise InputDataError(
            f"time units '{units}' are not days, hours, minutes or seconds since a date",
            hint="months and years have no fixed length; rewrite the axis, e.g. cdo -setreftime,1850-01-01,00:00:00,1day",
        )
    return _STEPS_A_DAY[step], match.group(2)


def _numbers(days: Days, name: str) -> Days:
    year, mon, dom = days // 10000, days // 100 % 100, days % 100
    numbers = _number(year, mon, dom, name)
    if not np.array_equal(_days(numbers, name), days):
        wrong = days[_days(numbers, name) != days]
        raise InputDataError(f"{wrong[0]} is not a day of the {name} calendar", hint="days are yyyymmdd")
    return numbers


def _number(year: Days, mon: Any, dom: Any, name: str) -> Days:
    """Whole days since 1850-01-01 of a date; a month outside 1..12 gives the number of another date."""
    mon, dom = np.clip(mon, 1, 12), np.asarray(dom)
    if name == "360_day":
        return (year - EPOCH) * 360 + (mon - 1) * 30 + dom - 1
    if name == "noleap":
        return (year - EPOCH) * 365 + _MONTH_STARTS[mon - 1] + dom - 1
    if name == "all_leap":
        return (year - EPOCH) * 366 + _MONTH_STARTS[mon - 1] + (mon > 2) + dom - 1
    if name == "julian":
        return _julian(year, mon, dom) - _JULIAN_EPOCH
    months = ((year - 1970) * 12 + mon - 1).astype("datetime64[M]")
    return months.astype("datetime64[D]").astype(np.int64) + dom - 1 - np.datetime64(f"{EPOCH}-01-01", "D").astype(np.int64)


def _julian(year: Days, mon: Any, dom: Any) -> Days:
    """Days since 0000-03-01 of the Julian calendar; years begin in March, so that the leap day comes last."""
    shifted = year - (mon <= 2)
    return 365 * shifted + shifted // 4 + (153 * ((mon + 9) % 12) + 2) // 5 + dom - 1


_JULIAN_EPOCH = int(_julian(np.array(EPOCH), 1, 1))


def _days(numbers: Days, name: str) -> Days:
    numbers = np.asarray(numbers, dtype=np.int64)
    if name == "360_day":
        year, rest = EPOCH + numbers // 360, numbers % 360
        days = year * 10000 + (rest // 30 + 1) * 100 + rest % 30 + 1
    elif name in ("noleap", "all_leap"):
        days = _days_of_equal_years(numbers, 365 if name == "noleap" else 366)
    elif name == "julian":
        days = _days_of_julian(numbers)
    else:
        dates = numbers.astype("datetime64[D]") + (np.datetime64(f"{EPOCH}-01-01", "D") - np.datetime64(0, "D"))
        months = dates.astype("datetime64[M]")
        index = months.astype(np.int64)
        days = (index // 12 + 1970) * 10000 + (index % 12 + 1) * 100 + (dates - months).astype(np.int64) + 1
    first = _GREGORIAN_START if name == "standard" else 10101
    if days.size and days.min() < first:
        raise InputDataError(f"days before {iso(first)} are not supported in the {name} calendar", hint="cut the files, e.g. cdo -selyear")
    return days


def _days_of_equal_years(numbers: Days, length: int) -> Days:
    starts = _MONTH_STARTS + (np.arange(12) >= 2) * (length - 365)
    year, rest = EPOCH + numbers // length, numbers % length
    mon = np.searchsorted(starts, rest, side="right")
    return year * 10000 + mon * 100 + rest - starts[mon - 1] + 1


def _days_of_julian(numbers: Days) -> Days:
    count = numbers + _JULIAN_EPOCH
    cycle, rest = count // 1461, count % 1461
    year = (rest - rest // 1460) // 365
    rest = rest - 365 * year
    mon = (5 * rest + 2) // 153
    dom = rest - (153 * mon + 2) // 5 + 1
    return (4 * cycle + year + (mon >= 10)) * 10000 + np.where(mon < 10, mon + 3, mon - 9) * 100 + dom
