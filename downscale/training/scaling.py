"""Training statistics on their way into the scalings of an emulator, and the proof that they are still the same there."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downscale.errors import InputDataError
from downscale.models.emulator import Emulator
from downscale.models.transforms import InputTransform, TargetTransform
from downscale.pairs.normalise import Statistics

log = logging.getLogger(__name__)
MONTH_DAYS = 10
"""A calendar month with fewer training days than this is scaled with the numbers of all training days."""


def monthly_maps(statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations (12, C, H, W) for the normalisation ``monthly``.

    A month with fewer than ten training days, and a cell without a value in a month, take the numbers of all training days; so does the
    standard deviation of a cell that never changes in a month. Where a cell has no value at all, those of its channel stand in.
    """
    columns, monthly = (slice(None), None, None), statistics.monthly
    whole = np.isfinite(statistics.predictor_mean)
    mean = np.where(whole, statistics.predictor_mean, statistics.channel_mean[columns])
    std = np.where(whole, statistics.predictor_std, statistics.channel_std[columns])
    if monthly is None:
        return np.stack([mean] * 12), np.stack([std] * 12)
    known = np.isfinite(monthly.mean) & (monthly.days >= MONTH_DAYS)[:, None, None, None]
    return np.where(known, monthly.mean, mean), np.where(known & (monthly.std != 1.0), monthly.std, std)


def load_monthly(transform: InputTransform, statistics: Statistics, days: int) -> None:
    """Fill the buffers of a ``monthly`` scaling; ``days`` is the number of input days, whose maps follow each other.

    The maps of a neighbouring day are scaled with the numbers of the month of the day itself.
    """
    few = [month + 1 for month in range(12) if statistics.monthly is not None and statistics.monthly.days[month] < MONTH_DAYS]
    if few:
        log.warning("monthly scaling: month(s) %s with fewer than %d training days use all days", ", ".join(map(str, few)), MONTH_DAYS)
    mean, std = (np.concatenate([values] * days, axis=1) for values in monthly_maps(statistics))
    gone = np.isin(np.arange(mean.shape[1]), transform.dropped)[None, :, None, None]
    _copy(transform.mean, np.where(gone, 0.0, mean))
    _copy(transform.std, np.where(gone, 1.0, std))
    _copy(transform.scalar_mean, statistics.scalar_mean)
    _copy(transform.scalar_std, statistics.scalar_std)


def load_trend(emulator: Emulator, statistics: Statistics) -> None:
    """Fill the slopes of an emulator with ``detrend``; they stay 0 where the statistics are of fields with their trend."""
    trend = statistics.trend
    for part in emulator.modules() if trend is not None else ():
        if isinstance(part, InputTransform | TargetTransform) and part.column is not None:
            assert trend is not None
            slope = trend.target
            if isinstance(part, InputTransform):
                slope = np.concatenate([trend.predictor] * (part.plane[0] // len(trend.predictor)))
                slope = np.where(np.isin(np.arange(len(slope)), part.dropped)[:, None, None], 0.0, slope)
            _copy(part.slope, slope)
            part.origin.fill_(trend.origin)


def scaling_notes(statistics: Statistics, scalars: Sequence[str]) -> dict[str, Any]:
    """For normaliser.json: the days of each month and the forcing that was taken out, each only where it is used."""
    months = {} if statistics.monthly is None else {"days_by_month": statistics.monthly.days.tolist()}
    trend = statistics.trend
    return months | ({} if trend is None else {"detrend": {"column": scalars[trend.column], "origin": trend.origin}})


def scaling_digest(emulator: Emulator) -> str:
    """sha256 over all numbers with which an emulator scales inputs and targets, as they stand in its weights."""
    state = hashlib.sha256()
    for name, part in emulator.named_modules():
        if isinstance(part, InputTransform | TargetTransform):
            for key, value in sorted(part.state_dict().items()):
                state.update(f"{name}.{key} {tuple(value.shape)}".encode() + value.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def check_scaling(emulator: Emulator, card: Mapping[str, Any], path: Path) -> None:
    """Whether the numbers in a run's weights, its card and its normaliser.json are of the same training days.

    Raises:
        InputDataError: they are not: a file comes from another run.
    """
    findings = []
    said, found = card.get("scaling_sha256"), scaling_digest(emulator)
    if said is not None and said != found:
        findings.append(f"model.json: scaling {said[:12]}; model.safetensors: {found[:12]}")
    summary = path / "normaliser.json"
    if summary.is_file():
        digest = json.loads(summary.read_text()).get("digest")
        if digest != card.get("statistics_digest"):
            findings.append(f"model.json: statistics {str(card.get('statistics_digest'))[:12]}; normaliser.json: {str(digest)[:12]}")
    if findings:
        raise InputDataError(
            "the run's files hold the statistics of different training days",
            where=str(path),
            hint="a file of another run lies here: copy the run folder again, or train again",
            findings=findings,
        )


def require_scaling(now: Emulator, start: Emulator, path: Path) -> None:
    """Whether the statistics of today's pairs are those with which a training began.

    Args:
        now: with the statistics of today.
        start: as the training began.
        path: of the file that holds it.

    Raises:
        InputDataError: they differ.
    """
    if scaling_digest(now) != scaling_digest(start):
        raise InputDataError(
            "the training began with other statistics than the pairs have now",
            where=f"{path}: {scaling_digest(start)[:12]}; pairs: {scaling_digest(now)[:12]}",
            hint="bring the old pairs back, or give --overwrite to begin anew",
        )


def _copy(buffer: Tensor, values: np.ndarray) -> None:
    buffer.copy_(torch.from_numpy(np.ascontiguousarray(values)))
