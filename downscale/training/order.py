"""In which order an epoch sees its days: by the seed and the epoch alone, so that a resumed training sees the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SEED = 1_000_003
"""Times the seed, plus the epoch: the seed of an epoch's order."""


@dataclass(frozen=True)
class Order:
    """How the days of an epoch are drawn and shuffled.

    Without ``buffer`` and ``weights`` an epoch is one permutation of all days. With a buffer smaller than the days, the days are mixed
    as they can be read from disk: the parts (shards) come in random order, one after the other, into a buffer, from which the days
    leave in random order; where the buffer holds all days, this is the permutation again.

    Attributes:
        days: number of days; positions are 0 to days - 1.
        parts: lengths of the runs of consecutive positions that are read together; their sum is ``days``. Empty: one part.
        buffer: days that are mixed at a time; 0: all.
        sources: lengths of the runs of consecutive positions that share a weight; their sum is ``days``. Empty: one source.
        weights: of the sources: how often an epoch sees each of its days. 1 is once, 2 twice, 0.5 a random half of them. Empty: all 1.
    """

    days: int
    parts: tuple[int, ...] = ()
    buffer: int = 0
    sources: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def batches(self, *, seed: int, epoch: int, size: int) -> list[Tensor]:
        """The batches of positions of an epoch, each (size,) int64; a last batch of one day joins the one before.

        Args:
            seed: of the training.
            epoch: counted from 0.
            size: days a batch.
        """
        generator = torch.Generator().manual_seed(seed * _SEED + epoch)
        parts = list(self._sequence(generator).split(size))
        return [*parts[:-2], torch.cat(parts[-2:])] if len(parts) > 1 and len(parts[-1]) == 1 else parts

    def _sequence(self, generator: torch.Generator) -> Tensor:
        """All positions of an epoch in their order."""
        drawn = self._drawn(generator)
        if not 0 < self.buffer < self.days:
            order = torch.randperm(self.days if drawn is None else len(drawn), generator=generator)
            return order if drawn is None else drawn[order]
        positions = torch.arange(self.days) if drawn is None else drawn
        return _through_buffer(_cut(positions, self.parts), self.buffer, generator)

    def _drawn(self, generator: torch.Generator) -> Tensor | None:
        """The positions that an epoch sees, sorted, some of them several times or never; None: each once."""
        if all(weight == 1 for weight in self.weights):
            return None
        chosen, start = [], 0
        for length, weight in zip(self.sources, self.weights, strict=True):
            whole, rest = divmod(round(weight * length), length)
            extra = torch.randperm(length, generator=generator)[:rest]
            chosen.append(start + torch.cat([torch.arange(length).repeat(whole), extra]).sort().values)
            start += length
        return torch.cat(chosen)


def _cut(positions: Tensor, parts: Sequence[int]) -> list[Tensor]:
    """Sorted positions by the part that they lie in; parts without any are left out."""
    ends = torch.tensor(parts).cumsum(0)
    places = torch.searchsorted(positions, ends).tolist()
    pieces = [positions[start:stop] for start, stop in zip([0, *places[:-1]], places, strict=True)]
    return [piece for piece in pieces if len(piece)]


def _through_buffer(parts: Sequence[Tensor], buffer: int, generator: torch.Generator) -> Tensor:
    """Parts in random order into a buffer; what is too much for it leaves in random order, at the end all of it."""
    pool, left = torch.empty(0, dtype=torch.int64), []
    for number in torch.randperm(len(parts), generator=generator).tolist():
        pool = torch.cat([pool, parts[number]])
        if len(pool) > buffer:
            pool = pool[torch.randperm(len(pool), generator=generator)]
            left.append(pool[buffer:])
            pool = pool[:buffer]
    left.append(pool[torch.randperm(len(pool), generator=generator)])
    return torch.cat(left)
