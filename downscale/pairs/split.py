"""Which days train, choose and judge: whole years or date spans, never random days."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from downscale.cf.calendar import encode_days, iso
from downscale.config.schema import SplitConfig
from downscale.errors import ConfigError

Span = tuple[int, int]
SPLITS = ("train", "validation", "test")


def spans(periods: Sequence[int | str], *, year_starts: int = 1) -> list[Span]:
    """Periods as inclusive spans of days (yyyymmdd).

    Args:
        periods: 2001, "1983-1997" or "1983-12-01/1998-02-28".
        year_starts: month in which a year begins; from 2 on, a year begins in the year before (12: winters stay whole).

    Raises:
        ConfigError: not one of the three forms, or an end before its start.
    """
    return [_span(str(period).strip(), year_starts) for period in periods]


def _span(text: str, year_starts: int) -> Span:
    if match := re.fullmatch(r"(\d{4})(?:\s*-\s*(\d{4}))?", text):
        first_year, last_year = int(match[1]), int(match[2] or match[1])
        back = int(year_starts > 1)
        first = (first_year - back) * 10000 + year_starts * 100 + 1
        last = (last_year + 1 - back) * 10000 + year_starts * 100  # day 0 of the next year: after every day of the month before
    elif match := re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})\s*/\s*(\d{4})-(\d{2})-(\d{2})", text):
        first, last = int("".join(match.groups()[:3])), int("".join(match.groups()[3:]))
    else:
        raise ConfigError(f"split: '{text}' is not a period", hint='write 2001, "1983-1997" or "1983-12-01/1998-02-28"')
    if last < first:
        raise ConfigError(f"split: '{text}' ends before it starts", hint="give the earlier end first")
    return first, last


def split_spans(split: SplitConfig) -> dict[str, list[Span]]:
    """The spans of train, validation and test.

    Raises:
        ConfigError: two of them share a day.
    """
    result = {name: spans(getattr(split, name), year_starts=split.year_starts) for name in SPLITS}
    for one, other in combinations(SPLITS, 2):
        for first, last in result[one]:
            for first_other, last_other in result[other]:
                if first <= last_other and first_other <= last:
                    raise ConfigError(
                        f"split: {one} and {other} share the days {_words(max(first, first_other))} to {_words(min(last, last_other))}",
                        where=f"split.{one}, split.{other}",
                        hint="give every year to one of train, validation and test",
                    )
    return result


def _words(day: int) -> str:
    """A day as yyyy-mm-dd; day 0 of a month, which ends a span in any calendar, as the end of the month before."""
    if day % 100:
        return iso(day)
    month = day // 100 - 1 if day // 100 % 100 > 1 else day // 100 - 89
    return f"the end of {month // 100:04d}-{month % 100:02d}"


def assign(days: np.ndarray, calendar: str, split: SplitConfig, *, usable: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Positions of the days of each split.

    Args:
        days: (n,) yyyymmdd, sorted.
        calendar: of the days; training days within ``gap_days`` of a validation or test day are left out. With ``split.refit`` the
            validation days are training days too.
        split: the config section.
        usable: (n,) False where a day takes no part (NaN in a predictor).

    Returns:
        name of the split -> sorted positions in ``days``; a split may be empty here (another source may have its days).
    """
    inside = {name: _within(days, periods) for name, periods in split_spans(split).items()}
    held_out = inside["test"] if split.refit else inside["validation"] | inside["test"]
    if split.refit:
        inside["train"] |= inside["validation"]
    if split.gap_days:
        inside["train"] &= ~_near(encode_days(days, calendar), held_out, split.gap_days)
    keep = np.ones(len(days), bool) if usable is None else usable
    return {name: np.flatnonzero(mask & keep) for name, mask in inside.items()}


def choosing(days: np.ndarray, calendar: str, train: np.ndarray, validation: np.ndarray, gap_days: int) -> np.ndarray:
    """Positions of the training days from which candidates are fitted that validation days judge: neither among them nor near them.

    Args:
        days: (n,) yyyymmdd, sorted.
        calendar: of the days.
        train, validation: positions in ``days``; with ``split.refit`` the second are among the first.
        gap_days: see SplitConfig.
    """
    marked = np.zeros(len(days), bool)
    marked[validation] = True
    apart = ~(_near(encode_days(days, calendar), marked, gap_days) if gap_days else marked)
    return train[apart[train]]


def _within(days: np.ndarray, periods: Sequence[Span]) -> np.ndarray:
    mask = np.zeros(len(days), bool)
    for first, last in periods:
        mask |= (days >= first) & (days <= last)
    return mask


def _near(numbers: np.ndarray, marked: np.ndarray, distance: int) -> np.ndarray:
    """True where a day lies within ``distance`` days of a marked one; numbers are days since an epoch."""
    stones = numbers[marked]
    if not len(stones):
        return np.zeros(len(numbers), bool)
    right = np.clip(np.searchsorted(stones, numbers), 0, len(stones) - 1)
    left = np.clip(right - 1, 0, len(stones) - 1)
    return np.minimum(np.abs(stones[right] - numbers), np.abs(stones[left] - numbers)) <= distance


def check_not_empty(counts: dict[str, int], split: SplitConfig) -> None:
    """Refuse a split without days.

    Args:
        counts: name of the split -> number of days over all pairs.
        split: the config section, for the message.

    Raises:
        ConfigError: naming the empty splits.
    """
    empty = [name for name in SPLITS if not counts.get(name)]
    if empty:
        raise ConfigError(
            f"split: no day of the data falls into {' or '.join(empty)}",
            where="; ".join(f"split.{name}: {list(getattr(split, name))}" for name in empty),
            hint="choose years that the sources have (downscale prepare prints them)",
        )
