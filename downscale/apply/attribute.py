"""Integrated gradients: how much each predictor cell contributes to the area mean of an emulated field (Sundararajan et al. 2017).

IG_i = (x_i - b_i) * integral over a from 0 to 1 of dF/dx_i at b + a (x - b); F is the area mean of one target of one day, b the
baseline. The integral is a sum over midpoints of steps that grow with the root of a: near a mean day, networks that normalise their
features turn within a few hundredths of the way. The contributions of all cells of a day add up to F(x) - F(b): how far they do not is
the error of the integral.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from downscale.apply.predict import batch_size
from downscale.errors import InputDataError
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs
from downscale.training.run import Run

BATCH_SHARE = 8
"""Gradients keep the features of all layers: so many times fewer days at once than apply takes."""
GROWTH = 2
Days = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Maps (n, days * C, H, W), numbers (n, K), surface fields (n, T, H, W) and yyyymmdd (n,)."""


@dataclass(frozen=True, eq=False)
class Contributions:
    """Of some days.

    Attributes:
        maps: (n, T, C, H, W) contributions to each target's area mean, working units; those of all days that a run reads added up.
        gained: (n, T) F(x) - F(b), which they should add up to.
    """

    maps: np.ndarray
    gained: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """(T,) mean absolute difference between sum and gain, as a share of the mean absolute gain; NaN where nothing is gained."""
        apart = np.abs(self.maps.sum(axis=(2, 3, 4)) - self.gained).mean(axis=0)
        gained = np.abs(self.gained).mean(axis=0)
        return np.where(gained > 0, apart / np.where(gained > 0, gained, 1.0), np.nan)


def integrated_gradients(
    run: Run, days: Days, baseline: np.ndarray, weights: np.ndarray, *, steps: int, look: Callable[[], None] = lambda: None
) -> Contributions:
    """Contributions of all predictor cells to the area means of some days.

    Args:
        run: the emulator.
        days: whole days without missing cells.
        baseline: (days * C, H, W) the maps that contribute nothing; numbers stay those of the day.
        weights: (T, Y, X) of the area means, each target's adding up to 1; 0 in cells that have no value.
        steps: of the integral.
        look: called between batches; may raise.

    Raises:
        InputDataError: a gradient is not finite.
    """
    emulator, shares = _without_gaps(run.emulator), torch.from_numpy(weights.astype(np.float32)).to(run.device)
    start = torch.from_numpy(baseline.astype(np.float32)).to(run.device)
    size, parts, gains = max(1, batch_size(run) // BATCH_SHARE), [], []
    for first in range(0, len(days[0]), size):
        look()
        inputs = Inputs(*(torch.from_numpy(np.ascontiguousarray(part[first : first + size])) for part in days)).to(run.device)
        total = _gradients(emulator, inputs, start, shares, steps)
        found = (inputs.predictors - start)[:, None] * total
        if not bool(torch.isfinite(found).all()):
            raise InputDataError(
                "a gradient of the emulator is not finite", where=str(run.path), hint="look at the predictors of these days with inspect"
            )
        parts.append(found.unflatten(2, (-1, len(run.spec["channels"]))).sum(2).cpu().numpy())
        with torch.no_grad():
            ends = [_means(emulator, inputs, maps, shares) for maps in (inputs.predictors, start.expand_as(inputs.predictors))]
        gains.append((ends[0] - ends[1]).cpu().numpy())
    return Contributions(np.concatenate(parts), np.concatenate(gains))


def _gradients(emulator: Emulator, inputs: Inputs, start: Tensor, shares: Tensor, steps: int) -> Tensor:
    """(n, T, days * C, H, W) mean gradient along the way from the baseline to the day."""
    way = inputs.predictors - start
    total = torch.zeros(len(way), len(shares), *way.shape[1:], device=way.device)
    edges = [(step / steps) ** GROWTH for step in range(steps + 1)]
    for low, high in pairwise(edges):
        maps = (start + 0.5 * (low + high) * way).requires_grad_()
        means = _means(emulator, inputs, maps, shares).sum(0)
        for target, mean in enumerate(means):
            total[:, target] += (high - low) * torch.autograd.grad(mean, maps, retain_graph=target + 1 < len(means))[0]
    return total


def _means(emulator: Emulator, inputs: Inputs, maps: Tensor, shares: Tensor) -> Tensor:
    """(n, T) area means of the fields that the emulator makes of some maps."""
    fields: Tensor = emulator(Inputs(maps, inputs.scalars, inputs.surface, inputs.days))
    return (fields * shares).sum((2, 3))


def _without_gaps(emulator: Emulator) -> Emulator:
    """A copy that gives numbers in cells without truth, too: a gradient through NaN is NaN even where its weight is 0."""
    whole = copy.deepcopy(emulator).eval().requires_grad_(False)
    for buffer, neutral in ((whole.target.mean, 0.0), (whole.target.std, 1.0)):
        buffer.masked_fill_(buffer.isnan(), neutral)
    return whole
