"""Scaling of inputs and targets. Statistics are buffers: they travel with the weights and are never fitted here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from downscale.models.inputs import Inputs

SEASON = ("season_cos", "season_sin")
_FLAT = 1e-6
"""A map whose standard deviation is below this share of its absolute mean is flat: only rounding is left in it."""


class InputTransform(nn.Module):
    """Predictors and scalars as the networks see them.

    ``gridpoint``: (x - mean) / std of each channel and cell over the training days; ``channel``: one mean and std a channel;
    ``map``: each day's map by its own mean and std, which then enter the auxiliary vector standardised over the training days
    (Doury et al. 2022, https://doi.org/10.1007/s00382-022-06343-9). The shape goes to the convolutions, the magnitude to the numbers.

    The auxiliary vector is [forcings, map means, map stds, season_cos, season_sin]; the map moments only with ``map``.

    ``masked`` channels may have missing cells (levels under the orography): moments are those of the valid cells, the training mean
    stands in (0 after scaling), and with ``flags`` a map for each of them follows the channels: 1 valid, 0 missing. ``dropped`` channels
    are zero. NaN in any other channel stays NaN.
    """

    mean: Tensor
    std: Tensor
    scalar_mean: Tensor
    scalar_std: Tensor

    def __init__(
        self, mode: str, channels: int, scalars: Sequence[str], shape: tuple[int, int], *, masked: Sequence[int] = (),
        dropped: Sequence[int] = (), flags: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mode = mode
        self.masked = list(masked)
        self.dropped = list(dropped)
        self.flags = flags and bool(masked)
        self.forcing_index = [i for i, name in enumerate(scalars) if name not in SEASON]
        self.season_index = [i for i, name in enumerate(scalars) if name in SEASON]
        maps = {"gridpoint": (channels, *shape), "channel": (channels, 1, 1), "map": (2 * channels,)}[mode]
        self.register_buffer("mean", torch.zeros(maps))
        self.register_buffer("std", torch.ones(maps))
        self.register_buffer("scalar_mean", torch.zeros(len(scalars)))
        self.register_buffer("scalar_std", torch.ones(len(scalars)))
        self.aux_size = len(scalars) + (2 * channels if mode == "map" else 0)
        self.maps = channels + (len(self.masked) if self.flags else 0)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Scaled maps (batch, maps, y, x) and the auxiliary vector (batch, aux_size)."""
        numbers = (inputs.scalars - self.scalar_mean) / self.scalar_std
        forcings, season = numbers[:, self.forcing_index], numbers[:, self.season_index]
        predictors = self._without_dropped(inputs.predictors)
        missing = self._missing(predictors)
        if self.mode != "map":
            maps = (predictors - self.mean) / self.std
            return self._filled(maps, missing), torch.cat([forcings, season], 1)
        maps, moments = _normalise_maps(predictors, missing)
        return self._filled(maps, missing), torch.cat([forcings, (moments - self.mean) / self.std, season], 1)

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
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kinds: Sequence[str], non_negative: Sequence[bool], shape: tuple[int, int]) -> None:
        super().__init__()
        self.kinds = list(kinds)
        self.non_negative = list(non_negative)
        self.register_buffer("mean", torch.zeros(len(kinds), *shape))
        self.register_buffer("std", torch.ones(len(kinds), *shape))

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, target, y, x) working units to loss space; NaN stays NaN."""
        forward = {"log1p": lambda y: y.clamp(min=0).log1p(), "sqrt": lambda y: y.clamp(min=0).sqrt()}
        bent = [forward.get(kind, _same)(fields[:, i]) for i, kind in enumerate(self.kinds)]
        return (torch.stack(bent, 1) - self.mean) / self.std

    def inverse(self, values: Tensor) -> Tensor:
        """Loss space to working units; variables that cannot be negative are clipped at 0."""
        straight = values * self.std + self.mean
        back = {"log1p": lambda z: z.clamp(min=0).expm1(), "sqrt": lambda z: z.clamp(min=0).square()}
        fields = [back.get(kind, _same)(straight[:, i]) for i, kind in enumerate(self.kinds)]
        return self.clipped(torch.stack(fields, 1))

    def clipped(self, fields: Tensor) -> Tensor:
        """Working units with the variables that cannot be negative clipped at 0."""
        parts = zip(fields.unbind(1), self.non_negative, strict=True)
        return torch.stack([field.clamp(min=0) if positive else field for field, positive in parts], 1)


def _same(values: Tensor) -> Tensor:
    return values
