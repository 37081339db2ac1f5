"""The error against warming, and how an ensemble of emulated GCMs ranks and spreads."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes

from downscale.evaluate.scorecard import number
from downscale.report.figure import GREY, GRID, Picture, finish, legend_above, new_figure
from downscale.report.findings import Findings
from downscale.report.tables import Cell, Table, count_cell, value_cell
from downscale.report.words import left_out, metric, percent, quantity, unit
from downscale.report.words import number as number_words

MAX_CASES = 6


def extrapolation(findings: Findings, variable: str, data: Path) -> Picture | None:
    """Bias and RMSE of the main run by warming level; open marks lie outside the training's range."""
    rows = findings.table("extrapolation", run=findings.main.name, variable=variable) if findings.main else []
    rows = [row for row in rows if math.isfinite(number(row["warming"])) and math.isfinite(number(row["bias"]))]
    every = list(dict.fromkeys(row["case"] for row in rows))
    cases = every[:MAX_CASES]
    if not cases or findings.main is None:
        return None
    figure = new_figure(8.6, 3.5)
    left, right = figure.subplots(1, 2)
    seen = _range(rows)
    for axis, name in ((left, "bias"), (right, "rmse")):
        if seen:
            axis.axvspan(*seen, color=GRID, alpha=0.45, linewidth=0)
        for case in cases:
            _draw(axis, [row for row in rows if row["case"] == case], name, findings.colour_of(case), case)
        axis.set_xlabel("warming of the predictors, K")
        axis.set_title(f"{metric(name)} of {variable}, {unit(rows[0]['unit'])}", loc="left")
        axis.grid(True)
    left.axhline(0.0, color=GREY, linewidth=0.9)
    legend_above(figure, left)
    slopes = "; ".join(_slope(row) for row in findings.table("extrapolation_slope", run=findings.main.name, variable=variable))
    slopes = f" Slope of the bias: {slopes}." if slopes else ""
    return finish(
        figure,
        data,
        f"extrapolation_{variable}",
        rows,
        title=f"Error of {variable} against warming",
        caption=f"Years are grouped by how much warmer the domain is than in the training's first period; {_shade_words(seen)}open marks "
        "lie outside the range of the training years, widened by the standard deviation of a year. A bias that runs away there means that "
        f"the emulator does not extrapolate.{slopes}{left_out(every, cases, 'cases')}",
        alt=f"Bias and RMSE of {variable} against warming for {', '.join(cases)}.{slopes}",
        origin="extrapolation.csv, extrapolation_slope.csv",
    )


def _slope(row: dict[str, str]) -> str:
    text = f"{row['case']} {quantity(number(row['slope']), row['unit'])}"
    lower, upper = number(row["lower"]), number(row["upper"])
    return f"{text} ({quantity(lower, '')} to {quantity(upper, '')})" if math.isfinite(lower) else text


def _inside(row: dict[str, str]) -> bool:
    return row["inside_training"] in ("1", "True", "true", "yes")


def _shade_words(seen: tuple[float, float] | None) -> str:
    return f"the shade is what training saw ({number_words(seen[0], 2)} to {quantity(seen[1], 'K', 2)}), and " if seen else ""


def _range(rows: list[dict[str, str]]) -> tuple[float, float] | None:
    """Warming of the training years; None in tables of earlier versions, which do not hold it."""
    low, high = (number(rows[0].get(name, "")) for name in ("training_low", "training_high"))
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _draw(axis: Axes, rows: list[dict[str, str]], name: str, colour: str, label: str) -> None:
    rows = sorted(rows, key=lambda row: number(row["warming"]))
    x, y = ([number(row[key]) for row in rows] for key in ("warming", name))
    axis.plot(x, y, color=colour, linewidth=1.4, label=label)
    faces = [colour if _inside(row) else "white" for row in rows]
    axis.scatter(x, y, s=22, c=faces, edgecolors=colour, linewidths=1.2, zorder=3)


def ensemble_tables(findings: Findings) -> list[Table | None]:
    """Whether emulated GCMs rank as the RCM's do, and what the spread is made of."""
    ranks = [row for row in findings.table("ensemble", season=findings.season) if math.isfinite(number(row["kendall_tau"]))]
    lines = tuple(
        (
            f"{row['run']}: {row['variable']}, {metric(row['statistic'])}",
            (value_cell(row["kendall_tau"], 2), value_cell(row["p_value"], 2), count_cell(row["n_gcm"]), Cell(row.get("note", ""))),
        )
        for row in ranks
    )
    columns = ("Kendall's tau", "p", "GCMs", "note")
    table = Table("Do the emulated GCMs rank as in the RCM? 1: the same order", columns, lines, "run") if lines else None
    return [table, _shares(findings)]


def _shares(findings: Findings) -> Table | None:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in findings.table("anova", season=findings.season):
        found.setdefault((row["variable"], row["statistic"]), {})[row["factor"]] = number(row["share"])
    factors = ("gcm", "emulator", "residual")
    lines = tuple(
        (
            f"{variable}, {metric(statistic)}",
            tuple(Cell(percent(shares.get(one, math.nan)), value=shares.get(one, math.nan)) for one in factors),
        )
        for (variable, statistic), shares in found.items()
    )
    return Table("What the spread of the ensemble is made of", ("GCM", "emulator", "both together"), lines, "statistic") if lines else None
