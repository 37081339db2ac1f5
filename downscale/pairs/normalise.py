"""Training statistics in one streaming pass: what every normalisation of inputs and targets needs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from downscale.pairs.trend import Trend

BLOCK_DAYS = 256
_RELATIVE_FLOOR = 1e-6
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda values: values,
    "standardise": lambda values: values,
    "log1p": lambda values: np.log1p(np.maximum(values, 0.0)),
    "sqrt": lambda values: np.sqrt(np.maximum(values, 0.0)),
}
"""Pointwise part of a target transform; the standardisation that follows (all but 'none') uses the statistics below."""


class TrainingPairs(Protocol):
    """What statistics need of a pair group."""

    def predictors(self, kind: str, index: np.ndarray) -> np.ndarray: ...  # noqa: D102
    def target(self, index: np.ndarray) -> np.ndarray: ...  # noqa: D102
    def scalars(self, index: np.ndarray) -> np.ndarray: ...  # noqa: D102
    def split(self, name: str) -> np.ndarray: ...  # noqa: D102


class DatedPairs(TrainingPairs, Protocol):
    """Pairs that know their days, yyyymmdd."""

    @property
    def days(self) -> np.ndarray: ...  # noqa: D102


@dataclass(frozen=True)
class Statistics:
    """Means and standard deviations over training days, float64; a std that is rounding only is set to 1 (constant).

    Attributes:
        predictor_mean, predictor_std: (C, H, W), working units.
        channel_mean, channel_std: (C,), over days and cells.
        moment_mean, moment_std: (2C,), of the daily map means (first C) and daily map stds (last C); SCIENCE 1.3.
        scalar_mean, scalar_std: (K,); season_cos and season_sin keep mean 0 and std 1.
        target_mean, target_std: (V, Y, X), after the pointwise transform; NaN where a cell is never valid.
        n_days: number of training days.
        missing: (C, H, W), on how many training days a predictor cell has no value; means and standard deviations are of the others.
        constant: (C,) True where no cell of a channel ever changes, or none has a value.
        monthly: the predictors' by cell and calendar month; None where nobody asked for them.
        trend: what was taken out of predictors and targets before anything else here was computed; None: nothing.
    """

    predictor_mean: np.ndarray
    predictor_std: np.ndarray
    channel_mean: np.ndarray
    channel_std: np.ndarray
    moment_mean: np.ndarray
    moment_std: np.ndarray
    scalar_mean: np.ndarray
    scalar_std: np.ndarray
    target_mean: np.ndarray
    target_std: np.ndarray
    n_days: int
    missing: np.ndarray
    constant: np.ndarray
    monthly: Monthly | None = None
    trend: Trend | None = None

    @property
    def digest(self) -> str:
        """sha256 over all numbers; what is missing or constant, by month or a trend counts where there is any."""
        state = hashlib.sha256()
        for item in fields(self):
            if item.name not in _PARTS:
                values = np.ascontiguousarray(getattr(self, item.name))
                if item.name not in ("missing", "constant") or values.any():
                    state.update(values.tobytes())
        for part in (self.monthly, self.trend):
            for item in fields(part) if part is not None else ():
                state.update(np.ascontiguousarray(getattr(part, item.name)).tobytes())
        return state.hexdigest()

    @property
    def partly(self) -> np.ndarray:
        """(C,) True where a channel that is not constant lacks values on training days."""
        return np.asarray(self.missing.any(axis=(1, 2)) & ~self.constant)

    def missing_notes(self, channels: Sequence[str]) -> dict[str, str]:
        """Channel -> how much of it is missing, where something is."""
        cells = self.missing[0].size
        return {
            channels[i]: f"{np.count_nonzero(self.missing[i])} of {cells} cells missing at times, "
            f"{self.missing[i].sum() / (cells * self.n_days):.2%} of all values"
            for i in np.flatnonzero(self.missing.any(axis=(1, 2))).tolist()
        }


@dataclass(frozen=True)
class Monthly:
    """Means and standard deviations of the predictors by cell and calendar month, over training days, float64, working units.

    Attributes:
        mean: (12, C, H, W), January first; NaN where a cell has no value in a month.
        std: (12, C, H, W), 1 where it is rounding only (constant), NaN where the mean is.
        days: (12,) int64, training days of each month.
    """

    mean: np.ndarray
    std: np.ndarray
    days: np.ndarray


_PARTS = ("monthly", "trend")


class _Moments:
    """Mean and variance of (time, ...) blocks by the pairwise update of Chan, Golub and LeVeque (1983); NaN is skipped."""

    def __init__(self) -> None:
        self.count: np.ndarray | float = 0.0
        self.mean: np.ndarray | float = 0.0
        self.squares: np.ndarray | float = 0.0

    def add(self, block: np.ndarray) -> None:
        values = block.astype(np.float64)
        valid = np.isfinite(values)
        count = valid.sum(axis=0).astype(np.float64)
        mean = np.where(valid, values, 0.0).sum(axis=0) / np.maximum(count, 1.0)
        squares = (np.where(valid, values - mean, 0.0) ** 2).sum(axis=0)
        total = self.count + count
        delta = mean - self.mean
        share = count / np.maximum(total, 1.0)
        self.mean = np.asarray(self.mean + delta * share)
        self.squares = np.asarray(self.squares + squares + delta**2 * self.count * share)
        self.count = np.asarray(total)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (divisor n); NaN where nothing was valid."""
        count = np.asarray(self.count)
        std = np.sqrt(np.asarray(self.squares) / np.maximum(count, 1.0))
        missing = count == 0
        return np.where(missing, np.nan, self.mean), np.where(missing, np.nan, std)


