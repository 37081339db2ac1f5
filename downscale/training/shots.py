"""Which days a few-shot training sees: whole years, spread evenly."""

from __future__ import annotations

import math

import numpy as np

from downscale.cf.calendar import years
from downscale.errors import ConfigError

HELD_BACK = 0.2
"""Share of the shot days, at their end, that only chooses the best epoch (SCIENCE.md 5c.7)."""
_WHOLE = 0.9
_TRIES = 10_000


def choose_years(days: np.ndarray, shots: int, year_starts: int = 1, *, draw: int = 0) -> list[int]:
    """Whole years for few-shot training.

    The training years fall into contiguous periods (such as historical and future). Each period gives an equal share, the earlier
    ones one more when the shots do not divide; within a period the years lie in the middles of equal parts. Further draws take years at
    random, with the same shares. A year counts as whole with at least 90 % of the days of the longest one, so that the days dropped
    beside other splits do no harm.

    Args:
        days: (n,) yyyymmdd of the training days of one pair group.
        shots: number of years.
        year_starts: month in which a year begins.
        draw: 0 for the even choice; other numbers for random ones, always the same and all different (see count_draws).

    Raises:
        ConfigError: there are fewer whole years than shots.
    """
    periods, shares = _plan(days, shots, year_starts)
    even = [int(period[int((i + 0.5) * len(period) / share)]) for period, share in zip(periods, shares, strict=True) for i in range(share)]
    return even if draw == 0 else _random_years(periods, shares, even, draw)


def count_draws(days: np.ndarray, shots: int, year_starts: int = 1) -> int:
    """How many different choices of years choose_years can make; arguments as there."""
    periods, shares = _plan(days, shots, year_starts)
    return math.prod(math.comb(len(period), share) for period, share in zip(periods, shares, strict=True))


def _plan(days: np.ndarray, shots: int, year_starts: int) -> tuple[list[np.ndarray], list[int]]:
    """The contiguous periods of the whole years, and the number of years from each."""
    whole = whole_years(days, year_starts)
    if len(whole) < shots:
        raise ConfigError(
            f"few-shot: {shots} whole years wanted, the training days hold {len(whole)}",
            where=f"years: {', '.join(map(str, whole.tolist()))}",
            hint="lower few_shot.shots (--shots), or widen split.train",
        )
    periods = np.split(whole, np.flatnonzero(np.diff(whole) > 1) + 1)
    return periods, _shares(shots, [len(period) for period in periods])


def _random_years(periods: list[np.ndarray], shares: list[int], even: list[int], draw: int) -> list[int]:
    """The choice of a number from 1 on: all differ from each other and from the even one, as far as there are so many."""
    random, found = np.random.default_rng(sum(shares)), [even]
    for _ in range(_TRIES):
        parts = [random.permutation(period)[:share] for period, share in zip(periods, shares, strict=True)]
        years = sorted(int(year) for part in parts for year in part)
        if years not in found:
            found.append(years)
        if len(found) > draw:
            break
    return found[-1]


def whole_years(days: np.ndarray, year_starts: int = 1) -> np.ndarray:
    """The years with at least 90 % of the days of the longest one, ascending; see choose_years."""
    labels, counts = np.unique(years(days, year_starts), return_counts=True)
    return np.asarray(labels[counts >= _WHOLE * counts.max()] if len(labels) else labels)


def shot_index(days: np.ndarray, index: np.ndarray, chosen: list[int], year_starts: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Positions to learn from and, their last 20 % in time, positions that choose the best epoch.

    Args:
        days: all days of the group, yyyymmdd.
        index: positions of its training days.
        chosen: the years.
        year_starts: month in which a year begins.
    """
    shot = index[np.isin(years(days[index], year_starts), chosen)]
    cut = len(shot) - max(1, round(HELD_BACK * len(shot)))
    return shot[:cut], shot[cut:]


def _shares(shots: int, room: list[int]) -> list[int]:
    """Years from each period: one at a time in turn, never more than a period has."""
    shares = [0] * len(room)
    while sum(shares) < shots:
        for i, most in enumerate(room):
            if shares[i] < most and sum(shares) < shots:
                shares[i] += 1
    return shares
