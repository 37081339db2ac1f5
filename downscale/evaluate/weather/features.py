"""Frechet distance between climates of network features (T6): how differently a network sees a GCM and what it has learned from.

d = |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) over the days of both (Frechet 1957; Heusel et al. 2017, arXiv 1706.08500), in units of
the total variance Tr(S) of the training days: 1 says that the climates are as far apart as the training days are wide.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from downscale.evaluate.context import Context
from downscale.evaluate.predictions import MANIFEST, Prediction
from downscale.hpc.paths import require_inside

log = logging.getLogger(__name__)
COLUMNS = ("run", "case", "against", "distance", "mean_part", "spread_part", "n_days", "note")
TRAINING, HELD_OUT = "training", "held-out years"
FILES = "feature_files"
HOLDS_TRAINING = "; its days hold training days, which brings it nearer"


@dataclass(frozen=True, eq=False)
class Climate:
    """Mean (F,) and covariance (F, F) of features over so many days."""

    number: int
    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Frechet:
    """The squared Frechet distance of two climates and its parts, in units of the total variance of the second one's space."""

    mean_part: float
    spread_part: float

    @property
    def distance(self) -> float:
        """Their sum."""
        return self.mean_part + self.spread_part


def frechet(one: Climate, other: Climate, unit: float = 1.0) -> Frechet:
    """d / unit of two climates; NaN where one of them has fewer than two days or the unit is not positive."""
    if min(one.number, other.number) < 2 or not unit > 0:
        return Frechet(np.nan, np.nan)
    root = _root(one.covariance)
    middle = np.linalg.eigvalsh(root @ other.covariance @ root)
    cross = np.sqrt(np.maximum(middle, 0.0)).sum()
    spread = np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross
    return Frechet(float(((one.mean - other.mean) ** 2).sum()) / unit, max(float(spread), 0.0) / unit)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def read_climates(prediction: Prediction) -> dict[str, Climate] | None:
    """Climates "days" (of the prediction), "training" and "held_out" (of its run); None, with a line in the log, where there are none."""
    try:
        files = [str(name) for name in json.loads((prediction.folder / MANIFEST).read_text()).get(FILES, [])]
        require_inside(files, prediction.folder / MANIFEST)
        parts = [load_file(prediction.folder / name) for name in files]
        if not parts:
            if prediction.role != "baseline":
                log.info("%s on %s: no features beside it: train and apply again to have them", prediction.run, prediction.case)
            return None
        own = {name: _climate(parts[:1], name) for name in ("training", "held_out")}
        return {"days": _climate(parts, "days"), **own}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        log.warning("%s on %s: its features cannot be read (%s): apply again", prediction.run, prediction.case, error)
        return None


def _climate(parts: Sequence[Mapping[str, np.ndarray]], name: str) -> Climate:
    """Of sums over days of z and z z', of several periods."""
    number, first, second = (np.sum([part[f"{name}.{item}"] for part in parts], axis=0) for item in ("number", "first", "second"))
    n = float(number[0])
    mean = first / max(n, 1.0)
    return Climate(int(n), mean, second / max(n, 1.0) - np.outer(mean, mean))


def diagnose(context: Context) -> None:
    """Table feature_shift: each case against the training days of its run and, where there is one, against the RCMu of the same run."""
    found: dict[str, dict[str, dict[str, Climate]]] = {}
    known: dict[str, set[str]] = {}
    for one in context.predictions:
        climates = read_climates(one)
        if climates is not None:
            found.setdefault(one.run, {})[one.case] = climates
            if one.case in one.trained_on and climates["days"].number > len(context.store.groups[one.group].split("test")):
                known.setdefault(one.run, set()).add(one.case)
    for run, cases in found.items():
        context.extend("feature_shift", COLUMNS, [{"run": run} | row for row in _rows(cases, known.get(run, set()))])


def _rows(cases: Mapping[str, Mapping[str, Climate]], learned: Collection[str]) -> Iterator[dict[str, Any]]:
    """Rows of one run; ``learned``: cases whose days hold training days."""
    known = next(iter(cases.values()))
    training, held_out = known["training"], known["held_out"]
    unit = float(np.trace(training.covariance))
    usual = frechet(held_out, training, unit)
    yield _row(HELD_OUT, TRAINING, usual, held_out.number, "what years not trained on have: judge the others by it")
    for case, climates in cases.items():
        apart = frechet(climates["days"], training, unit)
        yield _row(case, TRAINING, apart, climates["days"].number, _note(apart, usual) + (HOLDS_TRAINING if case in learned else ""))
        group, _, kind = case.partition("/")
        own = cases.get(f"{group}/perfect")
        if kind == "imperfect" and own is not None:
            same = own["days"].number == climates["days"].number
            note = "the same days" if same else "not the same number of days"
            yield _row(case, f"{group}/perfect", frechet(climates["days"], own["days"], unit), climates["days"].number, note)


def _row(case: str, against: str, apart: Frechet, days: int, note: str) -> dict[str, Any]:
    return {
        "case": case,
        "against": against,
        "distance": apart.distance,
        "mean_part": apart.mean_part,
        "spread_part": apart.spread_part,
        "n_days": days,
        "note": note,
    }


def _note(apart: Frechet, usual: Frechet) -> str:
    if not usual.distance > 0 or not np.isfinite(apart.distance):
        return ""
    return f"{apart.distance / usual.distance:.3g} times that of the held-out years"
