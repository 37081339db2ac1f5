"""What training minimises: errors over the valid cells and days of each target, in loss space, put together over targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_TINY = 1e-12


def squared(error: Tensor) -> Tensor:
    """Squares."""
    return error.square()


def absolute(error: Tensor) -> Tensor:
    """Absolute values."""
    return error.abs()


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"mse": squared, "mae": absolute}


def totals(loss: str, estimate: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the loss over valid cells and days, and their numbers, for each target.

    Args:
        loss: key of LOSSES.
        estimate, truth: (batch, target, Y, X); NaN in the truth marks cells that do not count (their gradient is 0).

    Returns:
        two tensors (target,), so that batches of unequal size average rightly.
    """
    valid = torch.isfinite(truth)
    error = torch.where(valid, estimate - truth.nan_to_num(0.0), 0.0)
    return LOSSES[loss](error).sum((0, 2, 3)), valid.sum((0, 2, 3))


def combine(total: Tensor, count: Tensor, balance: str) -> Tensor:
    """One number from the sums of all targets.

    Args:
        total, count: (target,), see totals.
        balance: "none": the mean over all cells and targets, so that the target with the largest errors decides.
            "likelihood": the mean over targets of the log of each target's mean. That is the negative log-likelihood of Gaussian (mse)
            or Laplacian (mae) errors whose size is unknown for each target, at its best value (Kendall, Gal and Cipolla 2018, CVPR):
            an improvement by a tenth counts the same for every target.
    """
    if balance == "none":
        return total.sum() / count.sum().clamp(min=1)
    seen = count > 0
    return torch.where(seen, (total / count.clamp(min=1)).clamp(min=_TINY).log(), 0.0).sum() / seen.sum().clamp(min=1)
