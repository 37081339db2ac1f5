"""What a run folder knows about the days that its run has learned from, so that apply can say how far other days are from them.

``novelty.safetensors`` holds the distances of training/distance.py, of the predictors and of what the network makes of them where it is
narrowest, the climate of those features (training/moments.py), and the range of each predictor cell and number. Its facts stand in
model.json under ``novelty``, with its sha256.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from downscale.errors import InputDataError
from downscale.models.emulator import Emulator
from downscale.models.inputs import Inputs
from downscale.training.checkpoint import sha256, write_tensors
from downscale.training.distance import QUANTILE, Distance, fit_distance
from downscale.training.moments import FeatureSpace
from downscale.training.reading import Holes, Portion, read_windows
from downscale.training.samples import as_inputs, blocks

log = logging.getLogger(__name__)
NAME = "novelty.safetensors"
FEWEST_DAYS = 20
"""Training days below which nothing is fitted."""
_SAMPLE_DAYS = 2048
_SAMPLE_BYTES = 2**28
_BATCH_DAYS = 64


@dataclass(frozen=True)
class NoveltyModel:
    """The days that a run has learned from.

    Attributes:
        low, high: (C, H, W) range of each predictor cell over the training days, working units; NaN where it never had a value.
        number_low, number_high: (K,) the same of the numbers of the day.
        predictors: distance of the maps (C * H * W) and the numbers.
        features: distance of the network's narrowest features; None for a model without.
        space: where the climates of those features are compared; None for a model without, or a run of an earlier version.
    """

    low: np.ndarray
    high: np.ndarray
    number_low: np.ndarray
    number_high: np.ndarray
    predictors: Distance
    features: Distance | None
    space: FeatureSpace | None = None

    def write(self, folder: Path) -> dict[str, Any]:
        """Write ``novelty.safetensors`` into a run folder; the facts for model.json."""
        arrays = {"low": self.low, "high": self.high, "number_low": self.number_low, "number_high": self.number_high}
        parts = {"predictors": self.predictors} | ({"features": self.features} if self.features is not None else {})
        for name, part in parts.items():
            arrays |= part.tensors(name)
        arrays |= self.space.tensors("space") if self.space is not None else {}
        digest = write_tensors(folder / NAME, {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()})
        facts = {name: {"threshold": float(part.threshold[0]), "degrees_of_freedom": part.freedom} for name, part in parts.items()}
        return {"sha256": digest, "quantile": QUANTILE, "feature_space": self.space is not None, **facts}

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> NoveltyModel:
        """Read it again.

        Args:
            folder: of the run.
            facts: as ``write`` gave them.

        Raises:
            InputDataError: the file is missing, damaged or of another run.
        """
        path = folder / NAME
        try:
            if sha256(path) != facts["sha256"]:
                raise ValueError("its checksum is not the one in model.json")
            arrays = load_file(path)
            low, high, number_low, number_high = (arrays[name] for name in ("low", "high", "number_low", "number_high"))
            features = Distance.of(arrays, "features") if "features" in facts else None
            space = FeatureSpace.from_tensors(arrays, "space") if facts.get("feature_space") else None
            return cls(low, high, number_low, number_high, Distance.of(arrays, "predictors"), features, space)
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InputDataError(
                f"what the run knows of its training days cannot be read: {str(error).splitlines()[0]}",
                where=str(path),
                hint="copy the run folder again, or train again",
            ) from None


def fit_novelty(emulator: Emulator, train: Sequence[Portion], validation: Sequence[Portion]) -> NoveltyModel | None:
    """Fit what a run folder says about its training days; None, with a line in the log, where these are too few.

    Ranges are those of all training days; the distances are fitted on at most 2048 of them, evenly chosen, and their thresholds on as
    many validation days. A validation day that was trained on, too, is no day of the fit.

    Args:
        emulator: trained, on its device.
        train, validation: the days.
    """
    holes = Holes.of(emulator.spec)
    known, held_out = (_sampled(portions, _most(emulator)) for portions in (_without(train, validation), validation))
    days = [_gathered(emulator, portions, holes) for portions in (known, held_out)]
    if len(days[0][0]) < FEWEST_DAYS or len(days[1][0]) < 2:
        log.info("%d training and %d validation days are too few to tell later how far other days are from them", *map(_count, days))
        return None
    log.info("distance from the training days: fitted on %d of them, threshold from %d held-out days", *map(_count, days))
    predictors = fit_distance(days[0][:2], days[1][:2])
    features = None
    if days[0][2].size:
        features = fit_distance(*((part, np.zeros((len(part), 0))) for part in (days[0][2], days[1][2])))
    return NoveltyModel(*_ranges(train), predictors, features, FeatureSpace.fit(days[0][2], days[1][2]))


def own_maps(maps: np.ndarray, spec: Mapping[str, Any]) -> np.ndarray:
    """The day's own maps (n, C, H, W) of those that a model reads (n, days * C, H, W); dropped channels are 0."""
    channels = len(spec["channels"])
    start = list(spec.get("days", (0,))).index(0) * channels
    own = maps[:, start : start + channels]
    dropped = [spec["channels"].index(name) for name in spec.get("dropped", ())]
    if dropped:
        own = own.copy()
        own[:, dropped] = 0.0
    return own


