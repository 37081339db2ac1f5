"""Kernel ridge regression on principal components: the strong baseline of small data. Fitted in training/, stored as buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from downscale.models.inputs import Inputs
from downscale.models.transforms import InputTransform


class KernelRidge(nn.Module):
    """f(x) = intercept + sum over training days i of k(z(x), z_i) dual_i, with k(z, z') = z . z' + exp(-gamma |z - z'|^2).

    z are the leading principal components of the gridpoint-standardised maps and of the numbers of the day, in units in which the
    squared length of a training day is 1 on average. The linear part goes on beyond the training days, the Gaussian part bends the line
    between them (kernel ridge regression: Saunders, Gammerman and Vovk 1998, ICML). Each target has its own gamma and its own
    components: so many of all predictors, or so many of its own coarse field, which stand after those; all others count as 0.

    Buffers: ``axes`` (features, components) and ``centre`` (features,) lead from the features to z; ``scores`` (days, components) are
    the z_i; ``dual`` (days, target * Y * X) and ``intercept`` are of the loss space; ``gamma``, ``first`` and ``used`` (the first of the
    components and their number) and ``unit`` (root of the mean squared length of the training days in them) are per target.

    Args:
        channels, scalars, coarse, targets, fine, masked, dropped: as for Ridge.
        days: number of training days.
        components: the number of principal components, over all choices of predictors.
    """

    axes: Tensor
    centre: Tensor
    scores: Tensor
    dual: Tensor
    intercept: Tensor
    gamma: Tensor
    unit: Tensor
    first: Tensor
    used: Tensor

    def __init__(
        self, channels: int, scalars: list[str], coarse: tuple[int, int], targets: int, fine: tuple[int, int], *, days: int,
        components: int, masked: Sequence[int] = (), dropped: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.features = InputTransform("gridpoint", channels, scalars, coarse, masked=masked, dropped=dropped, flags=False)
        self.shape = (targets, *fine)
        self.points = math.prod(fine)
        features = channels * coarse[0] * coarse[1] + self.features.aux_size
        for name, size in (
            ("axes", (features, components)), ("centre", (features,)), ("scores", (days, components)),
            ("dual", (days, math.prod(self.shape))), ("intercept", (math.prod(self.shape),)), ("gamma", (targets,)),
        ):  # fmt: skip
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("unit", torch.ones(targets))
        self.register_buffer("first", torch.zeros(targets, dtype=torch.int64))
        self.register_buffer("used", torch.full((targets,), components, dtype=torch.int64))

    def design(self, inputs: Inputs) -> Tensor:
        """Feature matrix (batch, features): maps first, then the auxiliary vector."""
        maps, aux = self.features(inputs)
        return torch.cat([maps.flatten(1), aux], 1)

    def forward(self, inputs: Inputs) -> Tensor:
        """(batch, target, Y, X) in loss space."""
        components = (self.design(inputs) - self.centre) @ self.axes
        place = torch.arange(components.shape[1], device=components.device)
        parts = []
        for target in range(self.shape[0]):
            taken = (place >= self.first[target]) & (place < self.first[target] + self.used[target])
            scale = taken.to(components.dtype) / self.unit[target]
            kernel = linear_and_gaussian(components * scale, self.scores * scale, self.gamma[target])
            points = slice(target * self.points, (target + 1) * self.points)
            parts.append(torch.addmm(self.intercept[points], kernel, self.dual[:, points]))
        return torch.cat(parts, 1).view(-1, *self.shape)


def linear_and_gaussian(first: Tensor, second: Tensor, gamma: Tensor | float) -> Tensor:
    """Kernel matrix (n, m) of two sets of days (n, components) and (m, components): first . second + exp(-gamma |first - second|^2)."""
    inner = first @ second.T
    apart = (first.square().sum(1)[:, None] + second.square().sum(1)[None, :] - 2 * inner).clamp(min=0)
    return inner + torch.exp(-gamma * apart)
