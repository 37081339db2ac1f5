"""Baselines that are closed forms: ridge regression, climatology and interpolation. Fitted in training/, stored as buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from downscale.models.inputs import Inputs
from downscale.models.transforms import SEASON, InputTransform

HARMONICS = 3
"""Annual harmonics of the climatology: enough for a seasonal cycle, too few to follow the weather of single years."""


class Ridge(nn.Module):
    """Ridge regression from all standardised predictor cells and scalars to every grid point of the loss space.

    Weights (features, target * Y * X) and intercept are buffers. The features are gridpoint-standardised whatever the network's own
    normalisation is, so that a backbone and the baseline are the same regression. Missing cells of ``masked`` channels count as their
    training mean, ``dropped`` channels as 0.
    """

    weight: Tensor
    intercept: Tensor

    def __init__(
        self, channels: int, scalars: list[str], coarse: tuple[int, int], targets: int, fine: tuple[int, int], *,
        masked: Sequence[int] = (), dropped: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.features = InputTransform("gridpoint", channels, scalars, coarse, masked=masked, dropped=dropped, flags=False)
        self.shape = (targets, *fine)
        n = channels * coarse[0] * coarse[1] + self.features.aux_size
        self.register_buffer("weight", torch.zeros(n, math.prod(self.shape)))
        self.register_buffer("intercept", torch.zeros(math.prod(self.shape)))

    def design(self, inputs: Inputs) -> Tensor:
        """Feature matrix (batch, features): maps first, then the auxiliary vector."""
        maps, aux = self.features(inputs)
        return torch.cat([maps.flatten(1), aux], 1)

    def forward(self, inputs: Inputs) -> Tensor:
        """(batch, target, Y, X) in loss space."""
        return torch.addmm(self.intercept, self.design(inputs), self.weight).view(-1, *self.shape)


class Climatology(nn.Module):
    """Mean annual cycle of each grid point: a constant and three harmonics of the season, in loss space."""

    weight: Tensor

    def __init__(self, scalars: list[str], targets: int, fine: tuple[int, int]) -> None:
        super().__init__()
        self.season = [scalars.index(name) for name in SEASON]
        self.shape = (targets, *fine)
        self.register_buffer("weight", torch.zeros(2 * HARMONICS + 1, math.prod(self.shape)))

    def design(self, inputs: Inputs) -> Tensor:
        """Columns (batch, 7): 1, then cosine and sine of once, twice and three times a year."""
        cosine, sine = (inputs.scalars[:, i].double() for i in self.season)
        angle = torch.atan2(sine, cosine)
        waves = [wave(k * angle) for k in range(1, HARMONICS + 1) for wave in (torch.cos, torch.sin)]
        return torch.stack([torch.ones_like(angle), *waves], 1).to(inputs.scalars.dtype)

    def forward(self, inputs: Inputs) -> Tensor:
        """(batch, target, Y, X) in loss space."""
        return (self.design(inputs) @ self.weight).view(-1, *self.shape)


class Bilinear(nn.Module):
    """The coarse field of each target's own name, interpolated to the fine grid. Nothing is fitted.

    Each fine cell takes up to four coarse cells: ``index`` and ``weight`` (Y * X, 4), weights summing to 1, or all 0 outside the coarse
    grid, where the result is NaN. A missing coarse cell makes the cells that need it missing.
    """

    index: Tensor
    weight: Tensor

    def __init__(self, coarse: tuple[int, int], fine: tuple[int, int]) -> None:
        super().__init__()
        self.fine = fine
        self.register_buffer("index", torch.zeros(fine[0] * fine[1], 4, dtype=torch.int64))
        self.register_buffer("weight", torch.zeros(fine[0] * fine[1], 4))

    def forward(self, inputs: Inputs) -> Tensor:
        """(batch, target, Y, X) in working units."""
        corners = inputs.surface.flatten(2)[:, :, self.index]
        used = torch.where(self.weight > 0, corners * self.weight, torch.zeros_like(corners)).sum(-1)
        used = torch.where(self.weight.sum(-1) > 0, used, torch.full_like(used, math.nan))
        return used.view(*used.shape[:2], *self.fine)
