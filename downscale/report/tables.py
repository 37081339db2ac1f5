"""Tables of the page: plain cells, the best value of a row marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from downscale.evaluate.scorecard import Score, number
from downscale.report.findings import CaseFacts, Findings, RunFacts, ordered
from downscale.report.words import date, listed, metric, percent, unit
from downscale.report.words import number as number_words

CASE_METRICS = (
    "rmse",
    "skill_vs_ridge",
    "abs_bias",
    "bias",
    "correlation_deseasonalised",
    "std_ratio",
    "w1",
    "p98_bias",
    "p99_bias",
    "txx_bias",
    "rx1day_bias",
    "wet_day_frequency_bias",
    "sdii_bias",
    "log_spectral_distance",
    "effective_resolution",
)
CHANGE_METRICS = ("change_mean", "change_mean_rmse", "change_mean_captured", "change_mean_pattern_correlation", "change_p99")
CLIMATE_METRICS = ("mean", "std", "p98", "p99", "wet_day_frequency", "sdii", "rx1day", "txx")
BEST_AT = {
    "skill_vs_ridge": math.inf,
    "correlation_deseasonalised": math.inf,
    "std_ratio": 1.0,
    "change_mean_captured": 1.0,
    "change_mean_pattern_correlation": math.inf,
}
UNRANKED = ("change_mean", "change_p99")


@dataclass(frozen=True)
class Cell:
    """Text, the interval below it, and whether it is the best of its row."""

    text: str
    below: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page: caption, column headers, rows of (row header, cells)."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def case_table(findings: Findings, case: CaseFacts, variable: str) -> Table | None:
    """Scores of a case: metrics by runs."""
    adapted = findings.adapted(case.name)[:3]
    main = [findings.main] if findings.main is not None and findings.main in findings.runs_on(case.name) else []
    runs = [*main, *(run for run in adapted if run not in main), *findings.baselines(case.name)]
    rows = []
    for name in (*CASE_METRICS, *CHANGE_METRICS):
        scores = [_score(findings, run, case, variable, name) for run in runs]
        if any(score is not None and math.isfinite(score.value) for score in scores):
            first = next(score for score in scores if score is not None)
            label = metric(name) + (f", {unit(first.unit)}" if unit(first.unit) else "")
            if name in UNRANKED:
                truth = findings.card.get(first.prediction, case.name, variable, f"{name}_reference", period="change")
                label += f" (truth {number_words(truth.value, 2)})" if truth is not None else ""
            rows.append((label, _cells(name, scores)))
    if not rows or not runs:
        return None
    return Table(
        f"{variable} on {findings.source_words(case)} ({case.name}), area means over {case.n_days:,} test days",
        tuple(findings.label(run) for run in runs),
        tuple(rows),
    )


def _score(findings: Findings, run: RunFacts, case: CaseFacts, variable: str, name: str) -> Score | None:
    period = "change" if name in CHANGE_METRICS else "all"
    return findings.card.get(run.name, case.name, variable, name, period=period)


def _cells(name: str, scores: Sequence[Score | None]) -> tuple[Cell, ...]:
    distances = [_distance(name, score.value) if score is not None else math.inf for score in scores]
    finite = [distance for distance in distances if math.isfinite(distance) or distance == -math.inf]
    best = min(finite) if len(finite) > 1 and name not in UNRANKED else None
    return tuple(_cell(score, best is not None and distance == best) for score, distance in zip(scores, distances, strict=True))


def _distance(name: str, value: float) -> float:
    if not math.isfinite(value):
        return math.inf
    goal = BEST_AT.get(name, 0.0)
    return -value if goal == math.inf else abs(value - goal)


def _cell(score: Score | None, best: bool) -> Cell:
    if score is None or not math.isfinite(score.value):
        return Cell("–")
    below = f"{number_words(score.lower, 2)} … {number_words(score.upper, 2)}" if math.isfinite(score.lower) else ""
    return Cell(number_words(score.value), below, best)


def runs_table(findings: Findings) -> Table:
    """What was trained on what, and what it was applied to."""
    rows = []
    for run in ordered(findings.runs.values()):
        applied = [case for case in findings.cases if run in findings.runs_on(case)]
        start = f"{run.mode} from {run.source}" if run.source else run.mode
        shots = f", {run.shots} years" if run.shots else ""
        rows.append(
            (
                run.name,
                (
                    Cell(run.role),
                    Cell(run.model),
                    Cell(f"{start}{shots}"),
                    Cell(listed(list(run.trained_on))),
                    Cell("all cases" if len(applied) == len(findings.cases) > 1 else ", ".join(applied)),
                ),
            )
        )
    return Table(
        "Runs: perfect means RCMu (upscaled RCM) predictors, imperfect the driving GCM's own fields, or a reanalysis",
        ("role", "model", "training", "learned from", "applied to"),
        tuple(rows),
    )


def cases_table(findings: Findings) -> Table:
    """Which days each case was judged on."""
    rows = [
        (
            case.name,
            (
                Cell(findings.source_words(case)),
                Cell("yes" if case.truth else "no"),
                Cell(f"{date(case.first)} to {date(case.last)}"),
                Cell(f"{case.n_days:,}"),
                Cell(", ".join(case.periods)),
                Cell(case.calendar),
            ),
        )
        for case in findings.cases.values()
    ]
    return Table("Cases: what was judged", ("predictors of", "truth", "days from/to", "days", "periods", "calendar"), tuple(rows))


def recovery_tables(findings: Findings) -> list[Table]:
    """What adapting recovered: a table per case and trio of runs."""
    result = []
    rows = findings.tables["recovery"]
    for trio in dict.fromkeys((row["case"], row["zero_shot"], row["adapted"], row["full"]) for row in rows):
        lines = []
        for row in (row for row in rows if (row["case"], row["zero_shot"], row["adapted"], row["full"]) == trio):
            recovered = number(row["recovered"])
            values = [Cell(number_words(number(row[key]))) for key in ("score_zero_shot", "score_adapted", "score_full")]
            lines.append(
                (
                    f"{row['variable']}: {metric(row['metric'])}",
                    (*values, Cell(percent(recovered) if math.isfinite(recovered) else "nothing lost")),
                )
            )
        columns = (f"zero-shot: {trio[1]}", f"adapted: {trio[2]}", f"trained there: {trio[3]}", "recovered")
        result.append(Table(f"{trio[0]}: how much of what was lost by not training there is recovered", columns, tuple(lines)))
    return result


def signal_table(findings: Findings) -> Table | None:
    """alpha: whose change signal."""
    found = {
        (row["run"], row["case"], row["variable"]): number(row["alpha"])
        for row in findings.tables["signal"]
        if row["season"] == findings.season
    }
    lines = list(dict.fromkeys((run, case) for run, case, _ in found if findings.runs[run].role == "emulator"))
    rows = [
        (f"{run} on {case}", tuple(Cell(number_words(found.get((run, case, variable), math.nan), 2)) for variable in findings.targets))
        for run, case in lines
    ]
    return (
        Table("Whose change of the mean is followed: 1 the RCM's, 0 the GCM's own", tuple(findings.targets), tuple(rows)) if rows else None
    )


def climate_table(findings: Findings, case: CaseFacts, variable: str) -> Table | None:
    """Climate of an emulation without truth, beside the RCM of the training years."""
    runs = findings.runs_on(case.name)
    truth_case = f"{next(iter(findings.card.recipe.get('train_on', [''])), '').partition('/')[0]}/truth"
    rows = []
    for name in CLIMATE_METRICS:
        scores = [findings.card.get(run.name, case.name, variable, name) for run in runs]
        context = findings.card.get("truth", truth_case, variable, name, period="training")
        if any(score is not None for score in scores):
            first = next(score for score in scores if score is not None)
            label = metric(name) + (f", {unit(first.unit)}" if unit(first.unit) else "")
            rows.append((label, tuple(_cell(score, False) for score in (*scores, context))))
    if not rows:
        return None
    return Table(
        f"{variable}: climate of the emulation of {findings.source_words(case)}, beside the RCM in its training years",
        (*(findings.label(run) for run in runs), "RCM, training years"),
        tuple(rows),
    )
