"""A few days of every group through the same readers as prepare, kept in memory: enough to try a model on, nothing is written."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from downscale.cf.calendar import iso
from downscale.config.schema import ExperimentConfig, MissingConfig
from downscale.errors import InputDataError
from downscale.pairs.coarse import read_days
from downscale.pairs.inputs import GroupInputs, Inputs
from downscale.pairs.missing import Holes
from downscale.pairs.store import PairGroup, PairStore
from downscale.variables import Channel, lookup

BLOCK_DAYS = 4
_APART, _FACTOR = 5.0, 10.0
_ARRAYS = {"perfect": "rcmu", "imperfect": "gcm"}


@dataclass(frozen=True)
class Sample:
    """The first, middle and last days of a group.

    Attributes:
        group: its inputs.
        days: yyyymmdd.
        arrays: as a group of the store holds them: predictors_rcmu, predictors_gcm, target_NAME, scalars.
        seconds_a_day: that reading and regridding took, opening of files included.
    """

    group: GroupInputs
    days: np.ndarray
    arrays: dict[str, np.ndarray]
    seconds_a_day: float


def read_sample(inputs: Inputs, group: GroupInputs) -> Sample:
    """Read some days of a group, as prepare would.

    Raises:
        InputDataError: a file cannot be read or holds implausible values, predictors lack what the policies do not allow,
            or a target has no value at all on these days.
    """
    positions = sample_positions(len(group.days))
    blocks = np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)
    started = time.monotonic()
    parts = [_read(inputs, group, group.days[block]) for block in blocks]
    seconds = (time.monotonic() - started) / len(positions)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    days = group.days[positions]
    keep = _whole(inputs, group, days, arrays)
    _require_values(inputs, group, days, arrays)
    arrays = {name: values[keep] for name, values in arrays.items()}
    return Sample(group, days[keep], {**arrays, "scalars": inputs.forcings(days[keep], group.calendar)}, seconds)


def sample_positions(n: int, block: int = BLOCK_DAYS) -> np.ndarray:
    """Positions of the first, middle and last days of n."""
    if n <= 3 * block:
        return np.arange(n)
    starts = (0, n // 2 - block // 2, n - block)
    return np.concatenate([np.arange(start, start + block) for start in starts])


def sample_store(cfg: ExperimentConfig, inputs: Inputs, samples: list[Sample]) -> PairStore:
    """A pair store in memory with the days of the samples, all of them in the training split."""
    groups = {}
    for sample in samples:
        group = sample.group
        kinds = tuple(kind for kind, name in _ARRAYS.items() if f"predictors_{name}" in sample.arrays)
        targets = tuple(target.name for target in inputs.targets)
        everything = np.arange(len(sample.days))
        splits = {"train": everything, "validation": everything, "test": everything}
        attributes = {"recipe": group.recipe, "digest": "sample", "notes": []}
        usable = np.ones(len(everything), bool)
        groups[group.name] = PairGroup(group.name, group.calendar, sample.days, usable, kinds, targets, attributes, sample.arrays, splits)
    geometry = inputs.geometry
    names = [channel.name for channel in inputs.channels], [target.name for target in inputs.targets]
    split = hashlib.sha256(cfg.split.model_dump_json().encode()).hexdigest()
    return PairStore(
        Path("sample"), groups, geometry.coarse, geometry.fine, inputs.static, *names, inputs.forcings.names, inputs.recipe, split
    )


def strange_pairs(samples: Sequence[Sample], channels: Sequence[str]) -> list[str]:
    """Predictors that differ between an RCM and a coarse run as weather and models do not: another unit within the plausible range.

    A coarse run is held against its own RCM, or the first one: mean apart by more than five standard deviations, or
    standard deviations by more than a factor ten.
    """
    truths = [sample for sample in samples if "predictors_rcmu" in sample.arrays]
    lines = []
    for sample in samples:
        if "predictors_gcm" not in sample.arrays or not truths:
            continue
        truth = sample if sample in truths else truths[0]
        for position, name in enumerate(channels):
            moments = [_moments(maps, position) for maps in (truth.arrays["predictors_rcmu"], sample.arrays["predictors_gcm"])]
            mean, spread = zip(*moments, strict=True)
            if abs(mean[0] - mean[1]) > _APART * max(spread) or max(spread) > _FACTOR * min(spread):
                assert sample.group.gcm is not None
                coarse, fine = sample.group.gcm.source.name, truth.group.name
                said = [f"{m:.3g} (std {s:.2g}) in {where}" for m, s, where in zip(mean, spread, (f"{fine} upscaled", coarse), strict=True)]
                units = lookup(Channel.parse(name).variable).units
                lines.append(f"{name} averages {' and '.join(said)}, {units}: are the units of one of them wrong?")
    return lines


def _moments(maps: np.ndarray, position: int) -> tuple[float, float]:
    values = maps[:, position].astype(float)
    return float(np.nanmean(values)), float(np.nanstd(values))


def _read(inputs: Inputs, group: GroupInputs, days: np.ndarray) -> dict[str, np.ndarray]:
    shape, window = inputs.geometry.coarse.shape, inputs.geometry.window
    found = {}
    for label, reader in (("rcmu", group.rcm), ("gcm", group.gcm)):
        if reader is not None:
            found[f"predictors_{label}"] = reader.read(inputs.channels, days, shape)
            reader.read([target for target in inputs.targets if target not in inputs.channels], days, shape)
    if group.truth is not None:
        for target in inputs.targets:
            found[f"target_{target.name}"] = read_days(group.truth.series[target.name], days)[:, window[0], window[1]]
    return found


def _whole(inputs: Inputs, group: GroupInputs, days: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """True for days whose predictors are as whole as the policies ask; refused where they must all be."""
    bad, findings = np.zeros(len(days), bool), []
    for label in _ARRAYS.values():
        maps = arrays.get(f"predictors_{label}")
        if maps is None:
            continue
        lacking = Holes.of(maps).bad(inputs.channels, group.missing)
        bad |= lacking.any(axis=1)
        side = "RCMu" if label == "rcmu" else "GCM"
        for channel, when in zip(inputs.channels, lacking.T, strict=True):
            if when.any():
                found = f"missing values on {int(when.sum())} of {len(days)} days looked at, first {iso(days[np.argmax(when)])}"
                findings.append(f"{channel.name} ({side}): {found}")
    if findings and (group.missing.nan_days == "error" or bad.all()):
        raise InputDataError(
            f"predictors of '{group.name}' have missing values",
            where=f"source {group.name}",
            hint=_remedy(group.missing),
            findings=findings,
        )
    return ~bad


def _remedy(policy: MissingConfig) -> str:
    below = "" if policy.below_ground == "mask" else ", or missing.below_ground: mask where levels lie under the orography"
    return f"a smaller domain.coarse_box, missing.nan_days: drop to leave such days out{below}"


def _require_values(inputs: Inputs, group: GroupInputs, days: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    empty = [
        target.name for target in inputs.targets if f"target_{target.name}" in arrays and np.isnan(arrays[f"target_{target.name}"]).all()
    ]
    if empty:
        raise InputDataError(
            f"{', '.join(empty)} of '{group.name}' have no value at all on the days looked at",
            where=f"source {group.name}, {iso(days[0])} to {iso(days[-1])}",
            hint="look at the files, or choose another domain.fine_box",
        )
