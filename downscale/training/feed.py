"""Where the training loop gets its days from: one protocol for days in memory and for days that are read as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from downscale.models.inputs import Inputs
from downscale.training.order import Order
from downscale.training.samples import Samples

Batch = tuple[Inputs, Tensor]
"""Inputs and truth (batch, target, Y, X) in working units; truth is NaN where there is none."""


class TrainingDays(Protocol):
    """Days that a training learns from or is validated on.

    Attributes:
        order: how an epoch over these days is drawn and shuffled; ``order.batches`` gives its batches.
    """

    @property
    def order(self) -> Order: ...  # noqa: D102

    def __len__(self) -> int:
        """Number of days."""

    def labels(self, index: Tensor | Sequence[int]) -> list[str]:
        """One "yyyymmdd (case)" for each position."""

    def epoch(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Batch]:
        """Inputs and truth on the device, one item for each batch of positions, in their order.

        Closing the iterator early is allowed. A position may occur several times.
        """

    def blocks(self, size: int, device: torch.device) -> Iterator[Batch]:
        """All days once, by position, in blocks of at most ``size`` days, on the device."""


class MemoryDays:
    """Days that lie in memory, or on the device as a whole."""

    def __init__(self, samples: Samples, order: Order | None = None) -> None:
        """The days of ``samples``; each epoch is one permutation of them unless ``order`` says something else."""
        self.samples = samples
        self.order = order or Order(len(samples))

    def __len__(self) -> int:
        return len(self.samples)

    def labels(self, index: Tensor | Sequence[int]) -> list[str]:
        """See TrainingDays."""
        return [self.samples.labels[i] for i in (index.tolist() if isinstance(index, Tensor) else index)]

    def epoch(self, batches: Sequence[Tensor], device: torch.device) -> Iterator[Batch]:
        """See TrainingDays. Positions travel to the device once an epoch, not once a batch."""
        if not batches:
            return
        at = self.samples.target.device
        for index in torch.cat(list(batches)).to(at).split([len(index) for index in batches]):
            yield self.samples.inputs[index].to(device), self.samples.target[index].to(device)

    def blocks(self, size: int, device: torch.device) -> Iterator[Batch]:
        """See TrainingDays."""
        for start in range(0, len(self), size):
            window = slice(start, start + size)
            yield self.samples.inputs[window].to(device), self.samples.target[window].to(device)
