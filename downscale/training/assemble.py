"""From config, pair store and statistics to an emulator that is ready to train."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downscale.config.schema import ExperimentConfig
from downscale.errors import EnvironmentMissingError, InputDataError
from downscale.models.emulator import Emulator
from downscale.models.registry import BASELINES, build
from downscale.models.transforms import InputTransform
from downscale.pairs.normalise import Statistics
from downscale.pairs.store import PairStore
from downscale.training.land import choose_cells, land_cells, leave_out_other_cells, output_cells
from downscale.training.samples import fixed_fields, fixed_names, way_to_fine
from downscale.training.scaling import load_monthly, load_trend, scaling_notes
from downscale.variables import lookup

log = logging.getLogger(__name__)


def resolve_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda".

    Raises:
        EnvironmentMissingError: cuda was asked for, and PyTorch sees none.
    """
    if torch.cuda.is_available() and wanted in ("auto", "cuda"):
        return torch.device("cuda")
    if wanted == "cuda":
        raise EnvironmentMissingError(
            "--device cuda: PyTorch sees no GPU",
            where=f"torch {torch.__version__}",
            hint="install PyTorch for CUDA (see README) on a machine with a GPU, or use --device cpu",
        )
    if wanted == "auto":
        _say_cpu()
    return torch.device("cpu")


@functools.cache
def _say_cpu() -> None:
    """Once a process."""
    log.info("no GPU: running on the CPU, %d thread(s)", torch.get_num_threads())


def model_spec(cfg: ExperimentConfig, store: PairStore, model: dict[str, Any], statistics: Statistics | None = None) -> dict[str, Any]:
    """The plain data from which registry.build makes the emulator; also what model.json holds.

    Args:
        cfg: the experiment.
        store: the pairs.
        model: name and options of the network or baseline.
        statistics: of the training days: channels that lack values there get a mask, constant ones are dropped (see check_channels).
    """
    decoder_fields = model["name"] == "resunet" and model["static"] is not False
    channels = [channel.name for channel in cfg.channels()]
    if channels != list(store.channels) or [target.name for target in cfg.targets] != list(store.targets):
        raise InputDataError(
            "the pairs were prepared with other predictors or targets than the config has now",
            where=f"pairs: {', '.join(store.channels)} -> {', '.join(store.targets)}",
            hint="run downscale prepare again",
        )
    return {
        "model": model,
        "channels": channels,
        "targets": list(store.targets),
        "scalars": list(store.scalars),
        "coarse_shape": list(store.coarse.shape),
        "fine_shape": list(store.fine.shape),
        "normalise": cfg.normalise.predictors,
        "transforms": {target: cfg.transform_of(target, model["name"]) for target in store.targets},
        "non_negative": [target for target in store.targets if lookup(target).non_negative],
        "fixed": fixed_names(store.static) if decoder_fields else [],
        "units": {channel.name: lookup(channel.variable).units for channel in cfg.channels()}
        | {name: lookup(name).units for name in store.targets},
        "levels_hpa": {channel.name: channel.level_hpa for channel in cfg.channels() if channel.level_hpa},
        **input_days(cfg, model),
        **(cfg.loss.outputs(store.targets) if model["name"] not in BASELINES else {}),
        **({"detrend": cfg.normalise.detrend} if cfg.normalise.detrend and model["name"] not in ("bilinear", "climatology") else {}),
        **({**_holes(cfg, channels, statistics), **land_cells(model, store, statistics)} if statistics is not None else {}),
    }


def input_days(cfg: ExperimentConfig, model: dict[str, Any]) -> dict[str, list[int]]:
    """``days``, only where there are more than the day itself. The linear baselines read the days that the network reads."""
    if model["name"] in ("bilinear", "climatology"):
        return {}
    options = model if model["name"] not in ("ridge", "kernel_ridge") else cfg.model.model_dump()
    days = list(range(-options.get("days_before", 0), options.get("days_after", 0) + 1))
    return {"days": days} if len(days) > 1 else {}


def map_names(spec: Mapping[str, Any]) -> list[str]:
    """Names of all input maps: the day's own channels by their names, those of other days as ``tas@-1``."""
    return [f"{name}@{day:+d}" if day else name for day in spec.get("days", (0,)) for name in spec["channels"]]


def _holes(cfg: ExperimentConfig, channels: Sequence[str], statistics: Statistics) -> dict[str, list[str]]:
    """``masked`` and ``dropped`` channels, each key only where there are any: a run on whole data is described as ever."""
    found = {
        "masked": statistics.partly if cfg.missing.below_ground == "mask" else np.zeros(len(channels), bool),
        "dropped": statistics.constant,
    }
    return {key: [name for name, one in zip(channels, which, strict=True) if one] for key, which in found.items() if which.any()}


def check_channels(cfg: ExperimentConfig, store: PairStore, statistics: Statistics, days: str) -> None:
    """Judge predictors that say nothing on the training days: constant ones, and ones without any value.

    Args:
        cfg: its ``missing.constant_channels`` decides.
        store: the pairs.
        statistics: of the training days.
        days: which days those are, in words.

    Raises:
        InputDataError: there are such channels, and the policy is "error".
    """
    for name, note in statistics.missing_notes(store.channels).items():
        log.info("predictor %s: %s", name, note)
    findings = [
        f"{name}: {'no value' if np.isnan(statistics.predictor_mean[i]).all() else 'every cell constant'}"
        for i, name in enumerate(store.channels)
        if statistics.constant[i]
    ]
    if not findings:
        return
    if cfg.missing.constant_channels == "error":
        raise InputDataError(
            f"{len(findings)} predictor(s) never change on the training days",
            where=days,
            hint="mend the files or take them out of predictors; missing.constant_channels: drop feeds zeros in their place",
            findings=findings,
        )
    for finding in findings:
        log.warning("predictor %s on %s: fed as zeros", finding, days)


