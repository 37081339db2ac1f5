"""Tables of the page: plain cells, the best value of a row marked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from downscale.evaluate.scorecard import Score, number
from downscale.report.findings import CaseFacts, Findings, RunFacts, ordered
from downscale.report.words import date, listed, metric, percent, unit
from downscale.report.words import number as number_words

CASE_METRICS = (
    "rmse", "skill_vs_ridge", "abs_bias", "bias", "relative_bias", "correlation_deseasonalised", "std_ratio", "w1", "p98_bias", "p99_bias",
    "txx_bias", "rx1day_bias", "wet_day_frequency_bias", "log_spectral_distance", "effective_resolution", "crps", "spread_skill",
    "fss_5mm_3",
)  # fmt: skip
MORE_METRICS = (
    "mae", "skill_vs_bilinear", "skill_vs_climatology", "spatial_correlation", "p02_bias", "p50_bias", "p99_5_bias", "txn_bias", "su_bias",
    "sdii_bias", "dry_days_bias", "cdd_bias", "cwd_bias", "lag1_bias", "interannual_std_ratio", "temperature_correlation_bias",
    "hot_wet_days_bias", "hot_dry_days_bias",
    "crpss_vs_ridge", "envelope_coverage", "fss_1mm_3", "fss_10mm_3", "fss_20mm_3", "change_mean_scaling",
    "change_p99",
)  # fmt: skip
CHANGE_METRICS = ("change_mean", "change_mean_rmse", "change_mean_captured", "change_mean_pattern_correlation")
CLIMATE_METRICS = ("mean", "std", "p02", "p50", "p98", "p99", "wet_day_frequency", "sdii", "rx1day", "cdd", "cwd", "txx", "su")
BEST_AT = {
    "skill_vs_ridge": math.inf,
    "correlation_deseasonalised": math.inf,
    "std_ratio": 1.0,
    "change_mean_captured": 1.0,
    "change_mean_pattern_correlation": math.inf,
    "spatial_correlation": math.inf,
    "interannual_std_ratio": 1.0,
    "crpss_vs_ridge": math.inf,
    "spread_skill": 1.0,
    **{f"fss_{threshold}mm_3": math.inf for threshold in (1, 5, 10, 20)},
    "skill_vs_bilinear": math.inf,
    "skill_vs_climatology": math.inf,
}
LONG = 28
UNRANKED = ("change_mean", "change_p99", "change_mean_scaling", "envelope_coverage")


@dataclass(frozen=True)
class Cell:
    """Text, the interval below it, whether it is the best of its row, the number it is sorted by, and a colour ("green" ... "unknown")."""

    text: str
    below: str = ""
    best: bool = False
    value: float | None = None
    tone: str = ""

    @property
    def sort(self) -> str:
        """What the page sorts by; empty for NaN, which goes last."""
        return f"{self.value:.9g}" if self.value is not None and math.isfinite(self.value) else ""

    @property
    def css(self) -> str:
        """Classes of the cell."""
        return " ".join(name for name in ("best" if self.best else "", self.tone, "long" if len(self.text) > LONG else "") if name)


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        caption, columns: above it, and the column headers.
        rows: (row header, cells).
        corner: header of the row headers.
        folded: shown below the figures, when the reader asks for it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    corner: str = "score"
    folded: bool = False

    @property
    def name(self) -> str:
        """Anchor: the caption in plain letters."""
        return "table-" + re.sub(r"[^a-z0-9]+", "-", self.caption.lower()).strip("-")


def case_table(findings: Findings, case: CaseFacts, variable: str, *, more: bool = False) -> Table | None:
    """Scores of a case: the main metrics by runs, or all the others."""
    adapted = findings.adapted(case.name)[:3]
    main = [findings.main] if findings.main is not None and findings.main in findings.runs_on(case.name) else []
    runs = [*main, *(run for run in adapted if run not in main), *findings.baselines(case.name)]
    rows = []
    for name in MORE_METRICS if more else (*CASE_METRICS, *CHANGE_METRICS):
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
        f"{'More of ' if more else ''}{variable} on {findings.source_words(case)} ({case.name}), area means over {case.n_days:,} test days",
        tuple(findings.label(run) for run in runs),
        tuple(rows),
        folded=more,
    )


def _score(findings: Findings, run: RunFacts, case: CaseFacts, variable: str, name: str) -> Score | None:
    period = "change" if name.startswith("change_") else "all"
    return findings.card.get(run.name, case.name, variable, name, period=period)


def _cells(name: str, scores: Sequence[Score | None]) -> tuple[Cell, ...]:
    distances = [_distance(name, score.value) if score is not None else math.inf for score in scores]
    finite = [distance for distance in distances if math.isfinite(distance) or distance == -math.inf]
    best = min(finite) if len(finite) > 1 and name not in UNRANKED else None
    if best is not None and 2 * distances.count(best) >= len(finite) > 2:
        best = None
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
    return Cell(number_words(score.value, 4 if score.unit == "K" and score.value >= 100 else 3), below, best, score.value)


def count_cell(text: str) -> Cell:
    """A whole number of a table as a cell."""
    value = number(text)
    return Cell(f"{value:,.0f}" if math.isfinite(value) else "–", value=value)


def value_cell(text: str, digits: int = 3, *, below: str = "", tone: str = "") -> Cell:
    """A number of a table as a cell."""
    return Cell(number_words(number(text), digits), below, value=number(text), tone=tone)


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
        "run",
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
                Cell(f"{case.n_days:,}", value=case.n_days),
                Cell(", ".join(case.periods)),
                Cell(case.calendar),
            ),
        )
        for case in findings.cases.values()
    ]
    return Table("Cases: what was judged", ("predictors of", "truth", "days from/to", "days", "periods", "calendar"), tuple(rows), "case")


def recovery_tables(findings: Findings) -> list[Table]:
    """What adapting recovered: a table per case and trio of runs."""
    result = []
    rows = findings.tables["recovery"]
    for trio in dict.fromkeys((row["case"], row["zero_shot"], row["adapted"], row["full"]) for row in rows):
        lines = []
        for row in (row for row in rows if (row["case"], row["zero_shot"], row["adapted"], row["full"]) == trio):
            recovered = number(row["recovered"])
            values = [value_cell(row[key]) for key in ("score_zero_shot", "score_adapted", "score_full")]
            lines.append(
                (
                    f"{row['variable']}: {metric(row['metric'])}",
                    (*values, Cell(percent(recovered) if math.isfinite(recovered) else row["note"].partition(":")[0], value=recovered)),
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
        if row["season"] == findings.season and row["statistic"] == "mean"
    }
    lines = list(dict.fromkeys((run, case) for run, case, _ in found if findings.runs[run].role == "emulator"))
    rows = [
        (f"{run} on {case}", tuple(_alpha(found.get((run, case, variable), math.nan)) for variable in findings.targets))
        for run, case in lines
    ]
    return (
        Table("Whose change of the mean is followed: 1 the RCM's, 0 the GCM's own", tuple(findings.targets), tuple(rows), "run")
        if rows
        else None
    )


def _alpha(value: float) -> Cell:
    return Cell(number_words(value, 2), value=value)


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
