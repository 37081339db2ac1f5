"""Transfer tables from scores: the matrix of emulators against cases, and what fine-tuning recovers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from downscale.evaluate.metrics.bootstrap import Draws
from downscale.evaluate.predictions import Prediction
from downscale.evaluate.scorecard import Score, Scorecard

AllDraws = Mapping[tuple[str, str, str], Mapping[tuple[str, str], Draws]]

MATRIX_METRICS = (
    "abs_bias",
    "rmse",
    "mae",
    "correlation",
    "correlation_deseasonalised",
    "std_ratio",
    "w1",
    "abs_p98_bias",
    "abs_p99_bias",
    "abs_wet_day_frequency_bias",
    "log_spectral_distance",
    "change_mean_captured",
    "skill_vs_ridge",
    "skill_vs_bilinear",
    "skill_vs_climatology",
)
MATRIX_COLUMNS = (
    "metric",
    "variable",
    "season",
    "emulator",
    "role",
    "case",
    "trained_here",
    "value",
    "lower",
    "upper",
    "reference_case",
    "reference_value",
    "ratio",
    "gap",
    "pairing",
    "transfer",
    "gap_lower",
    "gap_upper",
    "period",
)
WHOLE = ("all", "change")
NOTHING_LOST = "nothing lost: the zero-shot run is as good as the one trained here"
NO_SCORE = "no score: of the zero-shot run, or of the one trained here"
RECOVERY_METRICS = ("abs_bias", "w1", "abs_p99_bias", "rmse", "std_ratio")
RECOVERY_COLUMNS = (
    "case",
    "variable",
    "metric",
    "zero_shot",
    "adapted",
    "shots",
    "full",
    "score_zero_shot",
    "score_adapted",
    "score_full",
    "loss",
    "recovered",
    "note",
)


def transfer_matrix(
    card: Scorecard,
    predictions: Sequence[Prediction],
    labels: Mapping[tuple[str, str, str], str] | None = None,
    draws: AllDraws | None = None,
    *,
    by_period: bool = False,
) -> list[dict[str, Any]]:
    """One row per metric, variable, season, run (row of the matrix) and case (column).

    The reference of a run is its score on the RCMu of the RCM it learned from, same test days: ratio = score / reference, where the
    reference is positive (of no skill nothing can be retained), gap = score - reference. NaN where the run has no score there.

    Args:
        card, predictions: the scores, and whose they are.
        labels: (run, case, period) -> home, soft or hard.
        draws: (run, case, variable) -> (season, period) -> metric -> area means under resampled years, for the interval of the gap.
        by_period: rows of each test period, with a column ``period``, and not of all test days and the change.
    """
    by_run = {prediction.run: prediction for prediction in predictions}
    rows = []
    for score in card.scores:
        run = by_run.get(score.prediction)
        if run is None or score.metric not in MATRIX_METRICS or (score.period in WHOLE) == by_period:
            continue
        home = f"{run.trained_on[0].partition('/')[0]}/perfect" if run.trained_on else ""
        reference = card.get(run.run, home, score.variable, score.metric, season=score.season, period=score.period)
        low, high = _gap_interval(score, reference, draws or {})
        base = reference.value if reference is not None else math.nan
        rows.append(
            {
                "metric": score.metric,
                "variable": score.variable,
                "season": score.season,
                "emulator": run.run,
                "role": run.role,
                "case": score.case,
                "trained_here": int(score.case in run.trained_on),
                "value": score.value,
                "lower": score.lower,
                "upper": score.upper,
                "reference_case": home,
                "reference_value": base,
                "ratio": score.value / base if base > 0 else math.nan,
                "gap": score.value - base,
                "pairing": score.case.partition("/")[2],
                "transfer": (labels or {}).get((run.run, score.case, score.period), ""),
                "gap_lower": low,
                "gap_upper": high,
                "period": score.period,
            }
        )
    return rows


def _gap_interval(score: Score, reference: Score | None, draws: AllDraws) -> tuple[float, float]:
    """95 % interval of score - reference.

    Cases of one group share days and weather: the same resampled (or left-out) years enter both. Cases of two runs are independent: the
    half-widths add in quadrature about the difference of the intervals' centres. NaN without intervals, and for the reference itself.
    """
    nothing = (math.nan, math.nan)
    if reference is None or reference.case == score.case:
        return nothing
    gap = score.value - reference.value
    if reference.case.partition("/")[0] == score.case.partition("/")[0]:
        pair = [
            draws.get((one.prediction, one.case, one.variable), {}).get((one.season, one.period), {}).get(one.metric)
            for one in (score, reference)
        ]
        if pair[0] is None or pair[1] is None or pair[0][1].shape != pair[1][1].shape:
            return nothing
        interval = pair[0][0].interval(pair[0][1] - pair[1][1], estimate=gap)
        return interval.lower, interval.upper
    centre = (score.lower + score.upper - reference.lower - reference.upper) / 2
    half = math.hypot(score.upper - score.lower, reference.upper - reference.lower) / 2
    return centre - half, centre + half


def for_gaps(draws: Mapping[tuple[str, str], Draws]) -> dict[tuple[str, str], Draws]:
    """Of the resampled area means of a series, those of the metrics of the matrix over all test days."""
    return {
        place: {name: one for name, one in found.items() if name in MATRIX_METRICS} for place, found in draws.items() if place[1] in WHOLE
    }


def recovery(card: Scorecard, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """What adapting a run to a case recovers of what was lost by not training there.

    loss = score(zero-shot) - score(trained on all years of the case); recovered = (score(zero-shot) - score(adapted)) / loss. The
    standard deviation ratio enters as its distance from 1. RMSE and std ratio stand beside the rest and must be read together: where
    weather has drifted apart, RMSE rewards a field that is too smooth.
    """
    emulators = [prediction for prediction in predictions if prediction.role == "emulator"]
    rows = []
    for case in sorted({prediction.case for prediction in emulators}):
        runs = [prediction for prediction in emulators if prediction.case == case]
        for zero, adapted, full in _triples(runs, case):
            for variable in adapted.variables:
                rows += [_recovered(card, (zero, adapted, full), variable, metric) for metric in RECOVERY_METRICS]
    return rows


def _triples(runs: Sequence[Prediction], case: str) -> Iterable[tuple[Prediction, Prediction, Prediction]]:
    """(zero-shot, adapted, trained on all years) with the adapted run started from the zero-shot one where that is known."""
    here = [run for run in runs if case in run.trained_on]
    zeros = [run for run in runs if case not in run.trained_on and run.mode == "pretrain"]
    scratch = [run for run in here if run.mode == "pretrain"]
    tuned = [run for run in here if run.mode == "finetune" and case in run.adapted_to]
    full = scratch or tuned
    adapted = [run for run in here if run.mode == "few-shot" and case in run.adapted_to] + (tuned if scratch else [])
    for run in adapted:
        started = [zero for zero in zeros if zero.run == run.source_run] or ([] if run.source_run else zeros)
        yield from ((zero, run, best) for zero in started for best in full)


def _recovered(card: Scorecard, runs: tuple[Prediction, Prediction, Prediction], variable: str, metric: str) -> dict[str, Any]:
    zero, adapted, full = runs
    plain = [card.value(run.run, run.case, variable, metric) for run in runs]
    errors = [abs(value - 1.0) for value in plain] if metric == "std_ratio" else plain
    loss = errors[0] - errors[2]
    lost = math.isfinite(loss) and loss > 0
    return {
        "case": adapted.case,
        "variable": variable,
        "metric": metric,
        "zero_shot": zero.run,
        "adapted": adapted.run,
        "shots": "" if adapted.shots is None else adapted.shots,
        "full": full.run,
        "score_zero_shot": plain[0],
        "score_adapted": plain[1],
        "score_full": plain[2],
        "loss": loss,
        "recovered": (errors[0] - errors[1]) / loss if lost else math.nan,
        "note": "" if lost else (NOTHING_LOST if math.isfinite(loss) else NO_SCORE),
    }


def baseline_of(prediction: Prediction, model: str, predictions: Sequence[Prediction]) -> Prediction | None:
    """The baseline to set beside a prediction: same case, and trained on the same pairs where there is such a one."""
    found = [
        other
        for other in predictions
        if other.role == "baseline" and other.model == model and other.case == prediction.case and other.run != prediction.run
    ]
    same = [other for other in found if other.trained_on == prediction.trained_on]
    return next(iter(same or sorted(found, key=lambda other: other.run)), None)