def network_features(emulator: Emulator, maps: np.ndarray, scalars: np.ndarray, days: np.ndarray) -> np.ndarray:
    """What the network makes of whole days where it is narrowest (n, F) float32; F is 0 for a model without such a place.

    Batches always have the same number of days, so that those of a day do not depend on the days around it.
    """
    parts: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(maps), _BATCH_DAYS):
            index = np.minimum(np.arange(start, start + _BATCH_DAYS), len(maps) - 1)
            inputs: Inputs = as_inputs(torch.from_numpy(maps[index]), torch.from_numpy(scalars[index]), days[index], 1)
            found = emulator.features(inputs.to(emulator.device))
            if found is None:
                break
            parts.append(found.float().cpu().numpy()[: len(maps) - start])
    return np.concatenate(parts) if parts else np.zeros((len(maps), 0), np.float32)


def whole_days(portions: Sequence[Portion], holes: Holes) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Maps as the model reads them, numbers and yyyymmdd of the whole days, a block at a time."""
    for portion, index in blocks(portions):
        group, kind = portion.group, portion.kind
        windows = read_windows(lambda some, g=group, k=kind: g.predictors(k, some), group.days, group.calendar, index, holes)  # type: ignore[misc]
        scalars = group.scalars(index)
        whole = windows.whole & np.isfinite(scalars).all(axis=1)
        if whole.any():
            yield windows.maps[whole], scalars[whole], np.asarray(group.days)[index][whole].astype(np.int64)


def _gathered(emulator: Emulator, portions: Sequence[Portion], holes: Holes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors (n, C * H * W), numbers (n, K) and features (n, F) of the whole days."""
    parts = []
    for maps, scalars, days in whole_days(portions, holes):
        vectors = own_maps(maps, emulator.spec).reshape(len(maps), -1)
        parts.append((vectors, scalars, network_features(emulator, maps, scalars, days)))
    if not parts:
        return np.zeros((0, 1)), np.zeros((0, 0)), np.zeros((0, 0))
    vectors, scalars, features = (np.concatenate(part) for part in zip(*parts, strict=True))
    return vectors, scalars, features


def _ranges(portions: Sequence[Portion]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Least and largest value of each predictor cell and of each number over all days."""
    low, high, number_low, number_high = [np.array(np.nan, np.float32)] * 4
    for portion, index in blocks(portions):
        maps, numbers = portion.group.predictors(portion.kind, index), portion.group.scalars(index)
        low, high = np.fmin(low, np.fmin.reduce(maps)), np.fmax(high, np.fmax.reduce(maps))
        number_low, number_high = np.fmin(number_low, np.fmin.reduce(numbers)), np.fmax(number_high, np.fmax.reduce(numbers))
    return low, high, number_low, number_high


def _most(emulator: Emulator) -> int:
    """Days that are looked at: bounded memory for any box."""
    y, x = emulator.spec["coarse_shape"]
    return int(min(_SAMPLE_DAYS, max(FEWEST_DAYS, _SAMPLE_BYTES // (8 * len(emulator.spec["channels"]) * y * x))))


def _without(portions: Sequence[Portion], others: Sequence[Portion]) -> list[Portion]:
    """The portions without the days of others."""
    taken = {one.name: one.index for one in others}
    return [Portion(one.group, one.kind, np.setdiff1d(one.index, taken.get(one.name, []))) for one in portions]


def _sampled(portions: Sequence[Portion], most: int) -> list[Portion]:
    """At most so many days, evenly chosen from all portions together."""
    total = sum(len(portion.index) for portion in portions)
    chosen = np.unique(np.linspace(0, total - 1, min(most, total)).astype(int))
    found, start = [], 0
    for portion in portions:
        mine = chosen[(chosen >= start) & (chosen < start + len(portion.index))] - start
        found.append(Portion(portion.group, portion.kind, np.asarray(portion.index)[mine]))
        start += len(portion.index)
    return found


def _count(days: tuple[np.ndarray, ...]) -> int:
    return len(days[0])
