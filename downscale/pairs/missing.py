"""What predictors lack, judged when a group is whole: allowed under the orography, left out by day, or refused with every date."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from downscale.cf.calendar import iso
from downscale.config.schema import MissingConfig
from downscale.errors import InputDataError, Problems
from downscale.pairs.coarse import CoarseReader
from downscale.pairs.inputs import GroupInputs
from downscale.variables import Channel

log = logging.getLogger(__name__)
_MOST_SPANS = 20


@dataclass(frozen=True)
class Holes:
    """Where the predictors of one source lack values.

    Attributes:
        partly: (day, channel) some cells are missing.
        wholly: (day, channel) all cells are missing.
        cells: (channel, y, x) number of days on which a cell is missing.
    """

    partly: np.ndarray
    wholly: np.ndarray
    cells: np.ndarray

    @classmethod
    def of(cls, maps: np.ndarray) -> Holes:
        """Of maps (day, channel, y, x)."""
        missing = ~np.isfinite(maps)
        return cls(missing.any(axis=(2, 3)), missing.all(axis=(2, 3)), missing.sum(axis=0, dtype=np.int64))

    @classmethod
    def survey(cls, array: Any, block: int) -> Holes:
        """Of a stored array, some days at a time."""
        parts = [cls.of(np.asarray(array[start : start + block])) for start in range(0, array.shape[0], block)]
        cells = sum((part.cells for part in parts), np.zeros(array.shape[1:], np.int64))
        return cls(np.concatenate([part.partly for part in parts]), np.concatenate([part.wholly for part in parts]), cells)

    def bad(self, channels: Sequence[Channel], policy: MissingConfig) -> np.ndarray:
        """(day, channel) True where a value is missing that the policy does not allow to be missing.

        With ``below_ground: mask`` an upper-air map may lack cells, but not all of them.
        """
        masked = np.array([policy.below_ground == "mask" and channel.level_hpa is not None for channel in channels])
        return np.where(masked, self.wholly, self.partly)

    def facts(self, channels: Sequence[Channel]) -> dict[str, dict[str, float]]:
        """Channel -> cells ever missing, cells in all, share of all values; only those that lack something."""
        size, n_days = self.cells[0].size, max(len(self.partly), 1)
        return {
            channel.name: {"cells": int(np.count_nonzero(cells)), "of": size, "share": float(cells.sum() / (size * n_days))}
            for channel, cells in zip(channels, self.cells, strict=True)
            if cells.any()
        }


def judge(node: Any, group: GroupInputs, channels: Sequence[Channel], block: int) -> None:
    """Hold what a whole group lacks against the policies; days left out become unusable, and everything is noted.

    Args:
        node: the group in the store, all days written.
        group: its inputs.
        channels: of its predictors.
        block: days read at a time.

    Raises:
        InputDataError: days that ``nan_days: error`` refuses, or a channel that no day has; all of them listed, with files.
    """
    usable, found, problems = np.ones(len(group.days), bool), {}, Problems()
    for label, reader in (("rcmu", group.rcm), ("gcm", group.gcm)):
        if reader is None:
            continue
        holes = Holes.survey(node[f"predictors_{label}"], block)
        if not holes.partly.any():
            continue
        found[label] = holes.facts(channels)
        with problems.caught():
            usable &= ~_left_out(reader, group, channels, holes)
        _note(reader, holes.bad(channels, group.missing), found[label], channels)
    problems.raise_any()
    node["usable"][:] = usable
    if found:
        node.attrs["missing"] = found


def foretell(maps: np.ndarray, days: np.ndarray, channels: Sequence[Channel], reader: CoarseReader, policy: MissingConfig) -> None:
    """Say at once when a block holds days that will be refused; the rest is still read, so that all of them are listed then."""
    bad = Holes.of(maps).bad(channels, policy)
    if policy.nan_days == "error" and bad.any():
        names = ", ".join(channels[i].name for i in np.flatnonzero(bad.any(axis=0)).tolist())
        when = iso(int(days[int(np.argmax(bad.any(axis=1)))]))
        log.warning("%s: %s: missing values from %s on; all days are read before this is judged", reader.source.name, names, when)


def _left_out(reader: CoarseReader, group: GroupInputs, channels: Sequence[Channel], holes: Holes) -> np.ndarray:
    """(day,) True where a day cannot be used."""
    absent = holes.wholly.all(axis=0)
    if absent.any() and group.missing.constant_channels == "error":
        names = ", ".join(channels[i].name for i in np.flatnonzero(absent).tolist())
        raise InputDataError(
            f"{names} of source '{reader.source.name}' has no value on any day",
            where=_files(reader, channels[int(np.argmax(absent))], group.days),
            hint="mend the file, take the predictor out, or missing.constant_channels: drop to feed zeros in its place",
        )
    bad = holes.bad(channels, group.missing)
    bad[:, absent] = False
    if bad.any() and group.missing.nan_days == "error":
        raise _refused(reader, group, channels, holes, bad)
    days = np.asarray(bad.any(axis=1))
    if days.any():
        _say(reader, f"{int(days.sum())} day(s) left out for missing values: {day_spans(group.days, days)}")
    return days


def _refused(reader: CoarseReader, group: GroupInputs, channels: Sequence[Channel], holes: Holes, bad: np.ndarray) -> InputDataError:
    faulty = np.flatnonzero(bad.any(axis=0)).tolist()
    ground = any(channels[i].level_hpa is not None and not holes.wholly[bad[:, i], i].all() for i in faulty)
    mask = "missing.below_ground: mask keeps levels that lie under the orography; " if ground else ""
    return InputDataError(
        f"predictors of source '{reader.source.name}' have missing values on {int(bad.any(axis=1).sum())} day(s)",
        where=_files(reader, channels[faulty[0]], group.days[bad[:, faulty[0]]]),
        hint=f"{mask}missing.nan_days: drop leaves such days out",
        findings=[
            f"{channels[i].name}: {int(bad[:, i].sum())} day(s), up to {int(holes.cells[i].astype(bool).sum())} of {holes.cells[i].size} "
            f"cells: {day_spans(group.days, bad[:, i])}"
            for i in faulty
        ],
    )


def _note(reader: CoarseReader, bad: np.ndarray, facts: dict[str, dict[str, float]], channels: Sequence[Channel]) -> None:
    for i, channel in enumerate(channels):
        one = facts.get(channel.name)
        if one and not bad[:, i].any():
            share = f"{one['share']:.2%} of all values"
            _say(reader, f"{channel.name} is missing under the orography in {one['cells']:.0f} of {one['of']:.0f} cells at times, {share}")


def _say(reader: CoarseReader, text: str) -> None:
    reader.source.notes.append(f"{reader.source.name}: {text}")
    log.warning("%s", reader.source.notes[-1])


def _files(reader: CoarseReader, channel: Channel, days: np.ndarray) -> str:
    """The file of the first of some days of a channel, and that day."""
    series = reader.source.series[channel.name]
    place = int(np.searchsorted(series.days, days[0]))
    return f"{series.pieces[int(series.table.file[place])].header.path}: {channel.name}, {iso(int(days[0]))}"


def day_spans(days: np.ndarray, chosen: np.ndarray) -> str:
    """Chosen days as text, neighbours in the list as spans: ``1996-03-04 to 1996-03-10, 1996-05-01``."""
    places = np.flatnonzero(chosen)
    edges = [0, *(np.flatnonzero(np.diff(places) > 1) + 1).tolist(), len(places)]
    parts = []
    for begin, end in pairwise(edges):
        first, last = iso(int(days[places[begin]])), iso(int(days[places[end - 1]]))
        parts.append(first if first == last else f"{first} to {last}")
    more = f" and {len(parts) - _MOST_SPANS} spans more" if len(parts) > _MOST_SPANS else ""
    return ", ".join(parts[:_MOST_SPANS]) + more
