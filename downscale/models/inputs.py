"""What an emulator reads: coarse maps, numbers and the coarse same-name fields of a batch of days."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """A batch of days in working units, as stored in the pairs; nothing is scaled yet.

    Attributes:
        predictors: (batch, channel, y, x) on the coarse grid.
        scalars: (batch, k): cosine and sine of the season, then the forcings.
        surface: (batch, target, y, x): the coarse field of each target's own name; NaN where the source has none.
        days: (batch,) int64, yyyymmdd in the calendar of the data; None where nobody has said them. Needed by scalings by month.
        weights: (batch, k, Y, X) what a loss worked out beforehand about these days' truth, see Loss.weights; no model reads it.
    """

    predictors: Tensor
    scalars: Tensor
    surface: Tensor
    days: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.predictors)

    def __getitem__(self, index: Tensor | slice) -> Inputs:
        """The days of an index; a slice keeps memory, an index tensor copies."""
        days, weights = (None if part is None else part[index] for part in (self.days, self.weights))
        return Inputs(self.predictors[index], self.scalars[index], self.surface[index], days, weights)

    def to(self, device: torch.device | str) -> Inputs:
        """The same days on a device."""
        days, weights = (None if part is None else part.to(device) for part in (self.days, self.weights))
        return Inputs(self.predictors.to(device), self.scalars.to(device), self.surface.to(device), days, weights)
