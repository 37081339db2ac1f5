"""Closed-form fits in one streaming pass: ridge regression with all alphas at once, and the climatology."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from downscale.models.inputs import Inputs
from downscale.models.linear import Climatology, Ridge

log = logging.getLogger(__name__)
Block = tuple[Tensor, Tensor]
"""Design matrix (n, features) and targets (n, points) of some days, float64."""
Days = Callable[[], Iterable[tuple[Inputs, Tensor]]]
"""Streams the days anew at each call: inputs, and targets (n, target, Y, X) in loss space."""
_RANK = 1e-9


@dataclass(frozen=True)
class Spectrum:
    """Ridge regression in the eigenbasis of the centred features, from which the weights of any alpha are one product.

    With centred X = features, Y = targets: W(alpha) = basis diag(1 / (values + alpha)) loads. From the covariance side values and basis
    are those of X'X and loads = basis' X'Y; from the days' side (features > days) values are those of XX' = U diag(values) U',
    basis = X'U and loads = U'Y. Both give (X'X + alpha I)^-1 X'Y (Hoerl and Kennard 1970; Hastie et al. 2009, 18.3.5).
    """

    values: Tensor
    basis: Tensor
    loads: Tensor
    feature_mean: Tensor
    target_mean: Tensor

    def weights(self, alpha: float, points: slice) -> Tensor:
        """(features, points) of some points for one alpha."""
        return self.basis @ (self.loads[:, points] / (self.values[:, None] + alpha))

    def errors(self, blocks: Iterable[Block], alphas: Sequence[float]) -> Tensor:
        """Sum over days of the squared error (alphas, points); NaN targets count as 0."""
        total = torch.zeros(len(alphas), self.loads.shape[1], dtype=torch.float64)
        for features, targets in blocks:
            scores = (features - self.feature_mean) @ self.basis
            valid = torch.isfinite(targets)
            truth = torch.where(valid, targets - self.target_mean, 0.0)
            for k, alpha in enumerate(alphas):
                estimate = (scores / (self.values + alpha)) @ self.loads
                total[k] += torch.where(valid, estimate - truth, 0.0).square().sum(0)
        return total


def fit_ridge(
    ridge: Ridge, train: Days, validation: Days, *, alphas: Sequence[float], targets: Sequence[str], channels: Sequence[str],
    refit: Days | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Fill a Ridge's weights and intercept.

    For each target variable the smallest mean squared error over its grid points and the validation days, in loss space, decides on
    alpha and on the predictors: all of them or, where the target's own coarse field is among several, that field alone. Other fields
    help little there, and a few years of them cost more than they give. Alpha is on the scale of X'X of the standardised features (a
    sum over days), as in scikit-learn.

    A target value missing on some training days counts as its training mean there; points without any valid day get weight 0.

    Args:
        ridge: with its feature statistics loaded.
        train, validation: the days, streamed anew for each choice of predictors.
        alphas: candidates.
        targets, channels: names; a channel of several input days is named for each.
        refit: days to fit again to, as chosen; None: the fit to ``train`` stays.

    Returns:
        target -> {"alpha": its alpha, "predictors": "all" or "own"}.
    """
    points = ridge.weight.shape[1] // len(targets)
    best: dict[int, float] = {}
    chosen: dict[str, dict[str, Any]] = {}

    def spectrum_of(days: Days, choice: Choice, columns: Tensor) -> Spectrum:
        return _spectrum(lambda: _blocks(ridge.design, days, choice.features, columns))

    for choice in choices(len(ridge.weight), ridge.features.aux_size, targets, channels):
        columns = torch.cat([torch.arange(points) + target * points for target in choice.targets])
        spectrum = spectrum_of(train, choice, columns)
        errors = spectrum.errors(_blocks(ridge.design, validation, choice.features, columns), alphas).view(len(alphas), -1, points).mean(2)
        better: dict[int, float] = {}
        for place, target in enumerate(choice.targets):
            error, k = errors[:, place].min(0)
            if float(error) < best.get(target, math.inf):
                best[target] = float(error)
                better[place] = float(alphas[int(k)])
                chosen[targets[target]] = {"alpha": better[place], "predictors": choice.name}
        if better and refit is not None:
            spectrum = spectrum_of(refit, choice, columns)
        for place, alpha in better.items():
            _fill(ridge, spectrum, choice, place, alpha)
    for name, facts in chosen.items():
        edge = len(alphas) > 1 and facts["alpha"] in (min(alphas), max(alphas))
        hint = ", at the edge of ridge.alphas: consider a wider range" if edge else ""
        log.info("ridge: %s from %s predictors, alpha %g%s", name, facts["predictors"], facts["alpha"], hint)
    return chosen


@dataclass(frozen=True)
class Choice:
    """Features (their positions) from which some targets (theirs) may be estimated."""

    name: str
    features: Tensor
    targets: list[int]


def choices(features: int, numbers_of_the_day: int, targets: Sequence[str], channels: Sequence[str]) -> list[Choice]:
    """All features for all targets; then, for each target whose own coarse field is among several, that field and the numbers.

    Args:
        features: how many there are: the cells of all channels, then the numbers of the day.
        numbers_of_the_day: how many of them these are.
        targets, channels: names; a channel of several input days is named for each.
    """
    maps = features - numbers_of_the_day
    cells, numbers = torch.arange(maps // len(channels)), torch.arange(maps, features)
    own = [
        Choice("own", torch.cat([*(cells + i * len(cells) for i, channel in enumerate(channels) if channel == name), numbers]), [position])
        for position, name in enumerate(targets)
        if name in channels and len(set(channels)) > 1
    ]
    return [Choice("all", torch.arange(features), list(range(len(targets)))), *own]


def _fill(ridge: Ridge, spectrum: Spectrum, choice: Choice, place: int, alpha: float) -> None:
    """Weights and intercept of one target variable, 0 for the features that do not take part."""
    points = len(spectrum.target_mean) // len(choice.targets)
    here = slice(place * points, (place + 1) * points)
    there = slice(choice.targets[place] * points, (choice.targets[place] + 1) * points)
    weights = spectrum.weights(alpha, here)
    ridge.weight[:, there] = 0.0
    ridge.weight[choice.features, there] = weights.to(ridge.weight.dtype)
    ridge.intercept[there] = (spectrum.target_mean[here] - spectrum.feature_mean @ weights).to(ridge.intercept.dtype)


def fit_climatology(climatology: Climatology, train: Days) -> None:
    """Least squares of the annual harmonics at each grid point; where the days cover only part of the year, the smallest solution."""
    gram, loads = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for features, targets in _blocks(climatology.design, train):
        gram = gram + features.T @ features
        loads = loads + features.T @ targets.nan_to_num(0.0)
    climatology.weight.copy_(torch.linalg.pinv(gram, rtol=_RANK, hermitian=True) @ loads)


def _blocks(
    design: Callable[[Inputs], Tensor], days: Days, features: Tensor | slice = slice(None), points: Tensor | slice = slice(None)
) -> Iterable[Block]:
    for inputs, targets in days():
        yield design(inputs)[:, features].double(), targets.flatten(1)[:, points].double()


def _spectrum(blocks: Callable[[], Iterable[Block]]) -> Spectrum:
    n, sums = 0, [torch.zeros((), dtype=torch.float64) for _ in range(3)]
    for x, y in blocks():
        n += len(x)
        sums = [total + part.sum(0) for total, part in zip(sums, (x, y.nan_to_num(0.0), torch.isfinite(y)), strict=True)]
    counts = sums[2]
    partly = int(((counts > 0) & (counts < n)).sum())
    if partly:
        log.warning("ridge: %d of %d target points lack some training days, which count as their mean", partly, len(counts))
    means = sums[0] / n, sums[1] / counts.clamp(min=1)
    centred = ((x - means[0], torch.where(torch.isfinite(y), y - means[1], 0.0)) for x, y in blocks())
    return Spectrum(*(_from_days(centred) if len(means[0]) > n else _from_covariance(centred)), *means)


def _from_covariance(blocks: Iterable[Block]) -> tuple[Tensor, Tensor, Tensor]:
    gram, loads = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for x, y in blocks:
        gram = gram + x.T @ x
        loads = loads + x.T @ y
    values, basis = torch.linalg.eigh(gram)
    return values.clamp(min=0), basis, basis.T @ loads


def _from_days(blocks: Iterable[Block]) -> tuple[Tensor, Tensor, Tensor]:
    parts = list(blocks)
    x, y = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    values, vectors = torch.linalg.eigh(x @ x.T)
    return values.clamp(min=0), x.T @ vectors, vectors.T @ y
