"""Losses of single cells: plain functions of tensors that broadcast, differentiable, safe where the caller masks afterwards.

Formulas in docs/howto/add-a-loss.md, with where they come from.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from downscale.models.heads import WET_MARGIN, Head, bernoulli_gamma, gaussian

WET_MM = 1.0
"""mm/day; the value of pairs.gamma, which needs more than torch."""


def squared(error: Tensor) -> Tensor:
    """Squares."""
    return error.square()


def absolute(error: Tensor) -> Tensor:
    """Absolute values."""
    return error.abs()


def huber(error: Tensor, delta: float) -> Tensor:
    """e^2 / 2 up to ``delta``, then delta (|e| - delta / 2) (Huber 1964, https://doi.org/10.1214/aoms/1177703732)."""
    size = error.abs()
    return torch.where(size <= delta, 0.5 * error.square(), delta * (size - 0.5 * delta))


def asymmetric(error: Tensor, weight: Tensor, asymmetry: float) -> Tensor:
    """|e| + lambda W max(0, -e) for e = estimate - truth (Doury et al. 2024, https://doi.org/10.1007/s00382-024-07350-8).

    Args:
        error: estimate - truth.
        weight: W of the truth, 0 to 1, see gamma_weight.
        asymmetry: lambda.
    """
    return error.abs() + asymmetry * weight * (-error).clamp(min=0)


def gamma_weight(amount: Tensor, shape: Tensor, scale: Tensor, power: float) -> Tensor:
    """W = G(y - 1 mm)^power, G the gamma distribution function of the cell; 0 up to 1 mm/day and where a cell has no distribution.

    Args:
        amount: y (..., Y, X), mm/day, finite.
        shape, scale: (Y, X), the latter in mm/day; NaN: no distribution.
        power: 2 in Doury et al. (2024).
    """
    known = torch.isfinite(shape)
    excess = torch.where(known, (amount - WET_MM).clamp(min=0) / scale.nan_to_num(1.0), 0.0)
    return torch.special.gammainc(shape.nan_to_num(1.0).expand_as(excess), excess) ** power


def gaussian_nll(channels: Tensor, truth: Tensor) -> Tensor:
    """(log v + (y - m)^2 / v) / 2, the constant left out (Nix and Weigend 1994, https://doi.org/10.1109/ICNN.1994.374138).

    Args:
        channels: (..., 2, Y, X): mean and raw spread, see heads.gaussian.
        truth: (..., Y, X) in loss space, finite.
    """
    mean, variance = gaussian(channels)
    return 0.5 * (variance.log() + (truth - mean).square() / variance)


def bernoulli_gamma_nll(channels: Tensor, truth: Tensor, head: Head) -> Tensor:
    """-log(1 - p) on dry days, -log p - log gamma density of y' on wet ones (Williams 1998, as in Cannon 2008 and Baño-Medina et al. 2020).

    y' = y - wet threshold + 1e-6 mm/day; a day is wet from the threshold on.

    Args:
        channels: (..., 3, Y, X), see heads.bernoulli_gamma.
        truth: (..., Y, X), mm/day, finite.
        head: holds the threshold.
    """
    logit, log_shape, log_scale = bernoulli_gamma(channels)
    wet = truth >= head.wet
    excess = torch.where(wet, truth - head.wet, 1.0) + WET_MARGIN
    shape = log_shape.exp()
    density = (shape - 1) * excess.log() - shape * log_scale - torch.lgamma(shape) - excess * (-log_scale).exp()
    return -torch.where(wet, F.logsigmoid(logit) + density, F.logsigmoid(-logit))


def fair_crps(members: Tensor, truth: Tensor) -> Tensor:
    """Fair CRPS: mean |x_m - y| less half the mean |x_m - x_n| over different members (Ferro 2014, https://doi.org/10.1002/qj.2270).

    Its expectation does not depend on the number of members; it may be negative on single cells.

    Args:
        members: (members, ...), at least two.
        truth: (...), finite.
    """
    count = len(members)
    apart = torch.stack([(members[a] - members[b]).abs() for a, b in combinations(range(count), 2)]).sum(0)
    return (members - truth).abs().mean(0) - apart / (count * (count - 1))


def coarse_squares(error: Tensor, valid: Tensor, size: Tensor, cell: Tensor, cells: int) -> Tensor:
    """Squared errors of coarse averages, summed over days and coarse cells with the number of valid fine cells as weight.

    The error of a coarse cell is sum(s e) / sum(s) over its valid fine cells: where s are the standard deviations of standardised
    fields, that is the error of the average in working units over the average standard deviation.

    Args:
        error: (batch, target, Y, X); 0 where not valid.
        valid: (batch, target, Y, X), bool.
        size: (target, Y, X), s, finite.
        cell: (Y * X,) the coarse cell of each fine cell; ``cells`` where it has none.
        cells: number of coarse cells.

    Returns:
        (target,)
    """

    def summed(fields: Tensor) -> Tensor:
        flat = fields.flatten(2)
        return flat.new_zeros(*flat.shape[:2], cells + 1).index_add(2, cell, flat)[..., :cells]

    number = summed(valid.to(error.dtype))
    mean = summed(error * size) / summed(torch.where(valid, size, 0.0)).clamp(min=torch.finfo(error.dtype).tiny)
    return (number * mean.square()).sum((0, 2))
