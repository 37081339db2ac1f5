"""How far each day of an input is from the days that a run has learned from, and whether that is far too often."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from downscale.errors import TransferabilityError
from downscale.training.moments import FeatureSpace, Sums
from downscale.training.novelty import NoveltyModel, network_features, own_maps
from downscale.training.reading import Holes
from downscale.training.run import Run

log = logging.getLogger(__name__)
UNKNOWN = -1
"""``ood_flag`` of a day that cannot be read."""
_OUTSIDE = "ood_outside_"
Counts = Mapping[str, float]


class Novelty:
    """The scores of the days of one input, as they come.

    Series of a day, see ``attributes``: ``ood_score`` and, for networks that say where they are narrowest, ``ood_score_features``
    (float32, NaN for a day that cannot be read), ``ood_flag`` (int8, -1 for such a day), and ``ood_outside_CHANNEL`` (float32).
    """

    def __init__(self, run: Run, model: NoveltyModel) -> None:
        self._run, self._model, self._holes = run, model, Holes.of(run.spec)
        self._numbers = [name for name in run.spec["scalars"] if not name.startswith("season_")]
        self._counts: dict[str, float] = {}
        self._sums: Sums | None = None

    @classmethod
    def of(cls, run: Run) -> Novelty | None:
        """From the run folder; None for a run without: a baseline, one of an earlier version, or one trained on too few days.

        Raises:
            InputDataError: the folder should hold it, and its file is missing, damaged or of another run.
        """
        facts = run.card.get("novelty")
        return cls(run, NoveltyModel.read(run.path, facts)) if facts else None

    @property
    def attributes(self) -> dict[str, dict[str, Any]]:
        """Of all series, for the files."""
        parts = {"": ("predictors", self._model.predictors), "_features": ("network features", self._model.features)}
        found: dict[str, dict[str, Any]] = {}
        for ending, (what, part) in parts.items():
            if part is not None:
                found[f"ood_score{ending}"] = {
                    "long_name": f"Mahalanobis distance of the {what} from the training days",
                    "units": "1",
                    "threshold": np.float32(part.threshold[0]),
                    "comment": "threshold: 99.5th percentile of held-out training years",
                }
        features = self._model.features is not None
        found["ood_flag"] = {
            "long_name": "farther from the training days than the threshold",
            "flag_masks": np.array([1, 2] if features else [1], np.int8),
            "flag_meanings": "predictors network_features" if features else "predictors",
            "_FillValue": np.int8(UNKNOWN),
        }
        for name in self._run.spec["channels"]:
            found[f"{_OUTSIDE}{name}"] = {"long_name": f"share of cells of {name} outside the range of the training days", "units": "1"}
        for name in self._numbers:
            found[f"{_OUTSIDE}{name}"] = {"long_name": f"1 where {name} is outside the range of the training days", "units": "1"}
        return found

    def score(self, maps: np.ndarray, scalars: np.ndarray, days: np.ndarray) -> dict[str, np.ndarray]:
        """All series of some days, which are also counted.

        Args:
            maps: (n, days * C, H, W) as the run reads them: aligned, those of all its input days, working units.
            scalars: (n, K).
            days: (n,) yyyymmdd.

        Returns:
            name -> (n,).
        """
        n = len(days)
        own = own_maps(maps, self._run.spec)
        whole = self._holes.whole(own) & np.isfinite(scalars).all(axis=1)
        stamps = np.asarray(days).astype(np.int64)
        scores, bits = self._scores(own[whole], maps[whole], scalars[whole], stamps[whole])
        series: dict[str, np.ndarray] = {}
        for name, values in scores.items():
            series[name] = np.full(n, np.nan, np.float32)
            series[name][whole] = values
        series["ood_flag"] = np.full(n, UNKNOWN, np.int8)
        series["ood_flag"][whole] = bits
        series |= self._outside(own, scalars)
        self._count(series, stamps)
        return series

    def _scores(self, own: np.ndarray, *read: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The distances of whole days, and the bits of their flags."""
        maps, scalars, stamps = read
        features = self._model.features
        if not len(own):
            none = np.zeros(0, np.float32)
            return {"ood_score": none, **({} if features is None else {"ood_score_features": none})}, none.astype(np.int8)
        scores = {"ood_score": self._model.predictors(own.reshape(len(own), -1), scalars)}
        bits = (scores["ood_score"] > self._model.predictors.threshold[0]).astype(np.int8)
        if features is not None:
            found = network_features(self._run.emulator, maps, scalars, stamps)
            scores["ood_score_features"] = features(found, np.zeros((len(found), 0)))
            self._add(found)
            bits += 2 * (scores["ood_score_features"] > features.threshold[0]).astype(np.int8)
        return scores, bits

    def counts(self) -> dict[str, float]:
        """What was counted so far: numbers that can be added up over the periods of a prediction. ``summary`` and ``line`` read them."""
        return dict(self._counts)

    @property
    def sums(self) -> Sums | None:
        """Over the network features of the days so far; None before the first one, and for a run that compares no features."""
        return self._sums

    def go_on(self, counts: Counts, sums: Sums | None) -> None:
        """Count on from where ``counts`` and ``sums`` stood."""
        self._counts, self._sums = dict(counts), sums

    def features(self) -> tuple[FeatureSpace, Sums] | None:
        """Where the run compares climates of network features, and the sums over the days so far; None for a run that does not."""
        return (self._model.space, self._sums) if self._model.space is not None and self._sums is not None else None

    def _add(self, features: np.ndarray) -> None:
        if self._model.space is not None and len(features):
            found = Sums.of(self._model.space(features))
            self._sums = found if self._sums is None else self._sums + found

    def _outside(self, own: np.ndarray, scalars: np.ndarray) -> dict[str, np.ndarray]:
        """``ood_outside_CHANNEL``: of the cells that have a value, and had one in training; NaN where there is none."""
        model, series = self._model, {}
        for position, name in enumerate(self._run.spec["channels"]):
            maps, low, high = own[:, position], model.low[position], model.high[position]
            known = (np.isfinite(maps) & np.isfinite(low)).sum(axis=(1, 2))
            out = ((maps < low) | (maps > high)).sum(axis=(1, 2))
            series[f"{_OUTSIDE}{name}"] = np.where(known > 0, out / np.maximum(known, 1), np.nan).astype(np.float32)
        for name in self._numbers:
            position = self._run.spec["scalars"].index(name)
            value, low, high = scalars[:, position], model.number_low[position], model.number_high[position]
            out = ((value < low) | (value > high)).astype(np.float32)
            series[f"{_OUTSIDE}{name}"] = np.where(np.isfinite(value), out, np.nan).astype(np.float32)
        return series

    def _count(self, series: Mapping[str, np.ndarray], days: np.ndarray) -> None:
        known = series["ood_flag"] != UNKNOWN
        parts: dict[str, float] = {"days": int(known.sum())}
        flagged = known & (series["ood_flag"] > 0)
        for bit, name in ((1, "predictors"), (2, "network_features")):
            parts[f"flagged_{name}"] = int((known & (series["ood_flag"] & bit > 0)).sum())
        parts["flagged"] = int(flagged.sum())
        decade = days // 100000 * 10
        for one in np.unique(decade[known]).tolist():
            parts[f"days_{one}s"] = int((known & (decade == one)).sum())
            parts[f"flagged_{one}s"] = int((flagged & (decade == one)).sum())
        for name, values in series.items():
            if name.startswith(_OUTSIDE):
                parts[name.removeprefix("ood_")] = float(np.nan_to_num(values[known].astype(np.float64)).sum())
        for name, value in parts.items():
            self._counts[name] = self._counts.get(name, 0) + value


