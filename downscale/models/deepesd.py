"""DeepESD (Baño-Medina et al. 2022, https://doi.org/10.5194/gmd-15-6747-2022): convolutions on the coarse grid, then a dense layer."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

_FEATURES = (50, 25)


class DeepESD(nn.Module):
    """Three 3 x 3 convolutions (50, 25 and ``filters`` maps, ReLU), flattened, and one dense layer to all fine cells.

    Each fine cell has weights of its own, so the network needs neither fixed fields nor a way from the coarse to the fine grid, and takes
    any pair of grids. There is no normalisation layer and no dropout. The published network reads maps alone; with ``aux_size`` the dense
    layer also reads the numbers of the day.

    Args:
        channels, aux_size, targets: sizes of the input maps, of the auxiliary vector (0: not read) and of the output.
        coarse, fine: (y, x) of both grids.
        filters: maps of the last convolution (Baño-Medina et al.: 1 for temperature, 10 or more for precipitation).
        cells: number of fine cells that have outputs; None: all. Which they are stands in the buffer ``cells``, to be filled by
            ``choose``. The other cells are 0 in loss space.
        zero_head: let the output start at 0, for a network that corrects a backbone.
    """

    cells: Tensor

    def __init__(
        self, *, channels: int, aux_size: int, targets: int, coarse: tuple[int, int], fine: tuple[int, int], filters: int = 1,
        cells: int | None = None, zero_head: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape = (targets, *fine)
        self.reads_numbers = aux_size > 0
        widths = [channels, *_FEATURES, filters]
        steps = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairwise(widths)]
        self.maps = nn.Sequential(*steps, nn.Flatten())
        self.dense = nn.Linear(filters * coarse[0] * coarse[1] + aux_size, targets * (cells or fine[0] * fine[1]))
        if zero_head:
            nn.init.zeros_(self.dense.weight)
            nn.init.zeros_(self.dense.bias)
        if cells is not None:
            self.register_buffer("cells", torch.arange(cells))
        self.some = cells is not None

    def choose(self, cells: Tensor) -> None:
        """Say which fine cells have outputs: flat positions, sorted."""
        self.cells.copy_(cells)

    def forward(self, maps: Tensor, aux: Tensor, hint: Tensor | None = None) -> Tensor:
        """(batch, channel, y, x) and (batch, aux_size) to (batch, target, Y, X). ``hint`` does not enter this network."""
        features = self.maps(maps)
        values = self.dense(torch.cat([features, aux], 1) if self.reads_numbers else features)
        if not self.some:
            return values.view(-1, *self.shape)
        targets, height, width = self.shape
        fields = values.new_zeros(len(values), targets, height * width)
        return fields.index_copy(2, self.cells, values.view(len(values), targets, -1)).view(-1, *self.shape)

    def bottleneck(self, maps: Tensor, aux: Tensor) -> Tensor:
        """(batch, features): what the dense layer reads of the maps."""
        del aux
        return self.maps(maps)
