"""Pairs become tensors here: the days of one or several pair groups, and the way from the coarse to the fine grid."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from downscale.errors import DownscaleError, InputDataError
from downscale.grid.interpolate import bilinear_weights
from downscale.models.inputs import Inputs
from downscale.pairs.split import choosing
from downscale.pairs.store import PairStore
from downscale.training.reading import Holes, Portion, counted_days, read_days

log = logging.getLogger(__name__)
MEMORY_SHARE = 0.8
"""Of the free memory, that training days may take."""
_BLOCK_DAYS = 256
EVERYTHING = Holes()
"""The day's own maps, and nothing missing in them."""
_SCALE = {"orog": 1000.0, "sftlf": 100.0}
"""Fixed fields are divided by this, so that they are of order one."""


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


def choosing_portions(train: Sequence[Portion], validation: Sequence[Portion], gap_days: int) -> list[Portion]:
    """The training days from which candidates are fitted that the validation days judge, where these are training days as well.

    Raises:
        InputDataError: there are none.
    """
    judged = {portion.name: portion.index for portion in validation}
    kept = []
    for one in train:
        held_out = judged.get(one.name, np.empty(0, int))
        index = choosing(np.asarray(one.group.days), one.group.calendar, one.index, held_out, gap_days)
        kept += [Portion(one.group, one.kind, index)] if len(index) else []
    if not kept:
        raise InputDataError(
            "split.refit: every training day is a validation day or near one",
            hint="give split.train years besides those of split.validation",
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
            parts = [holes.whole(portion.group.predictors(portion.kind, part)) for _, part in blocks([portion])]
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


def load_samples(portions: Sequence[Portion], holes: Holes = EVERYTHING) -> Samples:
    """Read the days of all portions into memory, one after the other.

    Raises:
        DownscaleError: they do not fit into memory.
        InputDataError: a predictor is NaN where ``holes`` does not allow it.
    """
    one = read_days(portions[0], portions[0].index[:1], holes)
    n = sum(len(portion.index) for portion in portions)
    check_memory(n * sum(array.nbytes for array in one), "train.stream: auto reads the days as they are needed; or train on fewer years")
    predictors, scalars, target = (np.empty((n, *array.shape[1:]), np.float32) for array in one)
    start = replaced = 0
    for portion, index in blocks(portions):
        window = slice(start, start + len(index))
        (predictors[window], scalars[window], target[window]), count = counted_days(portion, index, holes)
        start, replaced = start + len(index), replaced + count
    tell_replaced(replaced, n, holes)
    inputs = as_inputs(torch.from_numpy(predictors), torch.from_numpy(scalars), dates(portions), target.shape[1])
    return Samples(inputs, torch.from_numpy(target), day_labels(portions))


def tell_replaced(replaced: int, n: int, holes: Holes) -> None:
    """Log how many days before or after are not there; nothing where all are."""
    if replaced:
        around = n * (len(holes.days) - 1)
        log.info("%d of %d days before or after are not there: the nearest one towards the day itself stands in", replaced, around)


def day_labels(portions: Sequence[Portion]) -> list[str]:
    """One "yyyymmdd (case)" for each day of all portions."""
    return [f"{day} ({portion.name})" for portion in portions for day in portion.days.tolist()]


def dates(portions: Sequence[Portion]) -> np.ndarray:
    """yyyymmdd of each day of all portions, int64."""
    return np.concatenate([portion.days for portion in portions]).astype(np.int64)


def stream_samples(portions: Sequence[Portion], holes: Holes = EVERYTHING) -> Iterator[tuple[Inputs, Tensor]]:
    """The same days in blocks of at most 256: inputs and targets."""
    for portion, index in blocks(portions):
        predictors, scalars, target = (torch.from_numpy(array) for array in read_days(portion, index, holes))
        days = np.asarray(portion.group.days)[index].astype(np.int64)
        yield as_inputs(predictors, scalars, days, target.shape[1]), target


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


def blocks(portions: Sequence[Portion]) -> Iterator[tuple[Portion, np.ndarray]]:
    """All days by portion, in blocks of at most 256 positions of its group."""
    for portion in portions:
        for start in range(0, len(portion.index), _BLOCK_DAYS):
            yield portion, portion.index[start : start + _BLOCK_DAYS]


def as_inputs(predictors: Tensor, scalars: Tensor, days: np.ndarray, targets: int) -> Inputs:
    """Inputs of some days; ``surface`` is NaN, which takes no memory: nothing that is trained reads it."""
    surface = torch.full((1, 1, 1, 1), torch.nan).expand(len(predictors), targets, *predictors.shape[2:])
    return Inputs(predictors, scalars, surface, torch.from_numpy(days))


def check_memory(needed: int, hint: str, available: Callable[[], int] | None = None) -> None:
    """Nothing when so many bytes can be had; DownscaleError with the hint else."""
    free = (available or free_memory)()
    if needed > MEMORY_SHARE * free:
        raise DownscaleError(f"the training days need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free", hint=hint)


def free_memory() -> int:
    """Bytes that can be had without swapping."""
    try:
        with open("/proc/meminfo") as stream:
            lines = dict(line.split(":", 1) for line in stream)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