def summary(counts: Counts) -> dict[str, Any]:
    """Counts of a whole prediction as prediction.json says them.

    Returns:
        days (that could be scored), flagged_share, flagged_share_by_decade {"2090s": share}, outside_range {channel: share of its values}.
    """
    days = max(counts.get("days", 0), 1)
    decades = [name.removeprefix("days_") for name in sorted(counts) if name.startswith("days_")]
    return {
        "days": int(counts.get("days", 0)),
        "flagged_share": round(counts.get("flagged", 0) / days, 6),
        "flagged_share_by_decade": {one: round(counts[f"flagged_{one}"] / counts[f"days_{one}"], 6) for one in decades},
        "outside_range": {name.removeprefix("outside_"): round(n / days, 6) for name, n in counts.items() if name.startswith("outside_")},
    }


def line(found: Mapping[str, Any]) -> str:
    """A summary in words, for the screen."""
    decades, outside = found["flagged_share_by_decade"], found["outside_range"]
    text = f"{found['flagged_share']:.1%} of {found['days']} days are flagged as far from the training days"
    if len(decades) > 1 and found["flagged_share"]:
        worst = max(decades, key=lambda one: decades[one])
        text += f" (the {worst}: {decades[worst]:.0%})"
    farthest = max(outside, key=lambda one: outside[one], default="")
    if farthest and outside[farthest] > 0:
        text += f"; outside the training range: {outside[farthest]:.1%} of {farthest}"
    return text


def judge(summaries: Mapping[str, Mapping[str, Any]], threshold_share: float, on_exceed: Literal["warn", "fail"]) -> list[str]:
    """Lines about the predictions of which more than a share of the days is flagged; the log gets one warning, with the worst.

    Args:
        summaries: name of the prediction -> its summary.
        threshold_share: 0 to 1.
        on_exceed: what then.

    Raises:
        TransferabilityError: there are such, and ``on_exceed`` is "fail". All files are written by then, and stay.
    """
    over = {name: one for name, one in summaries.items() if one["flagged_share"] > threshold_share}
    found = [f"{name}: {line(one)}" for name, one in over.items()]
    if over:
        worst = max(over, key=lambda name: over[name]["flagged_share"])
        others = f"; so are more than {threshold_share:.1%} of the days of {len(over) - 1} other predictions" if len(over) > 1 else ""
        log.warning("%s: %s%s", worst, line(over[worst]), others)
    if found and on_exceed == "fail":
        raise TransferabilityError(
            f"{len(found)} of {len(summaries)} predictions: more than {threshold_share:.1%} of the days are far from the training days",
            where="apply.ood.threshold_share; the files are written",
            hint="look at ood_flag in them; train on such days too, align the predictors, or raise the threshold",
            findings=found,
        )
    return found


def total(parts: Sequence[Counts]) -> dict[str, float]:
    """Counts of several periods together."""
    found: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found.get(name, 0) + value
    return found
