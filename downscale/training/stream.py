"""Days that are read from the shards of the pair store while the training goes on, for data larger than memory."""

from __future__ import annotations

import logging
import math
import os
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from downscale.models.inputs import Inputs
from downscale.training.order import Order
from downscale.training.readers import HereReader, Reader, Ring, Shapes, header
from downscale.training.reading import Holes, Portion, read_days
from downscale.training.samples import as_inputs, check_memory, dates, day_labels, tell_replaced

log = logging.getLogger(__name__)
PART_DAYS = 128
"""Days that are read together, at most: shards of small grids have many more, which would have to lie in memory at a time."""
_AHEAD = 2
"""Requests that a process has at a time: one that it works on, one to go on with."""


@dataclass(frozen=True)
class _Read:
    """Days of one shard that are read together.

    Attributes:
        part: number of the shard.
        positions: of the days.
        need: number of the first batch that has one of them.
    """

    part: int
    positions: np.ndarray
    need: int


class StreamedDays:
    """Days that are read as the batches need them, ahead of the training; see TrainingDays.

    Each shard is read once in an epoch, when the first batch needs it, and each of its days is kept until the last batch that has it.
    So any batches can be asked for, and memory stays small where their order keeps the days of a shard together, as ``order`` does.
    """

    def __init__(
        self, portions: Sequence[Portion], holes: Holes, *, store: Path | None, buffer: int = 0, weights: Sequence[float] = (),
        workers: int | None = None,
    ) -> None:  # fmt: skip
        """The days of all portions, one after the other.

        Args:
            portions: of the pairs.
            holes: what a model reads for a day.
            store: folder of the pair store; None for pairs in memory, which only this process can read.
            buffer, weights: see Order; a weight for each portion.
            workers: processes that read; 0: this one, when it needs the days; None: two where there are cores for them.
        """
        self._portions, self._holes, self._store = list(portions), holes, store
        self._parts = _shards(self._portions)
        self._starts = np.cumsum([0, *(len(index) for _, index in self._parts)])
        self.order = order_of(portions, buffer=buffer, weights=weights)
        self._labels, self._dates = day_labels(self._portions), dates(self._portions)
        first = self._portions[0]
        shapes = [array.shape[1:] for array in read_days(first, first.index[:1], holes)]
        self._shapes: Shapes = (shapes[0], shapes[1], shapes[2])
        self._ring = Ring(self._shapes)
        self._workers = 0 if store is None else _spare_cores() if workers is None else workers
        self._readers: list[Reader | HereReader] = []
        self._told = False
        weakref.finalize(self, _end, self._readers, self._ring.file)
        self._start()  # processes take a second or more to be ready

    def __len__(self) -> int:
        return self.order.days

    def labels(self, index: Tensor | Sequence[int]) -> list[str]:
        """See TrainingDays."""
        return [self._labels[i] for i in (index.tolist() if isinstance(index, Tensor) else index)]

    def blocks(self, size: int, device: torch.device) -> Iterator[tuple[Inputs, Tensor]]:
        """See TrainingDays."""
        return self.epoch(list(torch.arange(len(self)).split(size)), device)

    def epoch(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[tuple[Inputs, Tensor]]:
        """See TrainingDays.

        Raises:
            InputDataError: a day holds NaN where the model cannot have it.
            DownscaleError: the days needed at a time do not fit into memory; a reading process is gone or does not answer.
        """
        if not batches:
            return
        flow = _Flow(self, [index.numpy() for index in batches])
        try:
            for number, index in enumerate(batches):
                batch = self._batch(index.numpy(), flow.rows(number), device)
                flow.done(number)
                yield batch
        finally:
            if flow.under_way:
                _end(self._readers)
        if not self._told:
            self._told = True
            tell_replaced(flow.replaced, len(self), self._holes)

    def prepare(self, rows: int) -> tuple[Ring, list[Reader | HereReader]]:
        """A ring of at least so many days, and who fills it."""
        if rows > self._ring.rows:
            check_memory(
                4 * (rows - self._ring.rows) * sum(int(np.prod(shape)) for shape in self._shapes), "give a smaller train.buffer_days"
            )
            self._ring.resize(rows)
        self._start()
        return self._ring, self._readers

    def _start(self) -> None:
        """Who fills the ring, where nobody does yet."""
        if self._readers:
            return
        if self._workers and self._store is not None:
            said = header(self._store, self._portions, self._holes)
            self._readers += [Reader(said, self._ring) for _ in range(self._workers)]
        else:
            self._readers.append(HereReader(self._portions, self._holes, self._ring))

    def plan(self, batches: Sequence[np.ndarray]) -> tuple[list[_Read], np.ndarray]:
        """What has to be read for batches, in the order of their need; and the last batch that has each position (-1: none)."""
        sequence = np.concatenate(batches)
        number = np.repeat(np.arange(len(batches)), [len(index) for index in batches])
        last = np.full(len(self), -1)
        last[sequence] = number
        positions, first = np.unique(sequence, return_index=True)
        part = np.searchsorted(self._starts, positions, side="right") - 1
        cuts = np.flatnonzero(np.diff(part)) + 1
        groups = zip(np.split(part, cuts), np.split(positions, cuts), np.split(number[first], cuts), strict=True)
        reads = [_Read(int(parts[0]), some, int(need.min())) for parts, some, need in groups]
        return sorted(reads, key=lambda read: read.need), last

    def request(self, read: _Read, slots: np.ndarray) -> dict[str, object]:
        """A read in the words of the readers."""
        portion, index = self._parts[read.part]
        some = index[read.positions - self._starts[read.part]]
        return {"portion": portion, "index": some.tolist(), "slots": slots.tolist(), "rows": self._ring.rows}

    @property
    def rows(self) -> int:
        """Days that memory has room for."""
        return self._ring.rows

    @property
    def processes(self) -> list[int]:
        """Ids of the reading processes that run."""
        return [reader.process for reader in self._readers if isinstance(reader, Reader)]

    @property
    def largest_part(self) -> int:
        """Days of the largest shard."""
        return int(np.diff(self._starts).max())

    def _batch(self, index: np.ndarray, slots: np.ndarray, device: torch.device) -> tuple[Inputs, Tensor]:
        """Rows of the ring as tensors on the device; the rows may be written anew afterwards."""
        maps, scalars, target = (torch.from_numpy(array) for array in self._ring.arrays)
        rows = torch.from_numpy(slots)
        pin = device.type == "cuda"
        taken = [_gather(array, rows, pin=pin) for array in (maps, scalars, target)]
        inputs = as_inputs(taken[0], taken[1], self._dates[index], taken[2].shape[1])
        return inputs.to(device), taken[2].to(device, non_blocking=pin)


class _Flow:
    """The days of one epoch on their way: asked for, there, in batches, no longer needed."""

    def __init__(self, days: StreamedDays, batches: Sequence[np.ndarray]) -> None:
        self._days, self._batches = days, batches
        reads, self._last = days.plan(batches)
        self._todo, self._asked = deque(reads), deque[tuple[_Read, Reader | HereReader]]()
        rows = _most_at_once(reads, self._last, len(batches))
        self._ring, self._readers = days.prepare(rows + _AHEAD * days.largest_part)
        self._free = list(range(self._ring.rows))
        self._slot = np.full(len(days), -1)
        self.replaced = 0
        self._ask()

    @property
    def under_way(self) -> bool:
        """Whether readers still work for it."""
        return bool(self._asked)

    def rows(self, number: int) -> np.ndarray:
        """The rows of the ring that hold a batch, in its order; waits for what is not there yet."""
        while self._next_need() <= number:
            if not self._asked:
                self._ask_for_one(min(self._readers, key=lambda reader: reader.waiting))
            _, reader = self._asked.popleft()
            self.replaced += reader.answer().replaced
        return self._slot[self._batches[number]]

    def done(self, number: int) -> None:
        """A batch has been copied: its days that no later one has make room, and readers go on."""
        positions = np.unique(self._batches[number])
        over = positions[self._last[positions] == number]
        self._free.extend(self._slot[over].tolist())
        self._ask()

    def _next_need(self) -> float:
        """The first batch that needs a day that is not there."""
        return next((reads[0].need for reads in ([one for one, _ in self._asked], self._todo) if reads), math.inf)

    def _ask(self) -> None:
        """Keep all reading processes at work, as far as there is room."""
        for reader in sorted((one for one in self._readers if isinstance(one, Reader)), key=lambda one: one.waiting):
            while self._todo and reader.waiting < _AHEAD and len(self._todo[0].positions) <= len(self._free):
                self._ask_for_one(reader)

    def _ask_for_one(self, reader: Reader | HereReader) -> None:
        read = self._todo.popleft()
        slots = np.array([self._free.pop() for _ in read.positions])
        self._slot[read.positions] = slots
        reader.ask(self._days.request(read, slots))
        self._asked.append((read, reader))


def order_of(portions: Sequence[Portion], *, buffer: int = 0, weights: Sequence[float] = ()) -> Order:
    """The order of the days of portions, with their shards as parts: the same for days in memory and days that are read."""
    parts = tuple(len(index) for _, index in _shards(portions))
    return Order(sum(parts), parts, buffer, tuple(len(portion.index) for portion in portions), tuple(weights))


def _most_at_once(reads: Sequence[_Read], last: np.ndarray, batches: int) -> int:
    """Days that are needed at the same time: from the batch that needs the first of their shard to the last that has them."""
    change = np.zeros(batches + 1, np.int64)
    for read in reads:
        change[read.need] += len(read.positions)
        np.add.at(change, last[read.positions] + 1, -1)
    return int(change.cumsum().max())


def _shards(portions: Sequence[Portion]) -> list[tuple[int, np.ndarray]]:
    """(number of the portion, positions in its group) of the days that lie in one shard of the targets, or in a piece of one."""
    parts = []
    for number, portion in enumerate(portions):
        arrays = getattr(portion.group, "node", {})
        name = f"target_{portion.group.targets[0]}" if arrays else ""
        array = arrays.get(name)
        shards = getattr(array, "shards", None)
        days = min(shards[0], array.chunks[0] * max(PART_DAYS // array.chunks[0], 1)) if array is not None and shards else PART_DAYS
        piece = portion.index // days
        parts += [(number, part) for part in np.split(portion.index, np.flatnonzero(np.diff(piece)) + 1)]
    return parts


def _gather(array: Tensor, rows: Tensor, *, pin: bool) -> Tensor:
    """Rows of an array, in page-locked memory where they travel to a GPU."""
    out = torch.empty((len(rows), *array.shape[1:]), dtype=array.dtype, pin_memory=pin)
    return torch.index_select(array, 0, rows, out=out)


def _spare_cores() -> int:
    """Reading processes: two at most, none where there is no second core."""
    return min(2, len(os.sched_getaffinity(0)) - 1)


def _end(readers: list[Reader | HereReader], file: int | None = None) -> None:
    for reader in readers:
        reader.end()
    readers.clear()
    if file is not None:
        os.close(file)
