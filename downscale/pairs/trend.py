"""The part of predictors and targets that follows a forcing linearly, by cell, fitted on training days in one streaming pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from downscale.errors import InputDataError
from downscale.pairs.normalise import TrainingPairs, blocks, transformed


@dataclass(frozen=True)
class Trend:
    """Ordinary least squares of each cell on one forcing column over the training days, float64.

    With it a network learns the weather around the forced change, and the change itself is carried on linearly to forcings that no
    training day had. Slopes are those of all the days, whatever their season.

    Attributes:
        column: position of the forcing among the scalars.
        origin: mean of the forcing over the training days.
        predictor: (C, H, W) slopes, working units per unit of the forcing; 0 where a cell has no value or the forcing does not vary.
        target: (V, Y, X) slopes after the pointwise transform; 0 for targets with the transform "none".
    """

    column: int
    origin: float
    predictor: np.ndarray
    target: np.ndarray

    def without(self, maps: np.ndarray, scalars: np.ndarray) -> np.ndarray:
        """Predictor maps (n, C, H, W) less their linear part, float64; ``scalars`` (n, K) are those of their days."""
        return np.asarray(maps - self._above(scalars) * self.predictor)

    def without_target(self, fields: np.ndarray, scalars: np.ndarray) -> np.ndarray:
        """Targets (n, V, Y, X) after the pointwise transform, less their linear part, float64."""
        return np.asarray(fields - self._above(scalars) * self.target)

    def _above(self, scalars: np.ndarray) -> np.ndarray:
        return np.asarray(scalars[:, self.column].astype(np.float64) - self.origin)[:, None, None, None]


class _Slopes:
    """Slopes of (time, ...) blocks on a number a day, by pairwise updates of the co-moments (Chan, Golub and LeVeque 1983); NaN is
    skipped."""

    def __init__(self) -> None:
        self.count: np.ndarray | float = 0.0
        self.mean: np.ndarray | float = 0.0
        self.forcing: np.ndarray | float = 0.0
        self.products: np.ndarray | float = 0.0
        self.squares: np.ndarray | float = 0.0

    def add(self, block: np.ndarray, forcing: np.ndarray) -> None:
        """Block (n, ...) and forcing (n,)."""
        values, numbers = block.astype(np.float64), forcing.astype(np.float64).reshape(-1, *[1] * (block.ndim - 1))
        valid = np.isfinite(values)
        count = valid.sum(axis=0).astype(np.float64)
        share = 1.0 / np.maximum(count, 1.0)
        mean, number = np.where(valid, values, 0.0).sum(axis=0) * share, np.where(valid, numbers, 0.0).sum(axis=0) * share
        apart, above = np.where(valid, values - mean, 0.0), np.where(valid, numbers - number, 0.0)
        total = self.count + count
        weight = count / np.maximum(total, 1.0)
        shift, step = mean - self.mean, number - self.forcing
        self.products = self.products + (apart * above).sum(axis=0) + shift * step * self.count * weight
        self.squares = self.squares + (above**2).sum(axis=0) + step**2 * self.count * weight
        self.mean, self.forcing, self.count = self.mean + shift * weight, self.forcing + step * weight, total

    def result(self) -> np.ndarray:
        """Slopes; 0 where the forcing does not vary over a cell's valid days."""
        squares = np.asarray(self.squares)
        flat = squares <= np.asarray(self.count) * (1e-6 * np.asarray(self.forcing)) ** 2
        return np.where(flat, 0.0, np.asarray(self.products) / np.where(flat, 1.0, squares))


def compute_trend(
    pairs: Sequence[tuple[TrainingPairs, str]], column: str, transforms: Mapping[str, str], targets: Sequence[str], scalars: Sequence[str]
) -> Trend:
    """Slopes over the training days of one or several pair groups, pooled.

    Args:
        pairs: (group, "perfect" or "imperfect").
        column: the forcing.
        transforms: target -> transform name; "standardise" where not given.
        targets, scalars: names in the order of the arrays.

    Raises:
        InputDataError: the forcing is not among the scalars, or is the same on all training days.
    """
    if column not in scalars:
        raise InputDataError(
            f"the pairs have no forcing '{column}'",
            where=f"numbers of the pairs: {', '.join(scalars)}",
            hint="run downscale prepare again, or change normalise.detrend",
        )
    place = list(scalars).index(column)
    predictor, target, forcing = _Slopes(), _Slopes(), []
    for group, kind in pairs:
        for index in blocks(group.split("train")):
            numbers = group.scalars(index)[:, place]
            predictor.add(group.predictors(kind, index), numbers)
            target.add(transformed(group.target(index), targets, transforms), numbers)
            forcing.append(numbers.astype(np.float64))
    values = np.concatenate(forcing) if forcing else np.zeros(1)
    require_change(column, values)
    raw = np.array([transforms.get(name, "standardise") == "none" for name in targets])
    return Trend(place, float(values.mean()), predictor.result(), np.where(raw[:, None, None], 0.0, target.result()))


def require_change(column: str, values: np.ndarray) -> None:
    """Nothing where a forcing differs between training days, of which ``values`` (n,) are its numbers.

    Raises:
        InputDataError: it is the same on all of them.
    """
    if values.std() <= 1e-6 * abs(values.mean()):
        raise InputDataError(
            f"the forcing {column} never changes on the training days: nothing can be fitted to it",
            where=f"normalise.detrend: {column}, {len(values)} training days, {values[0]:g} throughout",
            hint="learn from days of years that differ in it, or leave normalise.detrend out",
        )
