"""Days that are far from the training days (T5): how many, when, and whether the error grows with the distance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from downscale.cf.calendar import years
from downscale.evaluate.context import Context
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.weather.distances import Distances, distances_of
from downscale.evaluate.weather.error_collector import ErrorDays
from downscale.evaluate.weather.error_days import error_days
from downscale.variables import lookup

COLUMNS = ("run", "case", "period", "n_days", "flagged", "share", "median_score", "threshold", "space")
DAY_COLUMNS = ("run", "case", "year", "share", "median", "p95", "n_days", "threshold", "share_features", "median_features")
ERROR_COLUMNS = (
    "run", "case", "variable", "bin", "score_low", "score_high", "n_days", "rmse", "bias", "unit", "score_median", "threshold"
)  # fmt: skip
BINS = 10
BIN_DAYS = 20
ALL, TEST = "all", "test"


def diagnose(context: Context) -> None:
    """Tables ood (by decade), ood_days (by year) and ood_error (by distance); runs without distances are left out."""
    for one in context.predictions:
        found = distances_of(context, one)
        if found is None:
            continue
        context.extend("ood", COLUMNS, list(_shares(context, one, found)))
        context.extend("ood_days", DAY_COLUMNS, list(_by_year(context, one, found)))
        for name in one.variables:
            means = error_days(context).get((one.run, one.case, name))
            if means is not None:
                context.extend("ood_error", ERROR_COLUMNS, [_whose(one) | row for row in errors_by_distance(found, means, name)])


def _whose(one: Prediction) -> dict[str, Any]:
    return {"run": one.run, "case": one.case}


def _shares(context: Context, one: Prediction, found: Distances) -> Iterator[dict[str, Any]]:
    """Rows of all days, of the test days where there are others too, and of each decade."""
    group = context.store.groups[one.group]
    test = np.isin(found.days, np.asarray(group.days)[group.split("test")])
    decade = found.days // 100000 * 10
    periods = {ALL: np.ones(len(found.days), bool)}
    if test.any() and not test.all():
        periods[TEST] = test
    periods |= {f"{start}-{start + 9}": decade == start for start in np.unique(decade).tolist()}
    for space in found.scores:
        known, flagged = found.known(space), found.flagged(space)
        for period, inside in periods.items():
            inside = inside & known
            yield _whose(one) | {"period": period, **_share(found, space, inside, flagged)}


def _share(found: Distances, space: str, inside: np.ndarray, flagged: np.ndarray) -> dict[str, Any]:
    n, far = int(inside.sum()), int((inside & flagged).sum())
    return {
        "n_days": n,
        "flagged": far,
        "share": far / n if n else np.nan,
        "median_score": float(np.median(found.scores[space][inside])) if n else np.nan,
        "threshold": found.thresholds[space],
        "space": space,
    }


def _by_year(context: Context, one: Prediction, found: Distances) -> Iterator[dict[str, Any]]:
    year = np.asarray(years(found.days, context.year_starts))
    known, flagged = found.known("pca"), found.any_flagged
    for number in np.unique(year[known]).tolist():
        inside = known & (year == number)
        scores = found.scores["pca"][inside]
        features = (
            _share(found, "features", inside & found.known("features"), found.flagged("features")) if "features" in found.scores else {}
        )
        yield _whose(one) | {
            "year": number,
            "share": float(flagged[inside].mean()),
            "median": float(np.median(scores)),
            "p95": float(np.quantile(scores, 0.95)),
            "n_days": int(inside.sum()),
            "threshold": found.thresholds["pca"],
            "share_features": features.get("share", np.nan),
            "median_features": features.get("median_score", np.nan),
        }


def errors_by_distance(found: Distances, means: ErrorDays, variable: str, *, bins: int = BINS) -> list[dict[str, Any]]:
    """Root mean square error and bias of the days in bins of their distance, which hold equally many days.

    Args:
        found: distances of the prediction's days.
        means: area means of the errors.
        variable: for the unit.
        bins: at most; fewer where a bin would hold less than 20 days. Fewer than two: no rows.
    """
    score, error, squared = _together(found, means)
    number = min(bins, len(score) // BIN_DAYS)
    if number < 2:
        return []
    rows = []
    for position, part in enumerate(np.array_split(np.argsort(score, kind="stable"), number)):
        rows.append(
            {
                "variable": variable,
                "bin": position + 1,
                "score_low": float(score[part].min()),
                "score_high": float(score[part].max()),
                "n_days": len(part),
                "rmse": float(np.sqrt(squared[part].mean())),
                "bias": float(error[part].mean()),
                "unit": lookup(variable).units,
                "score_median": float(np.median(score[part])),
                "threshold": found.thresholds["pca"],
            }
        )
    return rows


def _together(found: Distances, means: ErrorDays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance, error and squared error (n,) of the days that have all of them."""
    scored = means.scored
    by_day: Mapping[int, float] = dict(zip(found.days.tolist(), found.scores["pca"].tolist(), strict=True))
    score = np.array([by_day.get(day, np.nan) for day in means.days[scored].tolist()])
    known = np.isfinite(score)
    return score[known], means.error[scored][known], means.squared_error[scored][known]
