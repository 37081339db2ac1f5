"""Fit of kernel ridge regression: principal components, then every candidate on the validation days. For small data."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from downscale.errors import ConfigError
from downscale.models.kernel_ridge import KernelRidge, linear_and_gaussian
from downscale.training.ridge import Choice, Days, choices

log = logging.getLogger(__name__)
MOST_DAYS = 20_000
"""Memory grows with the square of the days, time with the cube: 20,000 days are 3.2 GB for one kernel matrix, and there are a few."""


def check_days(days: int) -> None:
    """Nothing where kernel ridge regression can be fitted to so many days.

    Raises:
        ConfigError: too many days.
    """
    if days > MOST_DAYS:
        raise ConfigError(
            f"kernel_ridge is for small data: {days:,} training days, and it takes at most {MOST_DAYS:,}",
            where="train.baselines",
            hint="take kernel_ridge out of train.baselines; ridge takes any number of days",
        )


def kernel_sizes(
    days: int, components: Sequence[int], features: int, *, numbers: int = 0, targets: Sequence[str] = (), channels: Sequence[str] = ("",)
) -> dict[str, int]:
    """``kernel`` for the spec: training days, and the number of components over all choices of predictors.

    Args:
        days: to train on in the end.
        components: candidates; as many as days and features allow.
        features, numbers, targets, channels: see ridge.choices.
    """
    blocks = [_width(choice, components, days) for choice in choices(features, numbers, targets, channels)]
    return {"days": days, "components": sum(blocks)}


def _width(choice: Choice, components: Sequence[float], days: int) -> int:
    return min(int(max(components)), days, len(choice.features))


@dataclass(frozen=True)
class _Data:
    """Days as features and targets, float64: (n, features) and (n, target * Y * X), NaN where there is no truth."""

    features: Tensor
    targets: Tensor

    @classmethod
    def of(cls, model: KernelRidge, days: Days) -> _Data:
        parts = [(model.design(inputs).double(), targets.flatten(1).double()) for inputs, targets in days()]
        return cls(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))

    def centred(self) -> tuple[Tensor, Tensor]:
        """Targets less their mean, 0 where there is no truth, and that mean."""
        mean = self.targets.nanmean(0).nan_to_num(0.0)
        return (self.targets - mean).nan_to_num(0.0), mean


@dataclass(frozen=True)
class _Candidate:
    """What is chosen for a target; ``first`` is the first of its components."""

    predictors: str
    first: int
    components: int
    alpha: float
    gamma: float

    def facts(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "first"}


def fit_kernel_ridge(
    model: KernelRidge, train: Days, validation: Days, *, candidates: Mapping[str, Sequence[float]], targets: Sequence[str],
    channels: Sequence[str], refit: Days | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Fill a KernelRidge.

    For each target the candidate with the smallest mean squared error over its grid points and the validation days, in loss space, is
    taken; as in ridge regression it may read all predictors or the target's own coarse field alone. A target value missing on some
    training days counts as its training mean there; points without any valid day get weight 0.

    Args:
        model: with its feature statistics loaded.
        train, validation: the days, streamed anew at each call; targets in loss space.
        candidates: ``components``, ``alphas`` and ``gammas`` (KernelRidgeConfig).
        targets, channels: names; a channel of several input days is named for each.
        refit: days to fit again to, as chosen; None: ``train``.

    Returns:
        target -> {"predictors": "all" or "own", "components", "alpha", "gamma"}.
    """
    learn, judge = _Data.of(model, train), _Data.of(model, validation)
    some = choices(len(model.centre), model.features.aux_size, targets, channels)
    widths = [_width(choice, candidates["components"], model.scores.shape[0]) for choice in some]
    chosen = _choose(model, learn, judge, list(zip(some, widths, strict=True)), candidates)
    final = learn if refit is None else _Data.of(model, refit)
    _lay_axes(model, final.features, list(zip(some, widths, strict=True)))
    truth, mean = final.centred()
    scores = (final.features - model.centre.double()) @ model.axes.double()
    model.intercept.copy_(mean)
    model.scores.copy_(scores)
    for target, candidate in chosen.items():
        points = slice(target * model.points, (target + 1) * model.points)
        here, unit = _in_units(scores[:, candidate.first : candidate.first + candidate.components])
        values, vectors = torch.linalg.eigh(linear_and_gaussian(here, here, candidate.gamma))
        weights = (vectors.T @ truth[:, points]) / (values.clamp(min=0)[:, None] + candidate.alpha)
        model.dual[:, points] = (vectors @ weights).to(model.dual.dtype)
        model.first[target], model.used[target] = candidate.first, candidate.components
        model.gamma[target], model.unit[target] = candidate.gamma, unit
    named = {targets[target]: candidate.facts() for target, candidate in sorted(chosen.items())}
    _tell(named, candidates)
    return named


