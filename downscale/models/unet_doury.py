"""The UNet of Doury et al. (2022, https://doi.org/10.1007/s00382-022-06343-9), sizes as in the authors' code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

_BATCH_NORM_EPS = 1e-3
"""Keras' default, with which the network was published."""


class DouryUNet(nn.Module):
    """Encoder from the coarse box to one cell, a dense branch for the numbers, decoder to the fine grid.

    With s the largest power of two that fits into the coarse box, an unpadded first convolution crops any box to s x s; log2(s)
    encoder levels follow, with ``width`` 2^i channels up to 8 ``width``. The dense branch has no activation. The decoder doubles up to
    the smallest power of two that holds the target, of which the centre is cut; it is exact where the target is such a power.

    Args:
        channels, aux_size, targets: sizes of the input maps, of the auxiliary vector and of the output.
        coarse, fine: (y, x) of both grids.
        width: channels of the first encoder level.
        zero_head: let the output start at 0, for a network that corrects a backbone.
        activation: a ReLU after each dense layer of the numbers; the published network has none, so its branch is linear.
        pad: pad the coarse box with its edges to the smallest power of two that holds it, instead of cropping it by the first
            convolution. Such a network has the 1 x 1 convolution of a box that is that power of two.
        final_relu: for each output channel whether it ends in a ReLU; empty: none does, as published.
    """

    def __init__(
        self,
        *,
        channels: int,
        aux_size: int,
        targets: int,
        coarse: tuple[int, int],
        fine: tuple[int, int],
        width: int = 64,
        zero_head: bool = False,
        activation: bool = False,
        pad: bool = False,
        final_relu: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        levels = math.ceil(math.log2(max(coarse))) if pad else int(math.log2(min(coarse)))
        size, top = 2**levels, 8 * width
        ups = max(1, math.ceil(math.log2(max(fine))))
        self.fine = fine
        self.room = _room(coarse, size) if pad else None
        self.final_relu = list(final_relu)
        coarse = (size, size) if pad else coarse
        kernel = (coarse[0] - size + 1, coarse[1] - size + 1)
        self.stem = nn.Sequential(nn.Conv2d(channels, width // 2, kernel), _norm(width // 2), nn.ReLU())
        widths = [min(width * 2**i, top) for i in range(levels)]
        self.encoder = nn.ModuleList([_block(a, b) for a, b in zip([width // 2, *widths], widths, strict=False)])
        self.bottom = _block(widths[-1] if widths else width // 2, top)
        dense = [aux_size, *(width * 2**i for i in range(4))]
        self.dense = nn.Sequential(*[_dense(a, b, activation) for a, b in pairwise(dense)])
        self.up, self.decoder, below = nn.ModuleList(), nn.ModuleList(), 2 * top
        for i in range(1, ups + 1):
            out = widths[levels - i] if i <= levels else width
            self.up.append(nn.Sequential(nn.ConvTranspose2d(below, out, 3, stride=2, padding=1, output_padding=1), nn.ReLU()))
            self.decoder.append(_block(2 * out if i <= levels else out, out))
            below = out
        self.head = nn.Conv2d(below, targets, 1)
        if zero_head:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor, aux: Tensor, hint: Tensor | None = None) -> Tensor:
        """(batch, channel, y, x) and (batch, aux_size) to (batch, target, Y, X). ``hint`` does not enter this network."""
        x, skips = self._encoded(maps, aux)
        for i, (up, block) in enumerate(zip(self.up, self.decoder, strict=True)):
            x = up(x)
            x = block(torch.cat([x, skips[-1 - i]], 1) if i < len(skips) else x)
        fields = _centre(self.head(x), self.fine)
        if not any(self.final_relu):
            return fields
        return torch.stack([field.relu() if rain else field for field, rain in zip(fields.unbind(1), self.final_relu, strict=True)], 1)

    def bottleneck(self, maps: Tensor, aux: Tensor) -> Tensor:
        """(batch, features): what the decoder starts from, of the maps and of the numbers."""
        return self._encoded(maps, aux)[0].flatten(1)

    def _encoded(self, maps: Tensor, aux: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The single cell that the decoder starts from, and the maps of all encoder levels."""
        maps = maps if self.room is None else nn.functional.pad(maps, self.room, mode="replicate")
        x, skips = self.stem(maps), []
        for block in self.encoder:
            skips.append(block(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        return torch.cat([self.bottom(x), self.dense(aux)[:, :, None, None]], 1), skips


def _dense(before: int, after: int, activation: bool) -> nn.Module:
    linear = nn.Linear(before, after)
    return nn.Sequential(linear, nn.ReLU()) if activation else linear


def _room(coarse: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Cells to add left, right, above and below: the box comes to lie in the middle."""
    y, x = size - coarse[0], size - coarse[1]
    return x // 2, x - x // 2, y // 2, y - y // 2


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that takes its running statistics where a batch has one value a channel, whose variance would be 0."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


def _norm(width: int) -> nn.Module:
    return _BatchNorm(width, eps=_BATCH_NORM_EPS)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), _norm(after), nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1), _norm(after), nn.ReLU(),
    )  # fmt: skip


def _centre(fields: Tensor, shape: tuple[int, int]) -> Tensor:
    y, x = (fields.shape[2] - shape[0]) // 2, (fields.shape[3] - shape[1]) // 2
    return fields[:, :, y : y + shape[0], x : x + shape[1]]
