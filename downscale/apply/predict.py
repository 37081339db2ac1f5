"""The days of an input through the emulator, a block at a time; the next block is read meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from downscale.apply.feed import Feed
from downscale.apply.flow import ahead
from downscale.errors import DownscaleError
from downscale.models.inputs import Inputs
from downscale.training.reading import Holes, Windows
from downscale.training.run import Run

log = logging.getLogger(__name__)
BATCH_DAYS = {"cpu": 64, "cuda": 256}
"""Days computed at once, at most."""
BATCH_CELLS = {"cpu": 2**18, "cuda": 2**22}
"""Fine cells computed at once, at most: more takes memory, and on a CPU time, because features leave its caches."""
BLOCK_BYTES = 2**26
"""Fields of a block, at most: about four blocks are in memory at once."""


@dataclass(frozen=True)
class Emulated:
    """A block of days.

    Attributes:
        days: (n,) yyyymmdd.
        fields: (n, V, Y, X) float32 in working units, or (n, M, V, Y, X) with members; NaN on days that are not whole.
        maps: (n, days * C, H, W) the predictors as the run reads them, working units.
        scalars: (n, K).
        whole: (n,) False on days with missing predictors.
    """

    days: np.ndarray
    fields: np.ndarray
    maps: np.ndarray
    scalars: np.ndarray
    whole: np.ndarray


class Draws(Protocol):
    """Gives several fields a day."""

    @property
    def number(self) -> int:
        """Of members."""

    def fields(self, *arrays: np.ndarray) -> np.ndarray:
        """(n, M, V, Y, X) of predictors, scalars, surface and days, as emulate takes them."""


def predict_blocks(run: Run, feed: Feed, block_days: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Emulate all days of a feed: (days, fields) of each block, see emulate_blocks."""
    for block in emulate_blocks(run, feed, block_days, 0, len(feed.days)):
        yield block.days, block.fields


def emulate_blocks(run: Run, feed: Feed, block_days: int, start: int, stop: int, draws: Draws | None = None) -> Generator[Emulated]:
    """Emulate days ``start`` to ``stop`` of a feed, block by block.

    A day on which a predictor is missing where the run has no mask for it, or on which all fields that a run interpolates are, is all
    NaN. For runs that read several days, one before or after that is not there is replaced, see read_windows; the log says how many.

    Args:
        run: the emulator.
        feed: the input.
        block_days: days read, computed and given at a time; fewer where the fields of so many are too large.
        start, stop: positions of the days.
        draws: gives members instead of one field a day.
    """
    holes, replaced = Holes.of(run.spec), 0
    size = block_size(run, block_days, draws.number if draws else 1)

    def read() -> Iterator[tuple[np.ndarray, Windows, np.ndarray, np.ndarray]]:
        for first in range(start, stop, size):
            last = min(first + size, stop)
            yield np.asarray(feed.days[first:last]).astype(np.int64), *feed.block(first, last, holes)

    with closing(ahead(read())) as blocks:
        for days, windows, scalars, surface in blocks:
            whole = windows.whole & np.isfinite(surface).any(axis=(1, 2, 3)) if run.needs_surface else windows.whole
            if not whole.all():
                missing = days[~whole]
                log.warning("%d day(s) with missing predictors are written as missing: %s", len(missing), ", ".join(map(str, missing[:20])))
            arrays = (
                (windows.maps, scalars, surface, days) if whole.all() else [part[whole] for part in (windows.maps, scalars, surface, days)]
            )
            fields = draws.fields(*arrays) if draws else emulate(run, *arrays)
            if not whole.all():
                fields = _spread_out(fields, whole)
            replaced += windows.replaced
            yield Emulated(days, fields, windows.maps, scalars, whole)
    if replaced:
        log.info("%d days before or after are not there: the nearest one towards the day itself stood in", replaced)


def block_size(run: Run, block_days: int, members: int = 1) -> int:
    """Days of a block: as asked for, fewer on large grids, whole batches where there are several."""
    day = 4 * members * len(run.targets) * run.fine.shape[0] * run.fine.shape[1]
    days, batch = max(1, min(block_days, BLOCK_BYTES // day)), batch_size(run)
    return days // batch * batch if days > batch else days


def batch_size(run: Run) -> int:
    """Days computed at once: by the fine grid and the device only, so that the same run always computes alike."""
    kind = run.device.type if run.device.type in BATCH_DAYS else "cuda"
    return max(1, min(BATCH_DAYS[kind], BATCH_CELLS[kind] // (run.fine.shape[0] * run.fine.shape[1])))


def emulate(run: Run, *arrays: np.ndarray) -> np.ndarray:
    """Fields (n, V, Y, X) float32 of predictors, scalars, surface and days.

    Every batch has the same number of days (the last one is filled up), so that a day's numbers never depend on its block. Where a GPU
    has too little memory, batches are halved.

    Raises:
        DownscaleError: a GPU has too little memory for a single day.
    """
    size = batch_size(run)
    while True:
        try:
            return _emulate(run, size, arrays)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if size == 1:
                break
            size //= 2
            log.warning("the GPU has too little memory: %d days at once from here on", size)
    raise DownscaleError(
        "the GPU has too little memory for a single day",
        where=f"{run.path.name} on {run.device}",
        hint="free the GPU, take a larger one, or apply with --device cpu",
    )


def _emulate(run: Run, size: int, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    n = len(arrays[0])
    fields = np.empty((n, len(run.targets), *run.fine.shape), np.float32)
    _ready(run)
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        for start in range(0, n, size):
            stop = min(start + size, n)
            index = np.minimum(np.arange(start, start + size), stop - 1)
            inputs = Inputs(*(torch.from_numpy(array[index]) for array in arrays))
            fields[start:stop] = run.emulator(inputs.to(run.device))[: stop - start].cpu().numpy()
    return fields


def _ready(run: Run) -> None:
    """Weights with the channels last, which convolutions are fastest with; nothing where they lie so already."""
    if isinstance(run.emulator.net, torch.nn.Module):
        run.emulator.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _spread_out(fields: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Fields of the whole days at their places among all, NaN elsewhere."""
    result = np.full((len(whole), *fields.shape[1:]), np.nan, np.float32)
    result[whole] = fields
    return result