def _choose(
    model: KernelRidge, learn: _Data, judge: _Data, blocks: Sequence[tuple[Choice, int]], candidates: Mapping[str, Sequence[float]]
) -> dict[int, _Candidate]:
    """Position of a target -> its best candidate; ``blocks``: the choices of predictors with their largest number of components."""
    _lay_axes(model, learn.features, blocks)
    truth, mean = learn.centred()
    scores, judged = ((data.features - model.centre.double()) @ model.axes.double() for data in (learn, judge))
    best: dict[int, float] = {}
    chosen: dict[int, _Candidate] = {}
    first = 0
    for choice, width in blocks:
        numbers = sorted({min(int(k), width) for k in candidates["components"]})
        for components, gamma in itertools.product(numbers, candidates["gammas"]):
            columns = slice(first, first + components)
            here, unit = _in_units(scores[:, columns])
            values, vectors = torch.linalg.eigh(linear_and_gaussian(here, here, gamma))
            loads, ahead = vectors.T @ truth, linear_and_gaussian(judged[:, columns] / unit, here, gamma) @ vectors
            for alpha, target in itertools.product(candidates["alphas"], choice.targets):
                points = slice(target * model.points, (target + 1) * model.points)
                weights = loads[:, points] / (values.clamp(min=0)[:, None] + alpha)
                error = float((ahead @ weights + mean[points] - judge.targets[:, points]).square().nanmean().nan_to_num(0.0))
                if error < best.get(target, math.inf):
                    best[target] = error
                    chosen[target] = _Candidate(choice.name, first, components, alpha, gamma)
        first += width
    return chosen


def _in_units(scores: Tensor) -> tuple[Tensor, float]:
    """Components (days, k) in units in which the squared length of a day is 1 on average, and that unit."""
    unit = float(scores.square().sum(1).mean().sqrt().clamp(min=1e-12))
    return scores / unit, unit


def _lay_axes(model: KernelRidge, features: Tensor, blocks: Sequence[tuple[Choice, int]]) -> None:
    """The principal axes of each choice of predictors, side by side, and the centre of all features."""
    centre = features.mean(0)
    model.centre.copy_(centre)
    model.axes.zero_()
    first = 0
    for choice, width in blocks:
        axes = _principal_axes((features - centre)[:, choice.features], width)
        model.axes[choice.features, first : first + axes.shape[1]] = axes.to(model.axes.dtype)
        first += width


def _principal_axes(centred: Tensor, components: int) -> Tensor:
    """Leading eigenvectors of the features' covariance, from the smaller side; signs are fixed by the largest entry of each."""
    if len(centred) < centred.shape[1]:
        _, vectors = torch.linalg.eigh(centred @ centred.T)
        leading = centred.T @ vectors[:, -components:].flip(1)
        axes = leading / leading.norm(dim=0).clamp(min=1e-12)
    else:
        axes = torch.linalg.eigh(centred.T @ centred)[1][:, -components:].flip(1)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return axes * torch.where(largest < 0, -1.0, 1.0)


def _tell(chosen: Mapping[str, Mapping[str, Any]], candidates: Mapping[str, Sequence[float]]) -> None:
    for name, facts in chosen.items():
        edges = [f"{key}s" for key in ("alpha", "gamma") if len(candidates[f"{key}s"]) > 1 and facts[key] in _ends(candidates[f"{key}s"])]
        hint = f", at the edge of kernel_ridge.{' and '.join(edges)}: consider a wider range" if edges else ""
        log.info("kernel_ridge: %s: %s%s", name, ", ".join(f"{key} {value}" for key, value in facts.items()), hint)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
