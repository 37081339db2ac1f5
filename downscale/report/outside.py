"""Days outside what was learned: through time, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from downscale.evaluate.scorecard import number
from downscale.report.figure import GREY, Picture, finish, legend_above, new_figure
from downscale.report.findings import Findings
from downscale.report.tables import Cell, Table, count_cell, value_cell
from downscale.report.words import left_out, metric, percent, unit

EXPECTED = 0.005
"""Share of days flagged by construction among held-out training days, in each of the two spaces."""
MAX_CASES = 6
EITHER = ", in their predictors or in the network's features; between the dotted lines lie the 0.5 to 1 %"
ONE = "; the dotted line is the 0.5 %"


def _cases(rows: Sequence[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(row["case"] for row in rows))


def through_time(findings: Findings, data: Path) -> Picture | None:
    """Share of flagged days and scores by year, a line per case, for the main run."""
    rows = findings.table("ood_days", run=findings.main.name) if findings.main else []
    every = _cases(rows)
    cases = every[:MAX_CASES]
    if not cases or findings.main is None:
        return None
    figure = new_figure(8.6, 3.5)
    left, right = figure.subplots(1, 2)
    places = compressed(sorted({_year(row) for row in rows}))
    for case in cases:
        some = sorted((row for row in rows if row["case"] == case), key=_year)
        years = np.array([places[_year(row)] for row in some])
        colour = findings.colour_of(case)
        _lines(left, years, 100 * np.array([number(row["share"]) for row in some]), colour, case)
        _lines(right, years, np.array([number(row["median"]) for row in some]), colour, case)
        _lines(right, years, np.array([number(row["p95"]) for row in some]), colour, "", thin=True)
    two = any(math.isfinite(number(row.get("share_features", ""))) for row in rows)
    for expected in (EXPECTED, 2 * EXPECTED) if two else (EXPECTED,):
        left.axhline(100 * expected, color=GREY, linewidth=0.9, linestyle=":")
    left.set_ylim(bottom=0)
    left.set_title("Days flagged, %", loc="left")
    right.set_title("Score: median, and 95 % (thin)", loc="left")
    for axis in (left, right):
        axis.set_xlabel("year")
        axis.grid(True)
        shown = _named_years(places)
        axis.set_xticks([places[year] for year in shown], [str(year) for year in shown])
    legend_above(figure, left)
    worst = max(rows, key=lambda row: number(row["share"]) if math.isfinite(number(row["share"])) else -1.0)
    text = f"Most: {percent(number(worst['share']), 1)} of the days of {worst['case']} in {worst['year']}"
    return finish(
        figure,
        data,
        "ood_time",
        rows,
        title=f"Days outside the training of {findings.main.name}, through time",
        caption=f"Left: share of days farther out than 99.5 % of held-out training days{EITHER if two else ONE} expected of familiar "
        f"weather. Right: the distance of the predictors. {text}. Years without days are left out of the axis; no line crosses them."
        f"{left_out(every, cases, 'cases')}",
        alt=f"Lines of the share of flagged days by year for {', '.join(cases)}. {text}.",
        origin="ood_days.csv",
    )


def _year(row: dict[str, str]) -> int:
    return int(number(row["year"]))


def compressed(years: Sequence[int]) -> dict[int, float]:
    """Places of years on an axis on which missing years between take two steps in all."""
    places: dict[int, float] = {}
    for year in years:
        before = max(places, default=year)
        places[year] = places.get(before, 0.0) + min(float(year - before), 2.0)
    return places


def _named_years(places: dict[int, float]) -> list[int]:
    """First and last of each block of years, and in long blocks some between, as far as there is room."""
    years = list(places)
    ends = [year for year in years if year - 1 not in places or year + 1 not in places]
    kept: list[int] = []
    for year in [*ends, *years[:: max(1, len(years) // 8)]]:
        if all(abs(places[year] - places[one]) >= max(places.values()) / 9 for one in kept):
            kept.append(year)
    return sorted(kept)


def _lines(axis: Axes, years: np.ndarray, values: np.ndarray, colour: str, label: str, *, thin: bool = False) -> None:
    """A line with a gap wherever a year is missing."""
    breaks = np.flatnonzero(np.diff(years) > 1) + 1
    for number_of, part in enumerate(np.split(np.arange(len(years)), breaks)):
        axis.plot(
            years[part],
            values[part],
            color=colour,
            linewidth=0.8 if thin else 1.6,
            marker="" if thin and len(part) > 1 else "o",
            markersize=2.0 if thin else 3.0,
            label=label if number_of == 0 and label else "_",
        )


def against_error(findings: Findings, data: Path) -> Picture | None:
    """Error by bins of the score: does the score warn?"""
    rows = findings.table("ood_error", run=findings.main.name) if findings.main else []
    rows = [row for row in rows if math.isfinite(number(row["rmse"]))]
    variables = list(dict.fromkeys(row["variable"] for row in rows))
    every = _cases(rows)
    cases = every[:MAX_CASES]
    if not variables:
        return None
    figure = new_figure(3.9 * len(variables) + 0.5, 3.4)
    for axis, variable in zip(figure.subplots(1, len(variables), squeeze=False)[0], variables, strict=True):
        for case in cases:
            some = sorted(
                (row for row in rows if (row["variable"], row["case"]) == (variable, case)), key=lambda row: number(row["score_low"])
            )
            x = [_middle(row) for row in some]
            axis.plot(
                x,
                [number(row["rmse"]) for row in some],
                color=findings.colour_of(case),
                marker="o",
                markersize=3,
                linewidth=1.4,
                label=case,
            )
        units = next((row["unit"] for row in rows if row["variable"] == variable), "")
        axis.set_title(f"{metric('rmse')} of {variable}, {unit(units)}", loc="left")
        axis.set_xlabel("score of the day")
        axis.set_ylim(bottom=0)
        axis.grid(True)
    legend_above(figure, figure.axes[0])
    return finish(
        figure,
        data,
        "ood_error",
        rows,
        title="Does the score warn of errors?",
        caption="Days are grouped by their score. A line that rises means that far-out days are emulated worse, so that the score may be "
        "used as a warning where there is no truth; a flat line means that it says nothing about the error."
        f"{left_out(every, cases, 'cases')}",
        alt=f"Lines of RMSE against the score of the day for {', '.join(cases)}.",
        origin="ood_error.csv",
    )


def _middle(row: dict[str, str]) -> float:
    """Median score of a bin where the table has it, else the middle of its finite ends."""
    median = number(row.get("score_median", ""))
    if math.isfinite(median):
        return median
    ends = [end for end in (number(row["score_low"]), number(row["score_high"])) if math.isfinite(end)]
    return sum(ends) / len(ends) if ends else math.nan


def period_table(findings: Findings) -> Table | None:
    """Flagged days by decade or period."""
    rows = findings.table("ood", run=findings.main.name) if findings.main else []
    lines = tuple(
        (
            f"{row['case']}, {row['period']}",
            (
                Cell(percent(number(row["share"]), 1), value=number(row["share"])),
                count_cell(row["flagged"]),
                count_cell(row["n_days"]),
                value_cell(row["median_score"]),
                value_cell(row["threshold"]),
                Cell({"pca": "predictors", "features": "network's features"}.get(row["space"], row["space"])),
            ),
        )
        for row in rows
    )
    columns = ("flagged", "days flagged", "days", "median score", "threshold", "measured in")
    title = f"Days outside the training of {findings.main.name if findings.main else ''} by period"
    return Table(title, columns, lines, "case and period", folded=True) if lines else None
