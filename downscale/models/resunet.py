"""The default network: a residual UNet on the coarse grid whose decoder goes on to the fine grid and knows where it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from downscale.models.attention import SelfAttention

_LOCAL_MAPS = 8
_LOCAL_STD = 0.3


@dataclass(frozen=True)
class Plan:
    """Sizes of a ResUNet.

    Attributes:
        coarse: features on the coarse grid and after each halving of it.
        fine: features of the decoder's levels from the coarse grid's resolution to the fine grid; the last one stands for all that follow.
        blocks: residual blocks of each level.
        embedding: size of what the numbers of the day become before they scale and shift features.
        attention: whether the halved coarse maps also pass through self-attention.
    """

    coarse: tuple[int, int, int]
    fine: tuple[int, ...]
    blocks: int = 1
    embedding: int = 64
    attention: bool = False

    @classmethod
    def of(cls, width: int) -> Plan:
        """``width`` features on the coarse grid, doubled at each halving, and half of it on the way to the fine grid."""
        return cls((width, 2 * width, 4 * width), (max(width // 2, 4),))


def preset(size: str, *, attention: bool = False) -> Plan:
    """Plan of a named size: for 15 x 16 x 16 -> 128 x 128 "base" has 12.6 million weights (13.3 with attention), "small" 3.3 (3.5)."""
    if size == "base":
        return Plan((96, 192, 384), (96, 96, 64, 32), blocks=2, embedding=128, attention=attention)
    return Plan((48, 96, 192), (48, 48, 32, 16), blocks=2, embedding=64, attention=attention)


class ResUNet(nn.Module):
    """Residual UNet with FiLM and fixed fields in the decoder, for any coarse box and any fine grid.

    Encoder and decoder on the coarse grid (up to two halvings, skips); a bilinear step then carries the coarse features to where they
    lie on the fine grid, or on the fine grid halved as often as it stays finer than the coarse one; from there doublings by nearest
    neighbour and convolution (no transposed convolution, hence no checkerboard). The numbers of the day scale and shift the features of
    every block (FiLM, Perez et al. 2018). Fixed fields and, with a backbone, its estimate enter every decoder level, averaged to its
    size. The heads are linear and start at zero.

    Two things belong to single fine cells: a few learned maps beside the fixed fields of the finest level, and a gain on the output. What
    terrain does to the flow differs from cell to cell, and a convolution, which is the same everywhere, cannot know it.

    Args:
        channels, aux_size, targets: sizes of the input maps, of the auxiliary vector and of the output.
        coarse, fine: (y, x) of both grids.
        fixed: number of fixed fields.
        plan: features, blocks and attention; see Plan.
        dropout: of whole features, in the residual blocks.
        hint: channels of the backbone's estimate (batch, channels, Y, X) that is given to forward; 0 without a backbone.
    """

    place: Tensor

    def __init__(
        self, *, channels: int, aux_size: int, targets: int, coarse: tuple[int, int], fine: tuple[int, int], fixed: int = 0,
        plan: Plan, dropout: float = 0.0, hint: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sizes = _sizes(coarse, fine)
        extra = fixed + hint
        self.embed = nn.Sequential(nn.Linear(aux_size, plan.embedding), nn.SiLU(), nn.Linear(plan.embedding, plan.embedding), nn.SiLU())
        widths = list(plan.coarse[: _halvings(coarse) + 1])
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList([_level(w, w, dropout, plan, attention=i > 0) for i, w in enumerate(widths)])
        self.down = nn.ModuleList([nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)])
        self.decoder = nn.ModuleList([_level(a + b, b, dropout, plan) for a, b in pairwise(widths[::-1])])
        finest = len(self.sizes) - 1
        levels = [plan.fine[min(k, len(plan.fine) - 1)] for k in range(finest + 1)]
        before = [entering + extra + (_LOCAL_MAPS if k == finest else 0) for k, entering in enumerate([widths[0], *levels[:-1]])]
        self.join = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in zip(before, levels, strict=True)])
        self.levels = nn.ModuleList([_level(w, w, dropout, plan) for w in levels])
        last = levels[-1]
        self.local = nn.Parameter(_LOCAL_STD * torch.randn(_LOCAL_MAPS, *fine))
        self.gain = nn.Parameter(torch.ones(targets, *fine))
        self.refine = _Refinement(last, dropout, plan.embedding)
        self.head = nn.Conv2d(last, targets, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.register_buffer("place", torch.zeros(math.prod(self.sizes[0]), math.prod(coarse)))
        for k, size in enumerate(self.sizes):
            self.register_buffer(f"fixed{k}", torch.zeros(fixed, *size))

    def locate(self, index: Tensor, weight: Tensor, fixed: Tensor) -> None:
        """Tell the network where it is.

        Args:
            index, weight: (Y * X, 4) coarse cells of each fine cell and their bilinear weights.
            fixed: (fields, Y, X), of order one; NaN counts as 0.
        """
        (height, width), steps = self.sizes[-1], len(self.sizes) - 1
        y, x = torch.arange(height) // 2**steps, torch.arange(width) // 2**steps
        cell = (y[:, None] * self.sizes[0][1] + x[None, :]).flatten()
        place = torch.zeros_like(self.place)
        place.index_put_((cell[:, None].expand_as(index), index), weight.to(place.dtype), accumulate=True)
        self.place.copy_(place / place.sum(1, keepdim=True).clamp(min=1e-12))
        for k in range(len(self.sizes)):
            getattr(self, f"fixed{k}").copy_(_halved(fixed.nan_to_num(0.0)[None], steps - k)[0])

    def forward(self, maps: Tensor, aux: Tensor, hint: Tensor | None = None) -> Tensor:
        """(batch, channel, y, x), (batch, aux_size) and, with a backbone, its estimate, to (batch, target, Y, X)."""
        day = self.embed(aux)
        x = self._coarse(maps, day)
        x = F.linear(x.flatten(2), self.place).view(*x.shape[:2], *self.sizes[0])
        steps = len(self.sizes) - 1
        for k, (size, block) in enumerate(zip(self.sizes, self.levels, strict=True)):
            if k:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, : size[0], : size[1]]
            fields = [getattr(self, f"fixed{k}"), *([self.local] if k == steps else [])]
            parts = [x, *(field.expand(len(x), -1, -1, -1) for field in fields)]
            x = block(self.join[k](torch.cat(parts if hint is None else [*parts, _halved(hint, steps - k)], 1)), day)
        return self.head(F.silu(self.refine(x, day))) * self.gain

    def bottleneck(self, maps: Tensor, aux: Tensor) -> Tensor:
        """(batch, features): the coarsest maps of the encoder, averaged over the box."""
        return self._encoded(maps, self.embed(aux))[-1].mean((2, 3))

    def _encoded(self, maps: Tensor, day: Tensor) -> list[Tensor]:
        """Maps of all encoder levels, the coarse grid first."""
        x, levels = self.stem(maps), []
        for i, block in enumerate(self.encoder):
            x = block(self.down[i - 1](x) if i else x, day)
            levels.append(x)
        return levels

    def _coarse(self, maps: Tensor, day: Tensor) -> Tensor:
        skips = self._encoded(maps, day)
        x = skips[-1]
        for block, skip in zip(self.decoder, skips[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, : skip.shape[2], : skip.shape[3]]
            x = block(torch.cat([x, skip], 1), day)
        return x


class _Block(nn.Module):
    """Two normalised 3 x 3 convolutions beside a straight path; the numbers of the day act between them."""

    def __init__(self, before: int, after: int, dropout: float, embedding: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(_groups(before), before), nn.GroupNorm(_groups(after), after)])
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * after)
        self.drop = nn.Dropout2d(dropout)
        self.straight = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, day: Tensor) -> Tensor:
        scale, shift = self.film(day)[:, :, None, None].chunk(2, 1)
        y = self.norms[1](self.first(F.silu(self.norms[0](x)))) * (1 + scale) + shift
        return self.straight(x) + self.second(self.drop(F.silu(y)))


class _Blocks(nn.Module):
    """Blocks of one level one after the other, then self-attention where the plan has it."""

    def __init__(self, blocks: Sequence[_Block], attention: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attention = attention

    def forward(self, x: Tensor, day: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, day)
        return x if self.attention is None else self.attention(x)


class _Refinement(nn.Module):
    """Down one halving from the finest level and back: what the backbone shows there, in the context of its surroundings."""

    def __init__(self, width: int, dropout: float, embedding: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.wide = nn.ModuleList([_Block(2 * width, 2 * width, dropout, embedding) for _ in range(2)])
        self.up = nn.Conv2d(2 * width, width, 1)
        self.near = _Block(width, width, dropout, embedding)

    def forward(self, x: Tensor, day: Tensor) -> Tensor:
        y = self.down(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), mode="replicate"))
        for block in self.wide:
            y = block(y, day)
        back = F.interpolate(self.up(y), scale_factor=2.0, mode="nearest")
        return self.near(x + back[:, :, : x.shape[2], : x.shape[3]], day)


def _level(before: int, after: int, dropout: float, plan: Plan, *, attention: bool = False) -> nn.Module:
    """The residual blocks of one level; a single one stands by itself."""
    blocks = [_Block(before if i == 0 else after, after, dropout, plan.embedding) for i in range(plan.blocks)]
    attended = SelfAttention(after) if attention and plan.attention else None
    return blocks[0] if len(blocks) == 1 and attended is None else _Blocks(blocks, attended)


def _groups(width: int) -> int:
    """At most 8 groups of equal size."""
    return max(n for n in range(1, 9) if width % n == 0)


def _halvings(coarse: tuple[int, int]) -> int:
    """At most two, and never below 2 cells."""
    return max(0, min(2, int(math.log2(min(coarse))) - 1))


def _sizes(coarse: tuple[int, int], fine: tuple[int, int]) -> list[tuple[int, int]]:
    """Decoder sizes up to the fine grid; the first is the fine grid halved as often as it stays at least as fine as the coarse one."""
    steps = max(0, int(math.log2(max(1.0, min(fine[0] / coarse[0], fine[1] / coarse[1])))))
    return [(-(-fine[0] // 2**k), -(-fine[1] // 2**k)) for k in range(steps, -1, -1)]


def _halved(fields: Tensor, times: int) -> Tensor:
    """Averages over blocks of 2^times cells a side; blocks at the far edges may be smaller."""
    if not fields.shape[1]:
        return fields[:, :, :: 2**times, :: 2**times]
    return F.avg_pool2d(fields, 2**times, ceil_mode=True, count_include_pad=False) if times else fields
