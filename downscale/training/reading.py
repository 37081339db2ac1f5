"""How days of the pairs are read for a model: which values may be missing, and which days before and after belong to a day.

No PyTorch here: the processes that read ahead of the training import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from downscale.cf.calendar import encode_days
from downscale.errors import InputDataError
from downscale.pairs.store import PairGroup

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Predictors (n, days * channel, y, x), scalars (n, k) and target (n, target, Y, X), float32."""


@dataclass(frozen=True)
class Portion:
    """Some days of one group's pairs.

    Attributes:
        group: the pair group.
        kind: "perfect" (predictors from RCMu) or "imperfect" (from the GCM).
        index: sorted positions of the days in the group.
    """

    group: PairGroup
    kind: str
    index: np.ndarray

    @property
    def name(self) -> str:
        """Case name, e.g. ``RCM_A/perfect``."""
        return f"{self.group.name}/{self.kind}"

    @property
    def days(self) -> np.ndarray:
        """The days, yyyymmdd."""
        return np.asarray(self.group.days)[self.index]


@dataclass(frozen=True)
class Holes:
    """What a model reads for a day, and where that may lack values.

    Attributes:
        masked: positions of channels with a mask: they may lack cells, but not all of them.
        dropped: positions of channels that are not read at all.
        days: the days whose maps are read for a day, in this order; 0 is the day itself, -1 the day before. Consecutive.
    """

    masked: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    days: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Holes:
        """As a model's spec says."""
        masked, dropped = (tuple(spec["channels"].index(name) for name in spec.get(key, ())) for key in ("masked", "dropped"))
        return cls(masked, dropped, tuple(spec.get("days", (0,))))

    def whole(self, predictors: np.ndarray) -> np.ndarray:
        """(day,) True where a model can read the day's own maps (day, channel, y, x).

        A masked map may lack cells but not all of them, a dropped one may lack all, any other none.
        """
        finite = np.isfinite(predictors)
        result = np.ones(len(predictors), bool)
        for channel in range(predictors.shape[1]):
            if channel not in self.dropped:
                cells = finite[:, channel]
                result &= cells.any(axis=(1, 2)) if channel in self.masked else cells.all(axis=(1, 2))
        return result


@dataclass(frozen=True)
class Windows:
    """Maps of some days, each with those of the days around it.

    Attributes:
        maps: (n, days * channel, y, x): all channels of the first day, then those of the next.
        whole: (n,) True where a model can read the day's own maps.
        replaced: days before or after that are not there, or cannot be read: the next one towards the day itself stands in.
    """

    maps: np.ndarray
    whole: np.ndarray
    replaced: int


def read_windows(
    read: Callable[[np.ndarray], np.ndarray], days: np.ndarray, calendar: str, index: np.ndarray, holes: Holes
) -> Windows:  # fmt: skip
    """Read maps and those of the days around them.

    A day before or after is looked for by its date in the calendar of the data. Where it is not there (start of a run, a gap) or lacks
    values, the next day towards the day itself that is there stands in, at last the day itself.

    Args:
        read: gives the maps (n, channel, y, x) of sorted positions.
        days: yyyymmdd of all positions, sorted; also those that are read only as neighbours.
        calendar: of the days.
        index: sorted positions of the days wanted.
        holes: which days around, and what may be missing.
    """
    index = np.asarray(index)
    if holes.days == (0,):
        maps = read(index)
        return Windows(maps, holes.whole(maps), 0)
    positions, there = _positions(days, calendar, index, holes.days)
    needed = np.unique(np.concatenate([index, positions[there]]))
    maps = read(needed)
    whole = holes.whole(maps)
    local = np.searchsorted(needed, np.where(there, positions, index[:, None]))
    there &= whole[local]
    own, middle = np.searchsorted(needed, index), holes.days.index(0)
    there[:, middle] = True
    steps = [*range(middle - 1, -1, -1), *range(middle + 1, len(holes.days))]
    for column in steps:  # from the day outwards, so that what stands in is settled already
        inner = column + 1 if column < middle else column - 1
        local[:, column] = np.where(there[:, column], local[:, column], local[:, inner])
    replaced = int((~there).sum())
    return Windows(maps[local].reshape(len(index), -1, *maps.shape[2:]), whole[own], replaced)


def read_days(portion: Portion, index: np.ndarray, holes: Holes) -> Arrays:
    """Predictors, scalars and target of some days of a portion's group; see counted_days."""
    return counted_days(portion, index, holes)[0]


def counted_days(portion: Portion, index: np.ndarray, holes: Holes) -> tuple[Arrays, int]:
    """Predictors, scalars and target of some days of a portion's group, and how many days around them had to be replaced.

    Raises:
        InputDataError: a predictor is NaN where ``holes`` does not allow it, or a scalar is; the days are listed.
    """
    group = portion.group
    windows = read_windows(lambda some: group.predictors(portion.kind, some), group.days, group.calendar, index, holes)
    scalars = group.scalars(index)
    whole = windows.whole & np.isfinite(scalars).all(axis=1)
    if not whole.all():
        bad = np.asarray(group.days)[index][~whole]
        raise InputDataError(
            f"{len(bad)} training or validation day(s) of {portion.name} have NaN predictors",
            where=f"{portion.name}, first {bad[0]}",
            hint="set missing.nan_days: drop and prepare again; for levels under the orography, pretrain with missing.below_ground: mask",
            findings=[str(day) for day in bad.tolist()],
        )
    return (windows.maps, scalars, group.target(index)), windows.replaced


def _positions(days: np.ndarray, calendar: str, index: np.ndarray, offsets: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(n, offsets) positions of the days around, and whether they are there."""
    numbers = np.rint(encode_days(days, calendar) - 0.5).astype(np.int64)
    wanted = numbers[index][:, None] + np.asarray(offsets)
    positions = np.searchsorted(numbers, wanted).clip(max=len(numbers) - 1)
    return positions, numbers[positions] == wanted
