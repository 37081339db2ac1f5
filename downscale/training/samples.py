"""Pairs become tensors here: the days of one or several pair groups, and the way from the coarse to the fine grid."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downscale.errors import DownscaleError, InputDataError
from downscale.grid.interpolate import bilinear_weights
from downscale.models.inputs import Inputs
from downscale.models.registry import channel_positions
from downscale.pairs.store import PairGroup, PairStore

log = logging.getLogger(__name__)
_MEMORY_SHARE = 0.8
_BLOCK_DAYS = 256
_SCALE = {"orog": 1000.0, "sftlf": 100.0}
"""Fixed fields are divided by this, so that they are of order one."""


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
    """Where predictors may lack values: positions of channels with a mask, and of channels that are not read at all."""

    masked: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Holes:
        """As a model's spec says."""
        return cls(*(tuple(channel_positions(dict(spec), key)) for key in ("masked", "dropped")))

    def whole(self, predictors: np.ndarray) -> np.ndarray:
        """(day,) True where a model can read the day's maps (day, channel, y, x).

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
class Samples:
    """Days in memory, in working units.

    Attributes:
        inputs: as the model reads them; ``surface`` is NaN: nothing that is trained reads it.
        target: (n, target, Y, X); NaN where there is no truth.
        labels: one "yyyymmdd (case)" a day, for messages.
    """

    inputs: Inputs
    target: Tensor
    labels: list[str]

    def __len__(self) -> int:
        return len(self.target)

    def to(self, device: torch.device) -> Samples:
        """The same days on a device."""
        return Samples(self.inputs.to(device), self.target.to(device), self.labels)


def split_portions(store: PairStore, on: Sequence[str], split: str) -> list[Portion]:
    """The days of a split for each pair (``NAME/perfect``); pairs without a day in it are left out.

    Raises:
        InputDataError: the store lacks the group or its kind, or no pair has a day in the split.
    """
    portions = []
    for case in on:
        name, _, kind = case.partition("/")
        group = store.group(name)
        if kind not in group.kinds or not group.has_truth:
            raise InputDataError(
                f"the pair store has no {kind} pairs of '{name}'",
                where=f"it has: {', '.join(group.kinds)}",
                hint="give the gcm source 'drives', and run downscale prepare again",
            )
        portions.append(Portion(group, kind, group.split(split)))
    kept = [portion for portion in portions if len(portion.index)]
    if not kept:
        raise InputDataError(
            f"none of {', '.join(on)} has a {split} day", hint=f"change split.{split}: downscale prepare prints the years there are"
        )
    return kept


def whole_portions(portions: Sequence[Portion], holes: Holes, *, policy: str) -> list[Portion]:
    """The portions without the days that a model cannot read, where ``policy`` is "drop"; as they are where it is "error".

    Days with missing predictors are not in the splits as a rule. What is left are levels under the orography in channels for which the
    model has no mask, because none of its training days lacked them.
    """
    if policy != "drop":
        return list(portions)
    kept = []
    for portion in portions:
        if portion.group.attributes.get("missing"):
            parts = [holes.whole(portion.group.predictors(portion.kind, part)) for _, part in _blocks([portion])]
            whole = np.concatenate(parts) if parts else np.ones(0, bool)
            if not whole.all():
                days = ", ".join(map(str, portion.days[~whole].tolist()))
                log.warning("%s: %d day(s) left out, the run has no mask for what they lack: %s", portion.name, int((~whole).sum()), days)
                portion = Portion(portion.group, portion.kind, portion.index[whole])
        if len(portion.index):
            kept.append(portion)
    if not kept:
        raise InputDataError("no day of the pairs can be read by the run", hint="pretrain on pairs that lack the same levels")
    return kept


def load_samples(portions: Sequence[Portion], holes: Holes = Holes()) -> Samples:
    """Read the days of all portions into memory, one after the other.

    Raises:
        DownscaleError: they do not fit into memory.
        InputDataError: a predictor is NaN where ``holes`` does not allow it.
    """
    first = portions[0].group
    one = (
        first.predictors(portions[0].kind, portions[0].index[:1]),
        first.scalars(portions[0].index[:1]),
        first.target(portions[0].index[:1]),
    )
    n = sum(len(portion.index) for portion in portions)
    _check_memory(n * sum(array.nbytes for array in one))
    predictors, scalars, target = (np.empty((n, *array.shape[1:]), np.float32) for array in one)
    start = 0
    for portion, index in _blocks(portions):
        window = slice(start, start + len(index))
        predictors[window], scalars[window], target[window] = read_days(portion, index, holes)
        start += len(index)
    labels = [f"{day} ({portion.name})" for portion in portions for day in portion.days.tolist()]
    return Samples(_inputs(predictors, scalars, target.shape[1]), torch.from_numpy(target), labels)


def stream_samples(portions: Sequence[Portion], holes: Holes = Holes()) -> Iterator[tuple[Inputs, Tensor]]:
    """The same days in blocks of at most 256: inputs and targets."""
    for portion, index in _blocks(portions):
        predictors, scalars, target = read_days(portion, index, holes)
        yield _inputs(predictors, scalars, target.shape[1]), torch.from_numpy(target)


def read_days(portion: Portion, index: np.ndarray, holes: Holes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictors, scalars and target of some days of a portion's group, float32.

    Raises:
        InputDataError: a predictor is NaN where ``holes`` does not allow it, or a scalar is; the days are listed.
    """
    group = portion.group
    predictors, scalars = group.predictors(portion.kind, index), group.scalars(index)
    whole = holes.whole(predictors) & np.isfinite(scalars).all(axis=1)
    if not whole.all():
        bad = np.asarray(group.days)[index][~whole]
        raise InputDataError(
            f"{len(bad)} training or validation day(s) of {portion.name} have NaN predictors",
            where=f"{portion.name}, first {bad[0]}",
            hint="set missing.nan_days: drop and prepare again; for levels under the orography, pretrain with missing.below_ground: mask",
            findings=[str(day) for day in bad.tolist()],
        )
    return predictors, scalars, group.target(index)


