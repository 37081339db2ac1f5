"""Scaling of inputs and targets. Statistics are buffers: they travel with the weights and are never fitted here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from downscale.models.inputs import Inputs

SEASON = ("season_cos", "season_sin")
_FLAT = 1e-6
"""A map whose standard deviation is below this share of its absolute mean is flat: only rounding is left in it."""


class InputTransform(nn.Module):
    """Predictors and scalars as the networks see them.

    ``gridpoint``: (x - mean) / std of each channel and cell over the training days; ``monthly``: the same over the training days of the
    day's calendar month, mean and std (12, channel, y, x), January first; ``channel``: one mean and std a channel; ``map``: each day's
    map by its own mean and std, which then enter the auxiliary vector standardised over the training days
    (Doury et al. 2022, https://doi.org/10.1007/s00382-022-06343-9). The shape goes to the convolutions, the magnitude to the numbers.

    The auxiliary vector is [forcings, map means, map stds, season_cos, season_sin]; the map moments only with ``map``.

    ``masked`` channels may have missing cells (levels under the orography): moments are those of the valid cells, the training mean
    stands in (0 after scaling), and with ``flags`` a map for each of them follows the channels: 1 valid, 0 missing. ``dropped`` channels
    are zero. NaN in any other channel stays NaN.

    After ``detrend`` the part of each cell that follows a forcing linearly is taken out first, and the forcing itself is 0 in the
    auxiliary vector: what the network sees has no trend left.
    """

    mean: Tensor
    std: Tensor
    scalar_mean: Tensor
    scalar_std: Tensor
    slope: Tensor
    origin: Tensor

    def __init__(
        self, mode: str, channels: int, scalars: Sequence[str], shape: tuple[int, int], *, masked: Sequence[int] = (),
        dropped: Sequence[int] = (), flags: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mode = mode
        self.plane = (channels, *shape)
        self.column: int | None = None
        self.masked = list(masked)
        self.dropped = list(dropped)
        self.flags = flags and bool(masked)
        self.forcing_index = [i for i, name in enumerate(scalars) if name not in SEASON]
        self.season_index = [i for i, name in enumerate(scalars) if name in SEASON]
        plane = self.plane
        maps = {"gridpoint": plane, "monthly": (12, *plane), "channel": (channels, 1, 1), "map": (2 * channels,)}[mode]
        self.register_buffer("mean", torch.zeros(maps))
        self.register_buffer("std", torch.ones(maps))
        self.register_buffer("scalar_mean", torch.zeros(len(scalars)))
        self.register_buffer("scalar_std", torch.ones(len(scalars)))
        self.aux_size = len(scalars) + (2 * channels if mode == "map" else 0)
        self.maps = channels + (len(self.masked) if self.flags else 0)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Scaled maps (batch, maps, y, x) and the auxiliary vector (batch, aux_size)."""
        numbers = (inputs.scalars - self.scalar_mean) / self.scalar_std
        if self.column is not None:
            numbers = torch.cat([numbers[:, : self.column], torch.zeros_like(numbers[:, :1]), numbers[:, self.column + 1 :]], 1)
        forcings, season = numbers[:, self.forcing_index], numbers[:, self.season_index]
        predictors = self._without_dropped(self._without_trend(inputs))
        missing = self._missing(predictors)
        if self.mode != "map":
            mean, std = self._monthly(inputs) if self.mode == "monthly" else (self.mean, self.std)
            maps = (predictors - mean) / std
            return self._filled(maps, missing), torch.cat([forcings, season], 1)
        maps, moments = _normalise_maps(predictors, missing)
        return self._filled(maps, missing), torch.cat([forcings, (moments - self.mean) / self.std, season], 1)

    def detrend(self, column: int) -> None:
        """Take out the linear part in the forcing at ``column`` of the scalars; the slopes are 0 until they are filled in."""
        self.column = column
        self.register_buffer("slope", torch.zeros(self.plane))
        self.register_buffer("origin", torch.zeros(()))

    def _without_trend(self, inputs: Inputs) -> Tensor:
        if self.column is None:
            return inputs.predictors
        return inputs.predictors - _above(inputs, self.column, self.origin) * self.slope

    def _monthly(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Mean and std (batch, channel, y, x) of each day's month."""
        if inputs.days is None:
            raise ValueError("normalise.predictors: monthly needs Inputs with the days")
        month = inputs.days // 100 % 100 - 1
        return self.mean[month], self.std[month]

    def _without_dropped(self, predictors: Tensor) -> Tensor:
        """Dropped channels at 0: their statistics are mean 0 and std 1, so that they stay 0 in maps and moments."""
        return predictors.index_fill(1, torch.tensor(self.dropped, device=predictors.device), 0.0) if self.dropped else predictors

    def _missing(self, predictors: Tensor) -> Tensor | None:
        """(batch, channel, y, x) True where a masked channel has no value; None for a run without masks."""
        if not self.masked:
            return None
        may = torch.zeros(predictors.shape[1], 1, 1, dtype=torch.bool, device=predictors.device)
        may[self.masked] = True
        return torch.isnan(predictors) & may

    def _filled(self, maps: Tensor, missing: Tensor | None) -> Tensor:
        if missing is None:
            return maps
        filled = maps.masked_fill(missing, 0.0)
        return torch.cat([filled, (~missing[:, self.masked]).to(maps.dtype)], 1) if self.flags else filled


def _normalise_maps(maps: Tensor, missing: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each map without its mean and in units of its std, and both moments (batch, 2 channel), of the cells that are there. Flat maps
    become zero."""
    mean = _spatial_mean(maps, missing)
    std = _spatial_mean((maps - mean).square(), missing).sqrt()
    flat = std <= _FLAT * mean.abs()
    shape = torch.where(flat, torch.zeros_like(maps), (maps - mean) / torch.where(flat, torch.ones_like(std), std))
    return shape, torch.cat([mean.flatten(1), std.flatten(1)], 1)


def _spatial_mean(maps: Tensor, missing: Tensor | None) -> Tensor:
    if missing is None:
        return maps.mean((2, 3), keepdim=True)
    cells = (~missing).sum((2, 3), keepdim=True)
    return maps.masked_fill(missing, 0.0).sum((2, 3), keepdim=True) / cells.clamp(min=1)


class TargetTransform(nn.Module):
    """Targets in the space of the loss, and back.

    ``none``: as they are; ``standardise``: (y - mean) / std of each grid point over the training days; ``log1p`` and ``sqrt``: of
    y clipped at 0, then standardised. Cells that were never valid in training have a NaN mean and stay NaN both ways.

    After ``detrend`` the part that follows a forcing linearly is taken out between the two (of targets with ``none`` it is 0), and added
    back on the way to working units, also for forcings that no training day had.
    """

    mean: Tensor
    std: Tensor
    slope: Tensor
    origin: Tensor

    def __init__(self, kinds: Sequence[str], non_negative: Sequence[bool], shape: tuple[int, int]) -> None:
        super().__init__()
        self.kinds = list(kinds)
        self.non_negative = list(non_negative)
        self.column: int | None = None
        self.register_buffer("mean", torch.zeros(len(kinds), *shape))
        self.register_buffer("std", torch.ones(len(kinds), *shape))

    def detrend(self, column: int) -> None:
        """Take out the linear part in the forcing at ``column`` of the scalars; the slopes are 0 until they are filled in."""
        self.column = column
        self.register_buffer("slope", torch.zeros_like(self.mean))
        self.register_buffer("origin", torch.zeros(()))

    def forward(self, fields: Tensor, inputs: Inputs | None = None) -> Tensor:
        """(batch, target, y, x) working units to loss space; NaN stays NaN. ``inputs`` of the days are needed after ``detrend``."""
        forward = {"log1p": lambda y: y.clamp(min=0).log1p(), "sqrt": lambda y: y.clamp(min=0).sqrt()}
        bent = [forward.get(kind, _same)(fields[:, i]) for i, kind in enumerate(self.kinds)]
        straight = torch.stack(bent, 1)
        if self.column is not None:
            straight = straight - self._linear(inputs)
        return (straight - self.mean) / self.std

    def inverse(self, values: Tensor, inputs: Inputs | None = None) -> Tensor:
        """Loss space to working units; variables that cannot be negative are clipped at 0. ``inputs`` as for forward."""
        straight = values * self.std + self.mean
        if self.column is not None:
            straight = straight + self._linear(inputs)
        back = {"log1p": lambda z: z.clamp(min=0).expm1(), "sqrt": lambda z: z.clamp(min=0).square()}
        fields = [back.get(kind, _same)(straight[:, i]) for i, kind in enumerate(self.kinds)]
        return self.clipped(torch.stack(fields, 1))

    def clipped(self, fields: Tensor) -> Tensor:
        """Working units with the variables that cannot be negative clipped at 0."""
        parts = zip(fields.unbind(1), self.non_negative, strict=True)
        return torch.stack([field.clamp(min=0) if positive else field for field, positive in parts], 1)

    def _linear(self, inputs: Inputs | None) -> Tensor:
        if inputs is None or self.column is None:
            raise ValueError("a detrended target needs the Inputs of its days")
        return _above(inputs, self.column, self.origin) * self.slope


def detrend(parts: Iterable[nn.Module], column: int) -> None:
    """Let all scalings among some modules take out the linear part in one forcing, ``column`` of the scalars."""
    for part in parts:
        if isinstance(part, InputTransform | TargetTransform):
            part.detrend(column)


def _above(inputs: Inputs, column: int, origin: Tensor) -> Tensor:
    """(batch, 1, 1, 1): how far a forcing is above its training mean."""
    return (inputs.scalars[:, column] - origin)[:, None, None, None]


def _same(values: Tensor) -> Tensor:
    return values
