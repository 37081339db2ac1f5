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
    """

    mean: Tensor
    std: Tensor
    scalar_mean: Tensor
    scalar_std: Tensor

    def __init__(self, mode: str, channels: int, scalars: Sequence[str], shape: tuple[int, int]) -> None:
        super().__init__()
        self.mode = mode
        self.forcing_index = [i for i, name in enumerate(scalars) if name not in SEASON]
        self.season_index = [i for i, name in enumerate(scalars) if name in SEASON]
        maps = {"gridpoint": (channels, *shape), "channel": (channels, 1, 1), "map": (2 * channels,)}[mode]
        self.register_buffer("mean", torch.zeros(maps))
        self.register_buffer("std", torch.ones(maps))
        self.register_buffer("scalar_mean", torch.zeros(len(scalars)))
        self.register_buffer("scalar_std", torch.ones(len(scalars)))
        self.aux_size = len(scalars) + (2 * channels if mode == "map" else 0)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Scaled maps (batch, channel, y, x) and the auxiliary vector (batch, aux_size)."""
        numbers = (inputs.scalars - self.scalar_mean) / self.scalar_std
        forcings, season = numbers[:, self.forcing_index], numbers[:, self.season_index]
        if self.mode != "map":
            return (inputs.predictors - self.mean) / self.std, torch.cat([forcings, season], 1)
        maps, moments = _normalise_maps(inputs.predictors)
        return maps, torch.cat([forcings, (moments - self.mean) / self.std, season], 1)


def _normalise_maps(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Each map without its mean and in units of its std, and both moments (batch, 2 channel). Flat maps become zero."""
    mean = maps.mean((2, 3), keepdim=True)
    std = (maps - mean).square().mean((2, 3), keepdim=True).sqrt()
    flat = std <= _FLAT * mean.abs()
    shape = torch.where(flat, torch.zeros_like(maps), (maps - mean) / torch.where(flat, torch.ones_like(std), std))
    return shape, torch.cat([mean.flatten(1), std.flatten(1)], 1)


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
