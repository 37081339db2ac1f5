"""The days of a source: those that its channels have in common, or those that any of them has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from downscale.cf.calendar import iso
from downscale.cf.gather import Opening
from downscale.cf.series import Series
from downscale.errors import InputDataError


def common_days(opening: Opening, series: Mapping[str, Series], notes: list[str]) -> NDArray[np.int64]:
    """Days that all channels have, or any; where they differ, refused or noted by the policy for gaps."""
    if not series:
        return np.empty(0, np.int64)
    common = next(iter(series.values())).days
    for one in series.values():
        common = np.intersect1d(common, one.days, assume_unique=True)
    if all(len(one.days) == len(common) for one in series.values()):
        return common
    ranges = _ranges(series)
    if len(common) and opening.every_day:
        notes.append(f"{opening.name}: channels have different days, and a day that one of them lacks is missing: {'; '.join(ranges)}")
        return np.unique(np.concatenate([one.days for one in series.values()]))
    if len(common) and opening.skip_gaps:
        used = f"{len(common)} common ones from {iso(common[0])} to {iso(common[-1])} are used"
        notes.append(f"{opening.name}: channels have different days, {used}: {'; '.join(ranges)}")
        return common
    raise InputDataError(
        f"{opening.name}: channels have different days" + ("" if len(common) else " and none in common"),
        where=f"source {opening.name}",
        hint="give files of the same period for all channels" + (", or accept gaps with missing: {gaps: skip}" if len(common) else ""),
        findings=ranges,
    )


def _ranges(series: Mapping[str, Series]) -> list[str]:
    """First and last day and their number, a line for all channels with the same."""
    same: dict[str, list[str]] = {}
    for key, one in series.items():
        same.setdefault(f"{iso(one.days[0])} to {iso(one.days[-1])}, {len(one.days)} days", []).append(key)
    return [f"{', '.join(keys) if len(keys) < 4 else f'{keys[0]} and {len(keys) - 1} others'}: {span}" for span, keys in same.items()]


def on_all_days(opening: Opening, optional: Mapping[str, Series], days: NDArray[np.int64], notes: list[str]) -> dict[str, Series]:
    """Those of the optional channels that have all the days, or keep those that they have; the others are noted."""
    if opening.every_day:
        return dict(optional)
    found = {key: one for key, one in optional.items() if np.isin(days, one.days, assume_unique=True).all()}
    notes += [f"{opening.name}: {key} lacks some of the days and is left out" for key in optional if key not in found]
    return found
