"""Tables that set emulators or regions side by side."""

from __future__ import annotations

import math

from downscale.evaluate.scorecard import Score, number
from downscale.report.findings import CaseFacts, Findings
from downscale.report.tables import CASE_METRICS, MORE_METRICS, Cell, Table, count_cell, value_cell
from downscale.report.words import metric, unit
from downscale.report.words import number as number_words

REGION_METRICS = ("rmse", "bias", "abs_bias", "w1", "abs_p99_bias", "std_ratio")
SIGNIFICANT = 0.05


def paired_table(findings: Findings, case: CaseFacts) -> Table | None:
    """Differences between two emulators with their tests."""
    rows = [row for row in findings.table("paired", case=case.name, season=findings.season) if math.isfinite(number(row["difference"]))]
    main = findings.main.name if findings.main else ""
    rows = sorted((row for row in rows if main in (row["run"], row["other"])), key=lambda row: (row["variable"], row["metric"]))
    lines = tuple(
        (
            f"{row['variable']}, {metric(row['metric'])}: {row['run']} − {row['other']}",
            (
                Cell(number_words(number(row["difference"])), _interval(row), _adjusted(row) < SIGNIFICANT, number(row["difference"])),
                value_cell(row["p_value"], 2),
                Cell(number_words(_adjusted(row), 2), value=_adjusted(row)),
                Cell(row["test"]),
                count_cell(row["n_years"]),
            ),
        )
        for row in rows
    )
    columns = ("difference", "p", "p adjusted for the number of tests", "test", "years")
    title = f"Is {main} better than another on {case.name}? Bold: significant at 5 % after adjustment"
    return Table(title, columns, lines, "pair", folded=True) if lines else None


def _adjusted(row: dict[str, str]) -> float:
    """p after adjustment where the table has it."""
    return number(row["p_adjusted"] if "p_adjusted" in row else row["p_value"])


def _interval(row: dict[str, str]) -> str:
    lower, upper = number(row["lower"]), number(row["upper"])
    return f"{number_words(lower, 2)} … {number_words(upper, 2)}" if math.isfinite(lower) else ""


def regions_table(findings: Findings, case: CaseFacts) -> Table | None:
    """Scores of the main run in the other regions."""
    main, home = findings.main, findings.card.recipe.get("region", "all")
    rows = [
        row
        for row in (*findings.card.scores, *findings.card.regional)
        if main is not None
        and (row.prediction, row.case, row.season, row.period) == (main.name, case.name, findings.season, "all")
        and row.metric in REGION_METRICS
    ]
    regions = list(dict.fromkeys(row.region for row in rows))
    if main is None or len(regions) < 2:
        return None
    found = {(row.region, row.variable, row.metric): row for row in rows}
    shown = [name for name in REGION_METRICS if any(key[2] == name for key in found)]
    lines = tuple(
        (
            f"{region}{' (the main region)' if region == home else ''}: {variable}",
            tuple(_cell(found.get((region, variable, name))) for name in shown),
        )
        for region in regions
        for variable in findings.targets
    )
    return Table(f"{main.name} on {case.name} by region", tuple(metric(name) for name in shown), lines, "region")


def _cell(row: Score | None) -> Cell:
    if row is None:
        return Cell("–", value=math.nan)
    return Cell(f"{number_words(row.value)} {unit(row.unit)}".strip(), value=row.value)


def season_table(findings: Findings, case: CaseFacts, variable: str) -> Table | None:
    """Scores of the main run by season."""
    main = findings.main
    if main is None or len(case.seasons) < 2:
        return None
    lines = []
    for name in (*CASE_METRICS, *MORE_METRICS):
        scores = [findings.card.get(main.name, case.name, variable, name, season=season) for season in case.seasons]
        known = [score for score in scores if score is not None and math.isfinite(score.value)]
        if known:
            units = unit(known[0].unit)
            lines.append((f"{metric(name)}{', ' + units if units else ''}", tuple(_season_cell(score) for score in scores)))
    title = f"{variable} of {main.name} on {case.name} by season"
    return Table(title, case.seasons, tuple(lines), folded=True) if lines else None


def _season_cell(score: Score | None) -> Cell:
    value = score.value if score is not None else math.nan
    return Cell(number_words(value), value=value)
