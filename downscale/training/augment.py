"""Augmentation: training batches changed as a GCM differs from the RCM's own large scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from downscale.config.training import AugmentConfig
from downscale.models.inputs import Inputs
from downscale.pairs.normalise import Statistics

SLOPE = -1.5
"""Exponent of the noise's amplitude by wavenumber: between large-scale weather and white noise."""


@dataclass(frozen=True)
class Augment:
    """A function of a batch: simulated departures, drawn anew for each day and predictor from torch's global generator.

    In this order: smoothing, bias, noise, drop-out. What is 0 draws nothing. Missing cells stay missing. With several input days the
    same predictor has the same share of smoothing, bias and drop-out on all of them, and noise of its own on each.

    Attributes:
        mean: (C, y, x) training mean of each predictor, working units; stands in for a predictor that is dropped.
        std: (C,) standard deviation in time of each predictor, root mean square over its cells, working units.
        smoothing: largest share of the 3 x 3 mean (0 to 1).
        bias: standard deviation of a constant added to a map, in units of ``std``.
        noise: standard deviation of a red-noise map, in units of ``std``.
        dropout: probability that a map is replaced by ``mean``.
    """

    mean: Tensor
    std: Tensor
    smoothing: float = 0.0
    bias: float = 0.0
    noise: float = 0.0
    dropout: float = 0.0

    def __call__(self, inputs: Inputs) -> Inputs:
        """A changed copy of a batch; scalars, surface and days are the same objects."""
        maps, channels = inputs.predictors, len(self.std)
        repeats = maps.shape[1] // channels
        mean, std = (value.to(maps) for value in (self.mean, self.std))
        scale = std.repeat(repeats)[None, :, None, None]
        if self.smoothing:
            share = self.smoothing * self._draw(torch.rand, maps, repeats)
            maps = (1 - share) * maps + share * neighbourhood_mean(maps)
        if self.bias:
            maps = maps + self.bias * scale * self._draw(torch.randn, maps, repeats)
        if self.noise:
            maps = maps + self.noise * scale * red_noise(maps)
        if self.dropout:
            gone = self._draw(torch.rand, maps, repeats) < self.dropout
            maps = torch.where(gone, mean.repeat(repeats, 1, 1), maps)
        return replace(inputs, predictors=maps)

    def _draw(self, how: Callable[..., Tensor], maps: Tensor, repeats: int) -> Tensor:
        """(batch, channel, 1, 1) numbers, one for each day and predictor."""
        numbers = how(len(maps), len(self.std), 1, 1, device=maps.device, dtype=maps.dtype)
        return numbers.repeat(1, repeats, 1, 1)


def augmenter(config: AugmentConfig, statistics: Statistics, device: torch.device) -> Augment | None:
    """What ``train.augment`` asks for, with the statistics of the training days; None where it asks for nothing."""
    options = config.model_dump()
    if not any(options.values()):
        return None
    spread = np.sqrt(np.nanmean(statistics.predictor_std**2, axis=(1, 2)))
    mean, std = (torch.from_numpy(values.astype(np.float32)).to(device) for values in (statistics.predictor_mean, spread))
    return Augment(mean, torch.where(torch.from_numpy(statistics.constant).to(device), 0.0, std.nan_to_num(0.0)), **options)


def neighbourhood_mean(maps: Tensor) -> Tensor:
    """Mean of the up to nine cells around each cell (batch, channel, y, x), of those that have a value; missing cells stay missing."""
    valid = torch.isfinite(maps)
    total = 9 * F.avg_pool2d(torch.where(valid, maps, 0.0), 3, stride=1, padding=1)
    count = 9 * F.avg_pool2d(valid.to(maps.dtype), 3, stride=1, padding=1)
    return torch.where(valid, total / count.clamp(min=1), torch.nan)


def red_noise(maps: Tensor) -> Tensor:
    """Gaussian noise of the shape of ``maps``, its amplitude falling as wavenumber^-1.5, of expected variance 1 in each cell.

    White noise is filtered in Fourier space. The map's mean varies too, with the amplitude of the
    longest wave. The noise is periodic on the map.
    """
    height, width = maps.shape[-2:]
    y = torch.fft.fftfreq(height, 1 / height, device=maps.device, dtype=maps.dtype)
    x = torch.fft.rfftfreq(width, 1 / width, device=maps.device, dtype=maps.dtype)
    wave = (y[:, None].square() + x[None, :].square()).sqrt().clamp(min=1.0)
    amplitude = wave**SLOPE
    white = torch.randn(maps.shape, device=maps.device, dtype=maps.dtype)
    twice = torch.ones_like(x)
    twice[1 : (width + 1) // 2] = 2.0  # columns of the half spectrum that stand for two
    power = (amplitude.square() * twice).sum() / (height * width)
    return torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(height, width)) / power.sqrt()