def compute_statistics(
    pairs: Sequence[tuple[TrainingPairs, str]], transforms: Mapping[str, str], targets: Sequence[str], scalars: Sequence[str],
    trend: Trend | None = None,
) -> Statistics:  # fmt: skip
    """Statistics over the training days of one or several pair groups, pooled.

    Args:
        pairs: (group, "perfect" or "imperfect").
        transforms: target -> transform name; "standardise" where not given.
        targets: names in the order of the target arrays.
        scalars: names in the order of the scalar arrays; those that start with ``season_`` are left as they are.
        trend: taken out of predictors and targets first.

    Returns:
        Statistics; memory is bounded by blocks of 256 days.
    """
    predictor, moment, scalar, target = _Moments(), _Moments(), _Moments(), _Moments()
    n_days = 0
    for group, kind in pairs:
        for index in blocks(group.split("train")):
            maps, numbers = group.predictors(kind, index), group.scalars(index)
            field = transformed(group.target(index), targets, transforms)
            if trend is not None:
                maps, field = trend.without(maps, numbers), trend.without_target(field, numbers)
            predictor.add(maps)
            moment.add(map_moments(maps))
            scalar.add(numbers)
            target.add(field)
            n_days += len(index)
    predictor_mean, predictor_std = predictor.result()
    share = np.asarray(predictor.count) / max(n_days, 1)
    channel_mean = _pooled(predictor_mean, share)
    channel_std = np.sqrt(_pooled(predictor_std**2 + (predictor_mean - channel_mean[:, None, None]) ** 2, share))
    moment_mean, moment_std = moment.result()
    scalar_mean, scalar_std = scalar.result()
    season = np.array([name.startswith("season_") for name in scalars], bool)
    target_mean, target_std = target.result()
    return Statistics(
        predictor_mean,
        _floored(predictor_mean, predictor_std),
        channel_mean,
        _floored(channel_mean, channel_std),
        moment_mean,
        _floored(moment_mean, moment_std),
        np.where(season, 0.0, scalar_mean),
        np.where(season, 1.0, _floored(scalar_mean, scalar_std)),
        target_mean,
        _floored(target_mean, target_std),
        n_days,
        np.rint(n_days - np.asarray(predictor.count)).astype(np.int64),
        ~(predictor_std > _RELATIVE_FLOOR * np.abs(predictor_mean)).any(axis=(1, 2)),
        trend=trend,
    )


def compute_monthly(pairs: Sequence[tuple[DatedPairs, str]], trend: Trend | None = None) -> Monthly:
    """Statistics by calendar month over the training days of one or several pair groups, pooled, in one pass.

    Args:
        pairs: (group, "perfect" or "imperfect"); the month is that of the day's label, in whatever calendar.
        trend: taken out of the predictors first.

    Returns:
        Monthly; a month without training days is NaN throughout.
    """
    moments = [_Moments() for _ in range(12)]
    days = np.zeros(12, np.int64)
    plane: tuple[int, ...] = ()
    for group, kind in pairs:
        for index in blocks(group.split("train")):
            maps = group.predictors(kind, index)
            if trend is not None:
                maps = trend.without(maps, group.scalars(index))
            month = group.days[index] // 100 % 100 - 1
            plane = maps.shape[1:]
            for one in np.unique(month).tolist():
                moments[one].add(maps[month == one])
                days[one] += np.count_nonzero(month == one)
    empty = np.full(plane, np.nan)
    results = [one.result() if count else (empty, empty) for one, count in zip(moments, days.tolist(), strict=True)]
    mean, std = (np.stack(parts) for parts in zip(*results, strict=True))
    return Monthly(mean, _floored(mean, std), days)


def map_moments(maps: np.ndarray) -> np.ndarray:
    """Spatial mean and std of each map over its valid cells: (time, C, H, W) -> (time, 2C), means first (SCIENCE 1.3)."""
    values = maps.astype(np.float64)
    if np.isnan(values).any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a map without any value has NaN moments
            return np.concatenate([np.nanmean(values, axis=(2, 3)), np.nanstd(values, axis=(2, 3))], axis=1)
    return np.concatenate([values.mean(axis=(2, 3)), values.std(axis=(2, 3))], axis=1)


def _pooled(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Mean over cells (C, H, W) -> (C,), each cell by its share of days with a value; NaN for a channel without any."""
    weighted = np.where(share > 0, values, 0.0) * share
    with np.errstate(invalid="ignore"):
        return np.asarray(weighted.sum(axis=(1, 2)) / share.sum(axis=(1, 2)))


def transformed(target: np.ndarray, targets: Sequence[str], transforms: Mapping[str, str]) -> np.ndarray:
    """The pointwise part of each target's transform: (time, V, Y, X) -> same shape, float64."""
    values = target.astype(np.float64)
    return np.stack([TRANSFORMS[transforms.get(name, "standardise")](values[:, i]) for i, name in enumerate(targets)], axis=1)


def blocks(index: np.ndarray, size: int = BLOCK_DAYS) -> Iterator[np.ndarray]:
    """Consecutive pieces of an index."""
    for start in range(0, len(index), size):
        yield index[start : start + size]


def _floored(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Std with 1 where it is no more than float32 rounding of the mean, so that constant cells divide cleanly."""
    return np.where(std <= _RELATIVE_FLOOR * np.abs(mean), 1.0, std)
