"""How much of an emulation's error is the GCM's inconsistency with the RCM, and how much the emulator's.

f(G) - R = a + b with a = f(G) - f(U) (the input) and b = f(U) - R (the emulator); f the emulator, G the GCM's predictors, U those of
RCMu, R the truth. mean((a + b)^2) = mean(a^2) + mean(b^2) + 2 mean(a b): the cross term is a mean product, not a covariance, and it
belongs in the balance. In daily fields ``a`` is mostly weather that has drifted apart, so climatological statistics come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ErrorSplit:
    """Area means of the parts of one squared error.

    Attributes:
        total: mean((a + b)^2); input: mean(a^2); emulator: mean(b^2); cross: 2 mean(a b). total = input + emulator + cross.
        signed: of an error itself and not of its square: mean(a + b), mean(a), mean(b), 0.
    """

    total: float
    input: float
    emulator: float
    cross: float
    signed: bool = False

    @property
    def share_input(self) -> float:
        """mean(a^2) / (mean(a^2) + mean(b^2)); NaN when both vanish."""
        ours, theirs = (self.input**2, self.emulator**2) if self.signed else (self.input, self.emulator)
        return ours / (ours + theirs) if ours + theirs > 0 else float("nan")


def daily_split(from_gcm: np.ndarray, from_rcmu: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of the daily mean square error as maps.

    Args:
        from_gcm, from_rcmu, truth: (time, y, x) working units; a day counts where all three are finite.

    Returns:
        total, input, emulator, cross: (y, x) float64; NaN without a day.
    """
    a, b = _parts(from_gcm, from_rcmu, truth)
    valid = np.isfinite(a) & np.isfinite(b)
    count = valid.sum(axis=0)
    a, b = np.where(valid, a, 0.0), np.where(valid, b, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            name: (value / count)
            for name, value in (
                ("total", np.einsum("t...,t...->...", a + b, a + b)),
                ("input", np.einsum("t...,t...->...", a, a)),
                ("emulator", np.einsum("t...,t...->...", b, b)),
                ("cross", 2 * np.einsum("t...,t...->...", a, b)),
            )
        }


def split_statistic(from_gcm: np.ndarray, from_rcmu: np.ndarray, truth: np.ndarray, area: np.ndarray) -> ErrorSplit:
    """The same split of the squared error of a statistic's maps (y, x): climatological mean, P99, change signal."""
    a, b = _parts(from_gcm, from_rcmu, truth)
    valid = np.isfinite(a) & np.isfinite(b) & (area > 0)
    if not valid.any():
        nan = float("nan")
        return ErrorSplit(nan, nan, nan, nan)
    w = area[valid] / area[valid].sum()
    a, b = a[valid], b[valid]
    return ErrorSplit(float(w @ (a + b) ** 2), float(w @ a**2), float(w @ b**2), float(2 * (w @ (a * b))))


def split_bias(from_gcm: np.ndarray, from_rcmu: np.ndarray, truth: np.ndarray, area: np.ndarray) -> ErrorSplit:
    """The area-mean error of a statistic's maps (y, x), which adds up without a cross term: mean(a + b) = mean(a) + mean(b).

    The parts have signs; share_input is that of their squares.
    """
    a, b = _parts(from_gcm, from_rcmu, truth)
    valid = np.isfinite(a) & np.isfinite(b) & (area > 0)
    if not valid.any():
        nan = float("nan")
        return ErrorSplit(nan, nan, nan, nan, signed=True)
    w = area[valid] / area[valid].sum()
    return ErrorSplit(float(w @ (a + b)[valid]), float(w @ a[valid]), float(w @ b[valid]), 0.0, signed=True)


def _parts(from_gcm: np.ndarray, from_rcmu: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = from_rcmu.astype(np.float64)
    return from_gcm - middle, middle - truth


def from_means(means: Mapping[str, float]) -> ErrorSplit:
    """A split from the area means of the maps of daily_split."""
    return ErrorSplit(means["total"], means["input"], means["emulator"], means["cross"])