def new_emulator(spec: dict[str, Any], store: PairStore, statistics: Statistics) -> Emulator:
    """An emulator with fresh weights, the training statistics and its place on the grids; the ridge in it is not fitted yet."""
    emulator = build(spec)
    if "cells" in spec:
        choose_cells(emulator, output_cells(store, statistics))
    load_statistics(emulator, statistics)
    if spec["model"]["name"] in ("bilinear", "resunet"):
        emulator.locate(*way_to_fine(store), fixed_fields(store.static, spec["fixed"], store.fine.shape))
    return emulator


def load_statistics(emulator: Emulator, statistics: Statistics) -> None:
    """Copy training statistics into the buffers of an emulator.

    Raises:
        InputDataError: a cell of a predictor without mask has no valid training day.
    """
    channels, known = emulator.spec["channels"], {*emulator.spec.get("masked", ()), *emulator.spec.get("dropped", ())}
    for name, mean in zip(channels, statistics.predictor_mean, strict=True):
        if name not in known and not np.isfinite(mean).all():
            raise InputDataError(
                f"predictor {name} has {int((~np.isfinite(mean)).sum())} coarse cell(s) without any training day",
                hint="choose a smaller domain.coarse_box, or check the predictor's files",
            )
    for transform in (emulator.inputs, emulator.backbone.features if emulator.backbone is not None else None):
        if transform is not None:
            _load_inputs(transform, statistics, len(emulator.spec.get("days", (0,))))
    plain = np.array([kind == "none" for kind in emulator.target.kinds])[:, None, None]
    valid = np.isfinite(statistics.target_mean)
    _copy(emulator.target.mean, np.where(valid & plain, 0.0, statistics.target_mean))
    _copy(emulator.target.std, np.where(valid & plain, 1.0, statistics.target_std))
    leave_out_other_cells(emulator)
    load_trend(emulator, statistics)


def _for_all_days(values: np.ndarray, channels: int, days: int) -> np.ndarray:
    """Statistics (k * channel, ...) repeated for each input day: (k * days * channel, ...), in the order of the input maps."""
    parts = values.reshape(-1, channels, *values.shape[1:])
    return np.concatenate([parts] * days, axis=1).reshape(-1, *values.shape[1:])


def _load_inputs(transform: InputTransform, statistics: Statistics, days: int) -> None:
    if transform.mode == "monthly":
        return load_monthly(transform, statistics, days)
    columns = (slice(None), None, None)
    whole = np.isfinite(statistics.predictor_mean)
    mean, std = {
        "gridpoint": (
            np.where(whole, statistics.predictor_mean, statistics.channel_mean[columns]),
            np.where(whole, statistics.predictor_std, statistics.channel_std[columns]),
        ),
        "channel": (statistics.channel_mean[columns], statistics.channel_std[columns]),
        "map": (statistics.moment_mean, statistics.moment_std),
    }[transform.mode]
    mean, std = (_for_all_days(values, len(statistics.constant), days) for values in (mean, std))
    gone = np.isin(np.arange(len(mean)) % (len(statistics.constant) * days), transform.dropped).reshape(-1, *[1] * (mean.ndim - 1))
    _copy(transform.mean, np.where(gone, 0.0, mean))
    _copy(transform.std, np.where(gone, 1.0, std))
    _copy(transform.scalar_mean, statistics.scalar_mean)
    _copy(transform.scalar_std, statistics.scalar_std)


def statistics_summary(spec: dict[str, Any], statistics: Statistics) -> dict[str, Any]:
    """The small part of the statistics for normaliser.json; the maps are in model.safetensors."""

    def named(names: Sequence[str], mean: np.ndarray, std: np.ndarray) -> dict[str, dict[str, float]]:
        rows = zip(names, np.nan_to_num(mean), np.nan_to_num(std, nan=1.0), strict=True)
        return {name: {"mean": float(m), "std": float(s)} for name, m, s in rows}

    channels = spec["channels"]
    missing = statistics.missing_notes(channels)
    return {
        "predictors": spec["normalise"],
        "targets": spec["transforms"],
        "digest": statistics.digest,
        "training_days": statistics.n_days,
        "channels": named(channels, statistics.channel_mean, statistics.channel_std),
        "map_means": named(channels, statistics.moment_mean[: len(channels)], statistics.moment_std[: len(channels)]),
        "map_stds": named(channels, statistics.moment_mean[len(channels) :], statistics.moment_std[len(channels) :]),
        "scalars": named(spec["scalars"], statistics.scalar_mean, statistics.scalar_std),
        **({"missing": missing} if missing else {}),
        **scaling_notes(statistics, spec["scalars"]),
    }


def _copy(buffer: Tensor, values: np.ndarray) -> None:
    buffer.copy_(torch.from_numpy(np.ascontiguousarray(values)))
