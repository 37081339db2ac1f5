"""Fit of kernel ridge regression: principal components, then every candidate on the validation days. For small data."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from downscale.errors import ConfigError
from downscale.models.kernel_ridge import KernelRidge, linear_and_gaussian
from downscale.training.ridge import Days

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


def kernel_sizes(days: int, components: Sequence[int], features: int) -> dict[str, int]:
    """``kernel`` for the spec: training days, and the largest number of components that they and the features allow."""
    return {"days": days, "components": min(max(components), days, features)}


@dataclass(frozen=True)
class _Data:
    """Days as features and targets, float64: (n, features) and (n, target * Y * X), NaN where there is no truth."""

    features: Tensor
    targets: Tensor

    @classmethod
    def of(cls, model: KernelRidge, days: Days) -> _Data:
        parts = [(model.design(inputs).double(), targets.flatten(1).double()) for inputs, targets in days()]
        return cls(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))


def fit_kernel_ridge(
    model: KernelRidge, train: Days, validation: Days, *, candidates: Mapping[str, Sequence[float]], targets: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Fill a KernelRidge.

    For each target the candidate with the smallest mean squared error over its grid points and the validation days, in loss space, is
    taken. A target value missing on some training days counts as its training mean there; points without any valid day get weight 0.

    Args:
        model: with its feature statistics loaded.
        train, validation: the days, streamed anew at each call; targets in loss space.
        candidates: ``components``, ``alphas`` and ``gammas`` (KernelRidgeConfig).
        targets: names.

    Returns:
        target -> {"components", "alpha", "gamma"}.
    """
    learn, judge = _Data.of(model, train), _Data.of(model, validation)
    _principal_axes(model, learn.features)
    mean = learn.targets.nanmean(0).nan_to_num(0.0)
    model.intercept.copy_(mean)
    truth = (learn.targets - mean).nan_to_num(0.0)
    scores, judged = ((data.features - model.centre.double()) @ model.axes.double() for data in (learn, judge))
    model.scores.copy_(scores)
    best: dict[int, float] = {}
    chosen: dict[str, dict[str, float]] = {}
    numbers = sorted({min(int(k), scores.shape[1]) for k in candidates["components"]})
    for components, gamma in itertools.product(numbers, candidates["gammas"]):
        unit = float(scores[:, :components].square().sum(1).mean().sqrt().clamp(min=1e-12))
        here, there = scores[:, :components] / unit, judged[:, :components] / unit
        values, vectors = torch.linalg.eigh(linear_and_gaussian(here, here, gamma))
        loads, ahead = vectors.T @ truth, linear_and_gaussian(there, here, gamma) @ vectors
        for alpha, target in itertools.product(candidates["alphas"], range(len(targets))):
            points = slice(target * model.points, (target + 1) * model.points)
            weights = loads[:, points] / (values.clamp(min=0)[:, None] + alpha)
            error = float((ahead @ weights + mean[points] - judge.targets[:, points]).square().nanmean().nan_to_num(0.0))
            if error < best.get(target, math.inf):
                best[target] = error
                chosen[targets[target]] = {"components": components, "alpha": alpha, "gamma": gamma}
                model.dual[:, points] = (vectors @ weights).to(model.dual.dtype)
                model.used[target], model.gamma[target], model.unit[target] = components, gamma, unit
    _tell(chosen, candidates)
    return chosen


def _principal_axes(model: KernelRidge, features: Tensor) -> None:
    """Leading eigenvectors of the features' covariance, from the smaller side; signs are fixed by the largest entry of each."""
    centre = features.mean(0)
    centred = features - centre
    components = model.axes.shape[1]
    if len(features) < features.shape[1]:
        _, vectors = torch.linalg.eigh(centred @ centred.T)
        leading = centred.T @ vectors[:, -components:].flip(1)
        axes = leading / leading.norm(dim=0).clamp(min=1e-12)
    else:
        axes = torch.linalg.eigh(centred.T @ centred)[1][:, -components:].flip(1)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    model.centre.copy_(centre)
    model.axes.copy_(axes * torch.where(largest < 0, -1.0, 1.0))


def _tell(chosen: Mapping[str, Mapping[str, float]], candidates: Mapping[str, Sequence[float]]) -> None:
    for name, facts in chosen.items():
        edges = [f"{key}s" for key in ("alpha", "gamma") if len(candidates[f"{key}s"]) > 1 and facts[key] in _ends(candidates[f"{key}s"])]
        hint = f", at the edge of kernel_ridge.{' and '.join(edges)}: consider a wider range" if edges else ""
        log.info("kernel_ridge: %s: %s%s", name, ", ".join(f"{key} {value:g}" for key, value in facts.items()), hint)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