def way_to_fine(store: PairStore) -> tuple[Tensor, Tensor]:
    """Coarse cells (Y * X, 4) of each fine cell and their bilinear weights; weights 0 where it lies outside the coarse grid."""
    index, weight = bilinear_weights(store.coarse, store.fine).gather()
    room = ((0, 0), (0, 4 - index.shape[1]))
    return torch.from_numpy(np.pad(index, room)), torch.from_numpy(np.pad(np.nan_to_num(weight), room).astype(np.float32))


def fixed_names(static: Mapping[str, np.ndarray]) -> list[str]:
    """Fixed fields for a decoder: those that the store has, then the position."""
    return [*(name for name in _SCALE if name in static), "y", "x"]


def fixed_fields(static: Mapping[str, np.ndarray], names: Sequence[str], shape: tuple[int, int]) -> Tensor:
    """(fields, Y, X): orography in km, land fraction 0..1, y and x position from -1 to 1."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    position = {"y": y, "x": x}
    fields = [position[name] if name in position else static[name] / _SCALE[name] for name in names]
    return torch.from_numpy(np.asarray(fields, np.float32).reshape(len(names), *shape))


def _blocks(portions: Sequence[Portion]) -> Iterator[tuple[Portion, np.ndarray]]:
    for portion in portions:
        for start in range(0, len(portion.index), _BLOCK_DAYS):
            yield portion, portion.index[start : start + _BLOCK_DAYS]


def _inputs(predictors: np.ndarray, scalars: np.ndarray, targets: int) -> Inputs:
    surface = torch.full((1, 1, 1, 1), torch.nan).expand(len(predictors), targets, *predictors.shape[2:])
    return Inputs(torch.from_numpy(predictors), torch.from_numpy(scalars), surface)


def _check_memory(needed: int, available: Callable[[], int] | None = None) -> None:
    free = (available or _free_memory)()
    if needed > _MEMORY_SHARE * free:
        raise DownscaleError(
            f"the training days need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free",
            hint="train on fewer years or channels, or on a machine with more memory",
        )


def _free_memory() -> int:
    """Bytes that can be had without swapping."""
    try:
        with open("/proc/meminfo") as stream:
            lines = dict(line.split(":", 1) for line in stream)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
